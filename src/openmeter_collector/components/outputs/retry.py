"""Repeats what its child output failed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Duration,
    Env,
    Example,
    Output,
    OutputNode,
    as_failure,
    field,
    output,
    section,
)
from openmeter_collector.components.outputs.repeating import Repeats, write_repeating

PATIENT = Example(
    "Try five times before something else is done",
    """
    output:
      fallback:
        - retry:
            max_retries: 5
            output:
              http_client:
                url: https://example.com/events
        - reject: nobody took it
    """,
)


@section
class Backoff:
    """How long to wait between attempts."""

    initial_interval: Duration = field(
        default=Duration("500ms"), doc="Before the first repetition; doubles with each."
    )
    max_interval: Duration = field(default=Duration("3s"), doc="No pause is longer.")
    max_elapsed_time: Duration = field(
        default=Duration("0s"), doc="Give up after this long; 0 is never."
    )


@output("retry", categories=("Utility",), examples=[PATIENT])
class Retry:
    """Writes to a child output until it takes the messages, with growing pauses.

    Only messages that failed are repeated. What is refused for good is not: it is reported at once.
    A time that the destination asks for (`Retry-After`) is waited for. Outputs at the root are
    repeated for ever anyway when there is a buffer; use this one inside `fallback`, `switch` or
    `broker`, or without a buffer.
    """

    max_retries: int = field(
        default=0, minimum=0, doc="Give up after so many repetitions; 0 is never."
    )
    backoff: Backoff = field(default_factory=Backoff, doc="How long to wait between attempts.")
    output: OutputNode = field(doc="The output to write to.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens the child."""
        repeats = Repeats(
            most=self.max_retries or None,
            initial=float(self.backoff.initial_interval),
            longest=float(self.backoff.max_interval),
            elapsed=float(self.backoff.max_elapsed_time),
        )
        async with env.output(self.output) as child:
            yield _Repeater(env, child, repeats)


class _Repeater:
    def __init__(self, env: Env, child: Output, repeats: Repeats) -> None:
        self._env = env
        self._child = child
        self._repeats = repeats

    async def write(self, batch: Batch) -> None:
        verdicts = await write_repeating(self._env, self._child, batch, self._repeats, self._said)
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

    def _said(self, error: Exception) -> None:
        self._env.log.warning("write failed, repeating", error=str(error))
