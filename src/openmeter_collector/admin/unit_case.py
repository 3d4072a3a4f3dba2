"""An attempt as a unit test: a case that `openmeter-collector test` runs, and that passes there.

What is expected is what the processor makes of the inputs, not what was on a screen. A mapping that
answers otherwise in another run (random data, counts, the clock) is run again a day later: only what
both runs have in common is expected.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from openmeter_collector.admin.attempt import Asked, NotUnderstood, Reach, compiled
from openmeter_collector.bloblang.stability import unstable_of
from openmeter_collector.components.processors.mapping import Mapper
from openmeter_collector.config.emit import to_yaml
from openmeter_collector.message import Message
from openmeter_collector.values import json as value_json

_LATER: Final = 86_400_000_000_000 * 400 + 5_025_123_456_789
"""Nanoseconds, by which the clock of the second run is ahead: another year, day, hour and second."""
_MOST_EXACT: Final = 1 << 53
_FLAGGED: Final = "errored()"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a test is to be written.

    Attributes:
        name: what it is called.
        processors: label or pointer of the processor of a config that is tested, or "".
        mapping_file: the file beside the test that has the mapping, or "".

    Without either, the file that is made holds the mapping as well, and stands alone.
    """

    name: str
    processors: str = ""
    mapping_file: str = ""


def yaml_of(asked: Asked, wanted: Wanted, reach: Reach) -> str:
    """A file in YAML with the one case.

    Raises:
        NotUnderstood: what was asked makes no test.
        MappingError: the mapping is none.
    """
    return to_yaml(document_of(asked, wanted, reach))


def document_of(asked: Asked, wanted: Wanted, reach: Reach) -> dict[str, Any]:
    """The same, as plain values."""
    if wanted.mapping_file and asked.mode == "mutation":
        raise NotUnderstood("a mapping file is tested as `mapping`; choose `mapping`, or no file")
    inputs = [_Input(one.content, one.metadata) for one in asked.messages()]
    case: dict[str, Any] = {"name": wanted.name}
    if wanted.mapping_file:
        case["target_mapping"] = wanted.mapping_file
    else:
        case["target_processors"] = wanted.processors or "/pipeline/processors"
    case["input_batch"] = [one.written() for one in inputs]
    expected = _expected(asked, inputs, reach)
    case["output_batches"] = [expected] if expected else []
    if wanted.mapping_file or wanted.processors:
        return {"tests": [case]}
    return {"pipeline": {"processors": [{asked.mode: asked.mapping}]}, "tests": [case]}


class _Input:
    """A message of the test: its content is what the test will make of what is written."""

    def __init__(self, content: bytes, metadata: Any) -> None:
        self.metadata = dict(metadata)
        self._value = _as_written(content)
        self.content = content if self._value is None else value_json.dumps(self._value)

    def written(self) -> dict[str, Any]:
        made: dict[str, Any] = (
            {"content": self.content.decode()}
            if self._value is None
            else {"json_content": self._value}
        )
        return made | ({"metadata": self.metadata} if self.metadata else {})


def _expected(asked: Asked, inputs: Sequence[_Input], reach: Reach) -> list[dict[str, Any]]:
    first = last = _outcome(asked, inputs, reach)
    if unstable_of(compiled(asked, reach).program).everywhere:
        with _another_day():
            last = _outcome(asked, inputs, reach)
    if [origin for origin, _ in first] != [origin for origin, _ in last]:
        raise NotUnderstood(
            "which messages are dropped is different in each run (random data, counts or the clock); "
            "that cannot be expected"
        )
    return [
        _conditions(inputs[origin], one, other)
        for (origin, one), (_, other) in zip(first, last, strict=True)
    ]


@contextmanager
def _another_day() -> Iterator[None]:
    """The clock of this process, which tries the one mapping and ends, put forward."""
    now, now_ns = time.time, time.time_ns
    try:
        time.time_ns = lambda: now_ns() + _LATER
        time.time = lambda: now() + _LATER / 1e9
        yield
    finally:
        time.time, time.time_ns = now, now_ns


def _outcome(asked: Asked, inputs: Sequence[_Input], reach: Reach) -> list[tuple[int, Message]]:
    program = compiled(asked, reach)
    mutates = asked.mode == "mutation"
    node = SimpleNamespace(name=asked.mode, label="", path="")
    env: Any = SimpleNamespace(node=node)
    mapper = Mapper(program.mutate if mutates else program.run, env, partial=mutates)
    batch = [Message(one.content, one.metadata, origin=at) for at, one in enumerate(inputs)]
    return [(_index(one.origin), one) for made in mapper.process(batch) for one in made]


def _index(origin: int | tuple[int, ...]) -> int:
    return origin if isinstance(origin, int) else origin[0]


def _conditions(given: _Input, one: Message, other: Message) -> dict[str, Any]:
    made = _content(one, other)
    queries = []
    if one.error is not None:
        text, again = str(one.error), str(other.error)
        queries.append(f"error() == {json.dumps(text)}" if text == again else _FLAGGED)
    kept = {key: value for key, value in one.metadata.items() if other.metadata.get(key) == value}
    if kept:
        made["metadata_equals"] = kept
    gone = sorted(given.metadata.keys() - one.metadata.keys())
    queries += [f"metadata({json.dumps(key)}) == null" for key in gone]
    if queries:
        made["bloblang"] = " && ".join(queries)
    return made


def _content(one: Message, other: Message) -> dict[str, Any]:
    value = _value(one.content)
    if one.content != other.content:
        common = _common(value, _value(other.content))
        return {} if common is _DIFFERENT else {"json_contains": common}
    if value is None:
        try:
            return {"content_equals": one.content.decode()}
        except UnicodeDecodeError:
            return {"bloblang": f'content().encode("hex") == {json.dumps(one.content.hex())}'}
    simple = _as_written(one.content)
    return {"json_equals": one.content.decode() if simple is None else simple}


_DIFFERENT: Final = object()


def _common(one: Any, other: Any) -> Any:
    """What two values both have; objects keep the keys that are alike, lists are alike or not."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = {key: _common(value, other.get(key, _DIFFERENT)) for key, value in one.items()}
        return {key: value for key, value in pairs.items() if value is not _DIFFERENT}
    return one if type(one) is type(other) and one == other and _is_simple(one) else _DIFFERENT


def _value(content: bytes) -> Any:
    """The value of an object or a list; None for what is to be compared as text."""
    try:
        found = value_json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict | list) else None


def _as_written(content: bytes) -> Any:
    """The same where YAML holds it exactly, else None."""
    found = _value(content)
    return found if found and _is_simple(found) else None


def _is_simple(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_text(key) and _is_simple(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(_is_simple(inner) for inner in value)
    if isinstance(value, bool) or value is None:
        return True
    if type(value) is float:  # numbers whose text is not the usual one are of another type
        return math.isfinite(value)
    return _is_text(value) or (type(value) is int and abs(value) < _MOST_EXACT)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()
