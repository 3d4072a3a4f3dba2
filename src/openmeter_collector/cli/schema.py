"""`schema`: a JSON Schema of configs, for editors."""

from __future__ import annotations

import click
import orjson

from openmeter_collector.cli.options import template_option
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config import Config, Resources, Stream
from openmeter_collector.spec.json_schema import json_schema

_DOCUMENTS = {"config": Config, "stream": Stream, "resources": Resources}


@click.command()
@click.option(
    "--of",
    "document",
    type=click.Choice(list(_DOCUMENTS)),
    default="config",
    show_default=True,
    help="A whole config, one stream of `streams`, or a file of resources (-r).",
)
@template_option
def schema(document: str, templates: tuple[str, ...]) -> int:
    r"""Print the JSON Schema of a config, with which editors complete, explain and check (ours).

    With the YAML language server, write in the first line of a config:

    \b
      # yaml-language-server: $schema=./collector.schema.json

    \b
    Examples:
      openmeter-collector schema > collector.schema.json
      openmeter-collector schema --of stream -t 'templates/*.yaml'
    """
    made = json_schema(registry_with(templates), _DOCUMENTS[document])
    click.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))
    return 0
