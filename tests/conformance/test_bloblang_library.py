"""Every entry of the library: documented, with cases, and its cases hold."""

import inspect

import pytest

from openmeter_collector.bloblang import (
    DELETED,
    NOTHING,
    STANDARD,
    MappingError,
    MappingFailed,
    SimpleDocument,
    compile,
)
from openmeter_collector.bloblang.reference import entry_page, pages
from openmeter_collector.values import json as value_json

ENTRIES = sorted(STANDARD, key=lambda entry: (entry.noun, entry.name))
CASES = [
    pytest.param(case, id=f"{entry.noun}-{entry.name}-{index}")
    for entry in ENTRIES
    for index, case in enumerate(entry.cases)
]
# Entries without a case, and why.
WITHOUT_CASES = {
    "file": "reads a file; tests/unit/bloblang/test_services.py has one",
    "file_rel": "reads a file; tests/unit/bloblang/test_services.py has one",
    **{
        f"{verb}_jwt_{algorithm}": "as hs256; test_secrets.py signs and reads with every algorithm"
        for verb in ("parse", "sign")
        for algorithm in ("hs384", "hs512", "rs256", "rs384", "rs512", "es256", "es384", "es512")
    },
}


def result_of(case):
    given = case.given.encode() if isinstance(case.given, str) else case.given
    message = SimpleDocument(given, dict(case.metadata or {}))
    body, _ = compile(case.mapping).run([message], 0)
    if body is DELETED:
        return None
    if body is NOTHING:
        return given
    return body if isinstance(body, bytes) else value_json.dumps(body)


@pytest.mark.parametrize("case", CASES)
def test_cases_hold(case):
    if case.error is not None:
        with pytest.raises(MappingFailed) as caught:
            result_of(case)
        assert str(caught.value) == case.error
        return
    expected = case.result.encode() if isinstance(case.result, str) else case.result
    assert result_of(case) == expected


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.noun}-{entry.name}")
def test_entries_are_documented(entry):
    assert entry.doc.endswith("."), "a sentence"
    assert all(param.doc for param in entry.params), "every parameter has its words"
    assert entry.cases or entry.name in WITHOUT_CASES
    assert entry.name in entry_page(entry)


def test_exceptions_are_still_needed():
    without = {entry.name for entry in ENTRIES if not entry.cases}
    assert without == set(WITHOUT_CASES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.noun}-{entry.name}")
def test_no_entry_lets_a_foreign_exception_out(entry):
    """Whatever a method is called on, it answers or fails in the language's own way."""
    values = [
        "null",
        "true",
        "5",
        "-1.5",
        '"x"',
        '""',
        "[]",
        "[1,null]",
        "{}",
        '{"a":[1]}',
        "1e400",
    ]
    arguments = ", ".join(_argument(param.kind) for param in entry.params)
    call = f"{entry.name}({arguments})"
    try:
        mapping = compile(f"root.v = this.v.{call}" if entry.is_method else f"root.v = {call}")
    except MappingError:
        return
    for value in values:
        message = SimpleDocument(f'{{"v":{value}}}'.encode())
        try:
            mapping.run([message], 0)
        except MappingFailed as failed:
            assert "defect" not in str(failed), value


def _argument(kind):
    return {
        "string": '"a"',
        "integer": "1",
        "float": "1.5",
        "bool": "true",
        "array": '["a", "b"]',
        "object": "{}",
        "timestamp": '"2020-01-01T00:00:00Z"',
        "any": '"a"',
        "query": "x -> x",
        "query/scalar": "1",
    }[kind]


def test_the_reference_has_every_entry_once():
    lines = "\n".join(pages().values()).split("\n")
    for entry in ENTRIES:
        heading = f"## {entry.noun} {entry.name}"
        assert [line.partition(" (")[0] for line in lines].count(heading) == 1


@pytest.mark.parametrize("name", sorted(STANDARD.left_out))
def test_what_is_left_out_says_so(name):
    with pytest.raises(MappingError) as caught:
        compile(f"root = this.{name}()")
    assert STANDARD.left_out[name] in caught.value.rendered()


def test_library_functions_are_not_hidden_behind_builtins():
    assert all(inspect.isfunction(entry.call) for entry in ENTRIES)
