"""What a mapping needs to know of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import Value

NO_METADATA: Final[Mapping[str, Value]] = {}
_UNREAD: Final = object()


class Document(Protocol):
    """A message, seen from a mapping. Nothing a mapping reads from it is ever changed by it."""

    @property
    def content(self) -> bytes:
        """The raw bytes."""
        ...

    @property
    def metadata(self) -> Mapping[str, Value]:
        """Keys to values."""
        ...

    @property
    def error(self) -> Any:
        """Why a processor failed on this message, None for a healthy one.

        The functions `error()` and so on read `str()` of it and its attributes `name`, `label`
        and `path` where it has them.
        """
        ...

    def structured(self) -> Value:
        """The parsed JSON value, parsed on first use.

        Raises:
            ValueError: the content is not one JSON document.
        """
        ...


class SimpleDocument:
    """A document for use without a pipeline: the command line, tests, scripts."""

    __slots__ = ("_value", "content", "error", "metadata")

    def __init__(
        self,
        content: bytes,
        metadata: Mapping[str, Value] = NO_METADATA,
        error: object = None,
    ) -> None:
        self.content = content
        self.metadata = metadata
        self.error = error
        self._value: Value = _UNREAD

    def structured(self) -> Value:
        """The parsed JSON value."""
        if self._value is _UNREAD:
            self._value = value_json.loads(self.content)
        return self._value


class ValueDocument:
    """A value that plays the message of a mapping."""

    __slots__ = ("_value", "error", "metadata")

    def __init__(self, value: Value) -> None:
        self._value = value
        self.metadata: Mapping[str, Value] = {}
        self.error: object = None

    @property
    def content(self) -> bytes:
        """Nothing; the value has no bytes of its own."""
        return b""

    def structured(self) -> Value:
        """The value."""
        return self._value
