"""`create`: a config to start from, made of the components that are named."""

from __future__ import annotations

from typing import Any

import click
import orjson

from openmeter_collector.cli.options import json_option
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config
from openmeter_collector.config.emit import to_yaml
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.skeleton import component, document
from openmeter_collector.errors import ConfigError
from openmeter_collector.presets import preset as find_preset
from openmeter_collector.spec.registry import Registry


@click.command()
@click.argument("expression", default="stdin//stdout")
@click.option("-s", "--small", is_flag=True, help="Only the fields that are often changed.")
@click.option("--preset", help="A config that comes with the collector; `list presets` names them.")
@json_option
def create(expression: str, small: bool, preset: str | None, as_json: bool) -> int:
    r"""Print a config made of `INPUTS/PROCESSORS/OUTPUTS`, each a list with commas.

    For example: `create cloudevents//openmeter`. Several inputs or outputs are put into a broker.
    With --preset, the preset as it is, comments and unit tests included, to make it your own.

    \b
    Examples:
      openmeter-collector create cloudevents//openmeter
      openmeter-collector create -s http_server/mapping,json_schema/openmeter,stdout
    """
    if preset is not None:
        text = find_preset(preset).path.read_text(encoding="utf-8")
        click.echo(orjson.dumps(plain_values(text)) if as_json else text, nl=as_json)
        return 0
    parts = expression.split("/")
    if len(parts) > 3:
        raise ConfigError(f"create: {expression!r} has more than three parts; write in/procs/out")
    inputs, processors, outputs = (
        [name for name in part.split(",") if name] for part in (*parts, *[""] * (3 - len(parts)))
    )
    registry = standard_registry()
    written: dict[str, Any] = {
        "input": _one(registry, "input", inputs or ["stdin"], small=small),
        "pipeline": {
            "processors": [
                component(registry, "processor", name, small=small) for name in processors
            ]
        },
        "output": _one(registry, "output", outputs or ["stdout"], small=small),
    }
    if not small:
        written = {**document(Config, small=small), **written}
    text = to_yaml(written)
    click.echo(orjson.dumps(plain_values(text)) if as_json else text, nl=as_json)
    return 0


def _one(registry: Registry, kind: str, names: list[str], *, small: bool) -> dict[str, Any]:
    made = [component(registry, kind, name, small=small) for name in names]
    return made[0] if len(made) == 1 else {"broker": {f"{kind}s": made}}
