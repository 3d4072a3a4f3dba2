"""Answers to requests, made of what a pipeline responded."""

from __future__ import annotations

import gzip
import re
from typing import Final

from openmeter_collector.api import (
    Interpolated,
    MetadataFilter,
    ResponseStore,
    field,
    section,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.inputs.http_ingest import Refusal
from openmeter_collector.values.multipart import join_multipart

_WITHOUT_BODY: Final = frozenset({"204", "205", "304"})
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "date"})
"""Headers that say where an answer ends, and are not the pipeline's to say."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@section
class SyncResponse:
    """How responses that the pipeline stored are sent."""

    status: Interpolated = field(
        default_factory=lambda: Interpolated("200"), doc="Status code; taken from message 0."
    )
    headers: dict[str, Interpolated] = field(
        default_factory=lambda: {"Content-Type": Interpolated("application/octet-stream")},
        doc="Headers; taken from message 0.",
    )
    metadata_headers: MetadataFilter = field(
        default_factory=MetadataFilter,
        doc="Metadata of the response message to send as headers.",
    )


class Responses:
    """Makes the answers of one input."""

    def __init__(self, config: SyncResponse) -> None:
        self._config = config

    def made(self, store: ResponseStore, accepted: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of what the pipeline responded; 200 and nothing if it did not.

        Args:
            accepted: encodings that the client accepts.

        Raises:
            Refusal: 503 when that cannot be said.
        """
        try:
            status, body, shown = self._response(store)
        except MappingFailed as error:
            raise Refusal(503, f"sync_response cannot be made: {error}") from error
        if body and "gzip" in accepted:
            body = gzip.compress(body, 3, mtime=0)
            shown["content-encoding"] = "gzip"
        return status, body, shown

    def _response(self, store: ResponseStore) -> tuple[int, bytes, dict[str, str]]:
        batch = [message for stored in store.batches for message in stored]
        if not batch:
            return 200, b"", {}
        config = self._config
        text = config.status.resolve(batch, 0)
        if not text.isascii() or not text.isdigit() or not 100 <= int(text) <= 599:
            raise Refusal(503, f"sync_response.status gave {text!r}; a status code is expected")
        headers = {
            name.lower(): _one_line(value.resolve(batch, 0))
            for name, value in config.headers.items()
        }
        headers |= {
            name.lower(): _one_line(str(value))
            for name, value in config.metadata_headers.select(batch[0].metadata).items()
            if _NAME.fullmatch(name)  # a key may be anything, and come from the client
        }
        headers = {name: value for name, value in headers.items() if name not in _FRAMING}
        if text in _WITHOUT_BODY:
            # A stored message is often only there to say the status: its content is not for these.
            return int(text), b"", headers
        if len(batch) == 1:
            return int(text), batch[0].content, headers
        kind, body = join_multipart([message.content for message in batch])
        return int(text), body, headers | {"content-type": kind}


def _one_line(value: str) -> str:
    """A header value may come from a message: it must not bring headers of its own."""
    return value.replace("\r", " ").replace("\n", " ")
