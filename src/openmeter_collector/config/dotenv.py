"""`.env` files: `NAME=value` lines, `export` allowed, `#` comments, single and double quotes."""

from __future__ import annotations

import re
from typing import Final

from openmeter_collector.errors import ConfigError

_LINE: Final = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][\w.]*)\s*=\s*
    (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^"'\s\#][^\n]*?)?)
    \s*(?:(?<=\s)\#[^\n]*)?""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str, file: str = "") -> dict[str, str]:
    """Read a `.env` file; of a name that is set twice the last wins.

    Raises:
        ConfigError: a line is not an assignment. The text names the line and never its value.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{file}:{number}:1: not an assignment; write NAME=value")
        found[match["name"]] = _value(match)
    return found


def _value(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match["double"])
    if match["single"] is not None:
        return match["single"]
    return re.split(r"\s+#", match["bare"] or "")[0].rstrip()
