"""`buffer`: look into a journal, check it, take events out of it, put some in, mend it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import click

from openmeter_collector.cli.files import private_file
from openmeter_collector.cli.journal import (
    JournalFile,
    journal_of,
    journal_options,
    journals_of,
    printable,
    say,
    shown_time,
)
from openmeter_collector.cli.options import json_option
from openmeter_collector.cli.progress import progress
from openmeter_collector.errors import ConfigError
from openmeter_collector.message import Message
from openmeter_collector.storage import tools
from openmeter_collector.storage.visit import changing, reading

Envs = tuple[Path, ...]


@click.group()
def buffer() -> None:
    """Look into the file of the sqlite buffer, check it, take events out and put them in.

    stat, verify, dump and export only read, beside a running collector or without one. import works
    in both cases, too; repair and compact need the collector to be stopped.
    """


@buffer.command()
@journal_options
@json_option
def stat(journal: Path | None, config_file: Path | None, env_files: Envs, as_json: bool) -> int:
    r"""Print what the journal holds, in numbers.

    \b
    Examples:
      openmeter-collector buffer stat -c config.yaml
      openmeter-collector buffer stat -j /data/buffer.db --json
    """
    for number, one in enumerate(journals_of(journal, config_file, env_files)):
        with reading(one.path) as connection:
            found = tools.statistics(connection, one.path)
        if as_json:
            click.echo(json.dumps(found))
            continue
        if number:
            click.echo()
        _print_numbers(found)
    return 0


def _print_numbers(found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        shown = value
        if name == "oldest_ms":
            shown = "-" if value is None else shown_time(value)
        elif isinstance(value, list):
            shown = ", ".join(value) or "-"
        click.echo(f"{name.removesuffix('_ms'):<18} {'-' if shown is None else shown}")


@buffer.command()
@journal_options
@json_option
def verify(journal: Path | None, config_file: Path | None, env_files: Envs, as_json: bool) -> int:
    r"""Check the file, every stored event and the books; end with 1 if something is wrong.

    \b
    Exit codes:
      1  something is wrong; it is printed

    \b
    Examples:
      openmeter-collector buffer verify -c config.yaml
    """
    journals = journals_of(journal, config_file, env_files)
    wrong = False
    for one in journals:
        with progress("events looked at", silent=as_json) as told, reading(one.path) as connection:
            problems = tools.verify(connection, told)
        wrong = wrong or bool(problems)
        if as_json:
            facts = {"path": str(one.path), "whole": not problems, "problems": problems}
            click.echo(json.dumps(facts))
            continue
        where = f"{one.path}: " if len(journals) > 1 else ""
        for problem in problems or ["whole: the file, every stored event, the books"]:
            click.echo(printable(f"{where}{problem}"))
    return int(wrong)


@buffer.command()
@journal_options
@click.option("--limit", default=0, help="Stop after so many events; 0: all.")
def dump(journal: Path | None, config_file: Path | None, env_files: Envs, limit: int) -> int:
    r"""Print the events that wait, as they are, one a line.

    \b
    Exit codes:
      1  some events cannot be read; the others are printed

    \b
    Examples:
      openmeter-collector buffer dump -c config.yaml --limit 10
    """
    damaged: list[str] = []
    waiting = _waiting(journals_of(journal, config_file, env_files), damaged)
    for number, held in enumerate(waiting, 1):
        sys.stdout.buffer.write(held.message.content.replace(b"\n", b" ") + b"\n")
        if number == limit:
            break
    return _say_damaged(damaged)


@buffer.command()
@journal_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file; else standard output."
)
def export(
    journal: Path | None, config_file: Path | None, env_files: Envs, output: Path | None
) -> int:
    r"""Write the events that wait as JSON, with their metadata and times, for `buffer import`.

    They stay where they are: import them elsewhere only if this journal will not deliver them.

    \b
    Exit codes:
      1  some events cannot be read; the others are written

    \b
    Examples:
      openmeter-collector buffer export -c config.yaml -o events.jsonl
    """
    count = 0
    damaged: list[str] = []
    journals = journals_of(journal, config_file, env_files)
    with ExitStack() as stack:
        stream = sys.stdout.buffer if output is None else stack.enter_context(private_file(output))
        told = stack.enter_context(progress("events written", _count_waiting(journals)))
        for held in _waiting(journals, damaged):
            stream.write(tools.exported(held) + b"\n")
            count += 1
            told(1)
        stream.flush()
    click.echo(f"{count} events written", err=True)
    return _say_damaged(damaged)


@buffer.command("import")
@journal_options
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def import_(
    journal: Path | None, config_file: Path | None, env_files: Envs, file: Path, as_json: bool
) -> int:
    r"""Put the events of an export into the journal; `-` reads standard input.

    They count as received in the hour in which they were received first, and keep their ids. With
    workers it is the journal of worker 0, unless -j names another.

    \b
    Examples:
      openmeter-collector buffer import -c config.yaml events.jsonl
      openmeter-collector buffer import -j /data/buffer.db -
    """
    now_ms = time.time_ns() // 1_000_000
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
        connection = stack.enter_context(changing(journal_of(journal, config_file, env_files)))
        told = stack.enter_context(progress("events put in", silent=as_json))
        done = tools.put_in(connection, _told_of(_lines(stream, now_ms), told))
    say(f"{done} events put in", {"imported": done}, as_json=as_json)
    return 0


@buffer.command()
@journal_options
@json_option
def repair(journal: Path | None, config_file: Path | None, env_files: Envs, as_json: bool) -> int:
    r"""Save what can be read into a new file and set the old one aside.

    \b
    Files:
      buffer.db.damaged-TIME  the old file, set aside

    \b
    Examples:
      openmeter-collector buffer repair -j /data/buffer.db
    """
    for path in _there(journals_of(journal, config_file, env_files)):
        with progress("events saved", silent=as_json) as told:
            report = tools.repair(path, told)
        if as_json:
            facts = asdict(report) | {"path": str(path), "set_aside": str(report.path)}
            click.echo(json.dumps(facts))
            continue
        click.echo(
            f"saved {report.events} events, {report.dead_letters} dead letters and "
            f"{report.checkpoints} checkpoints; {report.lost_events} events are lost "
            f"({report.lost_frames} frames cannot be read); the old file is {report.path}"
        )
    return 0


@buffer.command()
@journal_options
@json_option
def compact(journal: Path | None, config_file: Path | None, env_files: Envs, as_json: bool) -> int:
    r"""Write the file anew without its free space.

    \b
    Examples:
      openmeter-collector buffer compact -j /data/buffer.db
    """
    for path in _there(journals_of(journal, config_file, env_files)):
        before, after = tools.compact(path)
        if as_json:
            facts = {"path": str(path), "bytes_before": before, "bytes_now": after}
            click.echo(json.dumps(facts))
        else:
            click.echo(f"{before} bytes before, {after} now")
    return 0


def _there(journals: Sequence[JournalFile]) -> Sequence[Path]:
    for one in journals:
        if not one.path.exists():
            raise ConfigError(
                f"{one.path}: no such file; give the path that buffer.sqlite.path has"
            )
    return [one.path for one in journals]


def _waiting(journals: Sequence[JournalFile], damaged: list[str]) -> Iterator[tools.Held]:
    """What waits in all of them; `damaged` gets what cannot be read."""
    for one in journals:
        with reading(one.path) as connection:
            reader = tools.Reader(connection)
            yield from reader.events()
        where = f"{one.path}: " if len(journals) > 1 else ""
        damaged += [f"{where}{text}" for text in reader.damaged]


def _count_waiting(journals: Sequence[JournalFile]) -> int:
    """About how many there are: frames count whole."""
    count = 0
    for one in journals:
        with reading(one.path) as connection:
            found = tools.statistics(connection, one.path)
        count += int(found["events"]) + int(found["put_back"])
    return count


def _told_of(
    events: Iterator[tuple[int, Message]], told: Callable[[int], None]
) -> Iterator[tuple[int, Message]]:
    for one in events:
        yield one
        told(1)


def _lines(stream: IO[bytes], now_ms: int) -> Iterator[tuple[int, Message]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield tools.imported(line, number, now_ms)


def _say_damaged(damaged: Sequence[str]) -> int:
    for text in damaged:
        click.echo(f"cannot be read: {text}", err=True)
    return int(bool(damaged))
