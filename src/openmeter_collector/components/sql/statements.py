"""SQL text as far as it must be understood: where placeholders are, and where statements end.

What stands in quotes and comments is left alone. `??` is a question mark that is no placeholder, for
operators such as PostgreSQL's `?`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_QUOTED: Final = (
    r'"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/'
    r"|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$"
)
_PLAIN: Final = r"'(?:[^']|'')*'"
_ESCAPED: Final = r"'(?:[^'\\]|''|\\.)*'"


def _scanner(text_pattern: str, wanted: str) -> re.Pattern[str]:
    return re.compile(f"(?P<skip>{text_pattern}|{_QUOTED})|(?P<found>{wanted})", re.DOTALL)


_MARKS: Final = {
    escapes: _scanner(_ESCAPED if escapes else _PLAIN, r"\?\?|\?") for escapes in (False, True)
}
_ANY_MARKS: Final = _scanner(_ESCAPED, r"\?\?|\?|\$\d+")
_ENDS: Final = _scanner(_ESCAPED, ";")


def numbered(query: str) -> str:
    """`?` as `$1`, `$2` and so on."""
    count = 0

    def put(found: str) -> str:
        nonlocal count
        if found == "??":
            return "?"
        count += 1
        return f"${count}"

    return _replaced(_MARKS[False], query, put)


def formatted(query: str) -> str:
    """`?` as `%s`, and every per cent sign doubled, for libraries that fill in values themselves."""
    pieces = []
    at = 0
    for match in _MARKS[True].finditer(query):
        if match["found"] is None:
            continue
        pieces.append(query[at : match.start()].replace("%", "%%"))
        pieces.append("?" if match["found"] == "??" else "%s")
        at = match.end()
    return "".join(pieces) + query[at:].replace("%", "%%")


def filled(query: str, literals: list[str]) -> str:
    """`?` and `$1` replaced by literals.

    Raises:
        ValueError: there are more placeholders than literals, or fewer.
    """
    used: set[int] = set()
    at = 0

    def put(found: str) -> str:
        nonlocal at
        if found == "??":
            return "?"
        number = at if found == "?" else int(found[1:]) - 1
        at += found == "?"
        if not 0 <= number < len(literals):
            raise ValueError(
                f"there is no value for placeholder {found}, args_mapping made {len(literals)}"
            )
        used.add(number)
        return literals[number]

    made = _replaced(_ANY_MARKS, query, put)
    if len(used) != len(literals):
        raise ValueError(f"args_mapping made {len(literals)} values, the query takes {len(used)}")
    return made


def separate(text: str) -> list[str]:
    """The statements of a script."""
    found, at = [], 0
    for match in _ENDS.finditer(text):
        if match["found"] is not None:
            found.append(text[at : match.start()])
            at = match.end()
    return [one for one in (*found, text[at:]) if one.strip()]


def _replaced(pattern: re.Pattern[str], query: str, put: Callable[[str], str]) -> str:
    return pattern.sub(
        lambda match: match[0] if match["found"] is None else put(match["found"]), query
    )
