"""`compare-upstream`: what a config does here that it does not do in the Go collector."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from openmeter_collector.cli.files import environment, expand
from openmeter_collector.cli.options import env_file_option, template_option
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config import Config, Problem, read
from openmeter_collector.config.difference import Difference
from openmeter_collector.config.upstream import concerning, general
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.trust import EVERYTHING


@click.command(name="compare-upstream")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config file.")
@click.option("-r", "--resources", multiple=True, metavar="GLOB", help="Files with resources.")
@template_option
@env_file_option
@click.option("--all", "everything", is_flag=True, help="Also what concerns every config.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_upstream(
    file: Path | None,
    config_file: Path | None,
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    env_files: tuple[Path, ...],
    everything: bool,
    as_json: bool,
) -> int:
    r"""Print what a config does here that it does not do in the Go collector, and why (ours).

    Told are: what components of the config do differently; fields and components that only this
    collector knows, with which the config no longer runs there; components that are not here. The
    exit code is 1 if there are some of the last kind.

    \b
    Examples:
      openmeter-collector compare-upstream -c config.yaml
      openmeter-collector compare-upstream -c config.yaml --all --json

    \b
    Exit codes:
      1  the config has components that are not here
    """
    source = config_file or file
    if source is None:
        raise ConfigError("compare-upstream: no config; name a file")
    reading = read(
        source,
        registry_with(templates),
        Config,
        env=environment(env_files),
        resource_files=expand(resources),
        chilled=True,
        trust=EVERYTHING,
    )
    found = concerning(reading.components) + (general() if everything else [])
    ours = [one for one in reading.problems if one.severity == "ours"]
    absent = [one for one in reading.problems if one.code == "unknown_component"]
    if not absent:
        reading.or_raise()  # of what cannot be read it is not known what it does
    if as_json:
        click.echo(_json(found, ours, absent))
    else:
        click.echo("\n".join(_text(str(source), found, ours, absent, everything=everything)))
    return 1 if absent else 0


def _json(found: Iterable[Difference], ours: Iterable[Problem], absent: Iterable[Problem]) -> bytes:
    made: dict[str, Any] = {"differences": [asdict(one) for one in found]}
    for name, problems in (("only_here", ours), ("not_here", absent)):
        made[name] = [
            {"file": p.file, "line": p.line, "path": p.path, "text": p.found or p.message}
            for p in problems
        ]
    return orjson.dumps(made, option=orjson.OPT_INDENT_2)


def _text(
    source: str,
    found: Sequence[Difference],
    ours: Sequence[Problem],
    absent: Sequence[Problem],
    *,
    everything: bool,
) -> list[str]:
    lines = [f"{source}, compared with the Go collector"]
    if absent:
        lines += ["", "Not here, so the config does not run:"]
        lines += [f"  {one.friendly()}" for one in absent]
    if ours:
        lines += ["", "Known here only, so the config does not run there any more:"]
        lines += [f"  {one.file}:{one.line} {one.path}: {one.message}" for one in ours]
    about = ""
    for one in found:
        if one.about != about:
            about = one.about
            lines += ["", about]
        lines.append(f"  {one.title}")
        parts = [("there", one.there), ("here", one.here), ("why", one.why), ("do", one.act)]
        for name, text in parts:
            if text:
                lines += textwrap.wrap(
                    text, 96, initial_indent=f"    {name + ':':<7}", subsequent_indent=" " * 11
                )
    if not found:
        lines += ["", "Its components do the same here."]
    if not everything:
        lines += ["", f"{len(general())} more concern every config; --all prints them."]
    return lines
