"""`help` and `man`: what commands say of themselves, in the terminal and as a page of the manual."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import click

from openmeter_collector import __version__
from openmeter_collector.cli.manual import EXAMPLES, PROGRAM, Manual, leaves, manual_of
from openmeter_collector.errors import ConfigError

_INTRODUCTION: Final = (
    (
        "Takes usage events, keeps them on disk before it acknowledges them, and delivers them to "
        "OpenMeter. It runs configs of the OpenMeter Collector in Go as they are."
    ),
    (
        "Options of run may stand before a command; without a command, run is meant. With --json a "
        "command prints JSON on standard output, and what went wrong as one object on standard error."
    ),
)


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(ctx: click.Context, names: tuple[str, ...]) -> int:
    r"""Print what a command does, its options, exit codes and examples (ours).

    The same as `COMMAND --help`.

    \b
    Examples:
      openmeter-collector help
      openmeter-collector help run
      openmeter-collector help dlq replay
    """
    at = ctx.find_root()
    for name in names:
        at = _below(at, name)
    click.echo(at.get_help())
    return 0


def _below(ctx: click.Context, name: str) -> click.Context:
    group = ctx.command
    known = group.list_commands(ctx) if isinstance(group, click.Group) else []
    command = group.get_command(ctx, name) if isinstance(group, click.Group) else None
    if command is None:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"see {ctx.command_path} --help"
        raise ConfigError(f"help: there is no command {name!r} in {ctx.command_path}; {hint}")
    return click.Context(command, info_name=name, parent=ctx)


@click.command()
@click.pass_context
def man(ctx: click.Context) -> int:
    r"""Print the manual page of all commands, for man (ours).

    \b
    Examples:
      openmeter-collector man > openmeter-collector.1
      openmeter-collector man | man -l -
    """
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    found = [(" ".join(path), command) for path, command in leaves(root.command, root)]
    click.echo(page(found), nl=False)
    return 0


def page(commands: Sequence[tuple[str, click.Command]]) -> str:
    """All of it in the macros of man(7)."""
    summary = "collects usage events, keeps them safe on disk and delivers them"
    lines = [
        f'.TH {_word(PROGRAM.upper())} 1 "" "{PROGRAM} {__version__}" "User Commands"',
        ".SH NAME",
        f"{_text(PROGRAM)} \\- {summary}",
        ".SH SYNOPSIS",
        f".B {_text(PROGRAM)}",
        "[OPTIONS] COMMAND [ARGS]...",
        ".SH DESCRIPTION",
    ]
    for number, paragraph in enumerate(_INTRODUCTION):
        lines += [".PP"] * bool(number) + [_text(paragraph)]
    lines.append(".SH COMMANDS")
    for name, command in commands:
        lines += _command(name, command)
    return "\n".join(lines) + "\n"


def _command(name: str, command: click.Command) -> Iterator[str]:
    manual = manual_of(_raw(command))
    yield f".SS {_word(name)}"
    yield _text(manual.summary)
    for paragraph in manual.description:
        yield from _paragraph(paragraph)
    context = click.Context(
        command, info_name=f"{PROGRAM} {name}", help_option_names=["-h", "--help"]
    )
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".PP", f"\\fB{_text(PROGRAM)} {_text(name)}\\fR {_text(usage)}".rstrip())
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if record is not None and isinstance(option, click.Option):
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]))
    yield from _sections(manual)


def _raw(command: click.Command) -> click.Command:
    """The command with its sections in its text again, as it is declared."""
    whole = "\n\n".join(part for part in (command.help, command.epilog) if part)
    return click.Command(command.name, help=whole, params=command.params)


def _sections(manual: Manual) -> Iterator[str]:
    for title, entries in manual.sections.items():
        yield from (".PP", f"\\fI{title}\\fR:")
        if title == EXAMPLES:
            yield from _as_is(entries)
            continue
        for entry in dict.fromkeys(entries):
            word, _, text = entry.partition("  ")
            yield from (".TP", f"\\fB{_text(word)}\\fR", _text(text.strip()) or "\\&")


def _paragraph(text: str) -> Iterator[str]:
    literal = text.startswith("\b\n")
    if literal:
        yield ".PP"
        yield from _as_is(textwrap.dedent(text.removeprefix("\b\n")).splitlines())
    else:
        yield from (".PP", _text(" ".join(text.split())))


def _as_is(lines: Iterable[str]) -> Iterator[str]:
    yield from (".RS", ".nf")
    yield from (_text(line) for line in lines)
    yield from (".fi", ".RE")


def _word(text: str) -> str:
    return f'"{_text(text)}"'


def _text(text: str) -> str:
    """Text that is nothing but text: no escape, no request at the beginning of a line."""
    made = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{made}" if made.startswith((".", "'")) else made
