"""Comma separated values by RFC 4180, with the engine's error texts."""

from __future__ import annotations

from openmeter_collector.bloblang.failure import Fail


class NeedMore(Exception):
    """The text that is there ends inside a row."""


def read(text: str, comma: str, lazy: bool) -> list[list[str]]:
    """All rows; they must be equally long."""
    reader = Rows(comma, lazy)
    reader.feed(text, last=True)
    rows: list[list[str]] = []
    while True:
        row = reader.row()
        if row is None:
            return rows
        if rows and len(row) != len(rows[0]):
            raise Fail(f"record on line {reader.first}: wrong number of fields")
        rows.append(row)


class Rows:
    """Reads one row after the other, out of text that may come piece by piece.

    Attributes:
        first: the line, from 1, on which the row begins that was read last.
    """

    def __init__(self, comma: str, lazy: bool) -> None:
        """Start.

        Raises:
            Fail: `comma` cannot be what stands between columns.
        """
        if comma in '"\r\n\ufffd':
            raise Fail("csv: invalid field or comment delimiter")
        self.comma = comma
        self.lazy = lazy
        self.lines: list[str] = []
        self.rest = ""
        self.at = 0
        self.before = 0
        self.first = 0
        self.ended = False

    def feed(self, text: str, *, last: bool) -> None:
        """Add text; `last` when no more will come."""
        if self.at:
            del self.lines[: self.at]
            self.before += self.at
            self.at = 0
        if not last and text.endswith("\r"):
            text, held = text[:-1], "\r"
        else:
            held = ""
        *lines, rest = (self.rest + text).replace("\r\n", "\n").split("\n")
        self.lines += lines
        self.rest = rest + held
        if last:
            self.ended = True
            if rest:
                # Go leaves out a carriage return at the very end.
                self.lines.append(rest.removesuffix("\r"))

    @property
    def held(self) -> int:
        """Characters that are not yet read."""
        return sum(map(len, self.lines[self.at :])) + len(self.rest)

    def line(self) -> str | None:
        if self.at == len(self.lines):
            if not self.ended:
                raise NeedMore
            return None
        self.at += 1
        return self.lines[self.at - 1]

    def next(self) -> list[str] | None:
        """The next row; None when the text that is there has no whole row, or none at all."""
        begin = self.at
        try:
            return self.row()
        except NeedMore:
            self.at = begin
            return None

    def row(self) -> list[str] | None:
        line = self.line()
        while line == "":
            line = self.line()
        if line is None:
            return None
        self.first = self.before + self.at
        fields: list[str] = []
        rest = line
        while True:
            if not rest.startswith('"'):
                field, found, rest = rest.partition(self.comma)
                if not self.lazy and '"' in field:
                    column = (
                        len(
                            (
                                line[: len(line) - len(found) - len(rest) - len(field)]
                                + field[: field.index('"')]
                            ).encode()
                        )
                        + 1
                    )
                    raise self.fail(column, 'bare " in non-quoted-field')
                fields.append(field)
                if not found:
                    return fields
                continue
            field, rest, line = self.quoted(rest[1:], line)
            fields.append(field)
            if not rest:
                return fields
            rest = rest[1:]

    def quoted(self, rest: str, line: str) -> tuple[str, str, str]:
        """A quoted field, what follows it, and the line on which it ends."""
        parts: list[str] = []
        while True:
            before, found, after = rest.partition('"')
            parts.append(before)
            if found:
                if after.startswith('"'):
                    parts.append('"')
                    rest = after[1:]
                elif not after or after.startswith(self.comma):
                    return "".join(parts), after, line
                elif self.lazy:
                    parts.append('"')
                    rest = after
                else:
                    column = len(line[: len(line) - len(after)].encode())
                    raise self.fail(column, 'extraneous or missing " in quoted-field')
                continue
            more = self.line()
            if more is None:
                if not self.lazy:
                    column = len(line.encode()) + 1
                    raise self.fail(column, 'extraneous or missing " in quoted-field')
                return "".join(parts), "", line
            parts.append("\n")
            rest = line = more

    def fail(self, column: int, why: str) -> Fail:
        row = self.before + self.at
        if row != self.first:
            return Fail(
                f"record on line {self.first}; parse error on line {row}, column {column}: {why}"
            )
        return Fail(f"parse error on line {row}, column {column}: {why}")
