"""Peers that misbehave: outputs that refuse, fail or hang, and a wire that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from openmeter_collector.errors import CollectorError, Rejected, Retryable
from openmeter_collector.message import Batch
from openmeter_collector.testing.memory import MemoryOutput

_CHUNK = 65_536


def rejecting(marker: bytes) -> MemoryOutput:
    """An output that refuses every batch with a message that contains `marker`."""

    def verdict(batch: Batch) -> CollectorError | None:
        bad = any(marker in message.content for message in batch)
        return Rejected("it holds what is refused") if bad else None

    return MemoryOutput(verdict)


def flaky(failures: int) -> MemoryOutput:
    """An output that fails so many times, and then is well."""
    left = [failures]

    def verdict(_: Batch) -> CollectorError | None:
        left[0] -= 1
        return Retryable("not yet") if left[0] >= 0 else None

    return MemoryOutput(verdict)


class HangingOutput:
    """An output that never answers; `under_way` counts the writes that wait."""

    def __init__(self) -> None:
        self.under_way = 0

    async def write(self, batch: Batch) -> None:
        """See `component.output.Output`."""
        del batch
        self.under_way += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.under_way -= 1


class FaultyWire:
    """A TCP proxy on loopback. Its faults hold from the moment they are set.

    Attributes:
        delay: seconds before each piece is passed on.
        blackhole: take everything, pass nothing on.
        cut_after: bytes of answers after which each line is cut; None for never.
        refuse: close new lines at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lines: set[asyncio.StreamWriter] = set()
        self.delay = 0.0
        self.blackhole = False
        self.cut_after: int | None = None
        self.refuse = False
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, host: str, port: int) -> AsyncIterator[FaultyWire]:
        """Listen on a free port."""
        wire = cls(host, port)
        server = await asyncio.start_server(wire._serve, "127.0.0.1", 0)
        bound, number = server.sockets[0].getsockname()
        wire.address = f"{bound}:{number}"
        try:
            yield wire
        finally:
            server.close()
            wire.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Reset every line that is open."""
        for line in list(self._lines):
            line.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        try:
            if self.refuse:
                return
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            try:
                ways = {
                    asyncio.ensure_future(self._pass(reader, far_writer, None)),
                    asyncio.ensure_future(self._pass(far_reader, writer, self.cut_after)),
                }
                _, waiting = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in waiting:
                    way.cancel()
                await asyncio.wait(ways)
            finally:
                far_writer.transport.abort()
        except OSError:
            return
        finally:
            self._lines.discard(writer)
            writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None
    ) -> None:
        passed = 0
        with suppress(OSError):
            while piece := await reader.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                while self.blackhole:  # noqa: ASYNC110 - a switch that a test sets
                    await asyncio.sleep(0.01)
                if most is not None and passed + len(piece) > most:
                    writer.write(piece[: most - passed])
                    return
                passed += len(piece)
                writer.write(piece)
                await writer.drain()
