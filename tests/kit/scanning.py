"""Scanners of a config text, and what they find."""

from __future__ import annotations

from contextlib import asynccontextmanager

from openmeter_collector.api import Env, Node, ScannerNode, Source, Unreadable, field, input
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.testing.contracts import check_scanner, pieces
from openmeter_collector.testing.env import FakeEnv


@input("scanned")
class Scanned:
    """An input that has a scanner and does nothing."""

    scanner: ScannerNode = field(doc="The scanner.")

    @asynccontextmanager
    async def open(self, env: Env):
        yield None


REGISTRY = standard_registry().with_(Scanned)


def scanner_node(text: str) -> Node:
    """The scanner of a line such as `lines: {}`."""
    config = load(f"input:\n  scanned:\n    scanner:\n      {text}\n", REGISTRY, env={})
    return config.input.config.scanner


async def scan(text: str, data: bytes, name: str = "data", **about) -> list:
    """The messages that a scanner makes of bytes, whatever pieces they come in."""
    node = scanner_node(text)
    return await check_scanner(node.config.open, FakeEnv(node), data, name, **about)


async def until_unreadable(text: str, data: bytes, name: str = "data", size: int = 1 << 20):
    """Contents up to the error, and the error's text."""
    node = scanner_node(text)
    contents = []
    async with node.config.open(FakeEnv(node)) as scanner:
        try:
            async for found in scanner.scan(Source(name, pieces(data, size))):
                contents += [message.content for message in found.batch]
        except Unreadable as error:
            return contents, f"{type(error).__name__}: {error}"
    return contents, None
