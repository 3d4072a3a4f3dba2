"""Narrowing a refusal down when processors made one message of many.

An `archive` in a batching policy is one message to the output, so a refusal of it speaks for all its
sources. They are halved and made anew until what is refused is alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from openmeter_collector.message import Batch, by_index

Attempt = Callable[[Batch], Awaitable[Exception | None]]
"""Tries to deliver a batch; None when all of it was, else what failed."""


async def narrowed(
    batch: Batch, attempt: Attempt, refusal: type[Exception]
) -> dict[int, Exception]:
    """Try a batch, and the halves of what was refused together, until each verdict is of one message.

    Args:
        refusal: the type of verdict that is narrowed down; others stand as they are.

    Returns:
        Verdicts by index in `batch`; those not named are delivered.
    """
    verdicts: dict[int, Exception] = {}
    pieces: deque[Sequence[int]] = deque([range(len(batch))])
    while pieces:
        indexes = pieces.popleft()
        whole = len(indexes) == len(batch)
        failure = await attempt(batch if whole else [batch[index] for index in indexes])
        together: dict[int, list[int]] = {}
        for at, error in by_index(failure, len(indexes)).items():
            verdicts[indexes[at]] = error
            if isinstance(error, refusal):
                together.setdefault(id(error), []).append(indexes[at])
        for refused in together.values():
            if len(refused) > 1:
                for index in refused:
                    del verdicts[index]
                middle = len(refused) // 2
                pieces.extend((refused[:middle], refused[middle:]))
    return verdicts
