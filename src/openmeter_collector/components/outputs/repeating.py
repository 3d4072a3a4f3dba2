"""Writing to a child output again and again, for outputs that repeat by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from openmeter_collector.api import (
    Batch,
    Dropped,
    Env,
    Final,
    Output,
    Overloaded,
    Paused,
    Rejected,
    by_index,
)

_LONGEST_ASKED = 3600.0


class _Writes(Protocol):
    def __call__(self, batch: Batch, /) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Repeats:
    """How often and when.

    Attributes:
        most: repetitions of one write; None for no bound.
        initial: seconds before the first repetition.
        longest: seconds between two, unless the peer asks for more.
        elapsed: seconds after which nothing is repeated; 0 for no bound.
    """

    most: int | None = None
    initial: float = 0.5
    longest: float = 30.0
    elapsed: float = 0.0

    def pause(self, attempt: int, random: float) -> float:
        """Seconds before repetition number `attempt` (from 1)."""
        full = min(self.longest, self.initial * 2.0 ** min(attempt - 1, 30))
        return full * (0.5 + random / 2)


FOR_EVER = Repeats()


async def verdicts_of(write: _Writes, batch: Batch) -> dict[int, Exception]:
    """Write once; what became of the messages that were not delivered."""
    try:
        await write(batch)
    except Exception as error:  # noqa: BLE001 - it is handed on as a verdict
        return dict(by_index(error, len(batch)))
    return {}


def told_by_several(
    outcomes: Iterable[Mapping[int, Exception]], asked: int | Mapping[int, int]
) -> dict[int, Exception]:
    """The verdicts on messages that were handed to several outputs.

    The one that asks for repetition is heard: a refusal comes again, it would not. A message counts
    as dropped only if every output that was handed it dropped it.

    Args:
        asked: how many outputs were handed each message, by index where that differs.
    """
    verdicts: dict[int, Exception] = {}
    drops: dict[int, list[Exception]] = {}
    for outcome in outcomes:
        for index, error in outcome.items():
            if isinstance(error, Dropped):
                drops.setdefault(index, []).append(error)
            elif index not in verdicts or isinstance(verdicts[index], Rejected | Final):
                verdicts[index] = error
    for index, found in drops.items():
        if index not in verdicts and len(found) == (
            asked if isinstance(asked, int) else asked[index]
        ):
            verdicts[index] = found[0]
    return verdicts


async def write_repeating(
    env: Env,
    output: Output,
    batch: Batch,
    repeats: Repeats = FOR_EVER,
    said: Callable[[Exception], None] | None = None,
) -> dict[int, Exception]:
    """Write until all is delivered or refused for good, only what failed being repeated.

    Args:
        said: told about the first failure of this batch.

    Returns:
        The messages that were not delivered: refused ones, and those that failed once too often.
    """
    final: dict[int, Exception] = {}
    left = list(range(len(batch)))
    began = env.monotonic()
    attempt = 0
    while True:
        tried = batch if len(left) == len(batch) else [batch[index] for index in left]
        failed = await verdicts_of(output.write, tried)
        again: dict[int, Exception] = {}
        for at, error in failed.items():
            # What is refused for good is never repeated: it would hold up all that follows.
            into = final if isinstance(error, Rejected | Final) else again
            into[left[at]] = error
        if not again:
            return final
        attempt += 1
        error = next(iter(again.values()))
        if said is not None and attempt == 1:
            said(error)
        pause = max([repeats.pause(attempt, env.random()), *map(_asked, again.values())])
        if isinstance(error, Paused):
            pause = max(pause, min(5.0 * attempt, 60.0))
        spent = env.monotonic() - began + pause
        if (repeats.most is not None and attempt > repeats.most) or 0 < repeats.elapsed < spent:
            return final | again
        await env.sleep(pause)
        left = sorted(again)


def _asked(error: Exception) -> float:
    asked = error.retry_after if isinstance(error, Overloaded) else None
    return min(asked or 0.0, _LONGEST_ASKED)
