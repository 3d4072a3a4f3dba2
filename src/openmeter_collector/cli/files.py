"""Config files named on the command line: paths, globs, and `dir/...` for all below a folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from openmeter_collector.config.dotenv import parse_dotenv
from openmeter_collector.errors import ConfigError

_SUFFIXES = (".yaml", ".yml")


def expand(patterns: Iterable[str]) -> list[Path]:
    """All files that are meant, each once, in the order of the patterns.

    Raises:
        ConfigError: a pattern names nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise ConfigError(
                f"{pattern}: no such file; name a file, a glob or a folder as dir/..."
            )
        found |= dict.fromkeys(matches)
    return list(found)


def _matches(pattern: str) -> list[Path]:
    if pattern.endswith("..."):
        return _below(Path(pattern.removesuffix("...") or "."))
    if Path(pattern).is_dir():
        return _below(Path(pattern))
    if Path(pattern).is_file():
        return [Path(pattern)]
    return [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())


def environment(files: Iterable[Path]) -> Mapping[str, str]:
    """The environment, with what `.env` files add; what is set already wins.

    Raises:
        ConfigError: a file cannot be read, or is no `.env` file.
    """
    added: dict[str, str] = {}
    for file in files:
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read: {error}") from None
        added |= parse_dotenv(text, str(file))
    return {**added, **os.environ}


def private_file(path: Path) -> IO[bytes]:
    """A new file for its owner only: what is written is other people's data."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
