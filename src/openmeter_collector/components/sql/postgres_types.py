"""What PostgreSQL's values become.

Rows are loaded by the library's C code, as text where JSON has no such type. What needs another form is
changed column by column (`changes_of`), which costs a fraction of a call for each value. Arrays that are to
be values need loaders for their elements, so with `structured` all is done by loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from openmeter_collector.api import Value
from openmeter_collector.components.sql.values import (
    base64_of,
    number,
    number_of_float,
    rfc3339,
    text_of_bytes,
)
from openmeter_collector.values import json
from openmeter_collector.values.kinds import Int64

if TYPE_CHECKING:
    from psycopg.adapt import AdaptersMap

_INTEGERS: Final = ("int2", "int4", "int8")
_REALS: Final = ("float4", "float8")
_WALL_TIMES: Final = ("timestamp", "date")

Change = tuple[str, Callable[[Any], Value]]
"""A column, and what makes the value it is to have of what was loaded."""


def changes_of(
    columns: Sequence[tuple[str, int]], *, structured: bool, exact_numbers: bool
) -> list[Change]:
    """What is left to do to rows whose columns have these names and types."""
    if structured:
        return []
    from psycopg.postgres import types  # noqa: PLC0415 - an extra

    by_name: dict[str, Callable[[Any], Value]] = {
        **dict.fromkeys(_INTEGERS, Int64),
        **dict.fromkeys(_REALS, number_of_float),
        **dict.fromkeys(_WALL_TIMES, rfc3339),
        "timestamptz": moment,
        "bytea": text_of_bytes,
    }
    if exact_numbers:
        by_name["numeric"] = number
    made = {types[name].oid: make for name, make in by_name.items()}
    return [(name, made[oid]) for name, oid in columns if oid in made]


def moment(text: str) -> str:
    """A timestamptz; the session is in UTC. What RFC 3339 cannot say stays as it is."""
    made = rfc3339(text[:-3])
    return made if text[-3:] == "+00" and made[-1] == "Z" else text


def register(adapters: AdaptersMap, *, structured: bool, exact_numbers: bool) -> None:
    """Everything is text, except what JSON has: integers, floats, booleans."""
    from psycopg.postgres import types  # noqa: PLC0415 - an extra
    from psycopg.types.bool import BoolLoader  # noqa: PLC0415
    from psycopg.types.numeric import FloatLoader, IntLoader  # noqa: PLC0415
    from psycopg.types.string import ByteaLoader, TextLoader  # noqa: PLC0415

    for info in types:
        adapters.register_loader(info.oid, TextLoader)
        if info.array_oid and not structured:
            adapters.register_loader(info.array_oid, TextLoader)
    for name in _INTEGERS:
        adapters.register_loader(name, IntLoader)
    for name in _REALS:
        adapters.register_loader(name, FloatLoader)
    adapters.register_loader("bool", BoolLoader)
    adapters.register_loader("bytea", ByteaLoader)
    if structured:
        _register_structured(adapters, exact_numbers=exact_numbers)


def _register_structured(adapters: AdaptersMap, *, exact_numbers: bool) -> None:
    from psycopg.adapt import Loader  # noqa: PLC0415 - an extra

    def loader(make: Callable[[bytes], Value]) -> type[Loader]:
        class Made(Loader):
            def load(self, data: Any) -> Any:
                return make(bytes(data))

        return Made

    made: dict[str, Callable[[bytes], Value]] = {
        **dict.fromkeys(_INTEGERS, Int64),
        **dict.fromkeys(_REALS, lambda data: number_of_float(float(data))),
        **dict.fromkeys(_WALL_TIMES, lambda data: rfc3339(data.decode())),
        "timestamptz": lambda data: moment(data.decode()),
        "bytea": lambda data: base64_of(bytes.fromhex(data[2:].decode())),
        "json": json.loads,
        "jsonb": json.loads,
    }
    if exact_numbers:
        made["numeric"] = lambda data: number(data.decode())
    for name, make in made.items():
        adapters.register_loader(name, loader(make))
