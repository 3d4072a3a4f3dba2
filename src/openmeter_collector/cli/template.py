"""`template lint`: checks files that define components."""

from __future__ import annotations

import json
import os

import click

from openmeter_collector.cli.files import expand
from openmeter_collector.cli.options import json_option
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config.templates import lint_template


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def template() -> None:
    """Work on templates: files that define components by a mapping."""


@template.command()
@click.argument("paths", nargs=-1, required=True)
@json_option
def lint(paths: tuple[str, ...], as_json: bool) -> int:
    r"""Check templates and run the tests in them.

    PATHS are files, globs, or `dir/...` for everything below a folder. The exit code is 1 if
    anything was found.

    \b
    Example:
      openmeter-collector template lint templates/*.yaml

    \b
    Exit codes:
      1  something was found
    """
    registry = standard_registry()
    lines = [line for path in expand(paths) for line in lint_template(path, registry, os.environ)]
    if as_json:
        click.echo(json.dumps({"problems": lines}))
        return 1 if lines else 0
    for line in lines:
        click.echo(line, err=True)
    return 1 if lines else 0
