"""Chooses a scanner by the name of what is read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Scanned,
    Scanner,
    ScannerNode,
    Source,
    Unreadable,
    field,
    scanner,
    section,
)
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.regex import Pattern, compile_pattern

BY_NAME = Example(
    "Files of several kinds in one folder",
    r"""
    input:
      file:
        paths: [ ./data/* ]
        scanner:
          switch:
            - re_match_name: '\.csv$'
              scanner:
                csv: {}
            - re_match_name: '\.jsonl\.gz$'
              scanner:
                decompress:
                  algorithm: gzip
                  into:
                    lines: {}
            - scanner:
                to_the_end: {}
    """,
)


def _pattern_problem(pattern: str | None) -> str | None:
    try:
        compile_pattern(pattern or "")
    except Fail as error:
        return str(error)
    return None


@section
class Case:
    """A scanner and when to choose it."""

    re_match_name: str | None = field(
        default=None,
        doc="A regular expression that is searched in the name (a path, an object's key). "
        "Without one the case fits everything.",
        lint=_pattern_problem,
    )
    scanner: ScannerNode = field(doc="The scanner to choose.")


@scanner("switch", examples=[BY_NAME], value="cases")
class Switch:
    """Reads each source with the first scanner of a list whose condition its name meets.

    A source for which there is none is not read; put a case without a condition last.
    """

    cases: list[Case] = field(doc="The scanners, in the order in which they are considered.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        async with AsyncExitStack() as stack:
            yield _Switch(
                [
                    (
                        compile_pattern(case.re_match_name) if case.re_match_name else None,
                        await stack.enter_async_context(env.scanner(case.scanner)),
                    )
                    for case in self.cases
                ]
            )


class _Switch:
    def __init__(self, cases: list[tuple[Pattern | None, Scanner]]) -> None:
        self._cases = cases

    def seeks(self, name: str) -> bool:
        chosen = self._chosen(name)
        return chosen is not None and chosen.seeks(name)

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        chosen = self._chosen(source.name)
        if chosen is None:
            raise Unreadable(
                f"{source.name}: no case of the scanner `switch` fits its name; add one without "
                "re_match_name"
            )
        scan = chosen.scan(source)
        try:
            async for found in scan:
                yield found
        finally:
            await scan.aclose()

    def _chosen(self, name: str) -> Scanner | None:
        for pattern, child in self._cases:
            if pattern is None or pattern.search(name):
                return child
        return None
