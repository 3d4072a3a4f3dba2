"""Runs a program for each message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    ByteSize,
    Duration,
    Env,
    Example,
    Interpolated,
    MappingText,
    Message,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.child_process import (
    Child,
    ProgramFailed,
    read_to_end,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.values import json

DISK = Example(
    "Meter the use of a disk every hour",
    """
    input:
      generate:
        interval: '0 0 * * * *'
        mapping: root = ""
      processors:
        - command:
            name: df
            args_mapping: '[ "--output=used", "/data" ]'
    """,
)


@processor("command", categories=("Integration",), examples=[DISK], dangerous="programs")
class Command:
    """Starts a program for each message, with the message as its input, and replaces the message by
    what it writes.

    The metadata gets `exit_code` and, when the program wrote any, its error output as
    `command_stderr`. When the program ends with another code than 0, cannot be started, takes
    longer than `timeout` or writes more than `max_output`, the message stays as it is, flagged. No
    shell is involved: a name and a list of arguments are all that a message can change.
    """

    name: Interpolated = field(doc="The program.", examples=["bash", "${! @command }"])
    args_mapping: MappingText | None = field(
        default=None,
        doc="A query that gives a list of arguments.",
        examples=['[ "-c", this.script_path ]'],
    )
    timeout: Duration = field(
        default=Duration("30s"), ours=True, advanced=True, doc="Most time for one message."
    )
    max_output: ByteSize = field(
        default=ByteSize("16MiB"), ours=True, advanced=True, doc="Most that may be written."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        yield _Runner(self, env)


class _Runner:
    def __init__(self, config: Command, env: Env) -> None:
        self._config = config
        self._flag = Flag(env)

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for index, message in enumerate(batch):
            try:
                name = self._config.name.resolve(batch, index)
                arguments = self._arguments(batch, index)
            except (MappingFailed, ValueError) as error:
                made.append(self._flag(message, error))
                continue
            made.append(await self._run([name, *arguments], message))
        return [made]

    def _arguments(self, batch: Batch, index: int) -> list[str]:
        if self._config.args_mapping is None:
            return []
        found = self._config.args_mapping.program.query(batch, index)
        if not isinstance(found, list):
            fault = "args_mapping gave no array; write a query such as [ this.a, this.b ]"
            raise ValueError(fault)  # noqa: TRY004 - data, not code
        return [one if isinstance(one, str) else json.dumps(one).decode() for one in found]

    async def _run(self, command: list[str], message: Message) -> Message:
        seconds = float(self._config.timeout)
        try:
            child = await Child.start(command)
        except ProgramFailed as error:
            return self._flag(message, f"execution error: {error}")
        try:
            async with asyncio.timeout(seconds):
                written, complained, code = await self._talk(child, message.content)
        except TimeoutError:
            return self._flag(message, f"execution error: it took longer than {seconds:g} s")
        except ProgramFailed as error:
            return self._flag(message, f"execution error: {error}")
        finally:
            await child.end()
        metadata = {**message.metadata, "exit_code": code}
        if code:
            text = complained.decode(errors="replace")
            ended = f"exit status {code}" if code > 0 else f"signal {-code}"
            return self._flag(message.with_metadata(metadata), f"execution error: {ended}: {text}")
        if complained:
            metadata["command_stderr"] = complained.decode(errors="replace")
        return message.with_content(written).with_metadata(metadata)

    async def _talk(self, child: Child, given: bytes) -> tuple[bytes, bytes, int]:
        assert child.stderr is not None
        most = int(self._config.max_output)
        # Input, output and errors at once: a program may fill any of the pipes first. One that says too
        # much ends the wait for the others.
        try:
            async with asyncio.TaskGroup() as tasks:
                written = tasks.create_task(read_to_end(child.stdout, most))
                complained = tasks.create_task(read_to_end(child.stderr, most))
                tasks.create_task(_give(child, given))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return written.result(), complained.result(), await child.wait()


async def _give(child: Child, given: bytes) -> None:
    child.send(given)
    with contextlib.suppress(ConnectionError):  # it need not read
        await child.stdin.drain()
    child.stdin.close()
