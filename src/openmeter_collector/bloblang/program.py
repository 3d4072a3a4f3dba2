"""A compiled mapping, ready to run."""

from __future__ import annotations

import re
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from openmeter_collector.bloblang.blame import Unit, settle
from openmeter_collector.bloblang.check import warnings_of
from openmeter_collector.bloblang.diagnostics import Diagnostic, MappingError
from openmeter_collector.bloblang.document import Document
from openmeter_collector.bloblang.emit import (
    MAPPING,
    MUTATION,
    QUERY,
    VALUE,
    Emitted,
    Settings,
    emit,
    emit_query,
)
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.reads import Reads, reads_of
from openmeter_collector.bloblang.spans import Source, Span
from openmeter_collector.bloblang.syntax import Assign, Let, Literal, Node, Program
from openmeter_collector.errors import CollectorError
from openmeter_collector.values.kinds import DELETED, NOTHING, Value

_UNPRINTABLE: Final = re.compile("[\ud800-\udfff]")

Batch = Sequence[Document]
Result = tuple[Value, AnyMapping[str, Value] | None]
"""What a run answers with: the body and the metadata.

The body is one of

* `DELETED`: the message is to be dropped;
* `NOTHING`: the body stays as it is, byte for byte;
* `bytes`: the new raw content;
* anything else: the new structured value. It may share parts with the document it was made from,
  so neither may be changed in place.

The metadata is None when it stays as it is, else all of the new metadata.
"""


class MappingFailed(CollectorError):
    """A mapping failed on a message.

    `str()` gives the engine's text. `rendered()` adds the line of the mapping and a caret.

    Attributes:
        mapping: the name of the mapping, "" if it has none.
        line: the line of the expression that failed, from 1.
        column: its column.
        partial: in a mutation, what had been written before: a `Result`; else None.
    """

    def __init__(
        self, text: str, source: Source, line: int, column: int, partial: Result | None = None
    ) -> None:
        # Bytes that are no text travel as lone surrogates, which nothing can print.
        super().__init__(_UNPRINTABLE.sub("\ufffd", text))
        self.mapping = source.name
        self.line = line
        self.column = column
        self.partial = partial
        self._source = source

    def rendered(self) -> str:
        """The text with the failing line of the mapping and a caret below the expression."""
        shown = self._source.line(self.line)
        number = str(self.line)
        margin = " " * len(number)
        where = f"{self.mapping}:{self.line}:{self.column}" if self.mapping else "mapping"
        return (
            f"{where}: {self}\n{margin} |\n{number} | {shown}\n"
            f"{margin} | {' ' * (self.column - 1)}^---"
        )


@dataclass(frozen=True)
class Mapping:
    """A mapping that can be run any number of times, from any number of tasks.

    Attributes:
        program: the tree.
        services: what it may reach outside the messages.
    """

    program: Program
    services: Any

    @property
    def source(self) -> str:
        """The text of the mapping."""
        return self.program.source.text

    @property
    def name(self) -> str:
        """What the mapping is called in errors, "" if it has no name."""
        return self.program.source.name

    @cached_property
    def reads(self) -> Reads:
        """What the mapping reads: paths, metadata, environment, other messages of the batch."""
        return reads_of(self.program)

    @cached_property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What is allowed and yet looks like a mistake."""
        return warnings_of(self.program)

    def run(self, batch: Batch, index: int) -> Result:
        """Map one message of a batch to a new one; the others can be looked at.

        Returns:
            Body and metadata, see `Result`.

        Raises:
            MappingFailed: an expression failed; nothing of this run counts.
        """
        try:
            return self._mapping(batch, index)  # type: ignore[no-any-return]
        except ValueError as error:
            if not undefined_reason(batch, index):
                raise self._failed(self._fast, error, batch, index) from None
            return self._guarded(self._emitted(MAPPING, defined=False), batch, index)
        except Exception as error:  # noqa: BLE001 - completed and raised again
            raise self._failed(self._fast, error, batch, index) from None

    def mutate(self, batch: Batch, index: int) -> Result:
        """Change one message of a batch: `root` starts as its document.

        Returns:
            Body and metadata, see `Result`.

        Raises:
            MappingFailed: an expression failed; `partial` has what was written before.
        """
        try:
            return self._mutation(batch, index)  # type: ignore[no-any-return]
        except ValueError as error:
            if not undefined_reason(batch, index):
                raise self._failed(self._fast_mutation, error, batch, index) from None
            return self._guarded(self._emitted(MUTATION, defined=False), batch, index)
        except Exception as error:  # noqa: BLE001 - completed and raised again
            raise self._failed(self._fast_mutation, error, batch, index) from None

    def query(self, batch: Batch, index: int) -> Value:
        """The value that the mapping gives for one message: for `check` and the like.

        `deleted()` and `nothing()` come back as `DELETED` and `NOTHING`.

        Raises:
            MappingFailed: an expression failed.
        """
        body, _ = self.run(batch, index)
        return body

    def value(self, document: Document) -> Value:
        """The value that the mapping makes of a document outside of a pipeline; text stays text.

        Raises:
            MappingFailed: an expression failed.
        """
        body, _ = self._guarded(self._emitted(VALUE, defined=True), [document], 0)
        return body

    def check(self, batch: Batch, index: int) -> bool:
        """Whether the mapping gives true.

        Raises:
            MappingFailed: an expression failed, or the value is no bool.
        """
        body, _ = self.run(batch, index)
        if body is True or body is False:
            return body
        source = self.program.source
        if body is DELETED:
            text = "query mapping resulted in deleted message, expected a boolean value"
            raise MappingFailed(text, source, 1, 1)
        if body is NOTHING:
            body = batch[index].structured()
            if body is True or body is False:
                return body
        raise MappingFailed(str(TypeFail(body, "bool", origin="mapping")), source, 1, 1)

    def with_variable(self, name: str, value: Value) -> Mapping:
        """The same mapping with a variable that is set before its first statement."""
        start = Span(0, 0)
        given = Let(name, Literal(value, span=start), span=start)
        statements = (given, *self.program.statements)
        return Mapping(replace(self.program, statements=statements), self.services)

    # Code ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the code now, not with the first message.

        Raises:
            MappingError: the mapping is nested too deeply to be run.
        """
        try:
            _ = self._mapping
        except (RecursionError, MemoryError, SyntaxError) as error:
            text = f"this mapping is nested too deeply to be compiled ({type(error).__name__})"
            raise MappingError([Diagnostic(text, self.program.source, 0)]) from None

    def _emitted(self, mode: str, *, defined: bool) -> Emitted:
        cache: dict[tuple[str, bool], Emitted] = self.__dict__.setdefault("_cache", {})
        key = mode, defined
        found = cache.get(key)
        if found is None:
            found = cache[key] = emit(self.program, Settings(mode, defined), self.services)
        return found

    @cached_property
    def _fast(self) -> Emitted:
        return self._emitted(MAPPING, defined=True)

    @cached_property
    def _mapping(self) -> Any:
        return self._fast.run

    @cached_property
    def _fast_mutation(self) -> Emitted:
        return self._emitted(MUTATION, defined=True)

    @cached_property
    def _mutation(self) -> Any:
        return self._fast_mutation.run

    def _guarded(self, emitted: Emitted, batch: Batch, index: int) -> Result:
        try:
            return emitted.run(batch, index)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001 - completed and raised again
            raise self._failed(emitted, error, batch, index) from None

    def _failed(
        self, emitted: Emitted, error: Exception, batch: Batch, index: int
    ) -> MappingFailed:
        return complete(emitted.units[0], error, batch, index)


def complete(unit: Unit, error: Exception, batch: Batch, index: int) -> MappingFailed:
    """What the user reads about a failure: statement, text, place."""
    fail = as_fail(error)
    node = unit.node_at(fail.__traceback__)
    settle(fail, unit)
    line = unit.line_of(unit.statement_of(node)) if node is not None else 1
    text = str(fail)
    if fail.undefined is not None:
        why = undefined_reason(batch, index)
        if why:
            path = f"this.{fail.undefined}" if fail.undefined else "this"
            text = f"unable to reference message as structured (with '{path}'): {why}"
    where, at = fail.where or (unit, node)
    offset = at.span.start if at is not None else 0
    row, column = where.source.position(offset)
    partial = getattr(error, "partial", None)
    return MappingFailed(
        f"failed assignment (line {line}): {text}", where.source, row, column, partial
    )


def as_fail(error: Exception) -> Fail:
    """A failure, made from whatever was raised."""
    if isinstance(error, Fail):
        return error
    if isinstance(error, RecursionError):
        fail = Fail("the value is nested too deeply")
    elif isinstance(error, MemoryError):
        fail = Fail("the result does not fit the memory")
    else:
        fail = Fail(f"defect in this function: {type(error).__name__}: {error}")
    fail.__traceback__ = error.__traceback__
    fail.outside = True
    return fail


def undefined_reason(batch: Batch, index: int) -> str:
    """Why a message is no document; "" if it is one."""
    try:
        batch[index].structured()
    except ValueError as error:
        if not batch[index].content:
            return "message is empty"
        return f"parse as json: {error}"
    return ""


def single_value(program: Program) -> Node | None:
    """The expression of a mapping that is only one."""
    if len(program.statements) == 1:
        (statement,) = program.statements
        if isinstance(statement, Assign) and not statement.path:
            return statement.value
    return None


__all__ = [
    "QUERY",
    "Batch",
    "Mapping",
    "MappingFailed",
    "Result",
    "complete",
    "emit_query",
]
