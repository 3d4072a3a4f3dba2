"""The contract of tracers: where it is told how long what took, and what caused what.

A span stands for a batch, never for one message. Nothing is made, and nothing is asked, when a config
has no tracer. Spans belong to the task in which they are made current.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

Attribute = str | int | float | bool


class Span(Protocol):
    """Something that began and will end."""

    def current(self) -> AbstractContextManager[object]:
        """Inside the block, spans that begin are parts of this one."""

    def carrier(self) -> Mapping[str, str]:
        """What others need to continue the trace: `traceparent`, and `tracestate` if there is one."""

    def end(self, error: Exception | None = None) -> None:
        """It is over; with what went wrong, if anything. Once."""


class Tracer(Protocol):
    """A running tracer, between entering and leaving its `open(env)` block. Never raises."""

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Attribute],
        caused_by: Sequence[Mapping[str, str]] = (),
    ) -> Span:
        """A span from now on, as part of the current one, if there is one.

        Args:
            caused_by: carriers (`traceparent`, `tracestate`, names in lower case) of what led to it. It
                is a part of the trace of one; of several it is a trace of its own with links to them.
        """

    def current_ids(self) -> Mapping[str, str]:
        """Of the current span, as log lines are to carry them: `trace_id` and `span_id`, in hex; empty
        when there is none.
        """

    def sampled_ids(self) -> tuple[str, str] | None:
        """The same two of the current span, if its trace is sent; None else."""
