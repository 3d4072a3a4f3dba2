"""`doctor`: looks at everything a config needs from outside, and says what to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
import orjson

from openmeter_collector.cli import checks
from openmeter_collector.cli.checks import Check
from openmeter_collector.cli.options import Given, env_file_option, given, template_option
from openmeter_collector.cli.run import which
from openmeter_collector.component.node import Node
from openmeter_collector.config import Config, Scrubber
from openmeter_collector.config.source_text import names_in, sounds_secret
from openmeter_collector.config.source_text import read as read_text
from openmeter_collector.engine.streams import nodes_below
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.fields import Interpolated

_FILE: Final = re.compile(r"file://([^\s\"'`,\]}]+)")
_COMES_ALONG: Final = "cloudevents.spec.json"
_SIGNS: Final = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config file.")
@click.option("--preset", help="A config that comes with the collector.")
@click.option("-s", "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set a field.")
@click.option("-r", "--resources", multiple=True, metavar="GLOB", help="Files with resources.")
@template_option
@env_file_option
@click.option("--offline", is_flag=True, help="Ask nothing over the network.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(
    file: Path | None,
    config_file: Path | None,
    preset: str | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    env_files: tuple[Path, ...],
    offline: bool,
    as_json: bool,
) -> int:
    r"""Check all that a config needs from outside, and say what to do (ours).

    Looks at: the config itself, environment variables, names of servers, connections and
    certificates, what OpenMeter says to our credentials (asked with a batch of no events), the
    clock, the disk of the buffer, files, and the addresses to listen on. Changes nothing and sends no
    event. The exit code is 1 if something fails.

    \b
    Examples:
      openmeter-collector doctor -c config.yaml
      openmeter-collector doctor --preset http-server --json

    \b
    Exit codes:
      1  something fails
    """
    how = given(None, overrides, resources, templates, env_files, chilled=False)
    source = which(file, config_file, preset)
    found, secrets = _look(source, how, offline=offline)
    hidden = Scrubber(secrets)
    clean = [Check(*(hidden.scrub(text) for text in asdict(one).values())) for one in found]
    if as_json:
        click.echo(_json(clean))
    else:
        for line in _lines(clean):
            click.echo(line)
    return int(any(one.status == "fail" for one in clean))


def _look(source: Path, how: Given, *, offline: bool) -> tuple[list[Check], frozenset[str]]:
    text = read_text(source)
    used = names_in(text)
    found = checks.check_variables(used, how.env, frozenset(filter(sounds_secret, used)))
    secrets = frozenset(how.env.get(name, "") for name in used if sounds_secret(name))
    reading = how.read(source)
    config = reading.config
    if config is None:
        faults = [one for one in reading.problems if one.severity == "error"]
        found += [
            Check("config", "fail", one.friendly(), "correct it; then the rest can be checked")
            for one in faults
            if one.code != "missing_env"
        ]
        return found, secrets | reading.secrets
    found.append(Check("config", "ok", f"{source} can be run"))
    found += checks.check_files(list(_files(text, config)))
    found += checks.check_buffers(config)
    found += checks.check_addresses(config)
    if not offline:
        try:
            found += asyncio.run(_network(config))
        except ConfigError as error:
            found.append(Check("tls", "fail", str(error), "correct the files of the component"))
    return found, secrets | reading.secrets


async def _network(config: Config) -> list[Check]:
    peers = await asyncio.gather(*(checks.check_peer(one) for one in checks.peers_of(config)))
    asked = await asyncio.gather(
        *(
            checks.check_openmeter(url, token, checks.tls_of(node))
            for (url, token), node in _destinations(config).items()
        )
    )
    return [one for group in (*peers, *asked) for one in group]


def _destinations(config: Config) -> dict[tuple[str, str], Node]:
    """Ingest APIs that events go to, as address and token, with the output for each."""
    found: dict[tuple[str, str], Node] = {}
    for node in nodes_below(config):
        written: Any = node.config
        if node.kind != "output":
            continue
        if node.name == "openmeter":
            found[written.url, written.token] = node
        elif node.name == "http_client":
            url = _static(written.url)
            if url.rstrip("/").endswith("/events"):
                found[url, _bearer(getattr(written, "headers", {}))] = node
    return found


def _static(text: Any) -> str:
    shown = text.static if isinstance(text, Interpolated) else text
    return shown if isinstance(shown, str) else ""


def _bearer(headers: Mapping[str, Any]) -> str:
    for name, value in headers.items():
        kind, _, token = _static(value).partition(" ")
        if name.lower() == "authorization" and kind.lower() == "bearer":
            return token
    return ""


def _files(text: str, config: Config) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(_FILE.findall(text)):
        # That one need not be there: a copy comes with the collector.
        if not (name.endswith(_COMES_ALONG) and not Path(name).exists()):
            yield name, "the config"
    for field in ("cert_file", "key_file"):
        if name := getattr(config.http, field):
            yield name, f"http.{field}"
    for node in nodes_below(config):
        for field in ("cert_file", "key_file", "client_ca_file"):
            name = getattr(node.config, field, "")
            if isinstance(name, str) and name:
                yield name, f"{node.path}.{field}"


def _lines(found: list[Check]) -> Iterator[str]:
    wide = max((len(one.name) for one in found), default=0)
    for one in found:
        yield f"{_SIGNS[one.status]}  {one.name:<{wide}}  {one.found}"
        if one.todo:
            yield f"      {'':<{wide}}  -> {one.todo}"
    bad = sum(one.status == "fail" for one in found)
    odd = sum(one.status == "warn" for one in found)
    yield ""
    yield f"{len(found)} checks: {bad} failed, {odd} to look at"


def _json(found: list[Check]) -> bytes:
    good = not any(one.status == "fail" for one in found)
    return orjson.dumps(
        {"ok": good, "checks": [asdict(one) for one in found]}, option=orjson.OPT_INDENT_2
    )
