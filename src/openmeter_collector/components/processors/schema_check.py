"""JSON Schema, with faults told in the words that users of the collector know."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

import jsonschema_rs

from openmeter_collector.values import json

_TIMES: Final = re.compile(
    r"(\d{4}-\d\d-\d\d|(\d{4}-\d\d-\d\dT)?([01]\d|2[0-3]):[0-5]\d:[0-5]\d([.,]\d+)?"
    r"(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)?)",
    re.ASCII,
)
_MOST_FAULTS: Final = 100


def _date_time(text: str) -> bool:
    """A moment, a date or a time of day: as lenient as it always was."""
    return _TIMES.fullmatch(text) is not None


_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._~/-]+")
"""What most sources are made of. Nothing in it could make it anything but a relative reference."""


def _uri_reference(text: str) -> bool:
    if _PLAIN_PATH.fullmatch(text) and not text.startswith("//"):
        return True
    if "\\" in text or any(ord(letter) < 0x20 or letter == "\x7f" for letter in text):
        return False
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    bad_escape = re.search(r"%(?![0-9A-Fa-f]{2})", text) is not None
    return not bad_escape and not text.startswith(":")


def _uri(text: str) -> bool:
    return _uri_reference(text) and bool(urllib.parse.urlsplit(text).scheme)


_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _date_time,
    "uri": _uri,
    "uri-reference": _uri_reference,
}


class Check:
    """A compiled schema."""

    def __init__(self, validator: Any, schema: Any) -> None:
        self._validator = validator
        self._schema = schema
        self.fits: Callable[[Any], bool] = validator.is_valid

    def faults(self, value: Any) -> str:
        """What is wrong with a document, a line each; "" if nothing is."""
        lines: list[tuple[int, str]] = []
        for error in self._validator.iter_errors(value):
            path = error.instance_path
            if error.kind.name == "falseSchema" and _forbids_all(error):
                # Where no property at all is allowed, the fault does not say which it was.
                lines += [
                    (len(path), f"{_field(path)} {_unknown(key)}") for key in _at(path, value)
                ]
                continue
            lines += [
                (len(path), f"{_field(path)} {line}") for line in _described(error, self._schema)
            ]
            if len(lines) >= _MOST_FAULTS:
                break
        lines.sort(key=lambda line: line[0])
        return "\n".join(line for _, line in lines[:_MOST_FAULTS])


def compile_schema(schema: Any) -> Check:
    """Compile a schema.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(schema, dict | bool):
        raise ValueError("it is neither an object nor a bool")  # noqa: TRY004 - data, not code
    options: dict[str, Any] = {
        "formats": _FORMATS,
        "validate_formats": True,
        "mask": "the value",  # texts end up in logs
        "offline": True,  # a schema must not make the collector ask other servers
        "pattern_options": jsonschema_rs.RegexOptions(),  # in linear time, whatever is sent
    }
    named = isinstance(schema, dict) and "$schema" in schema
    make = jsonschema_rs.validator_for if named else jsonschema_rs.Draft7Validator
    try:
        return Check(make(schema, **options), schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


_TEXTS: Final = {
    "minLength": "string length must be greater than or equal to {value}",
    "maxLength": "string length must be less than or equal to {value}",
    "minimum": "must be greater than or equal to {value}",
    "maximum": "must be less than or equal to {value}",
    "exclusiveMinimum": "must be greater than {value}",
    "exclusiveMaximum": "must be less than {value}",
    "multipleOf": "must be a multiple of {value}",
    "minItems": "array must have at least {value} items",
    "maxItems": "array must have at most {value} items",
    "minProperties": "must have at least {value} properties",
    "maxProperties": "must have at most {value} properties",
    "pattern": "does not match pattern '{value}'",
    "format": "does not match format '{value}'",
    "anyOf": "must validate at least one schema (anyof)",
    "not": "must not validate the schema (not)",
    "contains": "at least one of the items must match",
    "additionalItems": "no additional items allowed on array",
}


def _field(path: list[str | int]) -> str:
    return ".".join(str(part) for part in path) or "(root)"


def _unknown(key: str | int) -> str:
    return f"additional property {key} is not allowed"


def _forbids_all(error: Any) -> bool:
    return bool(error.schema_path) and error.schema_path[-1] == "additionalProperties"


def _at(path: list[str | int], value: Any) -> Any:
    for part in path:
        value = value[part]
    return value


def _types(error: Any, schema: Any) -> list[str]:
    """The types that were expected, in the order of the schema."""
    try:
        for part in error.schema_path:
            schema = schema[part]
    except (LookupError, TypeError):  # the way led through a reference
        return list(error.kind.types)
    return schema if isinstance(schema, list) else [schema]


def _described(error: Any, schema: Any) -> list[str]:
    kind = error.kind
    name = kind.name
    if name == "required":
        return [f"{kind.property} is required"]
    if name == "type":
        types = _types(error, schema)
        expected = types[0] if len(types) == 1 else f"[{','.join(types)}]"
        return [f"invalid type. expected: {expected}, given: {_type_of(error.instance)}"]
    if name == "additionalProperties":
        return [_unknown(key) for key in kind.unexpected]
    if name == "enum":
        allowed = ", ".join(_shown(option) for option in kind.options)
        return [f"{_field(error.instance_path)} must be one of the following: {allowed}"]
    if name == "const":
        return [f"{_field(error.instance_path)} does not match: {_shown(kind.value)}"]
    if name in {"oneOf", "oneOfMultipleValid", "oneOfNotValid"}:
        return ["must validate one and only one schema (oneof)"]
    if name == "uniqueItems":
        return ["array items must be unique"]
    if name in _TEXTS:
        return [_TEXTS[name].format(value=getattr(kind, "value", ""))]
    return [error.message.lower()]


def _shown(value: Any) -> str:
    return json.dumps(value).decode()


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    names = {str: "string", list: "array", dict: "object", type(None): "null"}
    if type(value) in names:
        return names[type(value)]
    return "integer" if float(value).is_integer() else "number"
