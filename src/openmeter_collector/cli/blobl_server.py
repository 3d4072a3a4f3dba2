"""`blobl server`: the playground for mappings, on this machine."""

from __future__ import annotations

import asyncio
import signal
import webbrowser
from pathlib import Path

import click
import uvloop

from openmeter_collector.admin.playground import Playground
from openmeter_collector.bloblang import Registry
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen

_DOCUMENT = '{"message": "hello world", "usage": {"tokens": 42}}\n'
_MAPPING = "root = this\nroot.message = this.message.uppercase()\n"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def serve(
    host: str,
    port: int,
    *,
    browser: bool,
    mapping_file: Path | None,
    input_file: Path | None,
    write: bool,
    registry: Registry,
) -> None:
    """Serve the page until told to stop.

    Raises:
        ConfigError: a file cannot be read, or the address cannot be bound.
    """
    if write and mapping_file is None and input_file is None:
        raise ConfigError("blobl server: --write needs --mapping-file or --input-file")

    def save(document: str, mapping: str) -> None:
        for path, text in ((input_file, document), (mapping_file, mapping)):
            if path is not None and (not path.is_file() or path.read_text("utf-8") != text):
                path.write_text(text, "utf-8")

    app = Playground(
        _LOOPBACK | {host.strip("[]").lower()},
        document=_text(input_file, _DOCUMENT, write=write),
        mapping=_text(mapping_file, _MAPPING, write=write),
        registry=registry,
        write=save if write else None,
    )
    uvloop.run(_serve(app, host, port, browser=browser))


def _text(path: Path | None, otherwise: str, *, write: bool) -> str:
    """What a file says; one that is yet to be written says what is there without one."""
    if path is None or (write and not path.exists()):
        return otherwise
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


async def _serve(app: Playground, host: str, port: int, *, browser: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    name = f"[{host}]" if ":" in host else host
    async with listen(app, ListenOptions(f"{name}:{port}")) as bound:
        url = f"http://{bound.address}/"
        click.echo(f"Mapping playground on {url} (Ctrl-C ends it)")
        if host not in _LOOPBACK:
            click.echo("whoever reaches this address can run mappings on this machine", err=True)
        if browser:
            await asyncio.to_thread(webbrowser.open, url)
        await stop.wait()
