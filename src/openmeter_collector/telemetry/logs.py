"""Log lines: one per state change, none per message, as logfmt or JSON.

A line is a short sentence in the past tense plus key-values. Field names are the operator's
(`logger.level_name` and so on); secrets never reach this module, because nobody hands it any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

LEVELS: Final = {
    "all": 0,
    "trace": 0,
    "debug": 1,
    "info": 2,
    "warn": 3,
    "error": 4,
    "fatal": 5,
    "off": 9,
    "none": 9,
}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How lines look; the fields of the config's `logger`."""

    level: str = "info"
    format: str = "logfmt"
    add_timestamp: bool = True
    level_name: str = "level"
    timestamp_name: str = "time"
    message_name: str = "msg"
    static_fields: Mapping[str, str] = field(default_factory=lambda: {"@service": "benthos"})


@dataclass(slots=True)
class LineContext:
    """What is asked at each line that is written, for a log and all that are bound from it.

    Attributes:
        fields: gives fields of the moment, such as the ids of the trace the caller is in.
    """

    fields: Callable[[], Mapping[str, Any]] | None = None


class Log:
    """Writes lines that carry a fixed set of fields."""

    __slots__ = ("_fields", "_options", "_threshold", "_write", "context")

    def __init__(
        self,
        options: LogOptions,
        write: Callable[[str], object],
        fields: Mapping[str, Any] | None = None,
        context: LineContext | None = None,
    ) -> None:
        """`write` gets finished lines, newline included."""
        self.context = context or LineContext()
        self._options = options
        self._threshold = LEVELS.get(options.level.lower(), LEVELS["info"])
        self._write = write
        self._fields = dict(fields or {})

    @classmethod
    def to_stderr(cls, options: LogOptions | None = None) -> Log:
        """A log on standard error."""
        return cls(options or LogOptions(), sys.stderr.write)

    def bind(self, /, **fields: Any) -> Log:
        """The same log with more fields on each line."""
        return Log(self._options, self._write, self._fields | fields, self.context)

    def enabled(self, level: str) -> bool:
        """Whether lines of this level are written; ask before preparing an expensive one."""
        return LEVELS[level] >= self._threshold

    def log(self, level: str, message: str, /, **fields: Any) -> None:
        """A line at a level that an operator chose; an unknown one counts as info."""
        self._emit(level if level in LEVELS else "info", message, fields)

    def trace(self, message: str, **fields: Any) -> None:
        """Details for finding a defect in the collector itself."""
        self._emit("trace", message, fields)

    def debug(self, message: str, **fields: Any) -> None:
        """Details for finding a mistake in a config."""
        self._emit("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Something began, ended or recovered."""
        self._emit("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something is wrong and the collector deals with it."""
        self._emit("warn", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Something is wrong and a person has to act."""
        self._emit("error", message, fields)

    def _emit(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        if LEVELS[level] < self._threshold:
            return
        options = self._options
        line: dict[str, Any] = {}
        if options.add_timestamp:
            line[options.timestamp_name] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line[options.level_name] = level
        line[options.message_name] = message
        own = tuple(line)
        around = {} if self.context.fields is None else self.context.fields()
        for more in (options.static_fields, around, self._fields, fields):
            line |= more if more.keys().isdisjoint(own) else _apart(more, own)
        self._write(_json(line) if options.format == "json" else _logfmt(line))


def _apart(fields: Mapping[str, Any], own: tuple[str, ...]) -> Mapping[str, Any]:
    """Fields whose names are not those of the line's own time, level and message."""
    return {f"fields.{key}" if key in own else key: value for key, value in fields.items()}


def _json(line: Mapping[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE).decode()


def _logfmt(line: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in line.items()) + "\n"


def _logfmt_value(value: Any) -> str:
    text = str(value)
    if text and all(c.isprintable() and c not in ' ="\\' for c in text):
        return text
    return orjson.dumps(text).decode()
