"""`list`: the components there are."""

from __future__ import annotations

from typing import Any

import click
import orjson

from openmeter_collector import __version__
from openmeter_collector.cli.options import json_option, template_option
from openmeter_collector.cli.registry import registry_with
from openmeter_collector.config import Config
from openmeter_collector.errors import ConfigError
from openmeter_collector.presets import presets
from openmeter_collector.spec.catalogue import catalogue
from openmeter_collector.spec.component import KINDS
from openmeter_collector.spec.json_schema import json_schema
from openmeter_collector.spec.reference import PLURAL
from openmeter_collector.spec.registry import Registry

_FORMATS = ("text", "json", "json-full", "json-full-scrubbed", "jsonschema")


@click.command(name="list")
@click.argument("types", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="How it is printed; --json is --format json.",
)
@json_option
@click.option("--status", help="Only components of this stability, such as stable.")
@template_option
def list_(
    types: tuple[str, ...],
    form: str,
    as_json: bool,
    status: str | None,
    templates: tuple[str, ...],
) -> int:
    r"""Print the names of all components, or of TYPES such as inputs or rate-limits.

    `list presets` prints the configs that come with the collector.

    json-full tells all fields of all components, json-full-scrubbed the same without texts;
    jsonschema is what `schema` prints. `list presets` prints the configs that come with the collector.

    \b
    Examples:
      openmeter-collector list
      openmeter-collector list inputs outputs --format json
      openmeter-collector list presets
    """
    form = "json" if as_json and form == "text" else form
    if types in {("presets",), ("preset",)}:
        _list_presets(form)
        return 0
    kinds = [_kind(name) for name in types] or list(KINDS)
    registry = registry_with(templates)
    if form == "jsonschema":
        click.echo(orjson.dumps(json_schema(registry, Config), option=orjson.OPT_INDENT_2))
        return 0
    if form.startswith("json-full"):
        click.echo(
            orjson.dumps(catalogue(registry, Config, __version__, texts=form == _FORMATS[2]))
        )
        return 0
    names = {kind: _names(registry, kind, status) for kind in kinds}
    if form == "json":
        plain: dict[str, Any] = {_dashed(kind): found for kind, found in names.items()}
        click.echo(orjson.dumps(plain))
        return 0
    shown = [
        "\n".join([f"{_dashed(kind).capitalize()}:", *(f"  - {name}" for name in found)])
        for kind, found in names.items()
        if found
    ]
    click.echo("\n\n".join(shown))
    return 0


def _list_presets(form: str) -> None:
    found = {one.name: one.summary for one in presets()}
    if form == "json":
        click.echo(orjson.dumps({"presets": found}))
        return
    wide = max(map(len, found))
    click.echo("\n".join(f"{name:<{wide}}  {summary}" for name, summary in found.items()))


def _names(registry: Registry, kind: str, status: str | None) -> list[str]:
    if status is None:
        return registry.names(kind)
    return [spec.name for spec in registry.specs(kind) if spec.stability == status]


def _dashed(kind: str) -> str:
    return PLURAL[kind].replace("_", "-")


def _kind(name: str) -> str:
    wanted = name.replace("-", "_").rstrip("s")
    for kind in KINDS:
        if kind.rstrip("s") == wanted:
            return kind
    raise ConfigError(f"list: there is no type {name!r}; use {', '.join(map(_dashed, KINDS))}")
