"""Text with expressions in it: `${! this.id }` in fields of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from openmeter_collector.bloblang import convert
from openmeter_collector.bloblang.blame import settle
from openmeter_collector.bloblang.builder import Builder
from openmeter_collector.bloblang.diagnostics import MappingError
from openmeter_collector.bloblang.document import Document
from openmeter_collector.bloblang.emit import Emitted, emit_query
from openmeter_collector.bloblang.lexer import Failure, optional_spaces, term
from openmeter_collector.bloblang.parser import ExpressionParser
from openmeter_collector.bloblang.program import MappingFailed, as_fail
from openmeter_collector.bloblang.services import Services
from openmeter_collector.bloblang.spans import Source
from openmeter_collector.bloblang.statements import diagnostic
from openmeter_collector.bloblang.syntax import Node
from openmeter_collector.values.kinds import Value


class Interpolation:
    """A field's text, ready to be filled in for a message.

    Attributes:
        is_static: whether it is the same for every message.
        static: the text, when it is; else "".
    """

    def __init__(self, source: Source, parts: Sequence[str | Node], services: Services) -> None:
        self._source = source
        self._parts = [
            part if isinstance(part, str) else _Expression(part, source, services) for part in parts
        ]
        self.is_static = all(isinstance(part, str) for part in self._parts)
        texts = (part for part in self._parts if isinstance(part, str))
        self.static = "".join(texts) if self.is_static else ""

    def text(self, batch: Sequence[Document], index: int) -> str:
        """The text for one message.

        Raises:
            MappingFailed: an expression failed.
        """
        if self.is_static:
            return self.static
        return "".join(
            part if isinstance(part, str) else convert.to_string(part.value(batch, index))
            for part in self._parts
        )

    def bytes(self, batch: Sequence[Document], index: int) -> bytes:
        """The bytes for one message; a lone expression keeps its own.

        Raises:
            MappingFailed: an expression failed.
        """
        if self.is_static:
            return convert.encode(self.static)
        return b"".join(
            convert.encode(part)
            if isinstance(part, str)
            else convert.to_bytes(part.value(batch, index))
            for part in self._parts
        )

    def __repr__(self) -> str:
        return f"Interpolation({self._source.text!r})"


class _Expression:
    """One `${! }`."""

    def __init__(self, node: Node, source: Source, services: Services) -> None:
        self._node = node
        self._source = source
        self._services = services

    @cached_property
    def _defined(self) -> Emitted:
        return emit_query(self._node, self._source, self._services, defined=True)

    @cached_property
    def _undefined(self) -> Emitted:
        return emit_query(self._node, self._source, self._services, defined=False)

    def value(self, batch: Sequence[Document], index: int) -> Value:
        emitted = self._defined
        try:
            try:
                return emitted.run(batch, index)
            except ValueError:
                emitted = self._undefined
                return emitted.run(batch, index)
        except Exception as error:  # noqa: BLE001 - completed and raised again
            fail = as_fail(error)
            settle(fail, emitted.units[0])
            line, column = self._source.position(self._node.span.start)
            raise MappingFailed(str(fail), self._source, line, column) from None


def _unfinished(pos: int) -> Failure:
    return Failure(pos, ("end of escaped expression",), "required")


def _end_of_expression(text: str, pos: int) -> int:
    try:
        return term(text, pos, "}")
    except Failure as failure:
        raise failure.expecting("end of expression").required() from None


def parse_field(source: Source, builder: Builder) -> list[str | Node]:
    """The parts of a field: text, and expressions.

    Raises:
        MappingError: an expression is none.
    """
    text = source.text
    parser = ExpressionParser(text, builder)
    parts: list[str | Node] = []
    pos = 0
    try:
        while pos < len(text):
            if text.startswith("${{!", pos):
                end = text.find("}}", pos + 4)
                if end < 0:
                    raise _unfinished(pos + 4)
                parts.append("${!" + text[pos + 4 : end] + "}")
                pos = end + 2
            elif text.startswith("${!", pos):
                at = optional_spaces(text, pos + 3)
                node, at = parser.required(parser.query, at)
                at = optional_spaces(text, at)
                pos = _end_of_expression(text, at)
                parts.append(node)
            else:
                end = text.find("$", pos + 1)
                end = len(text) if end < 0 else end
                parts.append(text[pos:end])
                pos = end
    except Failure as failure:
        raise MappingError([diagnostic(source, failure)]) from None
    return parts
