"""What a config's unit test expects of one message, and how it says that it is otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from openmeter_collector import bloblang
from openmeter_collector.bloblang.compare import equal
from openmeter_collector.config.model import TestCondition
from openmeter_collector.message import Message
from openmeter_collector.values import json_exact


class Unreadable(Exception):
    """A file that a test names cannot be read."""


def failures(condition: TestCondition, message: Message, folder: Path) -> list[str]:
    """What does not hold, one text each, in the alphabetical order of the conditions.

    Args:
        folder: where files that the condition names are looked for.

    Raises:
        Unreadable: such a file is not there.
    """
    found: list[str] = []

    def check(name: str, fault: str | None) -> None:
        if fault is not None:
            found.append(f"{name}: {fault}")

    content = message.content
    if condition.bloblang:
        check("bloblang", _query(condition.bloblang, message))
    if condition.content_equals is not None:
        check("content_equals", _same(condition.content_equals.encode(), content))
    if condition.content_matches:
        check("content_matches", _matches(condition.content_matches, content))
    if condition.file_equals:
        check("file_equals", _same(_read(folder, condition.file_equals), content))
    if condition.file_json_contains:
        check(
            "file_json_contains",
            _json(_read(folder, condition.file_json_contains), content, whole=False),
        )
    if condition.file_json_equals:
        check("file_json_equals", _json(_read(folder, condition.file_json_equals), content))
    if condition.json_contains is not None:
        check("json_contains", _json(condition.json_contains, content, whole=False))
    if condition.json_equals is not None:
        check("json_equals", _json(condition.json_equals, content))
    if condition.metadata_equals is not None:
        check("metadata_equals", _metadata(condition.metadata_equals, message))
    return found


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise Unreadable(f"failed to read file '{name}': {error.strerror}") from None


def _query(text: str, message: Message) -> str | None:
    try:
        program = bloblang.compile(text)
    except bloblang.MappingError as error:
        return error.diagnostics[0].text
    try:
        body, _ = program.run([message], 0)
        if isinstance(body, str | bytes):  # as a message it would be this text, not JSON
            body = json_exact.loads(body.encode() if isinstance(body, str) else body)
    except (bloblang.MappingFailed, ValueError) as error:
        return str(error)
    if not isinstance(body, bool):
        return f"expected bool from mapping, got: {json_exact.describe(body)}"
    return None if body else "bloblang expression was false"


def _same(wanted: bytes, content: bytes) -> str | None:
    if wanted == content:
        return None
    return f"content mismatch\n  expected: {_shown(wanted)}\n  received: {_shown(content)}"


def _matches(pattern: str, content: bytes) -> str | None:
    text = content.decode("utf-8", "replace")
    try:
        if re.search(pattern, text):
            return None
    except re.error as error:
        return f"pattern cannot be read: {error}"
    return f"pattern mismatch\n   pattern: {pattern}\n  received: {text}"


def _json(wanted: Any, content: bytes, *, whole: bool = True) -> str | None:
    try:
        expected = (
            json_exact.loads(wanted.encode() if isinstance(wanted, str) else wanted)
            if (isinstance(wanted, str | bytes))
            else wanted
        )
    except ValueError as error:
        return f"failed to parse the expected JSON: {error}"
    try:
        received = json_exact.loads(content)
    except ValueError as error:
        return f"failed to parse message as JSON: {error}"
    if equal(expected, received) if whole else contains(received, expected):
        return None
    return "JSON content mismatch\n" + "\n".join(_diff(received, expected, "", whole=whole))


def contains(value: Any, wanted: Any) -> bool:
    """Whether a value has everything that is wanted: keys of objects, items of lists in place."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], inner) for key, inner in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(value, list)
            and len(value) >= len(wanted)
            and all(contains(a, b) for a, b in zip(value, wanted, strict=False))
        )
    return equal(value, wanted)


def _diff(value: Any, wanted: Any, indent: str, *, whole: bool) -> list[str]:
    """The value, with what is wanted instead behind each part that differs."""
    inner = indent + "    "
    if isinstance(value, dict) and isinstance(wanted, dict):
        keys = sorted(value.keys() | wanted.keys()) if whole else sorted(wanted)
        parts = [
            _part(f"{json_exact.dumps(key).decode()}: ", key, value, wanted, inner, whole=whole)
            for key in keys
        ]
        return ["{", *_joined(parts), indent + "}"]
    if isinstance(value, list) and isinstance(wanted, list):
        count = max(len(value), len(wanted)) if whole else len(wanted)
        have, want = dict(enumerate(value)), dict(enumerate(wanted))
        parts = [_part("", index, have, want, inner, whole=whole) for index in range(count)]
        return ["[", *_joined(parts), indent + "]"]
    shown = json_exact.dumps(value, "    ").decode().replace("\n", "\n" + indent)
    if equal(value, wanted) if whole else contains(value, wanted):
        return shown.split("\n")
    instead = json_exact.dumps(wanted, "    ").decode().replace("\n", "\n" + indent)
    return f"{shown} => {instead}".split("\n")


def _part(head: str, key: Any, value: Any, wanted: Any, indent: str, *, whole: bool) -> list[str]:
    if key not in wanted:
        return [f"{indent}{head}{_short(value[key])} => (not expected)"]
    if key not in value:
        return [f"{indent}{head}(missing) => {_short(wanted[key])}"]
    first, *rest = _diff(value[key], wanted[key], indent, whole=whole)
    return [f"{indent}{head}{first}", *rest]


def _short(value: Any) -> str:
    return json_exact.dumps(value).decode()


def _joined(parts: list[list[str]]) -> list[str]:
    for part in parts[:-1]:
        part[-1] += ","
    return [line for part in parts for line in part]


def _metadata(wanted: dict[str, Any], message: Message) -> str | None:
    for key, value in wanted.items():
        if key not in message.metadata:
            return f"metadata key '{key}' expected but not found"
        if not equal(message.metadata[key], value) and str(message.metadata[key]) != str(value):
            return (
                f"metadata key '{key}' mismatch\n  expected: {value}\n"
                f"  received: {message.metadata[key]}"
            )
    return None


def _shown(content: bytes) -> str:
    return content.decode("utf-8", "replace")
