"""The words with which scanners were asked for before there were scanners: `codec: gzip/csv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.config.tree import Entry, Mapping, Place, Scalar, Sequence, Tree

_MOST: Final = 64 << 20
"""Bytes of a record; the `max_buffer` beside a codec is not needed for anything else."""

_AUTO: Final = (
    (r"\.avro$", "avro-ocf"),
    (r"\.csv$", "csv"),
    (r"\.csv\.gz(ip)?$", "gzip/csv"),
    (r"\.tar$", "tar"),
    (r"\.(tar\.gz|tar\.gzip|tgz)$", "gzip/tar"),
)
_ALIASES: Final = {"csv-gzip": "gzip/csv", "tar-gzip": "gzip/tar"}
_AROUND: Final[dict[str, Callable[[Any], Any]]] = {
    "gzip": lambda inner: {"decompress": {"algorithm": "gzip", "into": inner}},
    "pgzip": lambda inner: {"decompress": {"algorithm": "pgzip", "into": inner}},
    "skipbom": lambda inner: {"skip_bom": {"into": inner}},
}
_ALONE: Final[dict[str, Any]] = {
    "lines": {"lines": {"max_buffer_size": _MOST}},
    "all-bytes": {"to_the_end": {}},
    "csv": {"csv": {}},
    "csv-safe": {"csv": {"continue_on_error": True}},
    "tar": {"tar": {}},
    "avro-ocf": {"avro": {}},
}
_WITH: Final[dict[str, Callable[[str], Any]]] = {
    "delim": lambda text: {"lines": {"custom_delimiter": text, "max_buffer_size": _MOST}},
    "csv": lambda text: {"csv": {"custom_delimiter": text}},
    "csv-safe": lambda text: {"csv": {"custom_delimiter": text, "continue_on_error": True}},
    "chunker": lambda text: {"chunker": {"size": text}},
    "regex": lambda text: {"re_match": {"pattern": text, "max_buffer_size": _MOST}},
}


def as_scanner(codec: Scalar) -> Mapping:
    """The scanner that a codec means.

    Raises:
        ValueError: there is no such codec.
    """
    made = _tree(_scanner(codec.text), codec.place)
    assert isinstance(made, Mapping)
    return made


def _scanner(text: str) -> Any:
    text = _ALIASES.get(text, text)
    if text == "auto":
        cases = [{"re_match_name": name, "scanner": _scanner(codec)} for name, codec in _AUTO[1:]]
        return {"switch": [*cases, {"scanner": _scanner("all-bytes")}]}
    outer, slash, rest = text.partition("/")
    if outer in _AROUND:
        return _AROUND[outer](_scanner(rest) if slash else _scanner("all-bytes"))
    if text in _ALONE:
        return _ALONE[text]
    name, colon, argument = text.partition(":")
    if colon and argument and name in _WITH:
        return _WITH[name](argument)
    known = [*_ALONE, *_AROUND, *(f"{one}:x" for one in _WITH), "auto"]
    raise ValueError(f"{text!r} is no codec; write a scanner, or one of: {', '.join(known)}")


def _tree(value: Any, place: Place) -> Tree:
    if isinstance(value, dict):
        entries = {key: Entry(key, place, _tree(one, place)) for key, one in value.items()}
        return Mapping(entries, place)
    if isinstance(value, list):
        return Sequence(tuple(_tree(one, place) for one in value), place)
    if isinstance(value, str) and not value.isdecimal():
        return Scalar(value, '"', place)
    return Scalar(str(value).lower() if isinstance(value, bool) else str(value), "plain", place)
