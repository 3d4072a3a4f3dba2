"""Writes log lines about messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Interpolated,
    MappingText,
    Processor,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed

WITH_FIELDS = Example(
    "A line for each message that was refused",
    """
    pipeline:
      processors:
        - catch:
            - log:
                level: ERROR
                message: 'refused: ${! error() }'
                fields_mapping: |
                  root.id = this.id
                  root.source = this.source
            - mapping: root = deleted()
    """,
)


@processor("log", categories=("Utility",), examples=[WITH_FIELDS])
class Log:
    """Writes a log line for each message and passes it on unchanged.

    Nothing of a message is written but what `message` and the fields ask for. A line is written even
    when a field of it cannot be made: it then says why.
    """

    level: Literal["OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL", "NONE"] = (
        field(default="INFO", doc="The level of the lines; `FATAL` is written as `ERROR`.")
    )
    message: Interpolated = field(
        default_factory=lambda: Interpolated(""), doc="The text of the line."
    )
    fields_mapping: MappingText | None = field(
        default=None,
        doc="A mapping whose result, an object, is written as fields of the line.",
        examples=["root.id = this.id"],
    )
    fields: dict[str, Interpolated] = field(
        default_factory=dict, deprecated=True, doc="Fields of the line; use `fields_mapping`."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Writer(self, env)


class _Writer:
    def __init__(self, config: Log, env: Env) -> None:
        self._config = config
        self._log = env.log
        level = config.level.lower()
        self._level = {"fatal": "error", "all": "trace", "none": "off"}.get(level, level)
        self._wanted = self._level != "off" and env.log.enabled(self._level)

    def process(self, batch: Batch) -> list[Batch]:
        if self._wanted:
            for index in range(len(batch)):
                fields = self._fields(batch, index)
                self._log.bind(**fields).log(self._level, self._text(batch, index, fields))
        return [batch]

    def _text(self, batch: Batch, index: int, fields: dict[str, Any]) -> str:
        try:
            return self._config.message.resolve(batch, index)
        except MappingFailed as error:
            fields["message_error"] = str(error)
            return self._config.message.text

    def _fields(self, batch: Batch, index: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        try:
            for name, text in self._config.fields.items():
                fields[name] = text.resolve(batch, index)
            if self._config.fields_mapping is not None:
                made = self._config.fields_mapping.program.query(batch, index)
                if isinstance(made, dict):
                    fields |= {name: _plain(value) for name, value in made.items()}
                else:
                    fields["fields_error"] = "fields_mapping gave no object"
        except MappingFailed as error:
            fields["fields_error"] = str(error)
        return fields


def _plain(value: Any) -> Any:
    if isinstance(value, float) and type(value) is not float:
        return float(value)
    if isinstance(value, int) and type(value) not in {int, bool}:
        return int(value)
    return value
