"""Replaces messages by the result of a JMESPath query."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Env,
    Example,
    Processor,
    Value,
    field,
    install_extra,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.values.kinds import Float64

CITIES = Example(
    "Name the cities of one state",
    """
    pipeline:
      processors:
        - jmespath:
            query: "locations[?state == 'WA'].name | sort(@) | {Cities: join(', ', @)}"
    """,
)


@processor("jmespath", categories=("Mapping",), examples=[CITIES])
class Jmespath:
    """Runs a JMESPath query over each message, a JSON document, and replaces it by the result.

    What matches nothing gives `null`. A message on which the query fails, or that is no JSON, stays as
    it is, flagged. `mapping` can do more and is faster.

    Needs the extra `jmespath`.
    """

    query: str = field(doc="The query.", examples=["this.items[*].id"])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        """Compile the query."""
        where = f"{env.node.where} jmespath"
        try:
            import jmespath  # noqa: PLC0415 - an extra
            from jmespath.exceptions import JMESPathError  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                f"{where} needs the extra 'jmespath'; run: {install_extra('jmespath')}"
            ) from error
        try:
            compiled = jmespath.compile(self.query)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{where}: the query cannot be compiled: {reason}") from error
        yield _Searcher(compiled, JMESPathError, env)


class _Searcher:
    def __init__(self, compiled: Any, fails: type[Exception], env: Env) -> None:
        self._compiled = compiled
        self._fails = (fails, ValueError, TypeError, RecursionError, ArithmeticError)
        self._flag = Flag(env)

    def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            try:
                found = self._compiled.search(_plain(message.structured()))
                new = message.with_value(_float64(found))
                new.content  # noqa: B018 - without a JSON form it must fail here
                made.append(new)
            except self._fails as error:
                made.append(self._flag(message, error))
        return [made]


def _plain(value: Value) -> Any:
    """With plain numbers, the only ones whose types the library knows."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(value)
    return value


def _float64(value: Any) -> Value:
    """With numbers that are written as they always were: 3, not 3.0, for a sum of 3."""
    if isinstance(value, dict):
        return {key: _float64(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_float64(one) for one in value]
    return Float64(value) if type(value) is float else value
