"""Takes syslog messages apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Env,
    Example,
    Processor,
    Value,
    field,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.components.processors.syslog import (
    BadLine,
    Syslog3164,
    parse_rfc5424,
)

LINES = Example(
    "Make events of syslog lines",
    """
    input:
      file:
        paths: [/var/log/usage.log]
    pipeline:
      processors:
        - parse_log:
            format: syslog_rfc5424
        - mapping: |
            root.source = this.hostname
            root.data = this.structureddata
    """,
)


def _check_year(year: str) -> str | None:
    if year in {"", "current"} or (year.isascii() and year.isdigit() and 0 < int(year) < 10_000):
        return None
    return f"{year!r} is no year; write current, a number, or nothing"


@processor("parse_log", categories=("Parsing",), examples=[LINES])
class ParseLog:
    """Makes an object of each message, a line of syslog.

    It may have `message`, `timestamp` (RFC 3339), `facility`, `severity`, `priority` (numbers),
    `hostname`, `procid`, `appname`, `msgid`, and with `syslog_rfc5424` also `version` and
    `structureddata`; what the line does not say is left out. A line of another form stays as it is,
    flagged.
    """

    format: Literal["syslog_rfc5424", "syslog_rfc3164"] = field(
        doc="How lines are written.",
        choices={
            "syslog_rfc5424": "`<34>1 2003-10-11T22:14:15.003Z host app 1 ID47 - text`",
            "syslog_rfc3164": "`<34>Oct 11 22:14:15 host app[1]: text`",
        },
    )
    best_effort: bool = field(
        default=True,
        advanced=True,
        doc="Take what could be read before a fault, if that is the priority at least (and the "
        "version, with `syslog_rfc5424`).",
    )
    allow_rfc3339: bool = field(
        default=True,
        advanced=True,
        doc="Accept times as in RFC 3339, too. For `syslog_rfc3164`.",
    )
    default_year: str = field(
        default="current",
        advanced=True,
        doc="The year of times without one: `current`, a number, or empty for the year 0. For "
        "`syslog_rfc3164`.",
        lint=_check_year,
    )
    default_timezone: str = field(
        default="UTC",
        advanced=True,
        doc="The time zone of times without one, such as `Europe/Berlin`. For `syslog_rfc3164`.",
    )
    codec: str = field(default="", deprecated=True, doc="Not looked at; results are objects.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Parser(self._parse(env), env)

    def _parse(self, env: Env) -> Callable[[str], dict[str, Value]]:
        if self.format == "syslog_rfc5424":
            return lambda line: parse_rfc5424(line, best_effort=self.best_effort)
        try:
            zone = ZoneInfo(self.default_timezone) if self.default_timezone else UTC
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"{env.node.where} parse_log: there is no time zone {self.default_timezone!r}; write "
                "one such as UTC or Europe/Berlin"
            ) from error
        fixed = int(self.default_year) if self.default_year.isdigit() else 0

        def year() -> int:
            if self.default_year != "current":
                return fixed
            return datetime.fromtimestamp(env.now(), UTC).year

        return Syslog3164(
            year=year, zone=zone, rfc3339=self.allow_rfc3339, best_effort=self.best_effort
        ).parse


class _Parser:
    def __init__(self, parse: Callable[[str], dict[str, Value]], env: Env) -> None:
        self._parse = parse
        self._flag = Flag(env)

    def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            try:
                line = message.content.decode()
                made.append(message.with_value(self._parse(line)))
            except (BadLine, UnicodeDecodeError) as error:
                made.append(self._flag(message, error))
        return [made]
