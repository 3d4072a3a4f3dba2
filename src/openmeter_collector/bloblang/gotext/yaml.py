"""YAML as the engine reads and writes it."""

from __future__ import annotations

import base64
import math
import re
from typing import Any, Final

import yaml

from openmeter_collector.bloblang.convert import encode
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.kinds import (
    Float64,
    Int64,
    Integer,
    Marker,
    SourceNumber,
    Value,
)
from openmeter_collector.values.numbers import text_float
from openmeter_collector.values.timestamp import Timestamp

_MAX_ALIASES: Final = 100_000


class _Loader(yaml.SafeLoader):
    """Reads YAML 1.2 scalars: `yes` is text, and so is a date with nothing else said."""


_FLOAT: Final = (
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_TIME: Final = (
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)?"
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        _FLOAT,
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
    (
        "timestamp",
        _TIME,
        "0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def load(text: str) -> Value:
    """The first document."""
    if text.count("*") > _MAX_ALIASES:
        raise Fail("failed to parse value as YAML: yaml: document contains excessive aliasing")
    try:
        documents = yaml.load_all(text, _Loader)
        return _plain(next(iter(documents), None), [0])
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where else ""
        problem = getattr(error, "problem", None) or str(error)
        raise Fail(f"failed to parse value as YAML: yaml: {line}{problem}") from None


def _plain(value: Any, count: list[int]) -> Value:
    count[0] += 1
    if count[0] > 1_000_000:
        raise Fail("failed to parse value as YAML: yaml: document contains excessive aliasing")
    if isinstance(value, dict):
        return {key: _plain(one, count) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, count) for one in value]
    if value is True or value is False:
        return value
    if isinstance(value, int):
        return Int64(value) if -(2**63) <= value < 2**63 else Float64(value)
    if isinstance(value, float):
        return Float64(value)
    if hasattr(value, "isoformat"):
        return _moment(value)
    return value


def _moment(value: Any) -> Timestamp:
    from datetime import UTC, datetime  # noqa: PLC0415 - rare

    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    whole = value.replace(microsecond=0)
    return Timestamp(int(whole.timestamp()) * 1_000_000_000 + value.microsecond * 1000)


class _Dumper(yaml.SafeDumper):
    """Writes the engine's way: sequences indented, documents' numbers as text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """By two inside a sequence, else to the next multiple of four."""
        self.indents.append(self.indent)
        if self.indent is None:
            self.indent = 4 if flow else 0
        elif self.states[-1:] == [self.expect_block_sequence_item]:
            self.indent += 2
        else:
            self.indent = (self.indent + 4) // 4 * 4

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write everything out."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = None
    try:
        value.encode()
    except UnicodeEncodeError:
        raw = base64.b64encode(encode(value)).decode()
        return dumper.represent_scalar("tag:yaml.org,2002:binary", raw)
    if "\n" in value:
        style = "|"
    elif _ambiguous(value) or (not value.isascii() and max(value) > "\uffff"):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_AMBIGUOUS: Final = re.compile(
    r"|~|null|Null|NULL|true|True|TRUE|false|False|FALSE|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON"
    r"|off|Off|OFF|<<|[-+]?[0-9][0-9_.]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+|0[xob][0-9a-fA-F_]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"
    r"|[-+]?[0-9]+(?::[0-9]+)+(?:\.[0-9]*)?"
)


def _ambiguous(value: str) -> bool:
    if _AMBIGUOUS.fullmatch(value) is None:
        return False
    try:
        # What no float can hold is text to a reader, and needs no quotes.
        return not math.isinf(float(value)) or "inf" in value.lower()
    except ValueError:
        return True


def _number(dumper: _Dumper, value: Any) -> yaml.Node:
    if isinstance(value, SourceNumber):
        return _text(dumper, value.text)
    if type(value) in (int, float):
        return _text(dumper, str(value) if type(value) is int else repr(value))
    if isinstance(value, Integer):
        return dumper.represent_scalar("tag:yaml.org,2002:int", int.__repr__(value))
    text = text_float(value)
    text = {"NaN": ".nan", "+Inf": ".inf", "-Inf": "-.inf"}.get(text, text)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _moment_node(dumper: _Dumper, value: Timestamp) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:timestamp", value.text())


def _bytes_node(dumper: _Dumper, value: bytes) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", [Int64(byte) for byte in value])


_Dumper.add_representer(str, _text)
_Dumper.add_representer(int, _number)
_Dumper.add_representer(float, _number)
_Dumper.add_multi_representer(int, _number)
_Dumper.add_multi_representer(float, _number)
_Dumper.add_representer(Timestamp, _moment_node)
_Dumper.add_representer(bytes, _bytes_node)
_Dumper.add_representer(Marker, lambda dumper, _: dumper.represent_none(None))
_Dumper.add_representer(
    bool,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:bool", str(value).lower()),
)


def dump(value: Value) -> str:
    """A document."""
    try:
        text: str = yaml.dump(
            value,
            Dumper=_Dumper,
            allow_unicode=True,
            default_flow_style=False,
            indent=4,
            width=2**30,
        )
    except (yaml.YAMLError, RecursionError) as error:
        raise Fail(f"yaml: {error}") from None
    return text.removesuffix("...\n")
