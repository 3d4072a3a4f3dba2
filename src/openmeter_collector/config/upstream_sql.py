"""What the SQL components do differently from those of the Go collector; see `upstream`."""

from __future__ import annotations

from typing import Final

from openmeter_collector.config.difference import Difference

SQL: Final[tuple[Difference, ...]] = (
    Difference(
        "input postgres_cdc",
        "how changes come",
        "Over the replication protocol, acknowledged by position; a crash repeats what was under way.",
        "Looked at in the slot (`poll_interval`), and moved on when they are safe: each change comes once.",
        "A change that comes twice is a row that counts twice.",
    ),
    Difference(
        "input postgres_cdc",
        "a table that is emptied, partitions, `schema`",
        "TRUNCATE is a message with an empty `operation`; partitions go by their own names; the metadata "
        "`schema` describes the columns, `before` has the row before.",
        "The `operation` is `truncate`; rows go by the name of the table that the config has; `schema` is "
        "the name of the schema, and there is no `before`.",
        "A row has the same name whether it comes with the snapshot or as a change.",
    ),
    Difference(
        "input postgres_cdc",
        "`tables: []`, `batching`, `signal_table_name`, `incremental_snapshot`",
        "All tables of all schemas; batches; snapshots asked for while changes are followed.",
        "Not there. Tables are named, `checkpoint_limit` bounds what comes together, `batched` puts it "
        "together otherwise.",
        "Nobody who meters usage was found to use them.",
        "Name the tables.",
    ),
    *(
        Difference(
            f"{kind} {name}",
            "drivers",
            "Also `mssql`, `oracle`, `snowflake`, `trino`, `gocosmos`, `spanner` and `databricks`.",
            "`postgres`, `pgx`, `mysql`, `clickhouse` and `sqlite`, and `duckdb`, which is ours.",
            "Each is tested on a real server.",
        )
        for kind, names in (
            ("input", ("sql_select", "sql_raw")),
            ("processor", ("sql_select", "sql_raw", "sql_insert")),
            ("output", ("sql_insert", "sql_raw")),
        )
        for name in names
    ),
    Difference(
        "output sql_raw",
        "a message that no `when` is for",
        "Passed over silently.",
        "Dropped, and counted under the output's name.",
        "What is let go is in the books.",
    ),
)
