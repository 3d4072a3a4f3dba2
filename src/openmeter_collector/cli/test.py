"""`test`: runs the unit tests that stand in configs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import orjson

from openmeter_collector.cli.files import environment, expand
from openmeter_collector.cli.lint import check
from openmeter_collector.cli.options import env_file_option, template_option
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config.unit_tests import Definition, definition_of
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import VARIABLE, Trust, of_the_operator, powers_of
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.unit_tests import Outcome, run_tests


@click.command()
@click.argument("paths", nargs=-1)
@click.option("-c", "--config", "config_files", multiple=True, help="A config file.")
@click.option("--log", "--log.level", "log_level", default="off", help="Show logs of this level.")
@click.option("-r", "--resources", multiple=True, metavar="GLOB", help="Files with resources.")
@template_option
@env_file_option
@click.option("--allow", multiple=True, metavar="WHAT", help="As for run: programs.")
@click.option("-v", "--verbose", is_flag=True, help="Say what passed as well, test by test.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON (ours).")
def test(
    paths: tuple[str, ...],
    config_files: tuple[str, ...],
    log_level: str,
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    env_files: tuple[Path, ...],
    allow: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> int:
    r"""Run the unit tests of configs: those below `tests:`, or in NAME_benthos_test.yaml beside it.

    PATHS are files, globs, or `dir/...` for everything below a folder. The exit code is 1 if a test
    fails, cannot be run, or if there is none.

    \b
    Examples:
      openmeter-collector test config.yaml
      openmeter-collector test ./...
      openmeter-collector test -r 'resources/*.yaml' --log debug config.yaml

    \b
    Exit codes:
      1  a test fails, cannot be run, or there is none
    """
    if not paths and not config_files:
        raise ConfigError("test: no config; name a file, or ./... for all below this folder")
    log = Log.to_stderr(LogOptions(level=log_level, add_timestamp=False))
    registry, env = registry_with(templates), environment(env_files)
    resource_files = expand(resources)
    definitions = list(dict.fromkeys(definition_of(p) for p in expand([*config_files, *paths])))
    allowed = powers_of(allow, "--allow") + powers_of([env.get(VARIABLE, "")], VARIABLE)
    trust = of_the_operator(*allowed)
    reports = asyncio.run(_all(definitions, registry, env, resource_files, log, trust))
    if as_json:
        click.echo(orjson.dumps([report.plain() for report in reports]))
    else:
        _tell(reports, verbose=verbose)
    return 0 if reports and all(report.good for report in reports) else 1


@dataclass(slots=True)
class Report:
    """What came of the tests of one config."""

    name: str
    lints: list[str]
    outcome: Outcome

    @property
    def good(self) -> bool:
        """Nothing failed."""
        return not (self.lints or self.outcome.failed or self.outcome.broken)

    def plain(self) -> dict[str, object]:
        """For machines."""
        return {
            "file": self.name,
            "succeeded": self.good,
            "tests": self.outcome.cases,
            "lints": self.lints,
            "failures": [
                {"name": one.name, "line": one.line, "reasons": list(one.reasons)}
                for one in self.outcome.failed
            ],
            "error": self.outcome.broken,
        }


async def _all(
    definitions: Iterable[Definition],
    registry: Registry,
    env: Mapping[str, str],
    resource_files: Sequence[Path],
    log: Log,
    trust: Trust,
) -> list[Report]:
    reports = []
    for definition in definitions:
        outcome = await run_tests(
            definition, registry, env=env, resource_files=resource_files, log=log, trust=trust
        )
        if not outcome.cases and not outcome.broken:
            continue
        files = dict.fromkeys((definition.target, definition.file))
        lints = [
            f"({line},{col}) {problem.message}"
            for path in files
            if path.is_file()
            for problem in check(path, registry, env, resource_files)
            if problem.severity in ("error", "lint") and problem.code != "missing_env"
            for line, col in [problem.lint_at or (problem.line, 1)]
        ]
        reports.append(Report(str(definition.target), [] if outcome.broken else lints, outcome))
    return reports


def _tell(reports: Sequence[Report], *, verbose: bool) -> None:
    if not reports:
        click.echo("No tests were found")
        return
    for report in reports:
        if report.outcome.broken:
            click.echo(
                f"Failed to execute test target '{report.name}': {report.outcome.broken}", err=True
            )
            continue
        click.echo(f"Test '{report.name}' {'succeeded' if report.good else 'failed'}")
        if verbose:
            passed = report.outcome.cases - len(report.outcome.failed)
            click.echo(f"  {passed} of {report.outcome.cases} tests passed")
    failed = [report for report in reports if not report.good and not report.outcome.broken]
    if failed:
        click.echo("\nFailures:\n")
    for number, report in enumerate(failed):
        if number:
            click.echo()
        click.echo(f"--- {report.name} ---\n")
        for lint in report.lints:
            click.echo(f"Lint: {lint}")
        if report.lints and report.outcome.failed:
            click.echo()
        if report.outcome.failed:
            click.echo("\n\n".join(str(one) for one in report.outcome.failed))
