"""Metadata of one record out of many of the same source."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

if TYPE_CHECKING:
    from openmeter_collector.message.message import Metadata, Value


class _RecordMetadata(msgspec.Struct, eq=False, gc=False):
    """What all records share, with one key that tells this record apart; made when somebody looks.

    To everybody a read-only mapping, equal to any other with the same keys and values.

    Attributes:
        shared: of all records; never changed.
        key: what is added, or stands for what is in `shared` under that name.
        prefix: what its value begins with.
        number: what its value ends with.
    """

    shared: Metadata
    key: str
    prefix: str
    number: int
    _made: dict[str, Value] | None = None

    def as_dict(self) -> dict[str, Value]:
        """All of it. The same dict each time: not to be changed."""
        made = self._made
        if made is None:
            made = self._made = {**self.shared, self.key: f"{self.prefix}{self.number}"}
        return made

    def __getitem__(self, key: str) -> Value:
        return self.as_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        return key in self.as_dict()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.as_dict() == dict(other)

    __hash__ = None  # type: ignore[assignment] # as mappings are

    def keys(self) -> KeysView[str]:
        """See `Mapping`."""
        return self.as_dict().keys()

    def values(self) -> ValuesView[Value]:
        """See `Mapping`."""
        return self.as_dict().values()

    def items(self) -> ItemsView[str, Value]:
        """See `Mapping`."""
        return self.as_dict().items()

    def get(self, key: str, default: Any = None) -> Any:
        """See `Mapping`."""
        return self.as_dict().get(key, default)


Mapping.register(_RecordMetadata)

record_metadata: Final = cast("Callable[[Metadata, str, str, int], Metadata]", _RecordMetadata)
"""Makes one: of what is shared, the key, and the prefix and the number of its value."""
