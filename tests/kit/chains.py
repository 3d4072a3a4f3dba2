"""Processors of a config text, opened and run on their own, on a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import Batch, Delivery, Message
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.chain import through
from openmeter_collector.engine.environment import ComponentEnv, Surroundings, open_resources
from openmeter_collector.spec.trust import EVERYTHING
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions

CONFIG = """
http: {{enabled: false}}
input: {{http_server: {{}}}}
output: {{drop: {{}}}}
{resources}
pipeline:
  processors:
{processors}
"""


class Opened:
    """A chain of processors with what it counted and logged.

    Attributes:
        at: the time, in seconds; `sleep` moves it.
    """

    def __init__(self):
        self.metrics = MetricStore()
        self.lines = []
        self.at = 1000.0
        self.slept = []
        self.chain = None
        self.caches = {}
        self.drops = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.at += max(seconds, 0)
        await asyncio.sleep(0)

    async def run(self, *contents, **options) -> list[Batch]:
        """Run one batch of messages with these contents."""
        return await self.run_batch([message(content, **options) for content in contents])

    async def run_batch(self, batch: Batch) -> list[Batch]:
        numbered = [one.at(index) for index, one in enumerate(batch)]
        if self.chain.sync:
            return self.chain.run_sync(numbered)
        return await self.chain.run(numbered)

    async def deliver(self, *contents) -> tuple[list[Delivery], list]:
        """Run as the engine does before a buffer; the verdicts on the whole appear in the second
        result, what was dropped in `drops`, with the rule.
        """
        verdicts = []
        batch = [message(content) for content in contents]
        delivery = Delivery(batch, verdicts.append)
        return await through(self.chain, delivery, self._dropped), verdicts

    def _dropped(self, lost, rule) -> None:
        self.drops += [(one.content.decode(), rule) for one in lost]


def message(content, **options) -> Message:
    """A message of text, bytes or a ready one."""
    if isinstance(content, Message):
        return content
    return Message(content.encode() if isinstance(content, str) else content, **options)


def shown(batches) -> list[list[str]]:
    """Contents, by batch."""
    return [[one.content.decode() for one in batch] for batch in batches]


def errors(batches) -> list[str | None]:
    """The flags of all messages."""
    return [None if one.error is None else str(one.error) for batch in batches for one in batch]


@asynccontextmanager
async def processors(text: str, resources: str = "") -> AsyncIterator[Opened]:
    """Open the processors of a YAML list."""
    indented = "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
    config = load(
        CONFIG.format(processors=indented, resources=resources),
        standard_registry(),
        env={},
        trust=EVERYTHING,
    )
    opened = Opened()
    surroundings = Surroundings(
        Log(LogOptions(level="debug", format="json"), opened.lines.append),
        opened.metrics,
        listen=None,
        mount=None,
        now=lambda: opened.at,
        monotonic=lambda: opened.at,
        sleep=opened.sleep,
    )
    async with AsyncExitStack() as stack:
        known = await open_resources(config, surroundings, stack)
        env = ComponentEnv(surroundings, known, config.output)
        # Without what counts, so that tests may look inside.
        opened.caches = {label: one._cache for label, one in known.caches.items()}
        opened.chain = await stack.enter_async_context(env.processors(config.pipeline.processors))
        yield opened
