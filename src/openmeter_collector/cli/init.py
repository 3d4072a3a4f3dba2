"""`init`: a config to start from, with its unit test, made of answers to a few questions."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from openmeter_collector.cli.lint import check
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.cli.scaffold import DESTINATIONS, SOURCES, Destination, Source, made
from openmeter_collector.config.unit_tests import definition_of
from openmeter_collector.errors import ConfigError
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.unit_tests import run_tests


@click.command()
@click.option("--source", type=click.Choice(list(SOURCES)), help="Where events come from.")
@click.option("--destination", type=click.Choice(list(DESTINATIONS)), help="Where events go.")
@click.option("--url", default="", help="Address of the destination, if not the usual one.")
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), default=Path("collector.yaml"),
    show_default=True, help="The file to write; - prints it.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(source: str | None, destination: str | None, url: str, path: Path, force: bool) -> int:
    r"""Write a commented config with its unit test, for a source and a destination (ours).

    What is not given is asked for.

    \b
    Examples:
      openmeter-collector init
      openmeter-collector init --source events --destination openmeter
      openmeter-collector init --source json --destination local -o usage.yaml
    """
    source = source or _choose("Where do events come from?", SOURCES, "--source")
    destination = destination or _choose("Where do they go?", DESTINATIONS, "--destination")
    text = made(source, destination, url)
    if str(path) == "-":
        click.echo(text, nl=False)
        return 0
    if path.exists() and not force:
        raise ConfigError(f"{path}: is there already; give another -o FILE, or --force")
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    _checked(path)
    click.echo(_next(path, SOURCES[source], DESTINATIONS[destination], destination))
    return 0


def _choose(question: str, choices: Mapping[str, Source | Destination], option: str) -> str:
    if not _can_ask():
        raise ConfigError(
            f"init: {option} is missing and nobody can be asked; use one of {', '.join(choices)}"
        )
    click.echo(question)
    for number, (name, one) in enumerate(choices.items(), start=1):
        click.echo(f"  {number}  {name:<11} {one.summary}")
    if choices is SOURCES:
        click.echo(f"  Others are finished configs: {_called_as()} list presets")
    names = list(choices)
    answer = click.prompt("Number or name", default=names[0], value_proc=lambda a: _named(a, names))
    return str(answer)


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _named(answer: str, names: list[str]) -> str:
    answer = answer.strip()
    if answer.isdecimal() and 1 <= int(answer) <= len(names):
        return names[int(answer) - 1]
    if answer in names:
        return answer
    raise click.BadParameter(f"answer a number from 1 to {len(names)}, or one of the names")


def _checked(path: Path) -> None:
    """Run what was written through lint and its own tests: a first config must not be wrong."""
    registry = standard_registry()
    faults = [one for one in check(path, registry, os.environ) if one.severity == "error"]
    silent = Log.to_stderr(LogOptions(level="off"))
    outcome = asyncio.run(run_tests(definition_of(path), registry, log=silent))
    if faults or outcome.broken or outcome.failed:
        told = (
            [one.friendly() for one in faults]
            + [outcome.broken]
            + [str(one) for one in outcome.failed]
        )
        raise ConfigError([line for line in told if line])


def _next(path: Path, source: Source, destination: Destination, name: str) -> str:
    command = _called_as()
    steps = []
    if name == "local":
        steps.append(f"{command} sandbox        # in another terminal")
    elif destination.variable:
        steps.append(f"export {destination.variable}=...")
    steps += [
        f"{command} test {path}",
        f"{command} doctor -c {path}",
        f"{command} run -c {path}",
        source.then,
    ]
    return "\n".join(
        [f"{path} is written, and its tests pass. Next:", *(f"  {one}" for one in steps)]
    )


def _called_as() -> str:
    """What people type: those who run the source tree have `./dev collector`."""
    return os.environ.get("OPENMETER_COLLECTOR_CALLED_AS", "openmeter-collector")
