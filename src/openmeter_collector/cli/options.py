"""Options that `run` and `streams` share, and that may stand before the command's name as well."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from openmeter_collector.cli.files import environment, expand
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config import Config, Reading, read
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import VARIABLE, Trust, of_the_api, of_the_operator, powers_of
from openmeter_collector.telemetry.logs import LEVELS

F = TypeVar("F", bound=Callable[..., Any])

template_option = click.option(
    "-t", "--templates", multiple=True, metavar="GLOB", help="Files that define components."
)
watcher_option = click.option(
    "-w",
    "--watcher",
    "watch",
    is_flag=True,
    help="Take up changes of config, resource and mapping files while running.",
)
env_file_option: Callable[[F], F] = click.option(
    "-e",
    "--env-file",
    "env_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file with environment variables; what is set already wins.",
)
json_option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, also of what goes wrong (ours)."
)
_OPTIONS = (
    click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config."),
    click.option(
        "--log.level",
        "log_level",
        type=click.Choice(list(LEVELS), case_sensitive=False),
        metavar="LEVEL",
        help="off, error, warn, info, debug or trace; wins over the config.",
    ),
    click.option(
        "-s", "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set a field."
    ),
    click.option(
        "-r", "--resources", multiple=True, metavar="GLOB", help="Files with more resources."
    ),
    template_option,
    env_file_option,
    click.option(
        "--allow",
        multiple=True,
        metavar="WHAT",
        help="Let configs do what they may not by default: programs (command, subprocess).",
    ),
    click.option(
        "--allow-api",
        multiple=True,
        metavar="WHAT",
        help="Let configs that come over the network (the streams API, dynamic) do more: "
        "files, programs, plugins (ours).",
    ),
    click.option(
        "--chilled", is_flag=True, help="Start in spite of faults that only a linter minds."
    ),
    watcher_option,
)


@dataclass(frozen=True, slots=True)
class Given:
    """What was said on the command line about how to read configs."""

    log_level: str | None
    overrides: tuple[str, ...]
    resources: tuple[str, ...]
    templates: tuple[str, ...]
    env: Mapping[str, str]
    chilled: bool
    trust: Trust
    """How far files on this machine are trusted."""
    api_trust: Trust
    """How far configs that come over the network are."""
    watch: bool

    def registry(self) -> Registry:
        """The components there are, with those of template files as they are now.

        Raises:
            ConfigError: a template cannot be read.
        """
        return registry_with(self.templates)

    def read(self, source: Path | str) -> Reading[Config]:
        """Read a whole config with all of it, as the files are now.

        Raises:
            ConfigError: a file that the options name is not there.
        """
        return read(
            source,
            self.registry(),
            Config,
            env=self.env,
            overrides=self.overrides,
            resource_files=expand(self.resources),
            chilled=self.chilled,
            trust=self.trust,
        )


def run_options(command: F) -> F:
    """Give a command the shared options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(
    log_level: str | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    env_files: tuple[Path, ...],
    *,
    chilled: bool,
    watch: bool = False,
    allow: tuple[str, ...] = (),
    allow_api: tuple[str, ...] = (),
) -> Given:
    """Look up what the options name.

    Raises:
        ConfigError: a file they name is not there, or what they allow is nothing.
    """
    env = environment(env_files)
    # Mappings ask the process's own environment; it has to say the same.
    os.environ.update(env)
    allowed = powers_of(allow, "--allow") + powers_of([env.get(VARIABLE, "")], VARIABLE)
    # What is decoded on the way, such as what a template makes, is trusted as the files are.
    os.environ[VARIABLE] = ",".join(allowed)
    over_api = powers_of(allow_api, "--allow-api")
    return Given(
        log_level=log_level,
        overrides=overrides,
        resources=resources,
        templates=templates,
        env=env,
        chilled=chilled,
        trust=of_the_operator(*allowed, network=over_api),
        api_trust=of_the_api(*over_api),
        watch=watch,
    )


def moved_behind(
    args: list[str], options_of: Callable[[str], Mapping[str, bool] | None]
) -> list[str]:
    """A command line whose options stand before the command, with the command first.

    Args:
        options_of: the options a command knows, and whether each takes a value; None for a word that
            is no command.
    """
    before, at = _leading(args, options_of("run") or {})
    known = options_of(args[at]) if at < len(args) else None
    if known is None:
        return ["run", *args]
    # Other commands than those that run something ignore what only concerns running.
    moved = [word for name, words in before if name in known for word in words]
    return [args[at], *moved, *args[at + 1 :]]


def only_options(args: list[str], takes_value: Mapping[str, bool]) -> bool:
    """Whether a command line has nothing but options so far, each with the value it takes."""
    before, at = _leading(args, takes_value)
    short, words = before[-1] if before else ("", [])
    waits = len(words) == 1 and words[0] == short and takes_value.get(short, False)
    return at >= len(args) and not waits


def _leading(
    args: list[str], takes_value: Mapping[str, bool]
) -> tuple[list[tuple[str, list[str]]], int]:
    """Options before the first word that is none: their names with their words; where that word is."""
    before: list[tuple[str, list[str]]] = []
    at = 0
    while at < len(args) and args[at].startswith("-") and args[at] not in {"-", "--"}:
        name, equals, _ = args[at].partition("=")
        short = name if name.startswith("--") else name[:2]
        attached = bool(equals) or (short != name and not name.startswith("--"))
        wide = 2 if takes_value.get(short) and not attached else 1
        before.append((short, args[at : at + wide]))
        at += wide
    return before, at


_TRUE: Final = frozenset({"true", "t", "1"})
_FALSE: Final = frozenset({"false", "f", "0"})


def with_plain_flags(args: list[str], params: Iterable[click.Parameter]) -> list[str]:
    """Arguments with `--flag=true` and `--flag=false` written as click knows them.

    Command lines of existing installations have them in that form.
    """
    flags = {
        text: one.secondary_opts
        for one in params
        if isinstance(one, click.Option) and one.is_flag
        for text in one.opts
    }
    made: list[str] = []
    for at, word in enumerate(args):
        name, equals, value = word.partition("=")
        if word == "--":
            return [*made, *args[at:]]
        if not equals or name not in flags or value.lower() not in _TRUE | _FALSE:
            made.append(word)
        elif value.lower() in _TRUE:
            made.append(name)
        elif flags[name]:  # without a way to say no, the flag is off when it is not given
            made.append(flags[name][0])
    return made
