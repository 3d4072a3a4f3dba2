"""Takes a message apart into many."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from openmeter_collector.api import (
    Batch,
    ByteSize,
    Env,
    Example,
    Message,
    Processor,
    Value,
    field,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.values import json

EVENTS = Example(
    "Take batches of events apart",
    """
    pipeline:
      processors:
        - unarchive:
            format: json_array
    """,
)

_FORMATS: Final = (
    "tar",
    "zip",
    "binary",
    "lines",
    "json_documents",
    "json_array",
    "json_map",
    "csv",
)
Part = tuple[bytes | None, Value, dict[str, Value]]
"""Content, or None and a value; metadata to add."""


def _check_format(form: str) -> str | None:
    if form in _FORMATS or (form.startswith("csv:") and len(form) == len("csv:") + 1):
        return None
    return f"{form!r} is no format; use one of: {', '.join(_FORMATS)}, csv:x"


@processor("unarchive", categories=("Parsing", "Utility"), examples=[EVENTS])
class Unarchive:
    """Makes many messages of one, in the same batch. Each has the metadata of the whole.

    A message that cannot be taken apart is flagged and stays whole, and so is one in which there is
    more than the limits allow.

    `json_array` and `json_documents` keep the bytes of each document. From a `tar` or `zip` archive
    come its files, with `archive_filename` in the metadata; `archive_key` is the key of a value of a
    `json_map`. With `csv`, each line is an object with the names of the first line.
    """

    format: str = field(
        doc="How messages are packed: `tar`, `zip`, `binary`, `lines`, `json_documents`, "
        "`json_array`, `json_map`, `csv` with commas, or `csv:x` with x between columns.",
        examples=["json_array", "csv:;"],
        lint=_check_format,
    )
    max_messages: int = field(
        default=1_000_000, minimum=1, ours=True, advanced=True, doc="Most that may come of one."
    )
    max_bytes: ByteSize = field(
        default=ByteSize("256MiB"),
        ours=True,
        advanced=True,
        doc="Most bytes that may come of one, when they were compressed.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Unpacker(self, env)


class _Unpacker:
    def __init__(self, config: Unarchive, env: Env) -> None:
        self._config = config
        self._flag = Flag(env)
        name, _, delimiter = config.format.partition(":")
        self._unpack: Callable[[bytes], Iterator[Part]]
        if name == "csv":
            self._unpack = lambda data: _csv(data, delimiter or ",")
        elif name == "zip":
            self._unpack = lambda data: _zip(data, int(config.max_bytes))
        else:
            self._unpack = _UNPACK[name]

    def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            try:
                made += self._parts(message)
            except (ValueError, RecursionError, tarfile.TarError, csv.Error) as error:
                made.append(self._flag(message, error))
        return [made] if made else []

    def _parts(self, message: Message) -> Batch:
        parts: Batch = []
        most = self._config.max_messages
        for content, value, metadata in self._unpack(message.content):
            one = message.with_value(value) if content is None else message.with_content(content)
            parts.append(one.with_metadata({**one.metadata, **metadata}) if metadata else one)
            if len(parts) > most:
                raise ValueError(f"more than max_messages ({most}) in one message")
        return parts


_raw_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_raw_map: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTHING: Final[dict[str, Value]] = {}


def _json_array(data: bytes) -> Iterator[Part]:
    try:
        for raw in _raw_items.decode(data):
            yield bytes(raw), None, _NOTHING
    except msgspec.DecodeError:
        value = json.loads(data)
        if not isinstance(value, list):
            fault = f"expected a JSON array, found {_kind(value)}"
            raise ValueError(fault) from None  # noqa: TRY004 - data, not code
        for one in value:
            yield None, one, _NOTHING


def _json_map(data: bytes) -> Iterator[Part]:
    try:
        for key, raw in _raw_map.decode(data).items():
            yield bytes(raw), None, {"archive_key": key}
    except msgspec.DecodeError:
        value = json.loads(data)
        if not isinstance(value, dict):
            fault = f"expected a JSON object, found {_kind(value)}"
            raise ValueError(fault) from None  # noqa: TRY004 - data, not code
        for key, one in value.items():
            yield None, one, {"archive_key": key}


def _kind(value: Any) -> str:
    return {list: "an array", dict: "an object", str: "a string", type(None): "null"}.get(
        type(value), "a number or bool"
    )


def _json_documents(data: bytes) -> Iterator[Part]:
    text = data.decode("utf-8", "surrogateescape")
    at, end = 0, len(text)
    decoder = _boundaries()
    while True:
        while at < end and text[at] in " \t\r\n":
            at += 1
        if at >= end:
            return
        try:
            _, after = decoder(text, at)
        except ValueError:
            json.loads(text[at:].encode("utf-8", "surrogateescape"))
            raise
        content = text[at:after].encode("utf-8", "surrogateescape")
        json.loads(content)
        yield content, None, _NOTHING
        at = after


def _boundaries() -> Callable[[str, int], tuple[Any, int]]:
    from json import JSONDecoder  # noqa: PLC0415 - for where a document ends, which it can tell

    return JSONDecoder(parse_int=str, parse_float=str).raw_decode


def _lines(data: bytes) -> Iterator[Part]:
    for line in data.split(b"\n"):
        yield line, None, _NOTHING


def _binary(data: bytes) -> Iterator[Part]:
    def number(at: int) -> int:
        if at + 4 > len(data):
            raise ValueError("binary archive: it ends too early")
        return int.from_bytes(data[at : at + 4], "big")

    at = 4
    for _ in range(number(0)):
        length = number(at)
        at += 4
        if at + length > len(data):
            raise ValueError("binary archive: it ends too early")
        yield data[at : at + length], None, _NOTHING
        at += length


def _tar(data: bytes) -> Iterator[Part]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if member.isfile() and (opened := archive.extractfile(member)) is not None:
                yield opened.read(), None, {"archive_filename": member.name}


def _zip(data: bytes, most: int) -> Iterator[Part]:
    left = most
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for about in archive.infolist():
                if about.is_dir():
                    continue
                with archive.open(about) as opened:
                    # What the directory says of sizes may be a lie: count what really comes.
                    content = opened.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise ValueError(f"zip archive: more than max_bytes ({most}) in it")
                yield content, None, {"archive_filename": about.filename}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"zip archive: {error}") from error


def _csv(data: bytes, delimiter: str) -> Iterator[Part]:
    text = data.decode("utf-8-sig", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = next(rows, None)
    if names is None:
        raise ValueError("csv: there is no line with names")
    for row in rows:
        if not row:
            continue
        if len(row) != len(names):
            raise ValueError(
                f"csv: line {rows.line_num} has {len(row)} columns; {len(names)} were expected"
            )
        yield None, dict(zip(names, row, strict=True)), _NOTHING


_UNPACK: Final[dict[str, Callable[[bytes], Iterator[Part]]]] = {
    "tar": _tar,
    "binary": _binary,
    "lines": _lines,
    "json_documents": _json_documents,
    "json_array": _json_array,
    "json_map": _json_map,
}
