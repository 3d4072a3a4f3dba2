"""Drops what its child output refuses, where a rule says so; everything else is passed on as failed.

Single messages are judged, never their neighbours, and many writes are under way at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Dropped,
    Duration,
    Env,
    Example,
    Final,
    Output,
    OutputNode,
    Overloaded,
    as_failure,
    by_index,
    field,
    output,
)
from openmeter_collector.bloblang import Fail
from openmeter_collector.bloblang.gotext.regex import Pattern, compile_pattern

REFUSED = Example(
    "Drop what the server refuses for good",
    """
    output:
      drop_on:
        error_patterns:
          - Bad Request
        output:
          http_client:
            url: https://example.com/api/v1/events
            headers:
              Authorization: Bearer ${TOKEN:}
            batching:
              count: 100
              period: 1s
              processors: []
    """,
)
SLOW = Example(
    "Let go of events when the destination is too slow",
    """
    output:
      drop_on:
        error: true
        back_pressure: 10s
        output:
          http_client:
            url: https://example.com/events
    """,
)


def _check_patterns(patterns: Sequence[str]) -> str | None:
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except Fail as fault:
            return f"{pattern!r}: {fault}"
    return None


@output("drop_on", categories=("Utility",), examples=[REFUSED, SLOW])
class DropOn:
    """Writes to a child output and drops messages that fail in a way you name.

    Each message is judged by itself: a batch that is refused is halved until the refused message is
    alone; that one is dropped, its neighbours are delivered. What fails in another way is reported as
    failed, and repeated by whoever repeats (a buffer, `retry`, the sender).

    Every message that is dropped is counted in `drop_on_dropped`, and each time something is dropped
    the log says how many and why. To keep refused events instead of dropping them, leave `drop_on`
    out: they become dead letters.

    Writes do not wait for each other: the child's `max_in_flight` and `batching` work as they are
    written.
    """

    error: bool = field(
        default=False,
        doc="Drop on every error. Not together with `error_patterns`.",
    )
    error_patterns: list[str] = field(
        default_factory=list,
        doc="Regular expressions (RE2); a message whose error text matches one, anywhere, is "
        "dropped.",
        examples=[["Bad Request"], ["^POST .* answered 4\\d\\d"]],
        lint=_check_patterns,
    )
    back_pressure: Duration | None = field(
        default=None,
        doc="Longest time a write may take. After it, the messages are dropped if `error` is set or "
        "a pattern matches, else reported as failed; until that write ends, further ones fare the "
        "same at once. What took too long may still be delivered.",
        examples=["30s", "1m"],
    )
    output: OutputNode = field(doc="The output to write to.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens the child."""
        if self.error and self.error_patterns:
            raise ConfigError(
                f"{env.node.path}: drop_on: `error: true` and `error_patterns` are both set; "
                "keep the one you mean"
            )
        async with env.output(self.output) as child, asyncio.TaskGroup() as tasks:
            dropper = _Dropper(self, env, child, tasks)
            yield dropper
            dropper.close()


class _Dropper:
    def __init__(self, config: DropOn, env: Env, child: Output, tasks: asyncio.TaskGroup) -> None:
        self._env = env
        self._child = child
        self._tasks = tasks
        self._all = config.error
        self._patterns: list[Pattern] = [compile_pattern(one) for one in config.error_patterns]
        self._patience = config.back_pressure
        self._late: set[asyncio.Task[Exception | None]] = set()
        self._dropped = env.metrics.counter("drop_on_dropped", "Messages dropped by the rule.")

    async def write(self, batch: Batch) -> None:
        try:
            await self._write(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rule decides
            self._judge(error, len(batch))

    def close(self) -> None:
        """Give up on writes that took too long."""
        for task in self._late:
            task.cancel()

    async def _write(self, batch: Batch) -> None:
        if self._patience is None:
            await self._child.write(batch)
            return
        if self._late:
            raise self._too_slow()
        task = self._tasks.create_task(_outcome(self._child, batch))
        try:
            await asyncio.wait({task}, timeout=float(self._patience))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            if (failure := task.result()) is not None:
                raise failure
            return
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        raise self._too_slow()

    def _too_slow(self) -> Overloaded:
        assert self._patience is not None
        return Overloaded(f"experienced back pressure beyond: {self._patience.text}")

    def _judge(self, failure: Exception, count: int) -> None:
        kept: dict[int, Exception] = {}
        verdict = Dropped(f"{self._env.node.display()} (drop_on)")
        reason = ""
        dropped = 0
        for index, error in by_index(failure, count).items():
            if not isinstance(error, Final) and self._matches(error):
                dropped += 1
                reason = reason or str(error)
                kept[index] = verdict
            else:
                kept[index] = error
        if dropped:
            self._dropped.add(dropped)
            self._env.log.warning("dropped by rule", messages=dropped, error=reason)
        left = as_failure(kept, count)
        if left is not None:
            raise left

    def _matches(self, error: Exception) -> bool:
        text = str(error)
        return self._all or any(pattern.search(text) for pattern in self._patterns)


async def _outcome(child: Output, batch: Batch) -> Exception | None:
    try:
        await child.write(batch)
    except Exception as error:  # noqa: BLE001 - a failure is a result here, not the end of the group
        return error
    return None
