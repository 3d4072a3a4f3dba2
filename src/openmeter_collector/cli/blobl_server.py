"""`blobl server`: the playground for mappings, on this machine."""

from __future__ import annotations

import asyncio
import signal
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from openmeter_collector.admin.attempt import Reach
from openmeter_collector.admin.config_mappings import mappings_of
from openmeter_collector.admin.playground import DOCUMENT, MAPPING, Offers, Playground
from openmeter_collector.cli.config_tests import TestsBeside
from openmeter_collector.cli.options import given
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.component.node import Node
from openmeter_collector.config import Config, resources_of
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Served:
    """What the page is about.

    Attributes:
        write: changes go back to those files.
        write_tests: the page may add unit tests to the file beside the config.
    """

    mapping_file: Path | None = None
    input_file: Path | None = None
    write: bool = False
    plugins: tuple[Path, ...] = ()
    config_file: Path | None = None
    resources: tuple[str, ...] = ()
    write_tests: bool = False

    def offers(self) -> Offers:
        """What the page has to offer.

        Raises:
            ConfigError: a file cannot be read, or options do not go together.
        """
        if self.write and self.mapping_file is None and self.input_file is None:
            raise ConfigError("blobl server: --write needs --mapping-file or --input-file")
        if self.write_tests and self.config_file is None:
            raise ConfigError("blobl server: --write-tests needs --config")
        found: list[dict[str, Any]] = []
        tests = None
        if self.config_file is not None:
            reading = given(None, (), self.resources, (), (), chilled=True).read(self.config_file)
            config = reading.or_raise()
            found = mappings_of(_components(config), reading.secrets)
            tests = TestsBeside(self.config_file, config) if self.write_tests else None
        return Offers(
            document=_text(self.input_file, DOCUMENT, write=self.write),
            mapping=_text(self.mapping_file, MAPPING, write=self.write),
            mapping_file="" if self.mapping_file is None else self.mapping_file.name,
            mappings=lambda: found,
            save=self._save if self.write else None,
            tests_file="" if tests is None else str(tests.path),
            add_test=None if tests is None else tests.add,
        )

    def _save(self, document: str, mapping: str) -> None:
        for path, text in ((self.input_file, document), (self.mapping_file, mapping)):
            if path is not None and (not path.is_file() or path.read_text("utf-8") != text):
                path.write_text(text, "utf-8")


def serve(host: str, port: int, served: Served, *, browser: bool) -> None:
    """Serve the page until told to stop.

    Raises:
        ConfigError: a file cannot be read, or the address cannot be bound.
    """
    reach = Reach(outside=True, plugins=tuple(str(path.absolute()) for path in served.plugins))
    app = Playground(_LOOPBACK | {host.strip("[]").lower()}, served.offers(), reach)
    reach.registry()  # what is wrong with a plug-in is said now
    uvloop.run(_serve(app, host, port, browser=browser))


def _components(config: Config) -> list[Node]:
    road = (config.input, config.buffer, *config.pipeline.processors, config.output)
    return [*(one for one in road if one is not None), *resources_of(config).values()]


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
