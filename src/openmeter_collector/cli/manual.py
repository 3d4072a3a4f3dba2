r"""What is known of a command besides its options: parsed from its docstring, shown by `--help` and `man`.

A docstring has a summary, paragraphs, and sections of lines that stand as they are:

    \b
    Examples:
      openmeter-collector ledger -c config.yaml

    \b
    Exit codes:
      1  the books do not balance

What follows from the options is added here, so that no command says it by itself.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import click

PROGRAM: Final = "openmeter-collector"
EXAMPLES: Final = "Examples"
EXIT_CODES: Final = "Exit codes"
ENVIRONMENT: Final = "Environment"
FILES: Final = "Files"
_ORDER: Final = (EXIT_CODES, ENVIRONMENT, FILES, EXAMPLES)
_AS_IS: Final = "\b\n"
_ALWAYS: Final = {
    "0": "done",
    "1": "it could not be done; standard error says why",
    "2": "the command line is wrong",
}
_CREDENTIALS: Final = (
    "OPENMETER_COLLECTOR_PASSWORD  password for --user",
    "OPENMETER_COLLECTOR_TOKEN     bearer token, without --user",
)
_CONFIG_VARIABLES: Final = "NAME  what ${NAME} in a config stands for; -e reads more from files"
_JOURNALS: Final = (
    "buffer.db          the journal, where buffer.sqlite.path says",
    "buffer.1.db        that of worker 1, beside it, and so on",
    "buffer.db.workers  how many workers there were",
)


@dataclass(slots=True)
class Manual:
    r"""What is said of one command.

    Attributes:
        summary: the first paragraph, as one line.
        description: paragraphs after it; those that begin with `\b` and a line break stand as they are.
        sections: lines below a title.
    """

    summary: str = ""
    description: list[str] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)


def manual_of(command: click.Command) -> Manual:
    """Parse the docstring and add what the options say."""
    made = Manual()
    for paragraph in _paragraphs(command.help or ""):
        title, _, rest = paragraph.removeprefix(_AS_IS).partition("\n")
        name = {"Example:": EXAMPLES}.get(title.strip(), title.strip().removesuffix(":"))
        if paragraph.startswith(_AS_IS) and name in _ORDER:
            made.sections.setdefault(name, []).extend(textwrap.dedent(rest).splitlines())
        elif not made.summary:
            made.summary = " ".join(paragraph.split())
        else:
            made.description.append(paragraph)
    if isinstance(command, click.Group):
        return made
    made.sections[EXIT_CODES] = _exit_codes(made.sections.get(EXIT_CODES, []))
    names = {one.name for one in command.params}
    environment = [*made.sections.get(ENVIRONMENT, []), *_variables(command)]
    if "user" in names:
        environment += _CREDENTIALS
    if {"config_file", "env_files"} <= names:
        environment.append(_CONFIG_VARIABLES)
    if environment:
        made.sections[ENVIRONMENT] = environment
    if {"journal", "env_files"} <= names:
        made.sections.setdefault(FILES, []).extend(_JOURNALS)
    return made


def explain(command: click.Command) -> None:
    """Let `--help` say all of it: a whole summary in lists of commands, sections below the options."""
    command.help = inspect.cleandoc(command.help or "").replace("\\b\n", _AS_IS)
    made = manual_of(command)
    command.short_help = made.summary
    command.help = "\n\n".join([made.summary, *made.description])
    command.epilog = "\n\n".join(
        f"{_AS_IS}{title}:\n" + "\n".join(f"  {line}" for line in made.sections[title])
        for title in _ORDER
        if title in made.sections
    )
    for inner in getattr(command, "commands", {}).values():
        explain(inner)


def leaves(
    group: click.Group, ctx: click.Context, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that do something, with the words they are called by, hidden ones left out."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from leaves(command, click.Context(command, parent=ctx), (*path, name))
        else:
            yield (*path, name), command


def _exit_codes(said: list[str]) -> list[str]:
    codes: Mapping[str, str] = _ALWAYS | {
        code: text.strip() for code, _, text in (line.partition("  ") for line in said)
    }
    return [f"{code}  {text}" for code, text in sorted(codes.items(), key=lambda one: int(one[0]))]


def _variables(command: click.Command) -> Iterator[str]:
    for one in command.params:
        if isinstance(one, click.Option) and isinstance(one.envvar, str):
            yield f"{one.envvar}  {one.opts[0]}"


def _paragraphs(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        lines = block.strip("\n")
        if lines.strip():
            yield lines
