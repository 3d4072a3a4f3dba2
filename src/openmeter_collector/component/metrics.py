"""The contract of metrics components: how counters leave the process.

Counters themselves are kept in one `MetricStore`; a component is told what is in it through
`env.metrics.store`, may set how timers are kept there before anything else is opened, and shows or sends
it from then on. Opened before the pipeline, closed after it, so that the last figures can be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Page:
    """What `/metrics` and `/stats` answer."""

    content_type: str
    body: bytes


class MetricsExporter(Protocol):
    """A running metrics component, between entering and leaving its `open(env)` block."""

    def page(self, accept: str = "") -> Page | None:
        """The figures as they are now; None when this component serves none (404 then).

        Args:
            accept: the header of this name, of whoever asks; for components that have several formats.
        """
