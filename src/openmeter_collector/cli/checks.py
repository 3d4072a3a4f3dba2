"""What `doctor` looks at: each check finds one thing, says it, and says what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import apsw

from openmeter_collector.component.node import Node
from openmeter_collector.components.outputs.openmeter import ingest_url
from openmeter_collector.config import Config
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.streams import nodes_below
from openmeter_collector.errors import CollectorError
from openmeter_collector.spec.client_tls import ClientTls
from openmeter_collector.spec.fields import Interpolated
from openmeter_collector.storage.schema import APPLICATION_ID

PATIENCE: Final = 5.0
"""Seconds for each thing that is asked over the network."""
_DAY: Final = 86_400.0
_SOON: Final = 14 * _DAY
_OFF_A_LITTLE: Final = 30.0
_OFF_MUCH: Final = 300.0
_FEW_BYTES: Final = 1 << 30
_PASSING: Final = frozenset({"tmpfs", "ramfs", "overlay"})


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what, such as `dns openmeter.cloud`.
        status: `ok`, `warn` (works, and should be looked at) or `fail`.
        found: what was found.
        todo: what to do about it; empty when all is well.
    """

    name: str
    status: str
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that a config names."""

    host: str
    port: int
    tls: bool
    path: str
    """Of the component."""
    context: ssl.SSLContext | None = None
    """How the component verifies it, when that is configured."""


# ---- environment -----------------------------------------------------------------------------------


def check_variables(
    used: Mapping[str, str | None], env: Mapping[str, str], secret: frozenset[str]
) -> list[Check]:
    """Variables of a config: set, or with a default that is enough.

    Args:
        used: names to defaults, None without one.
        secret: names that sound like secrets.
    """
    found = []
    for name, default in used.items():
        where = f"variable {name}"
        if env.get(name):
            found.append(Check(where, "ok", "is set"))
        elif default is None and name not in env:
            found.append(Check(where, "fail", "is not set", "set it, or write a default"))
        elif not default and name in secret:
            todo = "then no credentials are shown, or asked for; set it if there should be some"
            found.append(Check(where, "warn", "is empty", todo))
        else:
            found.append(Check(where, "ok", "is not set; the default is used"))
    return found


# ---- the network -----------------------------------------------------------------------------------


def peers_of(config: Config) -> list[Peer]:
    """Servers at addresses that are written in a config, each once."""
    found: dict[tuple[str, int], Peer] = {}
    for node in nodes_below(config):
        for text in _urls(node.config):
            try:
                parts = urlsplit(text)
                port = parts.port or (443 if parts.scheme == "https" else 80)
            except ValueError:
                continue
            if parts.scheme in ("http", "https") and parts.hostname:
                tls = parts.scheme == "https"
                peer = Peer(parts.hostname, port, tls, node.path, tls_of(node) if tls else None)
                found.setdefault((peer.host, peer.port), peer)
    return list(found.values())


def tls_of(node: Node) -> ssl.SSLContext | None:
    """How a component verifies its server; None for the usual way.

    Raises:
        ConfigError: its files are not what they should be.
    """
    settings = getattr(node.config, "tls", None)
    return settings.context(f"{node.path}.tls") if isinstance(settings, ClientTls) else None


def _urls(value: Any) -> Iterator[str]:
    """Texts in fields that are called `url` or the like; children are looked at on their own."""
    if not is_dataclass(value) or isinstance(value, type):
        return
    for one in fields(value):
        inner = getattr(value, one.name, None)
        if one.name.endswith(("url", "urls")):
            for text in inner if isinstance(inner, list | tuple) else [inner]:
                shown = text.static if isinstance(text, Interpolated) else text
                if isinstance(shown, str) and "://" in shown:
                    yield shown
        elif not isinstance(inner, Node):
            yield from _urls(inner)


async def check_peer(peer: Peer) -> list[Check]:
    """The name, the connection, and the certificate of a server."""
    name = f"dns {peer.host}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            found = await loop.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        todo = f"check the address in {peer.path}, and the name server of this machine"
        return [Check(name, "fail", _reason(error, "no answer"), todo)]
    addresses = sorted({str(one[4][0]) for one in found})
    checks = [Check(name, "ok", ", ".join(addresses[:4]))]
    checks.append(await (_check_tls(peer) if peer.tls else _check_tcp(peer)))
    return checks


async def _check_tcp(peer: Peer) -> Check:
    name = f"connection {peer.host}:{peer.port}"
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(peer.host, peer.port)
    except (OSError, TimeoutError) as error:
        todo = "is the server up, and does a firewall let this machine through?"
        return Check(name, "fail", _reason(error, "no answer"), todo)
    writer.close()
    return Check(name, "ok", "open, not encrypted")


async def _check_tls(peer: Peer) -> Check:
    name = f"tls {peer.host}:{peer.port}"
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(
                peer.host, peer.port, ssl=peer.context or ssl.create_default_context()
            )
    except ssl.SSLCertVerificationError as error:
        todo = "use the name in the certificate, or add its authority (tls.root_cas_file)"
        return Check(name, "fail", error.verify_message, todo)
    except (OSError, TimeoutError) as error:
        todo = "is the server up, does it speak TLS here, does a firewall let this machine through?"
        return Check(name, "fail", _reason(error, "no answer"), todo)
    certificate = writer.get_extra_info("peercert") or {}
    writer.close()
    if not certificate:
        return Check(name, "warn", "the certificate is not verified", "verify it: skip_cert_verify")
    left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
    days = f"the certificate is good for {left / _DAY:.0f} days"
    if left < _SOON:
        return Check(name, "warn", days, "have the certificate renewed")
    return Check(name, "ok", days)


def _reason(error: BaseException, otherwise: str) -> str:
    return (getattr(error, "strerror", None) or str(error) or otherwise).lower()


# ---- OpenMeter -------------------------------------------------------------------------------------

_SAYS: Final = {
    401: ("fail", "the token is not accepted", "set the right token"),
    403: ("fail", "the token may not send events", "give it the right to ingest"),
    404: ("fail", "there is no ingest route at this address", "check the output's url"),
    429: ("warn", "it asks to slow down", "nothing, if this was a moment only"),
}


async def check_openmeter(url: str, token: str, tls: ssl.SSLContext | None = None) -> list[Check]:
    """What OpenMeter says to our credentials, asked with a batch of no events, and its clock."""
    target = ingest_url(url)
    name = f"openmeter {urlsplit(target).hostname}"
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    began = time.time()
    try:
        async with open_http_client(tls=tls) as client:
            answer = await client.request(
                "POST", target, headers=headers, body=b"[]", timeout=PATIENCE
            )
    except CollectorError as error:
        return [Check(name, "fail", str(error), "see the checks of its name and connection")]
    checks = [_answer(name, answer.status)]
    date = answer.headers.get("date")
    if date:
        checks.append(_check_clock(date, (began + time.time()) / 2))
    return checks


def _answer(name: str, status: int) -> Check:
    if status in _SAYS:
        return Check(name, _SAYS[status][0], f"{status}: {_SAYS[status][1]}", _SAYS[status][2])
    # A batch without events is refused as such only after credentials and address were accepted.
    if status in (200, 202, 204, 400, 422):
        return Check(name, "ok", f"takes our credentials ({status} to a batch of no events)")
    todo = "look at the server" if status >= 500 else "is this the address of OpenMeter?"
    return Check(name, "fail", f"answered {status}", todo)


def _check_clock(date: str, now: float) -> Check:
    try:
        off = now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Check("clock", "warn", "the server's Date cannot be read", "compare by hand")
    found = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the server's"
    if abs(off) < _OFF_A_LITTLE:
        return Check("clock", "ok", "agrees with the server's")
    status = "fail" if abs(off) > _OFF_MUCH else "warn"
    return Check("clock", status, found, "set the clock (ntp): times of events are billed by it")


# ---- this machine ----------------------------------------------------------------------------------


def check_buffers(config: Config) -> list[Check]:
    """Where buffers on disk are kept: the folder, the room, who has the file."""
    checks = []
    for node in nodes_below(config):
        if (node.kind, node.name) == ("buffer", "sqlite"):
            path = Path(str(getattr(node.config, "path", "")))
            least = int(getattr(node.config, "min_free_bytes", 0))
            checks += _check_file(path, least)
    if config.buffer is not None and config.buffer.name == "memory":
        todo = "use the sqlite buffer if events must survive a restart"
        checks.append(Check("buffer", "warn", "in memory only", todo))
    return checks


def _check_file(path: Path, least: int) -> list[Check]:
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    name = f"disk {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return [Check(name, "fail", "may not be written to", f"give this user access to {folder}")]
    free = shutil.disk_usage(folder).free
    room = f"{free / (1 << 30):.1f} GiB free"
    enough = max(_FEW_BYTES, 2 * least)
    checks = [
        Check(name, "ok", room)
        if free > enough
        else Check(
            name, "fail" if free <= least else "warn", room, "make room, or use another disk"
        )
    ]
    kind = _file_system(folder)
    if kind in _PASSING:
        todo = "mount a volume there: what is on it is gone with the machine or the container"
        checks.append(Check(f"{name} kept", "warn", f"is on {kind}", todo))
    checks += _check_journal(path)
    return checks


def _check_journal(path: Path) -> list[Check]:
    name = f"buffer {path}"
    if not path.exists():
        return [Check(name, "ok", "is made at the start")]
    if not os.access(path, os.R_OK | os.W_OK):
        return [Check(name, "fail", "may not be read and written", "give this user access to it")]
    if path.stat().st_size == 0:
        return [Check(name, "ok", "is empty")]
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as opened:
            ours = opened.pragma("application_id") == APPLICATION_ID
    except apsw.Error as error:
        todo = "nothing: what can be read of it is saved at the start, the rest set aside"
        return [Check(name, "warn", f"cannot be read: {error}", todo)]
    if not ours:
        todo = "let the program that made it deliver what it holds; then give another path"
        return [Check(name, "fail", "is a database of another program", todo)]
    return [Check(name, "ok", f"holds {path.stat().st_size} bytes")]


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on; empty if this machine does not say."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        parts = line.split(" ")
        if len(parts) > 2 and folder.is_relative_to(parts[1]) and len(parts[1]) >= len(best):
            best, kind = parts[1], parts[2]
    return kind


def check_addresses(config: Config) -> list[Check]:
    """Addresses to listen on: free, and allowed."""
    wanted = {config.http.address: "http"} if config.http.enabled else {}
    for node in nodes_below(config):
        address = getattr(node.config, "address", "")
        if node.kind == "input" and isinstance(address, str) and ":" in address:
            wanted[address] = node.path
    return [_check_address(address, path) for address, path in wanted.items()]


def _check_address(address: str, path: str) -> Check:
    name = f"listen {address}"
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 - what the address says
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, ValueError, OverflowError) as error:
        todo = (
            f"stop whoever listens there (the collector itself?), or change the address of {path}"
        )
        return Check(name, "fail", _reason(error, "cannot be bound"), todo)
    return Check(name, "ok", "is free")


def check_files(names: Sequence[tuple[str, str]]) -> list[Check]:
    """Files that a config names, given with the place that names each."""
    checks = []
    for name, where in names:
        path = Path(name)
        if not path.is_file():
            todo = f"{where} names it: correct the path, which starts at the working directory"
            checks.append(Check(f"file {name}", "fail", "is not there", todo))
        elif not os.access(path, os.R_OK):
            checks.append(Check(f"file {name}", "fail", "may not be read", "give this user access"))
        else:
            checks.append(Check(f"file {name}", "ok", "can be read"))
    return checks
