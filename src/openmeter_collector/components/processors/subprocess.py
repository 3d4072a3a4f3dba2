"""Sends messages through a program that keeps running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    ConfigError,
    Duration,
    Env,
    Example,
    field,
    processor,
)
from openmeter_collector.components.processors.child_process import Child, ProgramFailed
from openmeter_collector.components.processors.common import Flag

UPPER = Example(
    "Send each message through a program of your own",
    """
    pipeline:
      processors:
        - subprocess:
            name: sed
            args: ["-u", "s/free/basic/"]
    """,
)
Codec = Literal["lines", "length_prefixed_uint32_be", "netstring"]
_CODECS = {
    "lines": "A line break after each.",
    "length_prefixed_uint32_be": "Their length before each, in four bytes, the highest first.",
    "netstring": "As netstrings: `3:abc,`.",
}


@processor("subprocess", categories=("Integration",), examples=[UPPER], dangerous="programs")
class Subprocess:
    """Keeps a program running, writes each message to its input and takes what it writes for it.

    The program has to answer every message, with one on its output, or with a line on its error
    output, which flags the message and leaves it as it is. It must not hold answers back (`sed -u`,
    `grep --line-buffered`). When it ends, or does not answer in `timeout`, it is started again, and
    the message it was at is flagged.

    With `lines`, a message that has line breaks in it is sent line by line.
    """

    name: str = field(doc="The program.", examples=["cat", "sed"])
    args: list[str] = field(default_factory=list, doc="Its arguments.")
    max_buffer: int = field(
        default=65_536, minimum=1, advanced=True, doc="Most bytes of an answer; more is a failure."
    )
    codec_send: Codec = field(
        default="lines", advanced=True, doc="How messages are told apart.", choices=_CODECS
    )
    codec_recv: Codec = field(
        default="lines", advanced=True, doc="How answers are told apart.", choices=_CODECS
    )
    timeout: Duration = field(
        default=Duration("30s"), ours=True, advanced=True, doc="Most time for one answer."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        """Start the program."""
        running = _Conversation(self, env)
        try:
            await running.start()
        except ProgramFailed as error:
            raise ConfigError(f"{env.node.where} subprocess: {error}") from error
        try:
            yield running
        finally:
            await running.close()


class _Conversation:
    def __init__(self, config: Subprocess, env: Env) -> None:
        self._config = config
        self._flag = Flag(env)
        self._turn = asyncio.Lock()
        self._program: _Program | None = None

    async def start(self) -> None:
        """Start the program."""
        config = self._config
        child = await Child.start([config.name, *config.args], limit=config.max_buffer)
        self._program = _Program(child, config)

    async def close(self) -> None:
        """End it."""
        program, self._program = self._program, None
        if program is not None:
            await program.close()

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        async with self._turn:
            for message in batch:
                try:
                    made.append(message.with_content(await self._through(message.content)))
                except ProgramFailed as error:
                    made.append(self._flag(message, str(error)))
        return [made]

    async def _through(self, content: bytes) -> bytes:
        if self._config.codec_send != "lines":
            return await self._ask(content)
        lines = content.split(b"\n")
        # A line break at the end ends the last line; it does not begin one more.
        last = [lines.pop()] if len(lines) > 1 and not lines[-1] else []
        return b"\n".join([*[await self._ask(line) for line in lines], *last])

    async def _ask(self, content: bytes) -> bytes:
        if self._program is not None:
            self._program.forget()
            if self._program.ended:
                await self.close()
        if self._program is None:
            await self.start()
        assert self._program is not None
        seconds = float(self._config.timeout)
        try:
            async with asyncio.timeout(seconds):
                return await self._program.ask(framed(content, self._config.codec_send))
        except TimeoutError as error:
            await self.close()
            raise ProgramFailed(f"the program did not answer within {seconds:g} s") from error
        except asyncio.CancelledError:
            # Its answer would be taken for that to what is asked next.
            await self.close()
            raise


class _Program:
    """One life of the program."""

    def __init__(self, child: Child, config: Subprocess) -> None:
        self.ended = False
        self._child = child
        self._heard: asyncio.Queue[bytes | ProgramFailed] = asyncio.Queue(maxsize=1000)
        assert child.stderr is not None
        self._readers = [
            asyncio.create_task(self._answers(child.stdout, config)),
            asyncio.create_task(self._complaints(child.stderr)),
        ]

    async def ask(self, data: bytes) -> bytes:
        """Write, and wait for what comes of it."""
        self._child.send(data)
        heard = await self._heard.get()
        if isinstance(heard, ProgramFailed):
            raise heard
        return heard

    def forget(self) -> None:
        """What was said unasked answers nothing that is to come."""
        while not self._heard.empty():
            self._heard.get_nowait()

    async def close(self) -> None:
        """End it."""
        for reader in self._readers:
            reader.cancel()
        await self._child.end()

    async def _answers(self, stream: asyncio.StreamReader, config: Subprocess) -> None:
        fault = "the program ended"
        try:
            while True:
                await self._heard.put(await unframed(stream, config))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (ValueError, asyncio.LimitOverrunError) as error:
            fault = f"the program's answer cannot be read: {error}"
        # Nothing that follows can be understood, or nothing follows.
        self.ended = True
        await self._heard.put(ProgramFailed(fault))

    async def _complaints(self, stream: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    line = await stream.readline()
                except ValueError:
                    line = b"(a line that is longer than max_buffer)"
                if not line:
                    return
                await self._heard.put(ProgramFailed(line.decode(errors="replace").strip()))


def framed(content: bytes, codec: Codec) -> bytes:
    """A message as it is written to a program."""
    if codec == "length_prefixed_uint32_be":
        return len(content).to_bytes(4, "big") + content
    if codec == "netstring":
        return b"%d:%s," % (len(content), content)
    return content + b"\n"


async def unframed(stream: asyncio.StreamReader, config: Subprocess) -> bytes:
    """The next answer of a program.

    Raises:
        ValueError: it is longer than `max_buffer`, or no answer in this codec.
        IncompleteReadError: the program ended before it.
    """
    if config.codec_recv == "lines":
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise ValueError(f"it is longer than max_buffer ({config.max_buffer})") from error
        return line[:-1].removesuffix(b"\r")
    if config.codec_recv == "netstring":
        digits = (await stream.readuntil(b":"))[:-1]
        if not digits.isdigit() or len(digits) > 10:
            raise ValueError("it does not begin as a netstring")
        size = int(digits)
    else:
        size = int.from_bytes(await stream.readexactly(4), "big")
    if size > config.max_buffer:
        raise ValueError(f"it is longer than max_buffer ({config.max_buffer})")
    content = await stream.readexactly(size)
    if config.codec_recv == "netstring" and await stream.readexactly(1) != b",":
        raise ValueError("it does not end as a netstring")
    return content
