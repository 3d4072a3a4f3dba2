"""One event on its way: bytes until somebody needs structure, bytes again only if changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from openmeter_collector.values import json

Value = Any
"""A JSON-like value: None, bool, int, float, str, bytes, list, dict."""

Metadata = Mapping[str, Value]

NO_METADATA: Final[Metadata] = {}

_UNSET: Final = msgspec.UNSET

_no_metadata: Final = itertools.repeat(NO_METADATA).__next__
"""Always the same object: `Struct` would copy an empty default for each message."""


class Message(msgspec.Struct, eq=False):
    """An immutable event with metadata.

    Immutable, so that one message can travel down several branches (`broker`, `switch` with
    `continue`) without copies; whoever changes something makes a new one with a `with_` method.
    The parsed value is cached and shared: treat it as read-only.

    A message that no processor touches keeps the sender's bytes to the end.

    Made by the thousand, so it is a `Struct`, whose constructor is C: a fifth of a microsecond in
    Python is a third of it there.

    Attributes:
        metadata: keys to values; never mutated after it was handed over.
        error: why a processor failed on this message; None for a healthy one.
        origin: where it came from in the batch that entered the stage, see
            `message.settlement`; -1 when unknown.
        context: what its input attached to the request it came with (where a synchronous
            response goes); handed on to descendants, never stored.
        value: the structured form if it is known yet; `structured()` is how to ask for it.
    """

    # Give the raw bytes, or `value`, the structured form, or both when both are known.
    _content: bytes | None = None
    metadata: Metadata = msgspec.field(default_factory=_no_metadata)
    value: Value = _UNSET
    error: Exception | None = None
    origin: int | tuple[int, ...] = -1
    context: object = None

    @property
    def content(self) -> bytes:
        """The raw bytes, encoded now if only the structured form was known."""
        if self._content is None:
            self._content = json.dumps(self.value)
        return self._content

    def structured(self) -> Value:
        """The parsed JSON value; parsed on first use.

        Raises:
            ValueError: the content is not one JSON document.
        """
        if self.value is _UNSET:
            self.value = json.loads(self.content)
        return self.value

    def with_content(self, content: bytes) -> Message:
        """The same message with other bytes."""
        return Message(
            content, self.metadata, error=self.error, origin=self.origin, context=self.context
        )

    def with_value(self, value: Value) -> Message:
        """The same message with another structured value, encoded when somebody asks."""
        return Message(
            None,
            self.metadata,
            value=value,
            error=self.error,
            origin=self.origin,
            context=self.context,
        )

    def with_metadata(self, metadata: Metadata) -> Message:
        """The same content with all metadata replaced."""
        return self._copy(metadata, self.error, self.origin)

    def with_error(self, error: Exception | None) -> Message:
        """The same message, flagged as failed or (None) healthy again."""
        return self._copy(self.metadata, error, self.origin)

    def at(self, origin: int | tuple[int, ...]) -> Message:
        """The same message as it stands at `origin` in the batch that enters a stage."""
        return self._copy(self.metadata, self.error, origin)

    def _copy(
        self, metadata: Metadata, error: Exception | None, origin: int | tuple[int, ...]
    ) -> Message:
        return Message(
            self._content,
            metadata,
            value=self.value,
            error=error,
            origin=origin,
            context=self.context,
        )

    def __repr__(self) -> str:
        # Never the content: reprs end up in logs, and events are other people's data.
        return f"<Message {len(self._content) if self._content is not None else '?'} bytes>"


Batch = list[Message]
