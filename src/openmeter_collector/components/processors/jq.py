"""Replaces messages by what a jq program emits."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, Final

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    ConfigError,
    Duration,
    Env,
    Example,
    Message,
    Value,
    field,
    install_extra,
    processor,
)
from openmeter_collector.components.processors.child_process import Child, ProgramFailed
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.values import json
from openmeter_collector.values.kinds import SourceNumber

CITIES = Example(
    "Name the cities of one state",
    """
    pipeline:
      processors:
        - jq:
            query: '{Cities: .locations | map(select(.state == "WA").name) | sort | join(", ")}'
    """,
)
_WORKER: Final = "openmeter_collector.components.processors.jq_worker"
_HANDED_ON: Final = ("PYTHONPATH", "LD_LIBRARY_PATH")
_LONG: Final = re.compile(rb"[0-9.]{16}")
_EXACT: Final = 1 << 53
_MOST_START: Final = 60
_MOST_ANSWER: Final = 256 << 20


@processor("jq", categories=("Mapping",), examples=[CITIES])
class Jq:
    """Runs a jq program over each message and replaces the message by what it emits.

    Several values become an array; when nothing is emitted, the message is dropped. Metadata is at
    `$metadata`. A message on which the program fails stays as it is, flagged.

    Programs run in a process of their own, with an empty environment and bounded memory. One that
    takes longer than `timeout` for a message is ended, and costs that message alone. `import` and
    `include` are not available. jq computes with doubles: a message with a number that they cannot
    hold is flagged rather than changed; use `mapping` for those, which is also faster.

    Needs the extra `jq`.
    """

    query: str = field(doc="The program.")
    raw: bool = field(
        default=False, advanced=True, doc="The message is a text, not a JSON document."
    )
    output_raw: bool = field(
        default=False,
        advanced=True,
        doc="Texts that are emitted are written without quotes, and several values one after the "
        "other.",
    )
    timeout: Duration = field(
        default=Duration("5s"), ours=True, advanced=True, doc="Most time for one message."
    )
    max_values: int = field(
        default=100_000,
        minimum=1,
        ours=True,
        advanced=True,
        doc="Most values for one message; more is a failure.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        """Start the process and compile the program in it."""
        where = f"{env.node.where} jq"
        if find_spec("jq") is None:
            raise ConfigError(f"{where} needs the extra 'jq'; run: {install_extra('jq')}")
        running = _Asking(self, env)
        try:
            await running.start()
        except ProgramFailed as error:
            await running.close()
            raise ConfigError(f"{where}: {error}") from error
        try:
            yield running
        finally:
            await running.close()


class _Asking:
    def __init__(self, config: Jq, env: Env) -> None:
        self._config = config
        self._flag = Flag(env)
        self._child: Child | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Have a process that knows the program."""
        handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        self._child = await Child.start(
            [sys.executable, "-P", "-m", _WORKER], env=handed_on, quiet=True
        )
        settings = {"query": self._config.query, "most": self._config.max_values}
        self._send(json.dumps(settings))
        try:
            async with asyncio.timeout(_MOST_START):
                await self._answer()
        except TimeoutError as error:
            await self.close()
            raise ProgramFailed(f"its process did not start within {_MOST_START} s") from error

    async def close(self) -> None:
        """End it."""
        child, self._child = self._child, None
        if child is not None:
            await child.end()

    async def process(self, batch: Batch) -> list[Batch]:
        async with self._turn:
            try:
                made = await self._process(batch)
            except asyncio.CancelledError:
                # Answers to what was asked would be taken for those to what is asked next.
                await self.close()
                raise
        return [made] if made else []

    async def _process(self, batch: Batch) -> Batch:
        made: Batch = []
        asked: list[tuple[Message, bytes | None]] = []
        for message in batch:
            try:
                asked.append((message, self._question(message)))
            except (ValueError, RecursionError) as error:
                asked.append((self._flag(message, error), None))
        sent = 0
        for number, (message, question) in enumerate(asked):
            if question is None:
                made.append(message)
                continue
            try:
                if self._child is None:
                    await self.start()
                    sent = number
                for _, waiting in asked[sent:]:
                    if waiting is not None:
                        self._send(waiting)
                sent = len(asked)
                async with asyncio.timeout(float(self._config.timeout)):
                    emitted = await self._answer()
            except TimeoutError:
                await self.close()
                seconds = float(self._config.timeout)
                made.append(self._flag(message, f"the query took longer than {seconds:g} s"))
            except ProgramFailed as error:
                made.append(self._flag(message, str(error)))
            else:
                made += self._result(message, emitted)
        return made

    def _question(self, message: Message) -> bytes:
        if self._config.raw:
            given = json.dumps(message.content.decode(errors="replace"))
        else:
            value = message.structured()
            if _LONG.search(message.content) and (number := _inexact(value)) is not None:
                raise ValueError(f"jq would change the number {number}")
            given = message.content
        return b"[%s,%s]" % (given, json.dumps(dict(message.metadata)))

    def _send(self, question: bytes) -> None:
        assert self._child is not None
        self._child.send(len(question).to_bytes(4, "big") + question)

    async def _answer(self) -> list[Value]:
        """What is emitted for the next question.

        Raises:
            ProgramFailed: the program failed on it, or the process ended.
        """
        assert self._child is not None
        try:
            head = await self._child.stdout.readexactly(5)
            size = int.from_bytes(head[1:], "big")
            if size > _MOST_ANSWER:
                await self.close()
                raise ProgramFailed(f"the query emits more than {_MOST_ANSWER} bytes")
            body = json.loads(await self._child.stdout.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self.close()
            raise ProgramFailed("the query needs more memory than it may have") from error
        if head[:1] == b"e":
            raise ProgramFailed(str(body))
        emitted: list[Value] = body
        return emitted

    def _result(self, message: Message, emitted: list[Value]) -> Batch:
        if not emitted:
            return []
        if self._config.output_raw:
            texts = [one.encode() if isinstance(one, str) else json.dumps(one) for one in emitted]
            return [message.with_content(b"".join(texts))]
        return [message.with_value(emitted if len(emitted) > 1 else emitted[0])]


def _inexact(value: Any) -> str | None:
    """A number that a double cannot hold, if there is one."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, int) and not -_EXACT <= one <= _EXACT:
            return str(int(one))
        elif isinstance(one, SourceNumber) and Decimal(one.text) != Decimal(repr(float(one))):
            return one.text
    return None
