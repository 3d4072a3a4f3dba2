"""Small components for tests of composite ones: an output that follows a script, an input fed by hand."""

import asyncio
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    BatchPolicy,
    CollectorError,
    Delivery,
    Dropped,
    Message,
    by_index,
    field,
    output,
)
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources, Surroundings
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions

SCRIPTS = {}
"""What outputs of a name do with a batch: `async def script(contents)`; raises or returns."""
WRITTEN = {}
"""What outputs of a name were given, batch by batch."""


@output("scripted")
class Scripted:
    """Follows the script of its name."""

    name: str = field(doc="Which script.")
    max_in_flight: int = field(default=64, doc="Writes at a time.")
    batching: BatchPolicy = field(default_factory=BatchPolicy, doc="Batching.")

    @asynccontextmanager
    async def open(self, env):
        yield _Scripted(self.name)


class _Scripted:
    def __init__(self, name):
        self.name = name

    async def write(self, batch):
        contents = [message.content.decode() for message in batch]
        WRITTEN.setdefault(self.name, []).append(contents)
        script = SCRIPTS.get(self.name)
        if script is not None:
            await script(contents)


REGISTRY = standard_registry().with_(Scripted)


def surroundings(lines=None, **more):
    lines = [] if lines is None else lines
    log = Log(LogOptions(level="debug", format="json"), lines.append)
    loop = asyncio.get_running_loop()
    made = {
        "now": lambda: 1_700_000_000.0 + loop.time(),
        "monotonic": loop.time,
        "random": lambda: 0.5,
        "listen": None,
        "mount": None,
    } | more
    return Surroundings(log, MetricStore(), **made)


@asynccontextmanager
async def opened_output(text, **more):
    """The output of a config, opened as a child is; scripts and what was written start empty."""
    SCRIPTS.clear()
    WRITTEN.clear()
    lines = []
    config = load(text, REGISTRY, env={})
    around = surroundings(lines, **more)
    env = ComponentEnv(around, Resources(), config.output)
    async with config.output.config.open(env) as opened:
        yield Opened(opened, around, lines)


class Opened:
    def __init__(self, output, around, lines):
        self.output, self.around, self.lines = output, around, lines

    async def write(self, *contents, **metadata):
        return await self.output.write(messages(*contents, **metadata))

    async def drops(self, *contents):
        """Write; which of the messages were dropped by a rule. What else failed is raised."""
        try:
            await self.write(*contents)
        except CollectorError as error:
            verdicts = by_index(error, len(contents))
            if not all(isinstance(one, Dropped) for one in verdicts.values()):
                raise
            return [contents[index] for index in sorted(verdicts)]
        return []

    def total(self, name):
        return self.around.metrics.total(name)


def messages(*contents, **metadata):
    return [
        one if isinstance(one, Message) else Message(one.encode(), metadata) for one in contents
    ]


class Uncounted:
    """Base of intakes in tests that do not look at what is only counted."""

    def dropped(self, contents, rule):
        pass

    def refused(self, contents, reason):
        pass


class Outcome:
    """A delivery and what became of it."""

    def __init__(self, *contents):
        self.settled = []
        self.delivery = Delivery(messages(*contents), self.settled.append)
