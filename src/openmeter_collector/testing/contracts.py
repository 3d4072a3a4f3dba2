"""The rules that every component of a kind keeps, as checks that anyone can run on their own.

Each check raises `AssertionError` with the rule it found broken. `tests/conformance` runs them over all
components that come with the collector; authors of others run them over theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.env import Env
from openmeter_collector.component.input import Input
from openmeter_collector.component.output import Output
from openmeter_collector.component.processor import AsyncProcessor, Processor
from openmeter_collector.component.scanner import MOST_AT_ONCE, Reading, Scanned, Scanner, Source
from openmeter_collector.errors import CollectorError, Dropped, EndOfInput, Retryable
from openmeter_collector.message import Batch, Delivery, Message, by_index
from openmeter_collector.message.settlement import entering

Opens = Callable[[Env], AbstractAsyncContextManager[Any]]
_SOON = 5.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a component says it can do; a check that needs what it cannot is left out.

    Attributes:
        keeps: what a buffer took is there after it was closed and opened again.
        repeats: a buffer gives out again what failed.
        drops: a processor leaves messages out by rule, an output may refuse all.
    """

    keeps: bool = False
    repeats: bool = False
    drops: bool = False


class Told:
    """A delivery and what its source was told."""

    def __init__(self, *contents: bytes) -> None:
        self.answers: list[Exception | None] = []
        self.event = asyncio.Event()
        self.delivery = Delivery([Message(content) for content in contents], self._settle)

    def _settle(self, failure: Exception | None) -> None:
        self.answers.append(failure)
        self.event.set()


async def check_buffer(opens: Opens, env: Env, can: Capabilities) -> None:
    """Order, settling once, drain, and what survives a close."""
    async with opens(env) as buffer:
        await _order_and_drain(buffer)
    async with opens(env) as buffer:
        empty = Told()
        buffer.write(empty.delivery)
        await _soon(empty.event.wait(), "an empty delivery is settled")
        if can.repeats:
            await _repeats(buffer)
    if can.keeps:
        told = Told(b"kept")
        async with opens(env) as buffer:
            buffer.write(told.delivery)
            await _soon(told.event.wait(), "a write is settled without a reader")
        async with opens(env) as buffer:
            again = await _soon(buffer.read(), "what was settled is there after opening again")
            assert [message.content for message in again.batch] == [b"kept"]
            again.settle(None)


async def _order_and_drain(buffer: Buffer) -> None:
    written = [Told(b"%d" % number, b"%d+" % number) for number in range(20)]
    for one in written:
        await _soon(buffer.wait_for_room(), "an empty buffer has room")
        buffer.write(one.delivery)
    buffer.drain()
    got: list[bytes] = []
    while True:
        try:
            delivery = await _soon(buffer.read(), "a draining buffer gives out all and then ends")
        except EndOfInput:
            break
        got += [message.content for message in delivery.batch]
        delivery.settle(None)
    expected = [message.content for one in written for message in one.delivery.batch]
    assert got == expected, "what was written comes out in order, once, and all of it"
    for one in written:
        await _soon(one.event.wait(), "every write is settled")
        assert one.answers == [None], "a write is settled once, with None"
    assert buffer.status().events == 0, "an empty buffer says so"


async def _repeats(buffer: Buffer) -> None:
    buffer.write(Told(b"again").delivery)
    first = await _soon(buffer.read(), "a write is read")
    first.settle(Retryable("not yet"))
    second = await _soon(buffer.read(), "what failed is given out again")
    assert [message.content for message in second.batch] == [b"again"]
    second.settle(None)


async def check_output(opens: Opens, env: Env, can: Capabilities) -> None:
    """Opens and closes twice, takes a batch, classifies its failures, ends when it is cancelled."""
    for _ in range(2):
        async with opens(env) as output:
            await _write(output, [Message(b'{"id":"1"}'), Message(b'{"id":"2"}')], can)
    async with opens(env) as output:
        writing = asyncio.ensure_future(output.write([Message(b'{"id":"3"}')]))
        await asyncio.sleep(0)
        writing.cancel()
        await _soon(asyncio.wait({writing}), "a cancelled write ends")


async def _write(output: Output, batch: Batch, can: Capabilities) -> None:
    before = [message.content for message in batch]
    try:
        await _soon(output.write(batch), "a write ends")
    except CollectorError as error:
        verdicts = by_index(error, len(batch)).values()
        by_rule = all(isinstance(one, Dropped) for one in verdicts)
        assert can.drops or by_rule, "a write of good events to a good peer succeeds"
    assert [message.content for message in batch] == before, "a batch is left as it was"


async def check_processor(opens: Opens, env: Env, can: Capabilities) -> None:
    """Never raises for bad data, never changes what it was given, keeps its results traceable."""
    contents = [b'{"id":"1","n":2}', b"not json", b"", b"[]", b'"text"', b"\xff", b"null"]
    async with opens(env) as processor:
        batch = entering([Message(content, {"k": "v"}) for content in contents])
        results = await _process(processor, batch)
        assert [m.content for m in batch] == contents, "messages it was given are left as they were"
        assert all(dict(m.metadata) == {"k": "v"} for m in batch), "and so is their metadata"
        made = [message for one in results for message in one]
        assert made or can.drops, "messages are dropped by rule only"
        for message in made:
            origins = message.origin if isinstance(message.origin, tuple) else (message.origin,)
            known = all(0 <= one < len(contents) for one in origins)
            assert known, "a result says which message it came from"
        assert await _process(processor, []) in ([], [[]]), "nothing comes of nothing"


async def _process(processor: Processor | AsyncProcessor, batch: Batch) -> list[Batch]:
    results: Any = processor.process(batch)
    if asyncio.iscoroutine(results):
        results = await _soon(results, "a batch is processed")
    return list(results)


async def check_input(opens: Opens, env: Env) -> None:
    """Opens, runs, and on cancellation ends soon without acknowledging what was not taken."""

    class Nowhere:
        def offer(self, delivery: Delivery) -> None:
            del delivery

        async def put(self, delivery: Delivery) -> None:
            del delivery

        def dropped(self, messages: Sequence[Message], rule: str) -> None:
            del messages, rule

        def refused(self, contents: Sequence[bytes], reason: str) -> None:
            del contents, reason

    async with opens(env) as component:
        if not hasattr(component, "run"):
            return
        running_input: Input = component
        running = asyncio.ensure_future(running_input.run(Nowhere()))
        await asyncio.sleep(0.01)
        running.cancel()
        await _soon(asyncio.wait({running}), "a cancelled input ends")


async def _soon(awaitable: Any, rule: str) -> Any:
    try:
        async with asyncio.timeout(_SOON):
            return await awaitable
    except TimeoutError:
        raise AssertionError(f"not kept: {rule}") from None


async def check_scanner(opens: Opens, env: Env, data: bytes, name: str = "data") -> Batch:
    """The messages do not depend on how bytes come, and every place that was told can be gone on from.

    Args:
        data: what the scanner reads.

    Returns:
        The messages.
    """
    async with opens(env) as scanner:
        opened: Scanner = scanner
        whole = await _scanned(opened, Source(name, pieces(data, len(data) or 1)))
        expected = [_told(message) for found in whole for message in found.batch]
        for size in (1, 7, 64):
            cut = await _scanned(opened, Source(name, pieces(data, size)))
            made = [_told(message) for found in cut for message in found.batch]
            assert made == expected, "the messages are the same however the bytes are cut"
            _places(cut)
            await _goes_on(opened, name, data, cut)
        return [message for found in whole for message in found.batch]


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    """Bytes as they may come from somewhere: not more than `size` at a time."""
    for at in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[at : at + size]


async def _scanned(scanner: Scanner, source: Source) -> list[Scanned]:
    found = [one async for one in scanner.scan(source)]
    assert all(0 < len(one.batch) <= MOST_AT_ONCE for one in found), "groups are small, never empty"
    return found


def _told(message: Message) -> tuple[bytes, dict[str, Any], bool]:
    return message.content, dict(message.metadata), message.error is not None


def _places(found: list[Scanned]) -> None:
    records, offset = 0, 0
    for one in found:
        records += len(one.batch)
        assert one.end.records == records, "a place counts the records before it"
        if one.end.offset is not None:
            assert one.end.offset >= offset, "places do not go back"
            offset = one.end.offset


async def _goes_on(scanner: Scanner, name: str, data: bytes, found: list[Scanned]) -> None:
    """A reading that begins at a place gives what comes after it."""
    contents = [message.content for one in found for message in one.batch]
    for one in found:
        begin = (one.end.offset or 0) if scanner.seeks(name) else 0
        reading = Reading(scanner, Source(name, pieces(data[begin:], 16), start=one.end))
        rest: list[bytes] = []
        while (delivery := await reading.next()) is not None:
            rest += [message.content for message in delivery.batch]
        assert rest == contents[one.end.records :], "a scan goes on where an earlier one was"
