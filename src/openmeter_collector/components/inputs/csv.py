"""Reads rows from files of comma separated values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Puller,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.reading_files import Files, find_files
from openmeter_collector.components.scanners.csv import Csv, delimiter_problem

BILLING = Example(
    "Rows of billing exports as usage events",
    """
    input:
      csv:
        paths: [ ./billing/*.csv ]
      processors:
        - mapping: |
            root.id = this.line_id
            root.source = @path
            root.type = "billing"
            root.subject = this.account
            root.data.amount = this.amount.number()
    """,
)


@input("csv", dangerous="files", categories=("Local",), examples=[BILLING])
class CsvInput:
    """Reads files of comma separated values, a message a row, one file after the other, and ends.

    With a header row, a message is an object with the names of the columns, and the metadata `header`
    is the list of names. A row with fewer columns is an object with fewer fields, one with more is an
    array. A row that cannot be read is an empty message that is flagged with the reason; reading goes
    on behind it. Messages also carry `path`, `mod_time_unix`, `mod_time` of their file and `csv_row`,
    the number of the row from 0.
    """

    paths: list[str] = field(
        doc="Files or globs (`**` for all folders below), in this order.",
        examples=[["/tmp/foo.csv", "/tmp/bar/*.csv"]],  # noqa: S108 - an example of a path
        minimum=1,
    )
    parse_header_row: bool = field(
        default=True,
        doc="The first row names the columns. If not, each message is an array of the row's values.",
    )
    delimiter: str = field(
        default=",", doc="What stands between columns: one character.", lint=delimiter_problem
    )
    lazy_quotes: bool = field(
        default=False,
        doc="Allow a quote inside a value that is not quoted, and a single one inside a quoted value.",
    )
    delete_on_finish: bool = field(
        default=False,
        advanced=True,
        doc="Delete a file when it was read to its end and all of it is safe.",
    )
    batch_count: int = field(
        default=1,
        minimum=1,
        advanced=True,
        doc="Rows in a batch. Not needed: rows are handed on together as they are read, and outputs "
        "make batches of their own.",
    )
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat messages that could not be delivered. There is no other way."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        """Finds the files.

        Raises:
            ConfigError: a path names none.
        """
        files = await asyncio.to_thread(find_files, self.paths, f"{env.node.path}.csv.paths")
        rows = Csv(
            custom_delimiter=self.delimiter,
            parse_header_row=self.parse_header_row,
            lazy_quotes=self.lazy_quotes,
            continue_on_error=True,
            any_length=True,
        )
        async with rows.open(env) as scanner:
            reader = Files(env, scanner, files, delete=self.delete_on_finish)
            try:
                yield reader
            finally:
                await reader.close()
