"""`dlq`: look at dead letters, take them out, mend them, put them back, or let them go."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import click
import msgspec

from openmeter_collector.bloblang import DELETED, NOTHING, MappingError, MappingFailed, compile  # noqa: A004
from openmeter_collector.cli.files import private_file
from openmeter_collector.cli.journal import printable, say, shown_time, table
from openmeter_collector.cli.letters import Asked, Box, asking, check_that_all_are_there, found
from openmeter_collector.cli.options import json_option
from openmeter_collector.cli.progress import progress
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.message import Message
from openmeter_collector.storage import letter_box
from openmeter_collector.storage.dead_letters import Letter, find_letters, read_letter
from openmeter_collector.storage.visit import changing
from openmeter_collector.values import json as value_json
from openmeter_collector.values.units import Duration

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
@json_option
def list_(asked: Asked, limit: int, as_json: bool) -> int:
    r"""Print a line for each letter.

    \b
    Examples:
      openmeter-collector dlq list -c config.yaml
      openmeter-collector dlq list -c config.yaml --type request --since 2026-02-01 --json
    """
    listed = list(found(asked))
    if len(asked.boxes) > 1:
        listed.sort(key=lambda one: one[1].last_attempt_ms)
    shown = listed[-limit:] if limit else listed
    if as_json:
        for box, letter in shown:
            click.echo(json.dumps(_facts(box, letter)))
        return 0
    if not shown:
        click.echo("no dead letters")
        return 0
    rows = [
        [
            box.named(letter),
            shown_time(letter.last_attempt_ms),
            *(_short(name) for name in (letter.event_id, letter.event_type, letter.event_subject)),
            str(letter.attempts),
            _short(letter.reason, 60),
        ]
        for box, letter in shown
    ]
    heads = ["letter", "last attempt", "id", "type", "subject", "attempts", "reason"]
    click.echo(table(heads, rows))
    if len(shown) < len(listed):
        click.echo(f"and {len(listed) - len(shown)} older ones; see --limit")
    return 0


@dlq.command()
@asking
@json_option
def show(asked: Asked, as_json: bool) -> int:
    r"""Print all that is known about letters, with the exact event.

    \b
    Examples:
      openmeter-collector dlq show -c config.yaml 17
      openmeter-collector dlq show -c config.yaml 1:17 --json
    """
    _ask_for_some(asked, every=False)
    check_that_all_are_there(asked)
    for box, letter in found(asked):
        facts = _facts(box, letter)
        if as_json:
            click.echo(json.dumps(facts))
            continue
        for name, value in (facts | {"letter": box.named(letter)}).items():
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
    r"""Write letters as JSON, one a line, with the exact bytes of their events.

    \b
    Examples:
      openmeter-collector dlq export -c config.yaml -o letters.jsonl
      openmeter-collector dlq export -c config.yaml --reason "no such meter"
    """
    stream = sys.stdout.buffer if output is None else private_file(output)
    count = 0
    with progress("letters written") as told:
        for box, letter in found(asked):
            stream.write(json.dumps(_facts(box, letter)).encode() + b"\n")
            count += 1
            told(1)
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
@json_option
def edit(
    asked: Asked,
    every: bool,
    mapping: str | None,
    file: Path | None,
    and_replay: bool,
    as_json: bool,
) -> int:
    r"""Change the events of letters, with a mapping or in $EDITOR.

    The event as it came is kept beside the new one, and `dlq show` shows both.

    \b
    Environment:
      EDITOR, VISUAL  the editor, without a mapping

    \b
    Examples:
      openmeter-collector dlq edit -c config.yaml --reason 'no such meter' -m 'root.type = "requests"' --replay
      openmeter-collector dlq edit -c config.yaml 17
    """
    _ask_for_some(asked, every=every)
    changed_by = _mapped(mapping, file) if mapping or file else _edited
    check_that_all_are_there(asked)
    done = 0
    left: list[str] = []
    for box in asked.boxes:
        with changing(box.path) as connection:
            changed = _change(connection, box, changed_by, left)
            if and_replay:
                letter_box.replay(connection, changed)
        done += len(changed)
    for name in left:
        if not as_json:
            click.echo(f"letter {name}: was changed by somebody else; left as it is", err=True)
    say(
        f"{done} letters changed{' and put back' if and_replay else ''}",
        {"changed": done, "replayed": done if and_replay else 0, "left": left},
        as_json=as_json,
    )
    return 0


def _change(
    connection: apsw.Connection,
    box: Box,
    changed_by: Callable[[Letter], bytes | None],
    left: list[str],
) -> list[int]:
    changed: list[int] = []
    for number in [letter.id for letter in find_letters(connection, box.wanted)]:
        letter = read_letter(connection, number)
        content = changed_by(letter) if letter is not None else None
        if letter is None or content is None or content == letter.event.content:
            continue
        if letter_box.edit(connection, letter, content):
            changed.append(number)
        else:
            left.append(box.named(number))
    return changed


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
@json_option
def replay(asked: Asked, every: bool, new_ids: bool, dedupe_window: str, as_json: bool) -> int:
    r"""Put letters back to be delivered, with the ids they have.

    \b
    Examples:
      openmeter-collector dlq replay -c config.yaml 17 18
      openmeter-collector dlq replay -c config.yaml --all
    """
    _ask_for_some(asked, every=every)
    oldest = (time.time() - float(_duration(dedupe_window))) * 1000
    check_that_all_are_there(asked)
    numbers: dict[Box, list[int]] = {box: [] for box in asked.boxes}
    beyond: list[str] = []
    for box, letter in found(asked):
        numbers[box].append(letter.id)
        if letter.first_attempt_ms < oldest and not new_ids:
            beyond.append(box.named(letter))
    if beyond and not as_json:
        click.echo(
            f"warning: {len(beyond)} letters are older than the backend's dedupe window "
            f"({dedupe_window}), such as letter {beyond[0]}: should it have one of them after "
            "all, it counts that again",
            err=True,
        )
    renewed = _with_new_id if new_ids else None
    done = 0
    total = sum(map(len, numbers.values()))
    with progress("letters put back", total, silent=as_json) as told:
        for box, named in numbers.items():
            with changing(box.path) as connection:
                done += letter_box.replay(connection, named, renewed, told)
    facts = {"replayed": done, "beyond_dedupe_window": beyond}
    say(f"{done} letters put back", facts, as_json=as_json)
    return 0


@dlq.command()
@asking
@_all_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def drop(asked: Asked, every: bool, yes: bool, as_json: bool) -> int:
    r"""Let letters go for good. The books count them as dropped.

    \b
    Examples:
      openmeter-collector dlq drop -c config.yaml 17
      openmeter-collector dlq drop -c config.yaml --all --yes
    """
    _ask_for_some(asked, every=every)
    check_that_all_are_there(asked)
    numbers: dict[Box, list[int]] = {box: [] for box in asked.boxes}
    for box, letter in found(asked):
        numbers[box].append(letter.id)
    total = sum(map(len, numbers.values()))
    if total and not yes:
        click.confirm(f"Let {total} dead letters go for good?", abort=True, err=as_json)
    done = 0
    for box, named in numbers.items():
        with changing(box.path) as connection:
            done += letter_box.drop(connection, named)
    say(f"{done} letters dropped", {"dropped": done}, as_json=as_json)
    return 0


# ---- helpers ------------------------------------------------------------------------------------


def _ask_for_some(asked: Asked, *, every: bool) -> None:
    if asked.everything and not every:
        raise ConfigError("which letters? give their numbers, a filter such as --type, or --all")


def _facts(box: Box, letter: Letter) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "letter": letter.id,
        **({"worker": box.worker} if box.worker else {}),
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
