"""Methods that describe values or cut text by the rules of Unicode."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from typing import Any, Final

from openmeter_collector.bloblang.convert import get_number, get_string
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail, machine_type
from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import INT64_MAX, INT64_MIN, Float64, SourceNumber, Value
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
    if isinstance(value, SourceNumber):
        if math.isinf(value):
            number = f'json.Number value "{value.text}"'
            raise Fail(f" {number} is not parseable as int64 or float64")
        return "INT64" if value.text == "-0" else "FLOAT64"
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
    made: list[Value] = []
    for index, one in enumerate(value):
        try:
            made.append(Float64(get_number(one)))
        except TypeFail as fail:
            raise fail.under(f"could not convert value at index {index} to float32: ") from None
    return made


# Letters hold together over an apostrophe, a dot or a colon, digits over a dot, comma or semicolon.
_WORDS: Final = re.compile(
    r"\w+(?:(?:(?<=[^\W\d_])['\u2019.:\u00b7](?=[^\W\d_])|(?<=\d)['\u2019.,;](?=\d))\w+)*"
    r"|\r\n|[ \t]+|.",
    re.DOTALL,
)
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

    def run(value: Value) -> Value:
        text = get_string(value)
        if segmentation_type not in ("grapheme", "word", "sentence"):
            raise Fail(f"unknown segmentation type: {segmentation_type}")
        if segmentation_type == "grapheme":
            return list(_graphemes(text))
        pattern = _WORDS if segmentation_type == "word" else _SENTENCES
        return [match[0] for match in pattern.finditer(text) if match[0]]

    return run


@method(
    "objects",
    status="beta",
    prepared=True,
    cases=[
        Case(
            'root = this.json_schema("""{"type":"object","required":["id"]}""")',
            '{"id":1}',
            '{"id":1}',
        ),
        Case(
            'root = this.json_schema("""{"properties":{"id":{"type":"string"}}}""")',
            '{"id":1}',
            error="failed assignment (line 1): field `this`: "
            "id invalid type. expected: string, given: integer",
        ),
    ],
    params={"schema": "A JSON schema."},
)
def json_schema(schema: str) -> Any:
    """The value itself, if it is valid by a JSON schema; else an error."""
    import jsonschema_rs  # noqa: PLC0415 - loaded by who uses it

    try:
        read = value_json.loads(schema.encode("utf-8", "surrogateescape"))
    except value_json.JSONError as error:
        raise Fail(f"failed to parse json schema definition: {error}") from None
    try:
        checker = jsonschema_rs.validator_for(read, validate_formats=True, retriever=_no_documents)
    except ValueError as error:
        raise Fail(f"failed to parse json schema definition: {error}") from None

    def run(value: Value) -> Value:
        try:
            document = json.loads(value_json.dumps(value))
        except value_json.EncodeError as error:
            raise Fail(str(error)) from None
        problems = list(checker.iter_errors(document))
        # Nothing else is said about a value that is of another type than expected.
        strangers = [list(one.instance_path) for one in problems if one.kind.name == "type"]
        if problems:
            raise Fail(
                "\n".join(
                    _problem(one, read)
                    for one in problems
                    if one.kind.name == "type" or list(one.instance_path) not in strangers
                )
            )
        return value

    return run


def _no_documents(uri: str) -> Any:
    """Schemas are given whole: a mapping does not reach for the network."""
    raise ValueError(f"the schema refers to another document, {uri}")


_TEXTS: Final[dict[str, str]] = {
    "required": "{property} is required",
    "anyOf": "must validate at least one schema (anyof)",
    "oneOf": "must validate one and only one schema (oneof)",
    "not": "must not validate the schema (not)",
    "minItems": "array must have at least {limit} items",
    "maxItems": "array must have at most {limit} items",
    "contains": "at least one of the items must match",
    "minProperties": "must have at least {limit} properties",
    "maxProperties": "must have at most {limit} properties",
    "minLength": "string length must be greater than or equal to {limit}",
    "maxLength": "string length must be less than or equal to {limit}",
    "multipleOf": "must be a multiple of {multiple_of}",
    "minimum": "must be greater than or equal to {limit}",
    "exclusiveMinimum": "must be greater than {limit}",
    "maximum": "must be less than or equal to {limit}",
    "exclusiveMaximum": "must be less than {limit}",
}
"""What is said about a keyword that does not hold, with the keyword's own values in it."""


def _json_type(value: Any) -> str:
    names: dict[type, str] = {
        str: "string", bool: "boolean", int: "integer", float: "number", list: "array",
        dict: "object",
    }  # fmt: skip
    return names.get(type(value), "null")


def _types(error: Any, schema: Any) -> str:
    """The types a schema wants, in its order."""
    for step in error.schema_path:
        schema = schema.get(step) if isinstance(schema, dict) else None
    return f"[{','.join(schema)}]" if isinstance(schema, list) else "/".join(error.kind.types)


def _twins(elements: list[Any]) -> str:
    texts = [json.dumps(one, sort_keys=True) for one in elements]
    second = next(at for at, text in enumerate(texts) if text in texts[:at])
    return f"array items[{texts.index(texts[second])},{second}] must be unique"


def _problem(error: Any, schema: Any) -> str:
    """One fault, in the engine's words."""
    where = ".".join(str(part) for part in error.instance_path) or "(root)"
    kind = error.kind
    shown = f"{where} {error.message}"
    if kind.name == "type":
        given = _json_type(error.instance)
        shown = f"{where} invalid type. expected: {_types(error, schema)}, given: {given}"
    elif kind.name == "additionalProperties":
        # The name of the property stands before the text as well.
        lines = (
            f"{where} {name}additional property {name.lower()} is not allowed"
            for name in kind.unexpected
        )
        shown = "\n".join(lines)
    elif kind.name == "uniqueItems":
        shown = f"{where} {_twins(error.instance)}"
    elif kind.name == "enum":
        allowed = ", ".join(json.dumps(one) for one in kind.options).lower()
        shown = f"{where} {where.lower()} must be one of the following: {allowed}"
    elif kind.name == "const":
        wanted = json.dumps(kind.expected_value).lower()
        shown = f"{where} {where.lower()} does not match: {wanted}"
    elif kind.name == "pattern":
        shown = f"{where} does not match pattern '{kind.pattern.lower()}'"
    elif kind.name == "format":
        shown = f"{where} does not match format '{kind.format.lower()}'"
    elif kind.name in _TEXTS:
        values = {name: getattr(kind, name, "") for name in ("property", "limit", "multiple_of")}
        shown = f"{where} {_TEXTS[kind.name].format(**values)}"
    return shown


ENTRIES = (infer_schema, vector, unicode_segments, json_schema)
