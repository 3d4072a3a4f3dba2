"""Bloblang, the mapping language: text to compiled Python.

    mapping = compile('root.id = this.user.id.uppercase()')
    body, metadata = mapping.run([SimpleDocument(b'{"user":{"id":"a"}}')], 0)

The package stands alone: it knows messages only through the `Document` protocol.
"""

from __future__ import annotations

from openmeter_collector.bloblang.builder import Builder
from openmeter_collector.bloblang.definition import (
    Case,
    Entry,
    Query,
    QueryOrValue,
    Registry,
    function,
    method,
)
from openmeter_collector.bloblang.diagnostics import Diagnostic, MappingError
from openmeter_collector.bloblang.document import Document, SimpleDocument
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.interpolation import Interpolation, parse_field
from openmeter_collector.bloblang.library import STANDARD
from openmeter_collector.bloblang.program import Mapping, MappingFailed, Result
from openmeter_collector.bloblang.reads import Reads
from openmeter_collector.bloblang.services import FileReader, Services
from openmeter_collector.bloblang.spans import Source
from openmeter_collector.bloblang.stability import Unstable
from openmeter_collector.bloblang.statements import parse
from openmeter_collector.values.kinds import DELETED, NOTHING, Value

__all__ = [
    "DELETED",
    "NOTHING",
    "STANDARD",
    "Case",
    "Diagnostic",
    "Document",
    "Entry",
    "Fail",
    "FileReader",
    "Interpolation",
    "Mapping",
    "MappingError",
    "MappingFailed",
    "Query",
    "QueryOrValue",
    "Reads",
    "Registry",
    "Result",
    "Services",
    "SimpleDocument",
    "TypeFail",
    "Unstable",
    "Value",
    "compile",
    "compile_interpolated",
    "function",
    "method",
]


def compile(  # noqa: A001 - the one verb of this package, used with its name in front
    text: str,
    *,
    name: str = "",
    registry: Registry = STANDARD,
    services: Services | None = None,
) -> Mapping:
    """Compile a mapping.

    Args:
        text: the mapping.
        name: what to call it in errors, such as a file or a field of a configuration.
        registry: the functions and methods it may use.
        services: environment, files and counters; by default those of this process.

    Raises:
        MappingError: the text is no mapping; it says where and what was expected.
    """
    reach = services or Services()
    program = parse(Source(text, name), Builder(registry, reach))
    mapping = Mapping(program, reach)
    mapping.prepare()
    return mapping


def compile_interpolated(
    text: str,
    *,
    name: str = "",
    registry: Registry = STANDARD,
    services: Services | None = None,
) -> Interpolation:
    """Compile a field with `${! expressions }` in it; `${{! x }}` stands for the text `${! x }`.

    Raises:
        MappingError: an expression in it is none.
    """
    reach = services or Services()
    source = Source(text, name)
    return Interpolation(source, parse_field(source, Builder(registry, reach)), reach)
