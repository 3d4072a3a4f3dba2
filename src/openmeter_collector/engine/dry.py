"""A pipeline that sends nothing: what would be written is shown instead, and never acknowledged.

Each output that would write somewhere holds what it gets without an answer, so that no source is
told that its events are safe. There is no buffer: what is on disk is neither read nor added to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

from openmeter_collector.component.input import Intake, Puller
from openmeter_collector.component.node import Node
from openmeter_collector.component.output import Output
from openmeter_collector.config.model import Config
from openmeter_collector.engine.streams import nodes_below
from openmeter_collector.errors import EndOfInput
from openmeter_collector.message import Batch, Delivery
from openmeter_collector.spec.fields import BatchPolicy
from openmeter_collector.spec.registry import Registry
from openmeter_collector.values.units import Duration

_SENDS_NOTHING: Final = frozenset({"drop", "reject", "sync_response"})

Show = Callable[[Node, Batch], None]
"""Told each batch that would be written, and by which output."""


def dry(config: Config, registry: Registry, show: Show, ended: asyncio.Event) -> Config:
    """The config with everything that would leave a trace taken out.

    Args:
        ended: set when the input has nothing more to give.
    """
    assert config.input is not None
    none = registry.get("buffer", "none")
    assert none is not None
    return replace(
        config,
        input=replace(config.input, config=_Ending(config.input.config, ended)),
        buffer=Node("buffer", "none", none.cls(), "root.buffer"),
        output=_silenced(config.output, show),
        output_resources=[_silenced(node, show) for node in config.output_resources],
        shutdown_timeout=Duration("0s"),
    )


def _silenced(value: Any, show: Show) -> Any:
    """The same, every output that writes replaced by one that shows."""
    if isinstance(value, Node):
        inside = list(nodes_below(value.config))
        leaf = not any(node.kind == "output" for node in inside)
        if value.kind == "output" and leaf and value.name not in _SENDS_NOTHING | {"resource"}:
            return replace(value, config=_Shown(value, show))
        return replace(value, config=_silenced(value.config, show))
    if isinstance(value, list):
        return [_silenced(one, show) for one in value]
    if isinstance(value, tuple):
        return tuple(_silenced(one, show) for one in value)
    if isinstance(value, dict):
        return {key: _silenced(one, show) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type) and any(nodes_below(value)):
        changed = {one.name: _silenced(getattr(value, one.name), show) for one in fields(value)}
        return replace(value, **changed)
    return value


class _Shown:
    """Stands for the config of an output that would write."""

    max_in_flight = 1024

    def __init__(self, node: Node, show: Show) -> None:
        self._node = node
        self._show = show
        policy = getattr(node.config, "batching", None)
        # Nothing waits for company: what comes is shown at once, as the policy makes it.
        self.batching = BatchPolicy(
            count=0, processors=policy.processors if policy is not None else []
        )

    @asynccontextmanager
    async def open(self, env: Any) -> AsyncIterator[Output]:
        del env
        yield self

    async def write(self, batch: Batch) -> None:
        """Show, and give no answer, ever: nothing was delivered."""
        self._show(self._node, batch)
        await asyncio.Event().wait()


@dataclass(frozen=True)
class _Ending:
    """An input that says when it has nothing more to give."""

    config: Any
    ended: asyncio.Event

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)

    @asynccontextmanager
    async def open(self, env: Any) -> AsyncIterator[Any]:
        async with self.config.open(env) as opened:
            yield (
                _EndingPuller(opened, self.ended)
                if isinstance(opened, Puller)
                else (_EndingInput(opened, self.ended))
            )


class _EndingPuller:
    def __init__(self, puller: Puller, ended: asyncio.Event) -> None:
        self._puller = puller
        self._ended = ended

    async def read(self) -> Delivery:
        try:
            return await self._puller.read()
        except EndOfInput:
            self._ended.set()
            raise


class _EndingInput:
    def __init__(self, running: Any, ended: asyncio.Event) -> None:
        self._input = running
        self._ended = ended

    async def run(self, intake: Intake) -> None:
        await self._input.run(intake)
        self._ended.set()
