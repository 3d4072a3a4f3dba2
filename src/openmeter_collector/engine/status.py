"""What a running pipeline says of itself, for health checks, metrics and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from openmeter_collector.component.buffer import BufferStatus
from openmeter_collector.component.node import Node
from openmeter_collector.engine.output_loop import DeliveryState
from openmeter_collector.engine.recent import Recent

REFUSED_TOO_LONG = 60.0
"""Seconds after the last success from which on a refusing destination makes us unready."""


@dataclass(slots=True)
class Connection:
    """Whether a component has what it is connected to."""

    label: str
    path: str
    connected: bool = False
    error: str = ""


@dataclass(slots=True)
class PipelineStatus:
    """Filled in by the pipeline, read by everybody else."""

    input: Connection
    output: Connection
    delivery: DeliveryState = field(default_factory=DeliveryState)
    buffer: Callable[[], BufferStatus] | None = None
    stopping: bool = False
    stages: tuple[Node, ...] = ()
    """What events pass, in order: input, its processors, buffer, the pipeline's, output, its own."""
    resources: tuple[Node, ...] = ()
    """What the stages may refer to by label."""
    taken: Recent = field(default_factory=Recent)
    """Events as they went into the buffer."""

    def problems(self, now: float) -> list[str]:
        """Why this pipeline should not be sent to, or is not doing its work; empty when ready.

        A destination that is away does not make us unready: taking events while it is away is
        what the buffer is for. One that refuses us does, because nobody but a person ends that.
        """
        found = [
            f"{one.label or one.path}: {one.error or 'not connected'}"
            for one in (self.input, self.output)
            if not one.connected
        ]
        if self.buffer is not None:
            failure = self.buffer().failure
            if failure:
                found.append(f"buffer: {failure}")
        delivery = self.delivery
        if delivery.paused and now - delivery.last_success > REFUSED_TOO_LONG:
            found.append(f"{self.output.label or self.output.path}: {delivery.last_error}")
        if self.stopping:
            found.append("stopping")
        return found
