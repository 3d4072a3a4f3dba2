"""What the commands share that look into a journal: which file is meant."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from openmeter_collector.cli.files import environment
from openmeter_collector.cli.options import env_file_option
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.cli.roll import Roll, numbered
from openmeter_collector.component.node import Node
from openmeter_collector.config import Config, read
from openmeter_collector.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "-j",
        "--journal",
        type=click.Path(path_type=Path),
        help="The file of the sqlite buffer, alone. Without it, all that the config of -c has.",
    ),
    click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config."),
    env_file_option,
)


def journal_options(command: F) -> F:
    """Give a command the options that say which journal is meant."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def config_of(config_file: Path, env_files: tuple[Path, ...]) -> Config:
    """A config that is looked into, without being run.

    Raises:
        ConfigError: it has faults.
    """
    reading = read(
        config_file, standard_registry(), Config, env=environment(env_files), chilled=True
    )
    return reading.or_raise()


def journal_of(journal: Path | None, config_file: Path | None, env_files: tuple[Path, ...]) -> Path:
    """The journal's file.

    Raises:
        ConfigError: nothing says which.
    """
    if journal is not None:
        return journal
    if config_file is None:
        raise ConfigError("no journal was named; give its file with -j FILE, or a config with -c")
    path = sqlite_path(config_of(config_file, env_files).buffer)
    if path is None:
        raise ConfigError(f"{config_file}: has no sqlite buffer; name a journal with -j FILE")
    return path


@dataclass(frozen=True, slots=True)
class JournalFile:
    """A journal, and the worker it belongs to; worker 0 is that of a collector with one process."""

    path: Path
    worker: int = 0


def journals_of(
    journal: Path | None, config_file: Path | None, env_files: tuple[Path, ...]
) -> list[JournalFile]:
    """All journals of a config, those of its workers included; or the one that was named.

    Raises:
        ConfigError: nothing says which.
        StorageError: it is not known how many workers there were.
    """
    first = journal_of(journal, config_file, env_files)
    found = [JournalFile(first)]
    if journal is None:
        for worker in range(1, Roll.beside(first).read()):
            path = numbered(first, worker)
            if path.exists():  # one that never came to life has left none
                found.append(JournalFile(path, worker))
    return found


def sqlite_path(buffer: Node | None) -> Path | None:
    """The file of a buffer; None when it keeps none."""
    if buffer is None or buffer.name != "sqlite":
        return None
    return Path.cwd() / str(getattr(buffer.config, "path"))  # noqa: B009 - a config of any component


def time_of(text: str | None, option: str) -> float | None:
    """A time that was given on the command line, Unix seconds.

    Raises:
        ConfigError: it is no RFC 3339 time.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{option}: {text!r} is not a time; write one such as 2026-02-01T16:41:37Z or 2026-02-01"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def say(text: str, facts: Mapping[str, Any], *, as_json: bool) -> None:
    """What was done: for people on standard error, for programs as JSON on standard output."""
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(text, err=True)


def shown_time(unix_ms: float) -> str:
    """A time as people read it, UTC, to the second."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """Text that a terminal may be shown, whatever a stranger chose as a name or an answer."""
    return "".join(one if one.isprintable() else "?" for one in text)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Rows below heads; columns whose cells are all numbers stand to the right."""
    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    right = [
        bool(rows) and all(row[at].lstrip("-").isdigit() or row[at] == "" for row in rows)
        for at in range(len(heads))
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [heads, *rows]
    )
