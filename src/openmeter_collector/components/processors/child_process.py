"""Programs that processors start: bounded in what they say and how long they take, and ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence


class ProgramFailed(Exception):
    """A program could not be started, took too long, said too much, or ended."""


class Child:
    """A running program, with pipes to its input and from its output."""

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport) -> None:
        self._process = process
        self._transport = transport
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.stderr = process.stderr

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        limit: int = 1 << 16,
        quiet: bool = False,
    ) -> Child:
        """Start a program.

        Args:
            env: its environment; ours when it is left out.
            limit: most bytes that `readline` and `readuntil` take.
            quiet: what it says on its error output is thrown away.

        Raises:
            ProgramFailed: there is no such program, or it may not be run.
        """
        try:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(limit, loop),
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL if quiet else PIPE,
                env=env,
                # A group of its own: what it starts itself ends with it, and Ctrl-C is ours to handle.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ProgramFailed(f"{command[0]!r} cannot be started: {reason}") from error
        return cls(Process(transport, protocol, loop), transport)

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return self._process.returncode is None

    def send(self, data: bytes) -> None:
        """Write to its input without waiting; what it does not take now is kept until it does."""
        self.stdin.write(data)

    async def wait(self) -> int:
        """Its exit code; negative is the signal that ended it."""
        return await self._process.wait()

    async def end(self) -> None:
        """End it and all it started, at once, and wait until it is gone.

        Of one that has ended by itself nothing is ended: its number may be another's by now.
        """
        if self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # The pipes as well, also where somebody else still holds the other end.
        self._transport.close()
        await self._process.wait()


async def read_to_end(stream: asyncio.StreamReader, most: int) -> bytes:
    """All that comes until the end.

    Raises:
        ProgramFailed: it is more than `most` bytes.
    """
    parts: list[bytes] = []
    size = 0
    while part := await stream.read(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise ProgramFailed(f"it wrote more than {most} bytes")
    return b"".join(parts)
