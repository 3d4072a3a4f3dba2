"""`dlq`: look at dead letters, take them out, mend them, put them back, or let them go."""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import click
import msgspec

from openmeter_collector.bloblang import DELETED, NOTHING, MappingError, MappingFailed, compile  # noqa: A004
from openmeter_collector.cli.files import private_file
from openmeter_collector.cli.journal import (
    journal_of,
    journal_options,
    printable,
    shown_time,
    table,
    time_of,
)
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.message import Message
from openmeter_collector.storage import letter_box
from openmeter_collector.storage.dead_letters import Letter, Wanted, find_letters, read_letter
from openmeter_collector.storage.visit import changing, reading
from openmeter_collector.values import json as value_json
from openmeter_collector.values.units import Duration

_FILTERS: Final = (
    click.argument("letters", nargs=-1, type=int),
    click.option("--id", "event_id", help="Events of this id."),
    click.option("--source", help="Events of this source."),
    click.option("--type", "kind", help="Events of this type."),
    click.option("--subject", help="Events of this subject."),
    click.option("--reason", help="Letters with this text in the reason or the response."),
    click.option("--since", help="Last attempt at this time or later."),
    click.option("--until", help="Last attempt before this time."),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which journal and which of its letters were named."""

    path: Path
    wanted: Wanted


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options for the journal and the filters; it gets an `Asked`."""

    def run(
        journal: Path | None,
        config_file: Path | None,
        env_files: tuple[Path, ...],
        letters: tuple[int, ...],
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
            letters, event_id, source, kind, subject, reason,
            time_of(since, "--since"), time_of(until, "--until"),
        )  # fmt: skip
        return command(Asked(journal_of(journal, config_file, env_files), wanted), **more)

    functools.update_wrapper(run, command)  # with the options it has already
    for option in reversed(_FILTERS):
        run = option(run)
    return journal_options(run)


_all_option = click.option("--all", "every", is_flag=True, help="All letters there are.")


@click.group()
def dlq() -> None:
    """Look at dead letters, mend them, put them back, or let them go.

    Events that the destination refused for good are kept in the journal. All of this works beside a
    running collector, which takes up what is put back within a second, and without one, when the next
    start does. Letters are named by their numbers or by filters; all that are given have to match.
    """


@dlq.command("list")
@asking
@click.option("--limit", default=100, show_default=True, help="Newest letters shown; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(asked: Asked, limit: int, as_json: bool) -> int:
    """Print a line for each letter."""
    with reading(asked.path) as connection:
        found = list(find_letters(connection, asked.wanted))
    shown = found[-limit:] if limit else found
    if as_json:
        for letter in shown:
            click.echo(json.dumps(_facts(letter)))
        return 0
    if not shown:
        click.echo("no dead letters")
        return 0
    rows = [
        [
            str(letter.id),
            shown_time(letter.last_attempt_ms),
            *(_short(name) for name in (letter.event_id, letter.event_type, letter.event_subject)),
            str(letter.attempts),
            _short(letter.reason, 60),
        ]
        for letter in shown
    ]
    heads = ["letter", "last attempt", "id", "type", "subject", "attempts", "reason"]
    click.echo(table(heads, rows))
    if len(shown) < len(found):
        click.echo(f"and {len(found) - len(shown)} older ones; see --limit")
    return 0


@dlq.command()
@asking
def show(asked: Asked) -> int:
    """Print all that is known about letters, with the exact event."""
    _ask_for_some(asked, every=False)
    with reading(asked.path) as connection:
        _check_that_all_are_there(connection, asked)
        for letter in find_letters(connection, asked.wanted):
            for name, value in _facts(letter).items():
                if value:
                    text = value if isinstance(value, str) else json.dumps(value)
                    click.echo(f"{name:<14} {printable(text)}")
            click.echo()
    return 0


@dlq.command()
@asking
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file; else standard output."
)
def export(asked: Asked, output: Path | None) -> int:
    """Write letters as JSON, one a line, with the exact bytes of their events."""
    stream = sys.stdout.buffer if output is None else private_file(output)
    count = 0
    with reading(asked.path) as connection:
        for letter in find_letters(connection, asked.wanted):
            stream.write(json.dumps(_facts(letter)).encode() + b"\n")
            count += 1
    stream.flush()
    if output is not None:
        stream.close()
    click.echo(f"{count} letters written", err=True)
    return 0


@dlq.command()
@asking
@_all_option
@click.option(
    "-m", "--mapping", help="A mapping that changes the event; what it does not assign stays."
)
@click.option("-f", "--file", "file", type=click.Path(path_type=Path), help="A file with one.")
@click.option("--replay", "and_replay", is_flag=True, help="Put back what was changed.")
def edit(
    asked: Asked, every: bool, mapping: str | None, file: Path | None, and_replay: bool
) -> int:
    """Change the events of letters, with a mapping or in $EDITOR.

    The event as it came is kept beside the new one, and `dlq show` shows both.
    """
    _ask_for_some(asked, every=every)
    changed_by = _mapped(mapping, file) if mapping or file else _edited
    changed: list[int] = []
    with changing(asked.path) as connection:
        _check_that_all_are_there(connection, asked)
        for number in [letter.id for letter in find_letters(connection, asked.wanted)]:
            letter = read_letter(connection, number)
            content = changed_by(letter) if letter is not None else None
            if letter is None or content is None or content == letter.event.content:
                continue
            if letter_box.edit(connection, letter, content):
                changed.append(number)
            else:
                click.echo(
                    f"letter {number}: was changed by somebody else; left as it is", err=True
                )
        if and_replay:
            letter_box.replay(connection, changed)
    click.echo(f"{len(changed)} letters changed{' and put back' if and_replay else ''}", err=True)
    return 0


@dlq.command()
@asking
@_all_option
@click.option(
    "--new-ids", is_flag=True, help="Give each event a new id: the backend counts it anew."
)
@click.option(
    "--dedupe-window",
    default="768h",
    show_default=True,
    help="How long the backend remembers ids; older letters are warned about.",
)
def replay(asked: Asked, every: bool, new_ids: bool, dedupe_window: str) -> int:
    """Put letters back to be delivered, with the ids they have."""
    _ask_for_some(asked, every=every)
    oldest = (time.time() - float(_duration(dedupe_window))) * 1000
    with changing(asked.path) as connection:
        _check_that_all_are_there(connection, asked)
        found = [
            (letter.id, letter.first_attempt_ms)
            for letter in find_letters(connection, asked.wanted)
        ]
        beyond = [number for number, first in found if first < oldest]
        if beyond and not new_ids:
            click.echo(
                f"warning: {len(beyond)} letters are older than the backend's dedupe window "
                f"({dedupe_window}), such as letter {beyond[0]}: should it have one of them after "
                "all, it counts that again",
                err=True,
            )
        renewed = _with_new_id if new_ids else None
        done = letter_box.replay(connection, [number for number, _ in found], renewed)
    click.echo(f"{done} letters put back", err=True)
    return 0


@dlq.command()
@asking
@_all_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(asked: Asked, every: bool, yes: bool) -> int:
    """Let letters go for good. The books count them as dropped."""
    _ask_for_some(asked, every=every)
    with changing(asked.path) as connection:
        _check_that_all_are_there(connection, asked)
        found = [letter.id for letter in find_letters(connection, asked.wanted)]
        if found and not yes:
            click.confirm(f"Let {len(found)} dead letters go for good?", abort=True)
        done = letter_box.drop(connection, found)
    click.echo(f"{done} letters dropped", err=True)
    return 0


# ---- helpers ------------------------------------------------------------------------------------


def _ask_for_some(asked: Asked, *, every: bool) -> None:
    if asked.wanted.everything and not every:
        raise ConfigError("which letters? give their numbers, a filter such as --type, or --all")


def _check_that_all_are_there(connection: apsw.Connection, asked: Asked) -> None:
    """A number that was typed wrong, or a letter that is gone, must not look like success.

    Raises:
        CollectorError: a number is that of no letter; a filter that finds none is no mistake.
    """
    present = {letter.id for letter in find_letters(connection, Wanted(asked.wanted.letters))}
    gone = sorted(set(asked.wanted.letters) - present)
    if asked.wanted.letters and gone:
        raise CollectorError(
            f"there is no letter {', '.join(map(str, gone))}; nothing was done, see `dlq list`"
        )


def _facts(letter: Letter) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "letter": letter.id,
        "id": letter.event_id,
        "source": letter.event_source,
        "type": letter.event_type,
        "subject": letter.event_subject,
        "reason": letter.reason,
        "response": letter.response,
        "output": letter.output,
        "attempts": letter.attempts,
        "first_attempt": shown_time(letter.first_attempt_ms),
        "last_attempt": shown_time(letter.last_attempt_ms),
        "received": shown_time(letter.received_ms),
        "metadata": {key: str(value) for key, value in letter.event.metadata.items()},
    }
    for name, content in (
        ("event", letter.event.content),
        ("refused_as", letter.content if letter.stored is not None else None),
        ("before_edit", letter.original),
    ):
        if content is not None:
            facts |= _bytes(name, content)
    return facts


def _bytes(name: str, content: bytes) -> dict[str, str]:
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


def _short(text: str | None, most: int = 36) -> str:
    clean = printable(text or "-")
    return clean if len(clean) <= most else clean[: most - 3] + "..."


def _duration(text: str) -> Duration:
    try:
        return Duration(text)
    except ValueError as error:
        raise ConfigError(f"--dedupe-window: {error}") from None


def _with_new_id(message: Message) -> Message:
    fields = msgspec.json.decode(message.content, type=dict[str, msgspec.Raw])
    fields["id"] = msgspec.Raw(msgspec.json.encode(str(uuid.uuid4())))
    return message.with_content(msgspec.json.encode(fields))


def _mapped(text: str | None, file: Path | None) -> Callable[[Letter], bytes | None]:
    """What a mapping makes of a letter's event; the first that fails ends all, nothing is half done."""
    if text and file:
        raise ConfigError("give a mapping or a file with one, not both")
    try:
        source = text if text is not None else file.read_text() if file else ""
        mapping = compile(source, name=str(file or ""))
    except OSError as error:
        raise ConfigError(f"cannot read the mapping: {error}") from None
    except MappingError as error:
        raise ConfigError(f"failed to parse mapping: {error.rendered()}") from None

    def run(letter: Letter) -> bytes | None:
        try:
            # As in the processor `mutation`: who writes `root.type = "x"` wants to keep the rest.
            body, _ = mapping.mutate([letter.event], 0)
            if body is DELETED:
                raise CollectorError("the mapping deletes it; use `dlq drop` for that")
            if body is NOTHING:
                return None
            return body if isinstance(body, bytes) else value_json.dumps(body)
        except (MappingFailed, ValueError) as error:
            raise CollectorError(
                f"letter {letter.id}: {error}; it and those after it are as they were"
            ) from None

    return run


def _edited(letter: Letter) -> bytes | None:
    """What a person makes of a letter's event in an editor."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise ConfigError("no editor is known; set EDITOR, or give a mapping with -m")
    with tempfile.TemporaryDirectory(prefix="letter-") as folder:
        path = Path(folder) / f"letter-{letter.id}.json"
        with private_file(path) as stream:
            stream.write(letter.event.content)
        done = subprocess.run([*editor.split(), str(path)], check=False)
        if done.returncode:
            raise CollectorError(
                f"letter {letter.id}: the editor ended with {done.returncode}; nothing was changed"
            )
        content = path.read_bytes()
    if content.endswith(b"\n") and not letter.event.content.endswith(b"\n"):
        content = content[:-1]  # editors add one
    return content
