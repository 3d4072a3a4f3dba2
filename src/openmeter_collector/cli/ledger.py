"""`ledger`: the books of a journal, and whether they balance."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from openmeter_collector.cli.journal import (
    JournalFile,
    journal_options,
    journals_of,
    printable,
    table,
)
from openmeter_collector.cli.options import json_option
from openmeter_collector.storage import ledger as books
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.visit import reading

_ALWAYS: Final = ("received", "delivered", "dead", "dropped")


@click.command()
@journal_options
@click.option("--hours", type=click.IntRange(min=1), help="Only the newest hours, one by one.")
@json_option
def ledger(
    journal: Path | None,
    config_file: Path | None,
    env_files: tuple[Path, ...],
    hours: int | None,
    as_json: bool,
) -> int:
    r"""Print what became of every event, and end with 1 if the books do not balance.

    received = delivered + dead + dropped + lost + waiting, for each source, type and hour of receipt
    (UTC). What waits is counted in the stored events themselves; the rest was written in the same
    transactions as the facts it counts. Works beside a running collector and without one.

    \b
    Exit codes:
      1  the books do not balance, or the journal cannot be read

    \b
    Examples:
      openmeter-collector ledger -c config.yaml
      openmeter-collector ledger -j /data/buffer.db --hours 24
      openmeter-collector ledger -c config.yaml --json | jq .total
    """
    journals = journals_of(journal, config_file, env_files)
    of_each = [_lines_of(one) for one in journals]
    # Journal by journal: what one has too much must not make up for what another lacks.
    off = [line for lines in of_each for line in lines if line.balance]
    wrong = bool(off)
    lines = of_each[0] if len(of_each) == 1 else _merged(of_each)
    since = int(time.time()) // 3600 - hours + 1 if hours else 0
    shown = [line for line in lines if line.hour >= since]
    if as_json:
        told: dict[str, Any] = {"balanced": not wrong}
        told |= {"journals": [str(one.path) for one in journals]}
        told |= {"lines": [_as_json(line) for line in shown]}
        click.echo(json.dumps(told | {"total": _as_json(books.total(lines))}, indent=2))
        return int(wrong)
    click.echo(_page(lines, shown, by_hour=hours is not None))
    if len(journals) > 1:
        click.echo(f"\njournals: {', '.join(printable(str(one.path)) for one in journals)}")
    if wrong:
        click.echo(
            f"\nThe books do not balance: {len(off)} lines, {sum(one.balance for one in off)} events.",
            err=True,
        )
    return int(wrong)


def _lines_of(journal: JournalFile) -> list[books.Line]:
    with reading(journal.path) as connection:
        return audited(connection)


def _merged(of_each: list[list[books.Line]]) -> list[books.Line]:
    """Lines of several journals, those of the same hour, source and type as one."""
    groups: dict[tuple[int, str, str], list[books.Line]] = {}
    for line in (line for lines in of_each for line in lines):
        groups.setdefault((line.hour, line.source, line.type), []).append(line)
    merged = []
    for (hour, source, kind), group in sorted(groups.items()):
        one = books.total(group)
        one.hour, one.source, one.type = hour, source, kind
        merged.append(one)
    return merged


def _page(lines: list[books.Line], shown: list[books.Line], *, by_hour: bool) -> str:
    whole = books.total(lines)
    columns = [name for name in books.COLUMNS if name in _ALWAYS or whole.counts[name]]
    beside = [
        name for name in columns if name in {"rejected", "replayed", "duplicates", "conflicts"}
    ]
    columns = [name for name in columns if name not in beside]
    heads = [*(["hour"] if by_hour else []), "source", "type", *columns, "waiting", "balance"]
    rows = []
    for line in shown if by_hour else _by_names(shown):
        rows.append(
            [*([_hour(line.hour)] if by_hour else []), *_names(line), *_cells(line, columns)]
        )
        rows[-1] += [str(line.counts[name]) for name in beside]
    blank = ["", ""] if by_hour else [""]
    rows.append([*blank, "all hours", *_cells(whole, columns)])
    rows[-1] += [str(whole.counts[name]) for name in beside]
    parts = [table([*heads, *beside], rows)]
    parts += _rules("dropped by", whole.dropped_by) + _rules("rejected", whole.rejected_for)
    return "\n".join(parts)


def _cells(line: books.Line, columns: list[str]) -> list[str]:
    return [*(str(line.counts[name]) for name in columns), str(line.waiting), str(line.balance)]


def _by_names(lines: list[books.Line]) -> list[books.Line]:
    groups: dict[books.Names, list[books.Line]] = {}
    for line in lines:
        groups.setdefault((line.source, line.type), []).append(line)
    summed = []
    for (source, kind), group in sorted(groups.items()):
        one = books.total(group)
        one.source, one.type = source, kind
        summed.append(one)
    return summed


def _names(line: books.Line) -> list[str]:
    return [_shown(line.source), _shown(line.type)]


def _shown(text: str) -> str:
    """Printable whatever a sender chose as a name."""
    clean = printable(text)
    return (clean if len(clean) <= 40 else clean[:37] + "...") or "-"


def _rules(title: str, rules: dict[str, int]) -> list[str]:
    if not rules:
        return []
    rows = [f"  {count:>10}  {printable(rule)}" for rule, count in sorted(rules.items())]
    return ["", f"{title}:", *rows]


def _shown_rule(rule: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in rule)


def _hour(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%d %H:00")


def _as_json(line: books.Line) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if line.hour:
        told["hour"] = datetime.fromtimestamp(line.hour * 3600, UTC).strftime("%Y-%m-%dT%H:00:00Z")
        told |= {"source": line.source, "type": line.type}
    told |= line.counts | {"waiting": line.waiting, "balance": line.balance}
    return told | {"dropped_by": line.dropped_by, "rejected_for": line.rejected_for}
