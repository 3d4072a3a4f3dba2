"""Maps each message to a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    MappingText,
    Message,
    Processor,
    field,
    processor,
)
from openmeter_collector.bloblang import DELETED, NOTHING, MappingFailed
from openmeter_collector.components.processors.common import Flag

EVENT = Example(
    "Make a CloudEvent of a webhook's payload",
    """
    pipeline:
      processors:
        - mapping: |
            root = {
              "specversion": "1.0",
              "id": this.request_id,
              "type": "api-request",
              "source": "gateway",
              "subject": this.customer,
              "data": this.without("request_id", "customer"),
            }
    """,
)
RULE = Example(
    "Drop what must not be counted",
    """
    pipeline:
      processors:
        - mapping: root = if this.subject == "test" { deleted() }
    """,
)


@processor("mapping", categories=("Mapping", "Parsing"), examples=[EVENT, RULE], value="mapping")
class Mapping:
    """Runs a mapping over each message: `this` is the message, `root` the one that is made.

    The mapping sees the batch as it came: what it makes of one message is not seen by the next.
    Without an assignment to `root` the message stays as it is, byte for byte; `root = deleted()`
    drops it, and it counts as dealt with.

    A message on which the mapping fails, or whose result has no JSON form, goes on unchanged and
    flagged; its neighbours are not concerned.
    """

    mapping: MappingText = field(doc="The mapping.", examples=["root = this.event"])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield Mapper(self.mapping.program.run, env)


class Mapper:
    """Runs a compiled mapping, whether it makes new messages or changes them."""

    def __init__(
        self, run: Callable[[Batch, int], Any], env: Env, *, partial: bool = False
    ) -> None:
        """`partial`: what was written before a failure is kept."""
        self._run = run
        self._flag = Flag(env)
        self._partial = partial

    def process(self, batch: Batch) -> list[Batch]:
        run = self._run
        made: Batch = []
        add = made.append
        for index, message in enumerate(batch):
            try:
                body, metadata = run(batch, index)
                if body is NOTHING:
                    add(message if metadata is None else message.with_metadata(metadata))
                elif body is not DELETED:
                    new = written(message, body, metadata)
                    # Encoded here: a value without a JSON form must flag this message now, not
                    # surprise an output that has it in a batch with others.
                    new.content  # noqa: B018
                    add(new)
            except (MappingFailed, ValueError, RecursionError) as error:
                add(self._flag(self._unmapped(message, error), error))
        return [made] if made else []

    def _unmapped(self, message: Message, error: Exception) -> Message:
        partial = error.partial if isinstance(error, MappingFailed) and self._partial else None
        if partial is None:
            return message
        body, metadata = partial
        if body is DELETED:
            return message
        kept = message if body is NOTHING else written(message, body, None)
        try:
            kept.content  # noqa: B018 - see above
        except (ValueError, RecursionError):
            kept = message
        return kept if metadata is None else kept.with_metadata(metadata)


def written(message: Message, body: Any, metadata: Any) -> Message:
    """The message with a new body and, unless it is None, new metadata."""
    context = message.metadata if metadata is None else metadata
    raw = type(body) is bytes
    if raw:
        return Message(
            body, context, error=message.error, origin=message.origin, context=message.context
        )
    return Message(
        None,
        context,
        value=body,
        error=message.error,
        origin=message.origin,
        context=message.context,
    )
