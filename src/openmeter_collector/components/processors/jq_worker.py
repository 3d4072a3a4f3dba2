"""The process in which `jq` programs run, so that one that never ends can be ended.

Asked with a length of four bytes and JSON: first the program, then `[input, metadata]` for each
message. Answers with one byte, a length and JSON: `v` and a list of what was emitted, or `e` and why not.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

MOST_MEMORY = 1 << 29
"""Bytes of address space; a program that wants more ends the process, not the machine."""

# The engine this replaces flags what halts. Here it would end without a word and lose the message.
_PRELUDE = (
    'def halt: error("halt"); def halt_error: error; def halt_error($code): error; '
    ".[1] as $metadata | .[0] | (\n"
)


def main() -> None:
    """Serve until the input ends."""
    os.environ.clear()  # `env` would show secrets to programs otherwise
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    source, target = sys.stdin.buffer, sys.stdout.buffer
    asked = _frames(source)
    settings = json.loads(next(asked))
    try:
        program = compiled(settings["query"])
    except ValueError as error:
        _answer(target, b"e", _short(str(error)))
        return
    _answer(target, b"v", [])
    for text in asked:
        try:
            emitted = _emitted(program, text.decode(), settings["most"])
        except (ValueError, MemoryError, RecursionError) as error:
            _answer(target, b"e", str(error) or type(error).__name__)
        else:
            _answer(target, b"v", emitted)


def compiled(query: str) -> Any:
    """The program of a query.

    Raises:
        ValueError: it is none.
    """
    import jq  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

    try:
        return jq.compile(f"{_PRELUDE}{query}\n)")
    except ValueError:
        jq.compile(query, args={"metadata": {}})  # tells faults by the query's own lines
        raise


def _emitted(program: Any, text: str, most: int) -> list[Any]:
    emitted = []
    for value in program.input_text(text):
        emitted.append(value)
        if len(emitted) > most:
            raise ValueError(f"the query emits more than max_values ({most})")
    return emitted


def _frames(source: BinaryIO) -> Iterator[bytes]:
    while len(head := source.read(4)) == 4:
        yield source.read(int.from_bytes(head, "big"))


def _answer(target: BinaryIO, kind: bytes, value: Any) -> None:
    body = json.dumps(value).encode()
    target.write(kind + len(body).to_bytes(4, "big") + body)
    target.flush()


def _short(fault: str) -> str:
    """A fault in one line."""
    return fault.partition("\n")[0].removeprefix("jq: error: ").rstrip(":")


if __name__ == "__main__":
    main()
