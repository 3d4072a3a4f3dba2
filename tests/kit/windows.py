"""A pipeline's place for an input that fetches windows: a clock to bend, a buffer that forgets nothing."""

import asyncio
import contextlib
from dataclasses import replace

from openmeter_collector.component.node import Node
from openmeter_collector.engine.state import PipelineState
from openmeter_collector.message import Batch
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.values.windows import Ledger

START = 1_700_000_000.0
"""A moment that is a whole number of 100 seconds."""


class Stored:
    """What became safe, over several lives of an input: messages and positions in one step."""

    def __init__(self):
        self.batches: list[Batch] = []
        self.values: dict[str, bytes] = {}
        self.history: list[bytes] = []
        self.refuse = None
        """Called with a delivery before it is taken; an exception it returns is its fate."""

    @property
    def messages(self):
        return [message for batch in self.batches for message in batch]

    async def put(self, delivery):
        failure = self.refuse(delivery) if self.refuse else None
        if failure is None:
            if delivery.batch:
                self.batches.append(delivery.batch)
            for checkpoint in delivery.checkpoints:
                self.values[checkpoint.key] = checkpoint.value
                self.history.append(checkpoint.value)
        await asyncio.sleep(0.001)  # as a commit takes a moment
        delivery.settle(failure)

    def ledger(self, name="windows"):
        found = [value for key, value in self.values.items() if key.endswith("/" + name)]
        return Ledger.decode(found[0])

    async def load(self, key):
        return self.values.get(key)

    async def save(self, checkpoints):
        raise AssertionError("the buffer keeps them")


class WindowEnv(FakeEnv):
    """An `Env` whose clock can be set, and whose positions are what was stored."""

    def __init__(self, stored=None, node=None, config=None):
        super().__init__(node or Node("input", "test", config, "root.input"))
        self.stored = stored or Stored()
        self.offset = 0.0
        loop = asyncio.get_running_loop()
        self._surroundings = replace(
            self._surroundings,
            now=lambda: START + loop.time() + self.offset,
            state=PipelineState(store=self.stored),
        )


@contextlib.asynccontextmanager
async def running(opened, stored):
    """Let an input run beside the test."""
    task = asyncio.ensure_future(opened.run(stored))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class ListedWindows:
    """A source whose windows are messages; fails where a test says so."""

    def __init__(self, fail=lambda window, attempt: None, takes=0.0):
        self.fail = fail
        self.takes = takes
        self.asked = []
        self.under_way = 0
        self.most_under_way = 0

    async def fetch(self, window, rest):
        self.asked.append((window, tuple(rest)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes)
            error = self.fail(window, sum(one == window for one, _ in self.asked))
            if error is not None:
                raise error
        finally:
            self.under_way -= 1
        from openmeter_collector.api import Message  # noqa: PLC0415

        yield [Message(value={"start": window.start, "end": window.end})]


def spans_of(messages):
    """The windows that messages tell of, in order."""
    return sorted((one.structured()["start"], one.structured()["end"]) for one in messages)


def assert_tiled(spans, start, end):
    """Every moment from start to end, once."""
    at = start
    for low, high in spans:
        assert low == at, f"a hole or an overlap at {at}"
        at = high
    assert at == end
