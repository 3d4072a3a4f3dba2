"""Watching files: which there are, and when they have changed and come to rest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_FILE: Final = re.compile(r"file://([^\s\"'`,\]}]+)")
_IMPORT: Final = re.compile(r"(?:^|\s)(?:import|from)\s+\"([^\"\n]+)\"")
_MOST_READ: Final = 4 << 20
POLL: Final = 1.0
"""Seconds between looks, and for which files must be at rest before they are read."""

Print = tuple[tuple[str, int, int], ...]
"""Of each file: its name, when it was changed, and its size."""


def files_of(configs: Iterable[Path]) -> list[Path]:
    """Files, and those that they name: mappings and schemas (`file://`), imports of mappings."""
    found: dict[Path, None] = {}
    waiting = list(configs)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        with suppress(OSError):
            if path.stat().st_size > _MOST_READ:
                continue
            text = path.read_text("utf-8", "replace")
            waiting += [Path(name) for name in (*_FILE.findall(text), *_IMPORT.findall(text))]
    return sorted(found)


def fingerprint(files: Iterable[Path]) -> Print:
    """What files look like now; one that is not there looks like one of no size."""
    seen = []
    for path in files_of(files):
        modified = size = -1
        with suppress(OSError):
            stat = path.stat()
            modified, size = stat.st_mtime_ns, stat.st_size
        seen.append((str(path), modified, size))
    return tuple(seen)


async def changes(
    files: Callable[[], Iterable[Path]], poll: float = POLL
) -> AsyncIterator[set[str]]:
    """Names of files that have changed, once they are at rest again, for ever.

    Args:
        files: asked at every look, so that new files are seen as well.
    """
    known = fingerprint(files())
    while True:
        await asyncio.sleep(poll)
        now = fingerprint(files())
        if now == known:
            continue
        while True:
            await asyncio.sleep(poll)
            later = fingerprint(files())
            if later == now:
                break
            now = later
        yield {name for name, _, _ in set(known) ^ set(now)}
        known = now
