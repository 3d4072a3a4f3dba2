"""Functions about the message, its batch and its errors."""

from __future__ import annotations

from collections.abc import Sequence

from openmeter_collector.bloblang import convert, paths
from openmeter_collector.bloblang.definition import Case, function
from openmeter_collector.bloblang.document import Document
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.json import JSONError
from openmeter_collector.values.kinds import Float64, Int64, SourceNumber, Value, is_number
from openmeter_collector.values.timestamp import Timestamp

Batch = Sequence[Document]


def _message(batch: Batch, index: int) -> Document:
    """A message of the batch; one beyond its ends is empty."""
    if -len(batch) <= index < len(batch):
        return batch[index]  # a negative one counts from the end
    return _EMPTY


class _Empty:
    """What stands for a message that does not exist."""

    content = b""
    error = None

    def __init__(self) -> None:
        self.metadata: dict[str, Value] = {}

    def structured(self) -> Value:
        raise JSONError("message is empty")


_EMPTY: Document = _Empty()


@function(
    "messages",
    context=True,
    total=True,
    cases=[Case("root = content().uppercase()", "not json", "NOT JSON")],
)
def content(batch: Batch, index: int) -> Value:
    """The raw bytes of the message."""
    message = _message(batch, index)
    return None if message is _EMPTY else message.content


@function(
    "messages",
    context=True,
    prepared=False,
    cases=[Case('root = json("a.b")', '{"a":{"b":1}}', "1"), Case("root = json()", "[1]", "[1]")],
    params={"path": "A path with dots; the whole document when empty."},
)
def json(batch: Batch, index: int, path: str = "") -> Value:
    """The document of the message, or what is at a path in it, wherever `this` stands."""
    try:
        value = _message(batch, index).structured()
    except ValueError as error:
        empty = not _message(batch, index).content
        text = "target message part does not exist" if empty else str(error)
        raise Fail(text) from None
    return _touched(paths.get(value, paths.split(path)) if path else value)


def _touched(value: Value) -> Value:
    """Numbers and times count as computed once they went through `json()`."""
    if isinstance(value, Timestamp):
        return value.text()
    if not is_number(value):
        return value
    if isinstance(value, SourceNumber):
        return Int64(0) if value.text == "-0" else Float64(value)
    if isinstance(value, int):
        wide = not -(2**63) <= value < 2**63
        return Float64(convert.get_number(value)) if wide else Int64(value)
    return Float64(value)


@function(
    "messages",
    context=True,
    total=True,
    reads="metadata",
    cases=[Case('root = metadata("topic")', "{}", "orders", metadata={"topic": "orders"})],
    params={"key": "A key; all metadata when empty."},
)
def metadata(batch: Batch, index: int, key: str = "") -> Value:
    """Metadata of the message as it came in: one value, or all in an object."""
    found = _message(batch, index).metadata
    return found.get(key) if key else dict(found)


@function(
    "messages",
    context=True,
    total=True,
    status="deprecated",
    reads="metadata",
    cases=[Case('root.a = meta("n")', "{}", '{"a":"5"}', metadata={"n": 5})],
    params={"key": "A key; all metadata when empty."},
)
def meta(batch: Batch, index: int, key: str = "") -> Value:
    """Metadata of the message as it came in, as text; null when missing or empty."""
    found = _message(batch, index).metadata
    if not key:
        return {name: convert.to_string(value) for name, value in found.items()}
    return (convert.to_string(found[key]) or None) if key in found else None


@function(
    "messages",
    special=True,
    status="deprecated",
    reads="metadata",
    cases=[Case('meta a = 1\nroot.a = root_meta("a")', "{}", '{"a":"1"}')],
    params={"key": "A key; all metadata when empty."},
)
def root_meta(key: str = "") -> Value:
    """Metadata of the message as it is being made, as text; null when missing or empty."""
    raise NotImplementedError


@function("messages", context=True, total=True, cases=[Case("root = batch_index()", "", "0")])
def batch_index(batch: Batch, index: int) -> Value:  # noqa: ARG001 - as all of these are called
    """The position of the message in its batch, from 0."""
    return Int64(index)


@function("messages", context=True, total=True, cases=[Case("root = batch_size()", "", "1")])
def batch_size(batch: Batch, index: int) -> Value:  # noqa: ARG001 - as all of these are called
    """The number of messages in the batch."""
    return Int64(len(batch))


@function(
    "messages", context=True, total=True, cases=[Case("root.a = error()", "{}", '{"a":null}')]
)
def error(batch: Batch, index: int) -> Value:
    """Why a processor failed on the message, null if none did."""
    found = _message(batch, index).error
    return None if found is None else str(found)


@function("messages", context=True, total=True, cases=[Case("root = errored()", "", "false")])
def errored(batch: Batch, index: int) -> Value:
    """Whether a processor failed on the message."""
    return _message(batch, index).error is not None


def _about(batch: Batch, index: int, name: str) -> Value:
    found = getattr(_message(batch, index).error, name, None)
    if isinstance(found, (list, tuple)):
        return ".".join(str(part).replace("~", "~0").replace(".", "~1") for part in found)
    return None if found is None else str(found)


@function(
    "messages",
    context=True,
    total=True,
    cases=[Case("root.a = error_source_name()", "{}", '{"a":null}')],
)
def error_source_name(batch: Batch, index: int) -> Value:
    """The type of the component that failed."""
    return _about(batch, index, "name")


@function(
    "messages",
    context=True,
    total=True,
    cases=[Case("root.a = error_source_label()", "{}", '{"a":null}')],
)
def error_source_label(batch: Batch, index: int) -> Value:
    """The label of the component that failed."""
    return _about(batch, index, "label")


@function(
    "messages",
    context=True,
    total=True,
    cases=[Case("root.a = error_source_path()", "{}", '{"a":null}')],
)
def error_source_path(batch: Batch, index: int) -> Value:
    """The path of the component that failed."""
    return _about(batch, index, "path")


@function(
    "messages",
    context=True,
    total=True,
    status="experimental",
    cases=[Case("root = tracing_id()", "", "0" * 32)],
)
def tracing_id(batch: Batch, index: int) -> Value:
    """The id of the trace the message belongs to, all zeros if it belongs to none."""
    return getattr(_message(batch, index), "trace_id", None) or "0" * 32


@function(
    "messages",
    context=True,
    total=True,
    status="experimental",
    cases=[Case("root.a = tracing_span()", "{}", '{"a":null}')],
)
def tracing_span(batch: Batch, index: int) -> Value:
    """The trace of the message as an object of header fields, null if it belongs to none."""
    span = getattr(_message(batch, index), "trace_headers", None)
    return dict(span) if span else None


ENTRIES = (
    content,
    json,
    metadata,
    meta,
    root_meta,
    batch_index,
    batch_size,
    error,
    errored,
    error_source_name,
    error_source_label,
    error_source_path,
    tracing_id,
    tracing_span,
)
