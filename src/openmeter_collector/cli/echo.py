"""`echo`: the config as the collector understood it, with every default, secrets hidden."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from openmeter_collector.cli.files import environment, expand
from openmeter_collector.cli.options import env_file_option, json_option, template_option
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config import Config, read
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.render import render
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.trust import EVERYTHING


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config file.")
@click.option("-s", "--set", "overrides", multiple=True, help="Set a field: path=value.")
@click.option("-r", "--resources", multiple=True, help="Files with resources; a glob.")
@template_option
@click.option("--chilled", is_flag=True, help="Go on in spite of what only lint minds.")
@env_file_option
@json_option
def echo(
    file: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    chilled: bool,
    env_files: tuple[Path, ...],
    as_json: bool,
) -> int:
    r"""Print the config with all defaults filled in and secrets hidden.

    \b
    Examples:
      openmeter-collector echo config.yaml
      openmeter-collector echo -s input.generate.count=3 -e .env config.yaml
    """
    source = config_file or file
    if source is None:
        raise ConfigError("echo: no config; name a file")
    reading = read(
        source,
        registry_with(templates),
        Config,
        env=environment(env_files),
        overrides=overrides,
        resource_files=expand(resources),
        chilled=chilled,
        trust=EVERYTHING,
    )
    written = render(reading.or_raise(), reading.secrets)
    if as_json:
        click.echo(orjson.dumps(plain_values(written)))
    else:
        click.echo(written, nl=False)
    return 0
