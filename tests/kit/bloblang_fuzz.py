"""Breaks good mappings at random and runs what still compiles, for as long as asked.

    ./dev python tests/kit/bloblang_fuzz.py [--seconds N] [--seed N]

Ends with exit code 1 at the first mapping that raises anything but the language's own errors, takes
longer than five seconds, or compiles to something that its printed form does not.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Iterator

from openmeter_collector.bloblang import (
    STANDARD,
    MappingError,
    MappingFailed,
    Services,
    SimpleDocument,
    compile,
    compile_interpolated,
)
from openmeter_collector.bloblang.printer import format_mapping

PIECES = [
    "root",
    "this",
    ".",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "=",
    "==",
    "=>",
    "->",
    '"',
    '"""',
    "#",
    "\n",
    "\t",
    "@",
    "$",
    "_",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "|",
    "||",
    "&&",
    "<",
    "<=",
    ">",
    "1",
    "2.5",
    "9223372036854775808",
    "true",
    "null",
    "if",
    "else",
    "match",
    "let",
    "meta",
    "map",
    "import",
    "from",
    "x",
    "\\x",
    "é",
    "🎉",
    "deleted()",
    "nothing()",
    ".uppercase()",
    ".map_each(",
    ".catch(",
    '.apply("m")',
    "${!",
    'throw("t")',
    "\x00",
    "�",
]
DOCUMENTS = [
    SimpleDocument(raw)
    for raw in (b'{"a":1,"b":"x","list":[1,{"a":null}]}', b"no json", b"", b'["x",2.50]', b'"text"')
]
LONGEST = 5.0


def seeds() -> list[str]:
    """Mappings to start from: the cases of the library."""
    return [case.mapping for entry in STANDARD for case in entry.cases]


def broken(chance: random.Random, good: list[str]) -> str:
    """A mapping with a few things cut, put in, doubled or exchanged."""
    text = chance.choice(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(text))
        end = min(len(text), at + chance.randint(0, 12))
        other = chance.choice(good)
        start = chance.randint(0, len(other))
        piece = chance.choice(
            ["", chance.choice(PIECES), other[start : start + 12], text[at:end] * 2]
        )
        text = text[:at] + piece + text[end:]
    return text


def check(text: str) -> str:
    """What is wrong with how a text is handled, "" if nothing is."""
    started = time.perf_counter()
    quiet = Services(env={}, read=_no_files)
    with contextlib.suppress(MappingError):
        compile_interpolated(f"${{! {text} }}", services=quiet)
    try:
        mapping = compile(text, services=quiet)
    except MappingError as error:
        error.rendered()
        error.lint()
        return _late(started)
    again = format_mapping(mapping.program)
    if format_mapping(compile(again, services=quiet).program) != again:
        return f"its printed form reads back otherwise:\n{again}"
    assert mapping.warnings is not None
    assert mapping.reads is not None
    for index in range(len(DOCUMENTS)):
        for call in (mapping.run, mapping.mutate):
            try:
                call(DOCUMENTS, index)
            except MappingFailed as failed:
                failed.rendered()
                if "defect" in str(failed):
                    return str(failed)
    return _late(started)


def _late(started: float) -> str:
    took = time.perf_counter() - started
    return f"took {took:.1f} seconds" if took > LONGEST else ""


def _no_files(path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", path)


def faults(seed: int) -> Iterator[tuple[str, str]]:
    """Broken mappings without end, each with what is wrong in how it was handled."""
    chance, good = random.Random(seed), seeds()
    while True:
        text = broken(chance, good)
        try:
            yield text, check(text)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            yield text, f"{type(error).__name__}: {error}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    end, count = time.monotonic() + options.seconds, 0
    for text, fault in faults(seed):
        count += 1
        if fault:
            print(f"seed {seed}, mapping {count}: {fault}\n{text!r}")
            return 1
        if time.monotonic() > end:
            break
    print(f"seed {seed}: {count} mappings, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
