"""Components and functions of a program's own, as a type checker sees them. Checked, never run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_type

from openmeter_collector import Collector
from openmeter_collector.api import (
    Batch,
    Delivery,
    Duration,
    Env,
    Input,
    Intake,
    Message,
    Output,
    Processor,
    field,
    input,
    output,
    processor,
)
from openmeter_collector.bloblang import Value, method
from openmeter_collector.spec.registry import Registry


@input("readings")
class Readings:
    """Reads a meter on the wall."""

    port: str = field(doc="Where the meter is.")
    every: Duration = field(default=Duration("1m"), doc="How often.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        yield Reading(self.port, env)


class Reading:
    def __init__(self, port: str, env: Env) -> None:
        self.port, self.env = port, env

    async def run(self, intake: Intake) -> None:
        assert_type(self.env.now(), float)
        await intake.put(Delivery([Message(b"{}", {"port": self.port})], self.settle))
        await intake.put([Message(b"{}")])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    def settle(self, failure: Exception | None) -> None:
        pass


Readings(port="a", every=Duration("1s"))
Readings()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Readings("a")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Readings(port=1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Readings(port="a").port = "b"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
assert_type(Readings(port="a").every, Duration)


@processor("louder")
class Louder:
    """Writes in capitals."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield Loud()


class Loud:
    def process(self, batch: Batch) -> list[Batch]:
        assert_type(batch[0], Message)
        assert_type(batch[0].content, bytes)
        return [[one.with_content(one.content.upper()) for one in batch]]


@output("shout")
class Shout:
    """Prints."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        yield Loud()  # type: ignore[misc] # pyright: ignore[reportReturnType]


assert_type(Collector.components().with_(Readings, Louder), Registry)


@method("company")
def cents(value: Value, rate: float = 1.0) -> Value:
    """An amount of money in cents."""
    return value
