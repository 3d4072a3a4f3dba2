"""The statements of `sql_raw`, as processor and as output: fields, and what to run for a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Env,
    Interpolated,
    MappingText,
    field,
    section,
)
from openmeter_collector.components.sql.building import arguments
from openmeter_collector.components.sql.contract import Statement


@section
class RawStatement:
    """One of several statements."""

    query: str = field(doc="The statement.")
    args_mapping: MappingText | None = field(
        default=None, doc="Makes an array of the values for its placeholders."
    )
    exec_only: bool | None = field(
        default=None,
        doc="Its result is of no interest. If not set, only that of the last one is.",
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Statements, ready for messages.

    Attributes:
        wanted: the index of the statement whose result is used, -1 for none.
    """

    queries: Sequence[str | Interpolated]
    mappings: Sequence[MappingText | None]
    wanted: int

    def statements(self, batch: Batch, index: int) -> list[Statement]:
        """What to run for a message.

        Raises:
            ValueError: a mapping gives something else than an array.
            MappingFailed: a mapping fails.
        """
        return [
            Statement(
                query if isinstance(query, str) else query.resolve(batch, index),
                arguments(mapping, batch, index),
            )
            for query, mapping in zip(self.queries, self.mappings, strict=True)
        ]


def prepared(
    env: Env,
    *,
    query: str,
    args_mapping: MappingText | None,
    exec_only: bool,
    queries: Sequence[RawStatement],
    dynamic: bool,
) -> Prepared:
    """The statements of a config: `query` first, then `queries`.

    Raises:
        ConfigError: there is none, or an expression in one does not compile.
    """
    texts = [one for one in (query, *(one.query for one in queries)) if one]
    where = env.node.display()
    if not texts:
        raise ConfigError(f"{where}: there is no statement; set query or queries")
    mappings = [args_mapping] if query else []
    mappings += [one.args_mapping for one in queries]
    last = len(texts) - 1
    only = [exec_only if not queries else True] if query else []
    only += [one.exec_only if one.exec_only is not None else False for one in queries]
    wanted = next((at for at in range(last, -1, -1) if not only[at]), -1)
    made: list[str | Interpolated] = list(texts)
    if dynamic:
        try:
            made = [Interpolated(text) for text in texts]
        except ValueError as error:
            raise ConfigError(f"{where}: query: {error}") from error
    return Prepared(made, mappings, wanted)
