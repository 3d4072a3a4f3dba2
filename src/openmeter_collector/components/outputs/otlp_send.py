"""What outputs that speak OTLP share: requests that are not too large, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from openmeter_collector.api import Batch, BatchFailed, Message, Rejected
from openmeter_collector.components.otlp.channel import Send

MOST_BYTES: Final = 3_500_000
"""Of one request. Servers take 4 MiB unless told otherwise, and say no to more with a code that does
not tell whether it is about the data.
"""

_UNSAYABLE: Final = (ValueError, TypeError, KeyError, AttributeError)

Build = Callable[[Sequence[Message]], Any]
"""Makes a request of messages; raises ValueError, TypeError or KeyError for one that cannot be said."""


async def send_all(batch: Batch, build: Build, send: Send, response: Any, rejected: str) -> None:
    """Send a batch in as few requests as fit.

    Args:
        response: the message that is answered.
        rejected: name of the count in its `partial_success`.

    Raises:
        BatchFailed: some messages are refused; the others were delivered.
        Rejected: the peer refused some and did not say which.
        Paused, Overloaded, Retryable: as `send` does.
    """
    refused: dict[int, Exception] = {}
    good: list[Message] = batch
    try:
        parts = _parts(batch, build)
    except _UNSAYABLE:
        # One by one, to find which.
        good = []
        for index, message in enumerate(batch):
            try:
                _parts([message], build)
            except _UNSAYABLE as error:
                refused[index] = Rejected(f"it is no record of OTLP: {error}")
            else:
                good.append(message)
        parts = _parts(good, build)
    for part in parts:
        answer = response.FromString(await send(part.SerializeToString()))
        count = getattr(answer.partial_success, rejected)
        if count:
            text = answer.partial_success.error_message[:2_000]
            raise Rejected(f"{count} records were refused: {text}", text)
    if refused:
        raise BatchFailed(refused)


def _parts(messages: list[Message], build: Build) -> list[Any]:
    if not messages:
        return []
    request = build(messages)
    if request.ByteSize() <= MOST_BYTES:
        return [request]
    if len(messages) == 1:
        raise ValueError(f"it has {request.ByteSize()} bytes; a request may have {MOST_BYTES}")
    middle = len(messages) // 2
    return _parts(messages[:middle], build) + _parts(messages[middle:], build)
