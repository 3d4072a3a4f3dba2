"""Puts the messages of a batch into one."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Interpolated,
    Message,
    Processor,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag, joined_origin

ARRAY = Example(
    "Send a batch as a JSON array",
    """
    output:
      http_client:
        url: https://openmeter.cloud/api/v1/events
        batching:
          count: 100
          period: 1s
          processors:
            - archive:
                format: json_array
    """,
)
Format = Literal["concatenate", "tar", "zip", "binary", "lines", "json_array"]


@processor("archive", categories=("Parsing", "Utility"), examples=[ARRAY])
class Archive:
    """Makes one message of a batch. Metadata is that of the first.

    For `json_array` messages have to be JSON. One that is not is left out of the array, flagged, and
    goes on alone, in a batch of its own, so that it costs the others nothing.
    """

    format: Format = field(
        doc="What the message is made as.",
        choices={
            "concatenate": "The contents one after the other.",
            "tar": "A tar archive with a file for each.",
            "zip": "A zip archive with a file for each.",
            "binary": "As `binary` of `unarchive` reads it: numbers of 4 bytes say how many "
            "messages there are, and before each how long it is.",
            "lines": "With a line break between them.",
            "json_array": "A JSON array; the documents in it stay as they are, byte for byte.",
        },
    )
    path: Interpolated = field(
        default_factory=lambda: Interpolated(""),
        doc="Name of the file of each message, for `tar` and `zip`.",
        examples=[
            "${! counter() }-${! timestamp_unix_nano() }.txt",
            '${! meta("kafka_key") }.json',
        ],
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Archiver(self, env)


class _Archiver:
    def __init__(self, config: Archive, env: Env) -> None:
        self._config = config
        self._flag = Flag(env)

    def process(self, batch: Batch) -> list[Batch]:
        if not batch:
            return []
        form = self._config.format
        apart: Batch = []
        if form == "json_array":
            batch, apart = self._parsed(batch)
        elif form in {"tar", "zip"}:
            try:
                names = [self._config.path.resolve(batch, index) for index in range(len(batch))]
            except MappingFailed as error:
                return [[self._flag(message, error) for message in batch]]
            made = (_tar if form == "tar" else _zip)(names, [message.content for message in batch])
            return [[_one(batch, made)]]
        results = (
            [[_one(batch, _JOIN[form]([message.content for message in batch]))]] if batch else []
        )
        return [*results, apart] if apart else results

    def _parsed(self, batch: Batch) -> tuple[Batch, Batch]:
        """Those that are JSON, and the others, flagged."""
        good: Batch = []
        bad: Batch = []
        for message in batch:
            try:
                message.structured()
                message.content  # noqa: B018 - a value may have no JSON form
                good.append(message)
            except (ValueError, RecursionError) as error:
                bad.append(self._flag(message, f"failed to parse message as JSON: {error}"))
        return good, bad


def _one(batch: Batch, content: bytes) -> Message:
    first = batch[0]
    failed = next((message.error for message in batch if message.error is not None), None)
    return Message(
        content,
        first.metadata,
        error=failed,
        origin=joined_origin(batch),
        context=first.context,
    )


def _binary(contents: list[bytes]) -> bytes:
    parts = [len(contents).to_bytes(4, "big")]
    for content in contents:
        parts += [len(content).to_bytes(4, "big"), content]
    return b"".join(parts)


_JOIN: Final[dict[str, Callable[[list[bytes]], bytes]]] = {
    "concatenate": b"".join,
    "binary": _binary,
    "lines": b"\n".join,
    "json_array": lambda contents: b"[" + b",".join(contents) + b"]",
}


def _tar(names: list[str], contents: list[bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in zip(names, contents, strict=True):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return target.getvalue()


def _zip(names: list[str], contents: list[bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zip(names, contents, strict=True):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()
