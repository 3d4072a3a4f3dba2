"""`buffer`: look into a journal, check it, take events out of it, put some in, mend it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click

from openmeter_collector.cli.files import private_file
from openmeter_collector.cli.journal import (
    journal_of,
    journal_options,
    printable,
    shown_time,
)
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stat(journal: Path | None, config_file: Path | None, env_files: Envs, as_json: bool) -> int:
    """Print what the journal holds, in numbers."""
    path = journal_of(journal, config_file, env_files)
    with reading(path) as connection:
        found = tools.statistics(connection, path)
    if as_json:
        click.echo(json.dumps(found))
        return 0
    for name, value in found.items():
        shown = value
        if name == "oldest_ms":
            shown = "-" if value is None else shown_time(value)
        elif isinstance(value, list):
            shown = ", ".join(value) or "-"
        click.echo(f"{name.removesuffix('_ms'):<18} {'-' if shown is None else shown}")
    return 0


@buffer.command()
@journal_options
def verify(journal: Path | None, config_file: Path | None, env_files: Envs) -> int:
    """Check the file, every stored event and the books; end with 1 if something is wrong."""
    with reading(journal_of(journal, config_file, env_files)) as connection:
        problems = tools.verify(connection)
    for problem in problems:
        click.echo(printable(problem))
    if not problems:
        click.echo("whole: the file, every stored event, the books")
    return int(bool(problems))


@buffer.command()
@journal_options
@click.option("--limit", default=0, help="Stop after so many events; 0: all.")
def dump(journal: Path | None, config_file: Path | None, env_files: Envs, limit: int) -> int:
    """Print the events that wait, as they are, one a line."""
    with reading(journal_of(journal, config_file, env_files)) as connection:
        reader = tools.Reader(connection)
        for number, held in enumerate(reader.events(), 1):
            sys.stdout.buffer.write(held.message.content.replace(b"\n", b" ") + b"\n")
            if number == limit:
                break
    return _say_damaged(reader)


@buffer.command()
@journal_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file; else standard output."
)
def export(
    journal: Path | None, config_file: Path | None, env_files: Envs, output: Path | None
) -> int:
    """Write the events that wait as JSON, with their metadata and times, for `buffer import`.

    They stay where they are: import them elsewhere only if this journal will not deliver them.
    """
    count = 0
    with reading(journal_of(journal, config_file, env_files)) as connection, ExitStack() as stack:
        stream = sys.stdout.buffer if output is None else stack.enter_context(private_file(output))
        reader = tools.Reader(connection)
        for held in reader.events():
            stream.write(tools.exported(held) + b"\n")
            count += 1
        stream.flush()
    click.echo(f"{count} events written", err=True)
    return _say_damaged(reader)


@buffer.command("import")
@journal_options
@click.argument("file", type=click.Path(path_type=Path))
def import_(journal: Path | None, config_file: Path | None, env_files: Envs, file: Path) -> int:
    """Put the events of an export into the journal; `-` reads standard input.

    They count as received in the hour in which they were received first, and keep their ids.
    """
    now_ms = time.time_ns() // 1_000_000
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
        connection = stack.enter_context(changing(journal_of(journal, config_file, env_files)))
        done = tools.put_in(connection, _lines(stream, now_ms))
    click.echo(f"{done} events put in", err=True)
    return 0


@buffer.command()
@journal_options
def repair(journal: Path | None, config_file: Path | None, env_files: Envs) -> int:
    """Save what can be read into a new file and set the old one aside."""
    path = _there(journal_of(journal, config_file, env_files))
    report = tools.repair(path)
    click.echo(
        f"saved {report.events} events, {report.dead_letters} dead letters and "
        f"{report.checkpoints} checkpoints; {report.lost_events} events are lost "
        f"({report.lost_frames} frames cannot be read); the old file is {report.path}"
    )
    return 0


@buffer.command()
@journal_options
def compact(journal: Path | None, config_file: Path | None, env_files: Envs) -> int:
    """Write the file anew without its free space."""
    before, after = tools.compact(_there(journal_of(journal, config_file, env_files)))
    click.echo(f"{before} bytes before, {after} now")
    return 0


def _there(path: Path) -> Path:
    if not path.exists():
        raise ConfigError(f"{path}: no such file; give the path that buffer.sqlite.path has")
    return path


def _lines(stream: IO[bytes], now_ms: int) -> Iterator[tuple[int, Message]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield tools.imported(line, number, now_ms)


def _say_damaged(reader: tools.Reader) -> int:
    for text in reader.damaged:
        click.echo(f"cannot be read: {text}", err=True)
    return int(bool(reader.damaged))
