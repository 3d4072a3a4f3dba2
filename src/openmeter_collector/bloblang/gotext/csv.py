"""Comma separated values by RFC 4180, with the engine's error texts."""

from __future__ import annotations

from openmeter_collector.bloblang.failure import Fail


def read(text: str, comma: str, lazy: bool) -> list[list[str]]:
    """All rows; they must be equally long."""
    if comma in '"\r\n\ufffd':
        raise Fail("csv: invalid field or comment delimiter")
    rows: list[list[str]] = []
    reader = _Reader(text, comma, lazy)
    while True:
        row = reader.row()
        if row is None:
            return rows
        if rows and len(row) != len(rows[0]):
            raise Fail(f"record on line {reader.first}: wrong number of fields")
        rows.append(row)


class _Reader:
    """Reads one row after the other."""

    def __init__(self, text: str, comma: str, lazy: bool) -> None:
        text = text.replace("\r\n", "\n")
        self.lines = text.split("\n")
        self.last = len(self.lines) - 1
        self.at = 0
        self.first = 0
        self.comma = comma
        self.lazy = lazy

    def line(self) -> str | None:
        if self.at > self.last or (self.at == self.last and not self.lines[self.at]):
            return None
        self.at += 1
        return self.lines[self.at - 1]

    def row(self) -> list[str] | None:
        line = self.line()
        while line == "":
            line = self.line()
        if line is None:
            return None
        if line.endswith("\r") and self.at > self.last:
            line = line[:-1]
        self.first = self.at
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
                    raise self.fail(self.at, column, 'bare " in non-quoted-field')
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
                    raise self.fail(self.at, column, 'extraneous or missing " in quoted-field')
                continue
            more = self.line()
            if more is None:
                if not self.lazy:
                    column = len(line.encode()) + 1
                    raise self.fail(self.at, column, 'extraneous or missing " in quoted-field')
                return "".join(parts), "", line
            parts.append("\n")
            rest = line = more

    def fail(self, row: int, column: int, why: str) -> Fail:
        if row != self.first:
            return Fail(
                f"record on line {self.first}; parse error on line {row}, column {column}: {why}"
            )
        return Fail(f"parse error on line {row}, column {column}: {why}")
