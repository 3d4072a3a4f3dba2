"""Methods that describe values or cut text by the rules of Unicode."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any, Final

from openmeter_collector.bloblang.convert import get_number, get_string
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail, machine_type
from openmeter_collector.values.kinds import INT64_MAX, INT64_MIN, Float64, Value
from openmeter_collector.values.timestamp import Timestamp

_NUMBERS: Final = {
    "BOOLEAN": 1, "INT32": 2, "INT64": 3, "FLOAT32": 4, "FLOAT64": 5, "STRING": 6, "BYTE_ARRAY": 7,
    "OBJECT": 8, "ARRAY": 10, "NULL": 11, "TIMESTAMP": 13,
}  # fmt: skip
_MACHINE: Final = {
    "int32": "INT32", "int": "INT64", "int64": "INT64", "float32": "FLOAT32",
    "float64": "FLOAT64", "string": "STRING", "[]uint8": "BYTE_ARRAY",
}  # fmt: skip


def _type(value: Value) -> str:
    if value is None:
        return "NULL"
    if value is True or value is False:
        return "BOOLEAN"
    if isinstance(value, dict):
        return "OBJECT"
    if isinstance(value, list):
        return "ARRAY"
    if isinstance(value, Timestamp):
        return "TIMESTAMP"
    if type(value) is int:
        return "INT64" if INT64_MIN <= value <= INT64_MAX else "FLOAT64"
    kind = machine_type(value)
    if kind == "json.Number":
        return "FLOAT64"
    if kind not in _MACHINE:
        raise Fail(f" unsupported data type: {kind}")
    return _MACHINE[kind]


def _schema(name: str, value: Value) -> tuple[dict[str, Value], str]:
    """The schema of a value, and the text its fingerprint is made of."""
    kind = _type(value)
    children: list[tuple[dict[str, Value], str]] = []
    pairs: list[tuple[str, str, Value]] = []
    if isinstance(value, dict):
        pairs = [(key, key, value[key]) for key in sorted(value)]
    elif isinstance(value, list):
        pairs = [(str(index), "", one) for index, one in enumerate(value)]
    for where, child, one in pairs:
        try:
            made = _schema(child, one)
        except Fail as fail:
            raise Fail(f".{where}{fail}") from None
        if isinstance(value, dict) or not children:
            children.append(made)
        elif children[0][0]["type"] != made[0]["type"]:
            first = children[0][0]["type"]
            found = made[0]["type"]
            raise Fail(f".{where} mismatched array types, found {first} and {found}")
    inner = "".join(f"[{index}:{text}]" for index, (_, text) in enumerate(children))
    text = f"T:{_NUMBERS[kind]}|N:{name}|O:0|C:{len(children)}|{inner}"
    schema: dict[str, Value] = {
        "type": kind,
        "fingerprint": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
    }
    if name:
        schema["name"] = name
    if children:
        schema["children"] = [child for child, _ in children]
    return schema, text


@method("parsing", plugin=True, cases=[Case("root = this.infer_schema().type", '"a"', "STRING")])
def infer_schema(value: Value) -> Value:
    """The schema of a value, as an object with types and a fingerprint."""
    return _schema("", value)[0]


@method(
    "objects",
    plugin=True,
    cases=[Case("root = this.vector()", "[1,2.5]", "[1,2.5]")],
)
def vector(value: Value) -> Value:
    """An array of numbers as a vector for databases: all numbers as floats."""
    if not isinstance(value, list):
        raise TypeFail(value, "array")
    return [Float64(get_number(one)) for one in value]


_WORDS: Final = re.compile(r"\w+(?:['\u2019.:\u00b7,;]\w+)*|\r\n|[ \t]+|.", re.DOTALL)
_SENTENCES: Final = re.compile(r".+?(?:[.!?…]+[\"')\]]*\s+|[\r\n]+|$)", re.DOTALL)


def _graphemes(text: str) -> list[str]:
    made: list[str] = []
    joined = False
    for char in text:
        code = ord(char)
        extends = unicodedata.category(char) in ("Mn", "Me", "Mc") or code in (0x200D, 0xFE0F)
        extends = extends or 0x1F3FB <= code <= 0x1F3FF or (char == "\n" and made[-1:] == ["\r"])
        flag = 0x1F1E6 <= code <= 0x1F1FF
        paired = flag and bool(made) and len(made[-1]) == 1 and 0x1F1E6 <= ord(made[-1]) <= 0x1F1FF
        if made and (extends or joined or paired):
            made[-1] += char
        else:
            made.append(char)
        joined = code == 0x200D
    return made


@method(
    "strings",
    plugin=True,
    prepared=True,
    cases=[Case('root = this.unicode_segments("word")', '"hi you"', '["hi"," ","you"]')],
    params={"segmentation_type": "`grapheme`, `word` or `sentence`."},
)
def unicode_segments(segmentation_type: str) -> Any:
    """Text cut into characters as people see them, words or sentences."""
    if segmentation_type not in ("grapheme", "word", "sentence"):
        raise Fail(f"unrecognized segmentation type: {segmentation_type}")

    def run(value: Value) -> Value:
        text = get_string(value)
        if segmentation_type == "grapheme":
            return list(_graphemes(text))
        pattern = _WORDS if segmentation_type == "word" else _SENTENCES
        return [match[0] for match in pattern.finditer(text) if match[0]]

    return run


ENTRIES = (infer_schema, vector, unicode_segments)
