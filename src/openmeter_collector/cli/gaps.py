"""`gaps`: windows of scheduled inputs that are missing, and what to do about them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import orjson

from openmeter_collector.cli.admin_client import PASSWORD, TOKEN, credentials, user_option
from openmeter_collector.cli.leader import LeaderArguments
from openmeter_collector.cli.options import given, json_option
from openmeter_collector.cli.run import which
from openmeter_collector.component.env import HttpClient, HttpResponse
from openmeter_collector.component.node import Node
from openmeter_collector.component.window_pages import change_of, told
from openmeter_collector.config import Config
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.replicas import shared_backend
from openmeter_collector.engine.stores.shared import Backend, Kept
from openmeter_collector.engine.streams import nodes_below
from openmeter_collector.errors import ConfigError, Retryable
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.storage.checkpoints import change_checkpoint, read_checkpoints
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.values.windows import Ledger, moment_of

_TIMEOUT = 10.0
_MARK = "/windows/"
_EVER = "9999-12-31T23:59:59Z"


@click.command()
@click.argument("action", type=click.Choice(["list", "fill", "accept"]), default="list")
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config.")
@click.option("--url", help="The HTTP service of a running collector, if not that of the config.")
@user_option
@click.option("--journal", type=click.Path(path_type=Path), help="A journal, instead of a config.")
@click.option("--input", "name", default="", help="Only inputs whose label or path has this in it.")
@click.option("--from", "start", default="1970-01-01T00:00:00Z", help="Since when (RFC 3339).")
@click.option("--to", "end", default=_EVER, help="Until when (RFC 3339).")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How it is printed; --json is --format json.",
)
@json_option
def gaps(
    action: str,
    config_file: Path | None,
    url: str | None,
    user: str | None,
    journal: Path | None,
    name: str,
    start: str,
    end: str,
    form: str,
    as_json: bool,
) -> int:
    r"""List windows that are missing; fetch those again that were given up; accept that they are gone.

    Asks the running collector; when none is running, reads its journal, or the store of its replicas. Ends with 1 when there are
    gaps that nobody has accepted.

    \b
      list    what is open (will be fetched) and what is lost, with the cause
      fill    lost windows are fetched again: at once, or at the next start
      accept  lost windows are taken off the list

    \b
    Exit codes:
      1  there are gaps that nobody has accepted

    \b
    Examples:
      openmeter-collector gaps -c config.yaml
      openmeter-collector gaps fill -c config.yaml --from 2026-02-01T00:00:00Z
      openmeter-collector gaps accept --url http://127.0.0.1:4195 --input usage
    """
    try:
        asked = _Asked(
            action, name, start, end, moment_of(start), moment_of(end), credentials(user)
        )
    except ValueError as error:
        raise ConfigError(f"gaps: {error}; write for example 2026-11-27T00:00:00Z") from error
    found = asyncio.run(_find(asked, config_file, url, journal))
    if as_json or form == "json":
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        for line in _lines(found, action):
            click.echo(line)
    return int(any(one["lost"] or one["open"] for one in found))


@dataclass(frozen=True, slots=True)
class _Asked:
    action: str
    name: str
    start: str
    end: str
    start_ms: int
    end_ms: int
    headers: Mapping[str, str] = field(repr=False)

    def means(self, where: str) -> bool:
        return self.name in where


async def _find(
    asked: _Asked, config_file: Path | None, url: str | None, journal: Path | None
) -> list[dict[str, Any]]:
    if journal is not None:
        return _offline(asked, [journal])
    if url is not None:
        return await _live(asked, url.rstrip("/"))
    how = given(None, (), (), (), (), chilled=True)
    config = how.read(which(None, config_file)).or_raise()
    if config.http.enabled:
        try:
            found = await _live(asked, f"http://{_near(config.http.address)}")
        except Retryable:
            found = []  # nobody is running: what follows reads what was left behind
        if found:
            return found
    log = Log(LogOptions(level="off"), len)
    around = Surroundings(log, MetricStore(), listen=listen, mount=Service(MetricStore()).mount)
    flags = LeaderArguments({}).flags(os.environ)
    async with shared_backend(config, flags, around) as backend:
        if backend is not None:
            return await _shared(asked, backend)
    return _offline(asked, list(_journals(config)))


def _near(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{'127.0.0.1' if host in {'', '0.0.0.0', '[::]'} else host}:{port}"  # noqa: S104


def _journals(config: Config) -> Iterator[Path]:
    for node in nodes_below(config):
        if isinstance(node, Node) and (node.kind, node.name) == ("buffer", "sqlite"):
            yield Path(node.config.path)  # type: ignore[attr-defined]


async def _live(asked: _Asked, url: str) -> list[dict[str, Any]]:
    async with open_http_client() as client:
        answer = await client.request(
            "GET", f"{url}/endpoints", headers=asked.headers, timeout=_TIMEOUT
        )
        paths = [path for path in _json(answer, url) if _MARK in path]
        found = []
        for path in sorted(paths):
            where = path.partition(_MARK)[2]
            if asked.means(where):
                found.append({"input": where, **await _ask(client, f"{url}{quote(path)}", asked)})
        return found


async def _ask(client: HttpClient, address: str, asked: _Asked) -> dict[str, Any]:
    answer = await client.request("GET", address, headers=asked.headers, timeout=_TIMEOUT)
    before = _json(answer, address)
    if asked.action == "list":
        return before
    body = orjson.dumps({"action": asked.action, "start": asked.start, "end": asked.end})
    answer = await client.request("POST", address, headers=asked.headers, body=body, timeout=60.0)
    return _compared(before, _json(answer, address))


def _compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is there after a change, with whether there was one: both actions are about what is lost."""
    return {**after, "changed": before["lost"] != after["lost"]}


def _json(answer: HttpResponse, url: str) -> dict[str, Any]:
    try:
        made = orjson.loads(answer.body)
    except ValueError:
        made = None
    if answer.status == 401:
        raise ConfigError(
            f"{url}: asks for a password; give --user and set {PASSWORD}, or set {TOKEN}"
        )
    if answer.status != 200 or not isinstance(made, dict):
        said = made.get("error", "") if isinstance(made, dict) else ""
        raise ConfigError(f"{url}: answered {answer.status} {said}; is a collector there?")
    return made


async def _shared(asked: _Asked, backend: Backend) -> list[dict[str, Any]]:
    """In the store of all replicas. A leader that runs has its own copy: it has to be asked itself."""
    found = []
    for key, kept in sorted((await backend.all()).items()):
        ledger = _ledger(kept.value or b"")
        if ledger is None or not asked.means(key):
            continue
        shown = _told(key, ledger)
        if asked.action != "list":
            change_of(asked.action, asked.start_ms, asked.end_ms)(ledger)
            await backend.write({key: Kept(0, ledger.encode())})
            shown = _compared(shown, _told(key, ledger))
        found.append(shown)
    return found


def _ledger(value: bytes) -> Ledger | None:
    """None for the position of another kind of source."""
    try:
        return Ledger.decode(value)
    except ValueError:
        return None


def _told(key: str, ledger: Ledger) -> dict[str, Any]:
    return {"input": key.lstrip("/"), **told(key.rpartition("/")[2], ledger)}


def _offline(asked: _Asked, journals: list[Path]) -> list[dict[str, Any]]:
    if not journals:
        raise ConfigError(
            "no collector answers, and the config has no buffer `sqlite` to look into; "
            "give the address of the collector with --url, or a journal with --journal"
        )
    found = []
    for path in journals:
        for key, value in sorted(read_checkpoints(path).items()):
            ledger = _ledger(value)
            if ledger is None or not asked.means(key):
                continue
            shown = _told(key, ledger)
            if asked.action != "list":
                change = change_of(asked.action, asked.start_ms, asked.end_ms)

                def changed(kept: bytes) -> bytes:
                    again = Ledger.decode(kept)
                    change(again)  # noqa: B023 - called before the next one is made
                    return again.encode()

                change_checkpoint(path, key, changed)
                ledger = Ledger.decode(read_checkpoints(path)[key])
                shown = _compared(shown, _told(key, ledger))
            found.append(shown)
    return found


def _lines(found: list[dict[str, Any]], action: str) -> Iterator[str]:
    if not found:
        yield "no input here fetches windows"
    for one in found:
        yield f"{one['input']}: each window is accounted for up to {one['upto']}"
        for word in ("open", "lost"):
            for span in one[word]:
                cause = span["cause"] or "not fetched yet"
                yield f"  {word}  {span['start']} .. {span['end']}  {cause}"
        if not one["open"] and not one["lost"]:
            yield "  no gaps"
        if not one.get("changed", True):
            yield f"  {_unchanged(one, action)}"


def _unchanged(one: Mapping[str, Any], action: str) -> str:
    """Why an action had nothing to do."""
    done = "accepted" if action == "accept" else "put back to be fetched"
    if one["lost"]:
        return f"nothing was {done}: no lost window lies between --from and --to"
    if one["open"]:
        return (
            f"nothing was {done}: what is open is not lost, it is fetched as soon as the source "
            "answers; only what was given up as lost can be accepted or filled"
        )
    return f"nothing was {done}: nothing is lost"
