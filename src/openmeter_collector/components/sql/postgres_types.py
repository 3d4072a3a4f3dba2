"""What PostgreSQL's values become: loaders over the text the server sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

_NUMBERS = ("int2", "int4", "int8")


def register(adapters: AdaptersMap, *, structured: bool, exact_numbers: bool) -> None:
    """Everything is text, except what JSON has: integers, floats, booleans; and times, which become
    RFC 3339.
    """
    from psycopg.adapt import Loader  # noqa: PLC0415 - an extra
    from psycopg.postgres import types  # noqa: PLC0415
    from psycopg.types.bool import BoolLoader  # noqa: PLC0415
    from psycopg.types.string import TextLoader  # noqa: PLC0415

    class Moment(Loader):
        """timestamptz; the session is in UTC."""

        def load(self, data: Any) -> str:
            text = str(data, "ascii")
            return rfc3339(text[:-3]) if text[-3:] == "+00" else text

    class Wall(Loader):
        """timestamp and date, which have no zone: taken as UTC."""

        def load(self, data: Any) -> str:
            return rfc3339(str(data, "ascii"))

    class Whole(Loader):
        def load(self, data: Any) -> Value:
            return Int64(bytes(data))

    class Real(Loader):
        def load(self, data: Any) -> Value:
            return number_of_float(float(bytes(data)))

    class Number(Loader):
        def load(self, data: Any) -> Value:
            return number(bytes(data).decode())

    class Document(Loader):
        def load(self, data: Any) -> Value:
            return json.loads(bytes(data))

    class Binary(Loader):
        def load(self, data: Any) -> str:
            found = bytes.fromhex(bytes(data[2:]).decode())
            return base64_of(found) if structured else text_of_bytes(found)

    for info in types:
        adapters.register_loader(info.oid, TextLoader)
        if info.array_oid and not structured:
            adapters.register_loader(info.array_oid, TextLoader)
    for name in _NUMBERS:
        adapters.register_loader(name, Whole)
    chosen: dict[str, type[Loader]] = {
        "bool": BoolLoader,
        "float4": Real,
        "float8": Real,
        "timestamptz": Moment,
        "timestamp": Wall,
        "date": Wall,
        "bytea": Binary,
    }
    if exact_numbers:
        chosen["numeric"] = Number
    if structured:
        chosen |= {"json": Document, "jsonb": Document}
    for name, loader in chosen.items():
        adapters.register_loader(name, loader)
