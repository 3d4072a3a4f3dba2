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
class RoutedStatement(RawStatement):
    """One of several statements, perhaps for some messages only."""

    when: MappingText | None = field(
        default=None,
        doc="Gives true for the messages it is for. As soon as one statement has it, each message gets "
        "the first one that is for it, and not all.",
        examples=['root = meta("operation") == "delete"'],
    )


def check_routes(queries: Sequence[RoutedStatement]) -> str | None:
    """Why not all of them can be reached, None when they can."""
    if not any(one.when for one in queries):
        return None
    for at, one in enumerate(queries[:-1]):
        if one.when is None:
            return f"the statement at index {at} has no `when`, so those after it are never run"
    return None


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """Statements, ready for messages.

    Attributes:
        wanted: the index of the statement whose result is used, -1 for none.
        routes: conditions; with one, a message gets the first statement that is for it.
    """

    queries: Sequence[str | Interpolated]
    mappings: Sequence[MappingText | None]
    wanted: int
    routes: Sequence[MappingText | None] = ()

    def statements(self, batch: Batch, index: int) -> list[Statement]:
        """What to run for a message; nothing when no statement is for it.

        Raises:
            ValueError: a mapping gives something else than an array.
            MappingFailed: a mapping fails, or a condition gives something else than a bool.
        """
        if not any(self.routes):
            return [self._statement(at, batch, index) for at in range(len(self.queries))]
        for at, when in enumerate(self.routes):
            if when is None or when.program.check(batch, index):
                return [self._statement(at, batch, index)]
        return []

    def _statement(self, at: int, batch: Batch, index: int) -> Statement:
        query = self.queries[at]
        return Statement(
            query if isinstance(query, str) else query.resolve(batch, index),
            arguments(self.mappings[at], batch, index),
        )


def prepared(
    env: Env, config: SqlStatements, queries: Sequence[RawStatement], *, exec_only: bool
) -> Prepared:
    """The statements of a config: `query` first, then `queries`.

    Args:
        exec_only: the result of `query` is of no interest.

    Raises:
        ConfigError: there is none, or an expression in one does not compile.
    """
    texts = [one for one in (config.query, *(one.query for one in queries)) if one]
    where = env.node.display()
    if not texts:
        raise ConfigError(f"{where}: there is no statement; set query or queries")
    mappings = [config.args_mapping] if config.query else []
    mappings += [one.args_mapping for one in queries]
    only = [exec_only or bool(queries)] if config.query else []
    only += [bool(one.exec_only) for one in queries]
    routes = [one.when if isinstance(one, RoutedStatement) else None for one in queries]
    if config.query and any(routes):
        raise ConfigError(
            f"{where}: query is for all messages, so queries are never run; leave it out"
        )
    wanted = next((at for at in range(len(texts) - 1, -1, -1) if not only[at]), -1)
    made: list[str | Interpolated] = list(texts)
    if config.unsafe_dynamic_query:
        try:
            made = [Interpolated(text) for text in texts]
        except ValueError as error:
            raise ConfigError(f"{where}: query: {error}") from error
    return Prepared(made, mappings, wanted, routes)
