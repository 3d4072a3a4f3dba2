"""A program that embeds the collector, as a type checker sees it. Checked, never run.

Each `type: ignore` is a mistake that has to be found: one that is not is reported as not needed.
"""

from asyncio import Future
from pathlib import Path
from typing import assert_type

from openmeter_collector import (
    Collector,
    __version__,
)
from openmeter_collector.api import BufferStatus, ConfigError, MetricStore, Rejected
from openmeter_collector.embedded import Event
from openmeter_collector.engine.run import Ended
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.spec.registry import Registry

assert_type(__version__, str)
assert_type(Collector.components(), Registry)

Collector("collector.yaml", env={"TOKEN": "x"}, log=print)
Collector(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Collector("collector.yaml", registry="inputs")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Collector("collector.yaml", True)  # type: ignore[call-arg, arg-type] # pyright: ignore[reportCallIssue]


def event(number: int) -> Event:
    return {"specversion": "1.0", "id": str(number), "source": "app", "type": "t", "subject": "c"}


async def push() -> None:
    async with Collector(Path("collector.yaml")) as collector:
        assert_type(collector, Collector)
        await collector.push(event(1), b"{}", "{}", {"id": "1"})
        await collector.push(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        assert_type(collector.offer([event(1)]), Future[Exception | None])
        collector.offer(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        await collector.flush()
        assert_type(collector.backlog, BufferStatus)
        assert_type(collector.backlog.events, int)
        assert_type(collector.status, PipelineStatus)
        assert_type(collector.metrics, MetricStore)
        assert_type(collector.metrics.total("output_sent"), float)
        collector.backlog = None  # type: ignore[misc, assignment] # pyright: ignore[reportAttributeAccessIssue]
        collector.nothing()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert_type(collector.ended, Ended | None)


async def failures(collector: Collector) -> None:
    try:
        await collector.push(event(1))
    except Rejected as error:
        assert_type(error.response, str)
    except ConfigError as error:
        assert_type(error.problems, tuple[str, ...])
