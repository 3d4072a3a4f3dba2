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
from openmeter_collector.components.sql.fields import SqlConnection


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


@section
class SqlStatements(SqlConnection):
    """A database, and statements to run for each message."""

    query: str = field(default="", doc="The statement; this or `queries`.")
    unsafe_dynamic_query: bool = field(
        default=False,
        file=bool,  # the expressions are compiled when it opens, and may read files
        advanced=True,
        doc="Fill in expressions in statements. Whoever sends the messages can then say what is run.",
    )
    args_mapping: MappingText | None = field(
        default=None,
        doc="Makes an array of the values for the placeholders of `query`.",
        examples=["root = [ this.id ]"],
    )
    queries: list[RawStatement] = field(
        default_factory=list, doc="Statements to run after `query`, in the same transaction."
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


def prepared(env: Env, config: SqlStatements, *, exec_only: bool) -> Prepared:
    """The statements of a config: `query` first, then `queries`.

    Args:
        exec_only: the result of `query` is of no interest.

    Raises:
        ConfigError: there is none, or an expression in one does not compile.
    """
    texts = [one for one in (config.query, *(one.query for one in config.queries)) if one]
    where = env.node.display()
    if not texts:
        raise ConfigError(f"{where}: there is no statement; set query or queries")
    mappings = [config.args_mapping] if config.query else []
    mappings += [one.args_mapping for one in config.queries]
    only = [exec_only or bool(config.queries)] if config.query else []
    only += [bool(one.exec_only) for one in config.queries]
    wanted = next((at for at in range(len(texts) - 1, -1, -1) if not only[at]), -1)
    made: list[str | Interpolated] = list(texts)
    if config.unsafe_dynamic_query:
        try:
            made = [Interpolated(text) for text in texts]
        except ValueError as error:
            raise ConfigError(f"{where}: query: {error}") from error
    return Prepared(made, mappings, wanted)
