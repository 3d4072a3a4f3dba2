"""Which dead letters a command is about: of one journal or of several, by name or by what they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from openmeter_collector.cli.journal import JournalFile, journal_options, journals_of, time_of
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.storage.dead_letters import Letter, Wanted, find_letters
from openmeter_collector.storage.visit import reading

Name = tuple[int, int]
"""Which worker's, and its number there."""


class _LetterName(click.ParamType[Name]):
    """`17`, or `1:17` for letter 17 in the journal of worker 1."""

    name = "letter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Name:
        """From what was typed."""
        worker, _, number = str(value).rpartition(":")
        if not number.isdecimal() or not (worker or "0").isdecimal():
            self.fail(
                f"{value!r} is no letter; write its number, as `dlq list` shows it", param, ctx
            )
        return int(worker or 0), int(number)


_FILTERS: Final = (
    click.argument("letters", nargs=-1, type=_LetterName()),
    click.option("--id", "event_id", help="Events of this id."),
    click.option("--source", help="Events of this source."),
    click.option("--type", "kind", help="Events of this type."),
    click.option("--subject", help="Events of this subject."),
    click.option("--reason", help="Letters with this text in the reason or the response."),
    click.option("--since", help="Last attempt at this time or later."),
    click.option("--until", help="Last attempt before this time."),
)


@dataclass(frozen=True, slots=True)
class Box:
    """A journal, and which of its letters were asked for."""

    path: Path
    worker: int
    wanted: Wanted

    def named(self, letter: Letter | int) -> str:
        """A letter as it is called on the command line."""
        number = letter if isinstance(letter, int) else letter.id
        return f"{self.worker}:{number}" if self.worker else str(number)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which journals and which of their letters were named.

    Attributes:
        boxes: journals in which letters are looked for.
        letters: that were named one by one.
        everything: nothing was asked for in particular.
    """

    boxes: Sequence[Box]
    letters: Sequence[Name]
    everything: bool

    @classmethod
    def of(cls, journals: Sequence[JournalFile], letters: Sequence[Name], wanted: Wanted) -> Asked:
        """From the command line.

        Raises:
            ConfigError: a letter of a worker that is not there was named.
        """
        there = {one.worker for one in journals}
        if unknown := sorted({worker for worker, _ in letters} - there):
            raise ConfigError(
                f"there is no journal of worker {unknown[0]} here; see `dlq list` for what there is"
            )
        boxes = []
        for one in journals:
            numbers = tuple(number for worker, number in letters if worker == one.worker)
            if numbers or not letters:
                boxes.append(Box(one.path, one.worker, replace(wanted, letters=numbers)))
        return cls(boxes, letters, not letters and wanted.everything)


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options for the journal and the filters; it gets an `Asked`."""

    def run(
        journal: Path | None,
        config_file: Path | None,
        env_files: tuple[Path, ...],
        letters: tuple[Name, ...],
        event_id: str | None,
        source: str | None,
        kind: str | None,
        subject: str | None,
        reason: str | None,
        since: str | None,
        until: str | None,
        **more: Any,
    ) -> Any:
        wanted = Wanted(
            (), event_id, source, kind, subject, reason,
            time_of(since, "--since"), time_of(until, "--until"),
        )  # fmt: skip
        return command(
            Asked.of(journals_of(journal, config_file, env_files), letters, wanted), **more
        )

    functools.update_wrapper(run, command)  # with the options it has already
    for option in reversed(_FILTERS):
        run = option(run)
    return journal_options(run)


def found(asked: Asked) -> Iterator[tuple[Box, Letter]]:
    """All letters that are meant, with the journal each is in."""
    for box in asked.boxes:
        with reading(box.path) as connection:
            for letter in find_letters(connection, box.wanted):
                yield box, letter


def check_that_all_are_there(asked: Asked) -> None:
    """A number that was typed wrong, or a letter that is gone, must not look like success.

    Raises:
        CollectorError: a number is that of no letter; a filter that finds none is no mistake.
    """
    gone: list[str] = []
    for box in asked.boxes if asked.letters else ():
        with reading(box.path) as connection:
            present = {one.id for one in find_letters(connection, Wanted(box.wanted.letters))}
        gone += [box.named(number) for number in sorted(set(box.wanted.letters) - present)]
    if gone:
        raise CollectorError(
            f"there is no letter {', '.join(gone)}; nothing was done, see `dlq list`"
        )
