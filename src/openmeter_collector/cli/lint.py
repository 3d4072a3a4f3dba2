"""`lint`: says all that is wrong with config files, in the form that editors and CI know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import click
import orjson

from openmeter_collector.cli.files import environment, expand
from openmeter_collector.cli.options import env_file_option, template_option
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config import Config, Problem, lint_lines, read
from openmeter_collector.config.source_text import LINT_DISABLE
from openmeter_collector.config.source_text import read as read_text
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import EVERYTHING

_ALWAYS = frozenset({"error", "lint"})


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--deprecated", is_flag=True, help="Tell about deprecated fields and components.")
@click.option("--labels", is_flag=True, help="Tell about components without a label.")
@click.option("--skip-env-var-check", is_flag=True, help="Unset variables are no fault.")
@click.option("--upstream", is_flag=True, help="Tell what only this collector understands.")
@click.option("--json", "as_json", is_flag=True, help="Print all faults as JSON (ours).")
@click.option("--verbose", is_flag=True, help="Say where in the config and what to do.")
@click.option("-r", "--resources", multiple=True, help="Files with resources; a glob.")
@template_option
@click.option("-c", "--config", "config_files", multiple=True, help="A config file.")
@env_file_option
def lint(
    paths: tuple[str, ...],
    deprecated: bool,
    labels: bool,
    skip_env_var_check: bool,
    upstream: bool,
    as_json: bool,
    verbose: bool,
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    config_files: tuple[str, ...],
    env_files: tuple[Path, ...],
) -> int:
    r"""Check config files and print what is wrong with them.

    PATHS are files, globs, or `dir/...` for everything below a folder. Of a Markdown file every
    block of YAML is a config. The exit code is 1 if anything was found.

    \b
    Examples:
      openmeter-collector lint config.yaml
      openmeter-collector lint --verbose ./...
      openmeter-collector lint --upstream -r 'resources/*.yaml' config.yaml

    \b
    Exit codes:
      1  something was found
    """
    asked = {
        name
        for name, on in (("deprecated", deprecated), ("unlabelled", labels), ("ours", upstream))
        if on
    }
    resource_files = expand(resources)
    registry, env = registry_with(templates), environment(env_files)
    problems: list[Problem] = []
    for path in [*expand([*config_files, *paths]), *resource_files]:
        problems += check(path, registry, env, resource_files)
    told = [
        problem
        for problem in problems
        if problem.severity in _ALWAYS | asked
        and not (skip_env_var_check and problem.code == "missing_env")
    ]
    if as_json:
        click.echo(orjson.dumps([plain(problem) for problem in told]))
        return 1 if told else 0
    lines = [problem.friendly() for problem in told] if verbose else lint_lines(told)
    for line in lines:
        click.echo(line, err=True)
    if verbose:
        for problem in problems:
            if problem.severity == "warning":
                click.echo(f"{problem.friendly()} (no fault)", err=True)
    return 1 if told else 0


def check(
    path: Path, registry: Registry, env: Mapping[str, str], resource_files: Iterable[Path] = ()
) -> tuple[Problem, ...]:
    """The problems of one file; none if its author asked not to lint it."""
    if path.suffix == ".md":
        return _check_blocks(path, registry, env)
    others = [file for file in resource_files if file != path]
    reading = read(path, registry, Config, env=env, resource_files=others, trust=EVERYTHING)
    if _disabled(path):
        return ()
    return tuple(
        problem
        for problem in reading.problems
        if problem.file not in {str(file) for file in others}
        and not (problem.code == "unknown_resource" and not others)
    )


def plain(problem: Problem) -> dict[str, object]:
    """A fault for machines."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.col,
        "code": problem.code,
        "path": problem.path,
        "message": problem.found or problem.message,
        "todo": problem.hint,
        "lint": problem.lint_line(),
    }


def _check_blocks(path: Path, registry: Registry, env: Mapping[str, str]) -> tuple[Problem, ...]:
    """The problems of all blocks of YAML in a Markdown file, with their lines in the file."""
    found: list[Problem] = []
    for offset, text in blocks(read_text(path)):
        reading = read(text, registry, Config, env=env, file=str(path), trust=EVERYTHING)
        found += [
            replace(
                problem,
                line=problem.line + offset,
                lint_at=problem.lint_at and (problem.lint_at[0] + offset, problem.lint_at[1]),
            )
            for problem in reading.problems
            if problem.code != "unknown_resource" and not text.startswith(LINT_DISABLE)
        ]
    return tuple(found)


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Blocks of YAML in a Markdown text, each with the number of lines before it."""
    begin: int | None = None
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        word = line.strip()
        if begin is None and word.lower() in ("```yaml", "```yml"):
            begin = number
        elif begin is not None and word == "```":
            yield begin, "".join(lines[begin : number - 1])
            begin = None


def _disabled(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LINT_DISABLE)) == LINT_DISABLE.encode()
    except OSError:
        return False
