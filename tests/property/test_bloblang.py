"""Laws of the compiler over random programs and random text."""

import itertools
import json
import re
import string
import time

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from kit.bloblang_fuzz import faults
from kit.bloblang_oracle import Run
from kit.bloblang_programs import DOCUMENTS, expressions, programs
from openmeter_collector.bloblang import (
    MappingError,
    MappingFailed,
    SimpleDocument,
    compile,
    compile_interpolated,
)
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.printer import format_mapping, print_expression
from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import DELETED, NOTHING, Float64

SLOW = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def compiled(text):
    try:
        return compile(text)
    except MappingError:
        assume(False)


def written(body):
    if body is DELETED or body is NOTHING:
        return repr(body)
    return body if isinstance(body, bytes) else value_json.dumps(body)


def outcome(call):
    """What a run gave, as something to compare."""
    try:
        body, meta = call()
    except (Fail, MappingFailed) as problem:
        assert "defect" not in str(problem)
        return "failed", str(problem)
    try:
        body = body.encode() if isinstance(body, str) else body
        return written(body), value_json.dumps(dict(meta or {}))
    except value_json.EncodeError:
        return "not json", None


def without_lines(found):
    """An outcome without the lines that its error names: those move with the layout."""
    return [re.sub(r"\(line \d+\)", "(line)", str(part)) for part in found]


@SLOW
@given(programs(), DOCUMENTS)
@example("root.a = [1, 2].map_each(p0 -> p0.(this + 1))", {})
@example("root.a = this.a | this.b.catch(1)", {"a": None})
@example('map m {\n  root = (1).slice(1).catch(this)\n}\nroot = (1).apply("m")', {})
@example("let v = 1\nif this.a {\n  let v = deleted()\n}\nroot = $v", {"a": True})
def test_emitted_code_and_the_tree_walker_agree(text, document):
    mapping = compiled(text)
    message = SimpleDocument(json.dumps(document).encode())
    real = outcome(lambda: mapping.run([message], 0))
    second = outcome(lambda: Run(mapping.program, message.structured()).go())
    assert real == second


@SLOW
@given(programs(), DOCUMENTS)
def test_a_document_is_never_changed_by_a_mapping(text, document):
    mapping = compiled(text)
    message = SimpleDocument(json.dumps(document).encode())
    before = value_json.dumps(message.structured())
    outcome(lambda: mapping.run([message], 0))
    outcome(lambda: mapping.mutate([message], 0))
    assert value_json.dumps(message.structured()) == before


@SLOW
@given(programs(), DOCUMENTS)
def test_formatting_changes_nothing_but_the_looks(text, document):
    mapping = compiled(text)
    formatted = format_mapping(mapping.program)
    again = compile(formatted)
    assert format_mapping(again.program) == formatted
    message = SimpleDocument(json.dumps(document).encode())
    first = outcome(lambda: mapping.run([message], 0))
    second = outcome(lambda: again.run([message], 0))
    assert without_lines(first) == without_lines(second)


@SLOW
@given(expressions(depth=4))
def test_printed_expressions_read_back_as_they_were(text):
    mapping = compiled(f"root = {text}")
    printed = print_expression(mapping.program.statements[0].value)
    again = compile(f"root = {printed}")
    assert print_expression(again.program.statements[0].value) == printed


CODE = st.text(string.printable + "é🎉\x00", max_size=60) | st.lists(
    st.sampled_from(
        [
            "root",
            "this",
            "let",
            "meta",
            "map",
            "if",
            "else",
            "match",
            "import",
            "from",
            "=",
            "==",
            "->",
            "=>",
            "(",
            ")",
            "{",
            "}",
            "[",
            "]",
            ".",
            ",",
            ":",
            "|",
            "&",
            "!",
            "-",
            "+",
            "*",
            "/",
            "%",
            '"',
            '"""',
            "#",
            "\n",
            "\t",
            "@",
            "$",
            "_",
            "1",
            "2.5",
            "x",
            "true",
            "null",
            ".uppercase()",
            ".map_each(",
            ".catch(",
            "${!",
            "}",
        ]
    ),
    max_size=25,
).map(" ".join)


@settings(max_examples=600, deadline=None)
@given(CODE)
@example('root = "\\')
@example("root = this.a.")
@example('root = "\ud800"')
def test_any_text_compiles_or_fails_with_a_place_in_it(text):
    for parse in (compile, compile_interpolated):
        started = time.perf_counter()
        try:
            parse(text)
        except MappingError as error:
            (found, *_) = error.diagnostics
            assert 0 <= found.offset <= len(found.source.text)
            assert error.rendered()
            assert error.lint()
        assert time.perf_counter() - started < 5


def test_broken_mappings_fail_in_no_way_but_the_languages_own():
    found = list(itertools.islice(faults(seed=1), 1500))
    assert [(text, fault) for text, fault in found if fault] == []


@pytest.mark.parametrize(
    "text",
    [
        "root = " + "(" * 5000 + "1" + ")" * 5000,
        "root = " + "[" * 5000,
        "root = " + "match { match " * 300,
        "root = " + "{ (".join(["a"] * 400),
        "root = " + "-" * 5000 + "1",
        "root = " + "this.a | (" * 3000 + "1" + ")" * 3000,
        "if true {\n" * 500 + "root = 1\n" + "}\n" * 500,
        "root = x -> " * 500,
        'root = ${! "' * 500,
    ],
    ids=lambda text: text[:24].strip(),
)
def test_deep_nesting_is_a_clear_error_and_no_crash(text):
    started = time.perf_counter()
    with pytest.raises(MappingError):
        compile(text)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    "text",
    [
        "root = " + " + ".join(["this.a"] * 1500),
        "root = " + " | ".join(["this.b"] * 200 + ["1"]),
        "root = this.a" + ".string().number()" * 300,
        "root = this.a" + ".catch(0)" * 60,
        "root = " + "(" * 40 + "this.a" + ").or(1)" * 40,
        "\n".join(f"root.f{index} = this.a" for index in range(800)),
        "root = if this.a == 0 { 0 }"
        + "".join(f" else if this.a == {i} {{ {i} }}" for i in range(1, 60)),
    ],
    ids=lambda text: text[-24:].strip(),
)
def test_long_programs_compile_and_run(text):
    body, _ = compile(text).run([SimpleDocument(b'{"a":1}')], 0)
    assert body is not NOTHING


@pytest.mark.parametrize(
    "text",
    [
        'root = "0123456789".repeat(1000000000)',
        "root = range(0, 1000000000)",
        "root = nanoid(1000000000)",
        "root = bytes(1000000000000)",
        'root = "%1000000000d".format(1)',
        'root = "a".repeat(10000000).replace_all("a", "0123456789")',
    ],
)
def test_small_programs_do_not_eat_the_memory(text):
    try:
        body, _ = compile(text).run([SimpleDocument(b"{}")], 0)
    except (MappingError, MappingFailed) as problem:
        assert "defect" not in str(problem)
    else:
        assert len(body) < 64 * 1024 * 1024


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_json_is_written_as_it_was_read(value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=False)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        assume(False)
    found = value_json.loads(raw)
    assert json.loads(value_json.dumps(found), parse_float=str, parse_int=str) == json.loads(
        raw, parse_float=str, parse_int=str
    )


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_computed_floats_read_back_as_they_were(number):
    assert float(value_json.dumps(Float64(number))) == number
