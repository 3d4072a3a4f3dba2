"""Plays faults on an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from openmeter_collector.testing.sandbox import faults as fault
from openmeter_collector.testing.sandbox.exchange import Exchange

AFTER: Final = (
    fault.Hang, fault.Reset, fault.Partial, fault.Late, fault.Junk, fault.Drip, fault.WrongLength,
)  # fmt: skip
"""Faults that come when it is decided what was ingested; the others come before reading."""


async def play_before(
    exchange: Exchange,
    one: fault.AnyFault,
    sent: bytes,
    seen: Sequence[dict[str, str]],
    now: float,
) -> bool:
    """Play a fault that comes before reading; False when it has ended the exchange."""
    exchange.entry.faults.append(str(one.__struct_config__.tag))
    if isinstance(one, AFTER):
        return True
    if isinstance(one, fault.Slow):
        await asyncio.sleep(one.seconds)
        return True
    if isinstance(one, fault.TooLarge):
        await exchange.problem(413, f"request body has {len(sent)} bytes, above {one.bytes}")
    elif isinstance(one, fault.Refuse):
        index = fault.matching(one.patterns(), seen)
        where = f'Error at "/{index}": ' if _is_array(exchange, seen) else ""
        await exchange.problem(one.status, f"request body has an error: {where}{one.detail}")
    elif isinstance(one, fault.Status):
        await exchange.status(one, now)
    return False


async def play_after(exchange: Exchange, one: fault.AnyFault, success: int) -> None:
    """Play a fault that comes when it is decided what was ingested."""
    if isinstance(one, fault.Hang):
        await exchange.until_gone(one.seconds)
        await exchange.close()
    elif isinstance(one, fault.Partial):
        await exchange.problem(one.status, "forwarding event to collector: broker is gone")
    elif isinstance(one, fault.Late):
        await asyncio.sleep(one.seconds)
        await exchange.answer(success, b"", b"")
    elif isinstance(one, fault.Junk):
        await exchange.answer(one.status, one.content_type.encode(), one.body.encode())
    elif isinstance(one, fault.Reset):
        exchange.write(_plain(success)[: one.bytes])
        await exchange.reset()
    elif isinstance(one, fault.Drip):
        for byte in _plain(success):
            exchange.write(bytes((byte,)))
            await asyncio.sleep(one.seconds)
        exchange.entry.status = success
        await exchange.close()
    elif isinstance(one, fault.WrongLength):
        length = len(one.body.encode()) + one.extra
        head = f"HTTP/1.1 {one.status} OK\r\ncontent-type: application/json\r\n"
        exchange.write(f"{head}content-length: {length}\r\n\r\n{one.body}".encode())
        exchange.entry.status = one.status
        await exchange.close()


def _plain(status: int) -> bytes:
    reason = {202: "Accepted", 204: "No Content"}[status]
    length = "content-length: 0\r\n" if status != 204 else ""
    return f"HTTP/1.1 {status} {reason}\r\n{length}connection: close\r\n\r\n".encode()


def _is_array(exchange: Exchange, seen: Sequence[dict[str, str]]) -> bool:
    """Whether a place in the body needs an index."""
    return len(seen) > 1 or "batch" in exchange.content_type
