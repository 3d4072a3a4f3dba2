"""Types of config fields that are more than a Python type: texts with code in them, children,
references to resources, and the batching policy that many outputs share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from openmeter_collector.component.node import Node
from openmeter_collector.message import Batch
from openmeter_collector.spec.component import field, section
from openmeter_collector.spec.types import Child, FieldType, Ref, Scalar
from openmeter_collector.values.units import ByteSize, Duration

if TYPE_CHECKING:
    from openmeter_collector.bloblang import Mapping, MappingError, Services

InputNode = Annotated[Node, Child("input")]
ProcessorNode = Annotated[Node, Child("processor")]
OutputNode = Annotated[Node, Child("output")]
BufferNode = Annotated[Node, Child("buffer")]
CacheNode = Annotated[Node, Child("cache")]
RateLimitNode = Annotated[Node, Child("rate_limit")]
MetricsNode = Annotated[Node, Child("metrics")]
TracerNode = Annotated[Node, Child("tracer")]
ScannerNode = Annotated[Node, Child("scanner")]

CacheRef = Annotated[str, Ref("cache")]
RateLimitRef = Annotated[str, Ref("rate_limit")]
InputRef = Annotated[str, Ref("input")]
ProcessorRef = Annotated[str, Ref("processor")]
OutputRef = Annotated[str, Ref("output")]

Url = Annotated[str, Scalar("url")]


Resolve = Callable[[Batch, int], str]
"""Makes the text for the message at an index of a batch."""


class CodeError(ValueError):
    """A text with code in it does not compile.

    Attributes:
        line: of the text, from 1.
        column: from 1.
        lint: what `lint` prints about it.
    """

    def __init__(self, text: str, line: int = 1, column: int = 1, lint: str = "") -> None:
        self.line, self.column, self.lint = line, column, lint or text
        super().__init__(text)


_FILE = "file://"
"""What a mapping begins with when it is in a file, relative to the working directory."""


def compile_interpolated(text: str, how_to_read_files: str = "") -> str | Resolve:
    """The text, or what makes it: the one place where the language is plugged in for strings.

    Args:
        how_to_read_files: what an operator has to do before it may; empty when it may.

    Raises:
        CodeError: an expression is wrong.
    """
    if "${!" not in text and "${{!" not in text:
        return text
    # Imported here: most configs have fields without expressions, and the language is large.
    from openmeter_collector import bloblang  # noqa: PLC0415

    try:
        compiled = bloblang.compile_interpolated(text, services=_services(how_to_read_files))
    except bloblang.MappingError as error:
        raise _code_error(error) from error
    return compiled.static if compiled.is_static else compiled.text


def _services(how_to_read_files: str) -> Services | None:
    if not how_to_read_files:
        return None
    from openmeter_collector import bloblang  # noqa: PLC0415 - as above

    def refuse(path: str, /) -> bytes:
        raise PermissionError(13, f"files are not read here; {how_to_read_files}", path)

    return bloblang.Services(read=refuse)


def compile_mapping(text: str, how_to_read_files: str = "") -> Mapping:
    """The program: the one place where the language is plugged in for mappings.

    Args:
        how_to_read_files: what an operator has to do before it may; empty when it may.

    Raises:
        CodeError: the mapping is wrong.
    """
    from openmeter_collector import bloblang  # noqa: PLC0415 - as above

    if not text.startswith(_FILE):
        try:
            return bloblang.compile(text, services=_services(how_to_read_files))
        except bloblang.MappingError as error:
            raise _code_error(error) from error
    # A fault in the file has its place there, so the whole of it is told at the field's own place.
    path = text.removeprefix(_FILE).strip()
    if how_to_read_files:
        raise CodeError(f"{path}: files are not read here; {how_to_read_files}")
    try:
        return bloblang.compile(Path(path).read_text(encoding="utf-8"), name=path)
    except bloblang.MappingError as error:
        first = error.diagnostics[0]
        raise CodeError(f"{path}:{first.line}:{first.column}: {first.text}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise CodeError(f"{path}: {reason}; name a file with a mapping") from error


def _code_error(error: MappingError) -> CodeError:
    first = error.diagnostics[0]
    hint = f"; {first.hint}" if first.hint else ""
    return CodeError(first.text + hint, first.line, first.column, first.lint())


class CodeText:
    """A text with code in it, compiled when the config is decoded.

    Attributes:
        text: as it was written, environment variables filled in. May hold secrets: never log it.
        where: `file:line:col` of the text.
    """

    __slots__ = ("text", "where")

    def __init__(self, text: str, where: str = "") -> None:
        self.text = text
        self.where = where

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.text == getattr(other, "text", None)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.where}>"


class Interpolated(CodeText):
    """A string in which `${! expression }` stands for a value of the message at hand.

    Attributes:
        static: the text itself when there is no expression in it, else None.
    """

    __slots__ = ("_resolve", "static")
    __field_type__: ClassVar[FieldType] = Scalar("interpolated")

    def __init__(self, text: str, where: str = "", how_to_read_files: str = "") -> None:
        """Compile `text`.

        Args:
            how_to_read_files: what an operator has to do before it may; empty when it may.

        Raises:
            CodeError: an expression in it is wrong.
        """
        super().__init__(text, where)
        compiled = compile_interpolated(text, how_to_read_files)
        self._resolve: Resolve | None = None if isinstance(compiled, str) else compiled
        self.static: str | None = compiled if isinstance(compiled, str) else None

    def resolve(self, batch: Batch, index: int) -> str:
        """The text for the message at `index`."""
        return self.static or "" if self._resolve is None else self._resolve(batch, index)


class MappingText(CodeText):
    """A mapping, or a query.

    Attributes:
        program: the compiled mapping.
    """

    __slots__ = ("program",)
    __field_type__: ClassVar[FieldType] = Scalar("mapping")

    def __init__(self, text: str, where: str = "", how_to_read_files: str = "") -> None:
        """Compile `text`.

        Args:
            how_to_read_files: what an operator has to do before it may; empty when it may.

        Raises:
            CodeError: it does not compile.
        """
        super().__init__(text, where)
        self.program = compile_mapping(text, how_to_read_files)


@section
class BatchPolicy:
    """When to stop collecting messages and write them as one batch."""

    count: int = field(
        default=0,
        minimum=0,
        doc="Messages in a batch at most; a batch is written when it has this many. A larger batch "
        "that arrives is cut. 0 is no limit.",
    )
    byte_size: ByteSize = field(
        default=ByteSize(0),
        doc="Write the batch when its messages together reach this size. 0 is no limit.",
    )
    period: Duration | None = field(
        default=None,
        doc="Write what there is this long after the first message came, full or not. "
        "Empty is no limit of time.",
        examples=["1s", "500ms"],
    )
    check: MappingText | None = field(
        default=None,
        doc="A query, asked for each message; true ends the batch after it.",
        examples=['this.type == "end"'],
    )
    processors: list[ProcessorNode] = field(
        default_factory=list,
        doc="Run over a finished batch before it is written, for example to archive it into one "
        "message.",
    )

    @property
    def is_noop(self) -> bool:
        """Nothing is collected: batches are written as they come."""
        return not (self.count > 1 or self.byte_size or self.period or self.check)
