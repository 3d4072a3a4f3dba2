"""Expressions that a backtracking matcher may need far longer for than their text is long, run by RE2.

The library is optional. Without it they are run as all others are; `available` says which it is.
"""

from __future__ import annotations

import importlib
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Final

_LONE: Final = re.compile("[\ud800-\udfff]")


class Found:
    """What of `re.Match` is used."""

    __slots__ = ("_spans", "_text")

    def __init__(self, text: str, spans: Sequence[tuple[int, int]]) -> None:
        self._text = text
        self._spans = spans

    def __getitem__(self, group: int) -> str | None:
        start, end = self._spans[group]
        return None if start < 0 else self._text[start:end]

    def start(self) -> int:
        """The index of its first character."""
        return self._spans[0][0]

    def end(self) -> int:
        """The index behind its last character."""
        return self._spans[0][1]


@cache
def _library() -> Any:
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


def available() -> bool:
    """Whether the library is installed."""
    return _library() is not None


def compile_linear(pattern: str) -> Callable[[str], Callable[[int], Found | None]] | None:
    """What looks for the expression in a text, from an index on; None when RE2 cannot be had.

    Args:
        pattern: in the syntax of RE2, known to be sound.
    """
    library = _library()
    if library is None:
        return None
    options = library.Options()
    options.log_errors = False
    try:
        code = library.compile(pattern, options)
    except library.error:  # too large for it
        return None
    groups = range(code.groups + 1)

    def look_in(text: str) -> Callable[[int], Found | None]:
        # A character that is none takes as many bytes as the one that stands for such.
        raw = text.encode() if text.isascii() else _LONE.sub("\ufffd", text).encode()
        starts = None if len(raw) == len(text) else _starts(text)

        def look(index: int) -> Found | None:
            match = code.search(raw, index if starts is None else starts[index])
            if match is None:
                return None
            spans = [match.span(group) for group in groups]
            if starts is not None:
                spans = [
                    (bisect_left(starts, start), bisect_left(starts, end))
                    if start >= 0
                    else (-1, -1)
                    for start, end in spans
                ]
            return Found(text, spans)

        return look

    return look_in


def _starts(text: str) -> list[int]:
    """At which byte each character begins, and the end."""
    return list(accumulate(map(_width, text), initial=0))


def _width(char: str) -> int:
    code = ord(char)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
