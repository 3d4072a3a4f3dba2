"""Running mappings: modes, results, metadata, batches, failures."""

import threading

import pytest

from openmeter_collector.bloblang import (
    DELETED,
    NOTHING,
    STANDARD,
    MappingFailed,
    SimpleDocument,
    Value,
    compile,
    method,
)
from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import Float64, Int64


def run(mapping, given="{}", metadata=None, mode="run"):
    message = SimpleDocument(given.encode(), metadata or {})
    return getattr(compile(mapping), mode)([message], 0)


def written(mapping, given="{}", **more):
    body, _ = run(mapping, given, **more)
    return (body if isinstance(body, bytes) else value_json.dumps(body)).decode()


def failure(mapping, given="{}", **more):
    with pytest.raises(MappingFailed) as caught:
        run(mapping, given, **more)
    return caught.value


def test_the_body_tells_untouched_dropped_raw_and_structured_apart():
    assert run("meta a = 1")[0] is NOTHING
    assert run("root = deleted()")[0] is DELETED
    assert run('root = "text"')[0] == b"text"
    assert run("root.a = 1")[0] == {"a": 1}


def test_metadata_comes_back_only_when_it_was_changed():
    before = {"k": "v"}
    assert run("root.a = @k", metadata=before) == ({"a": "v"}, None)
    body, after = run('meta n = "x"\nmeta k = deleted()', metadata=before)
    assert body is NOTHING
    assert after == {"n": "x"}
    assert before == {"k": "v"}


def test_numbers_keep_their_text_until_they_are_touched():
    given = '{"a":1.0,"b":1e3,"c":123456789012345678901234567890,"d":-0,"e":5}'
    assert written("root = this", given) == given
    assert (
        written("root = [this.a + 0, this.b + 0, this.e / 2, this.d]", given) == "[1,1000,2.5,-0]"
    )


def test_computed_numbers_print_as_the_engine_prints_them():
    assert written(
        "root = [6 / 3, 1000000 * 1.0, 1.0e0.or(1)]".replace("1.0e0.or(1)", "0.00001 * 1")
    ) == ("[2,1000000,0.00001]")
    assert written("root = (1000000 * 1.0).string()") == "1e+06"


def test_arithmetic_that_would_wrap_around_is_an_error():
    text = str(failure("root = this.n + 1", '{"n":9223372036854775807}'))
    assert "9223372036854775807" in text
    assert "does not fit 64 bits" in text


def test_a_result_without_json_form_is_an_error_and_no_empty_message():
    body, _ = run('root.a = "NaN".number()')
    with pytest.raises(value_json.EncodeError, match="NaN"):
        value_json.dumps(body)


def test_a_mutation_starts_as_the_document_and_sees_its_own_writes():
    mapping = "root.v = 6\nroot.c = this.v\nroot.old = deleted()"
    assert written(mapping, '{"v":5,"old":1}', mode="mutate") == '{"c":6,"v":6}'


def test_a_failed_mutation_tells_what_it_had_written():
    failed = failure('meta k = "n"\nroot.a = 1\nroot.b = throw("x")', '{"v":5}', mode="mutate")
    body, metadata = failed.partial
    assert body == {"v": 5, "a": 1}
    assert metadata == {"k": "n"}


def test_text_that_is_no_document_fails_only_when_it_is_read():
    assert run("root = content().uppercase()", "plain")[0] == b"PLAIN"
    assert str(failure("root.a = this.b.c", "plain")) == (
        "failed assignment (line 1): unable to reference message as structured (with 'this.b.c'): "
        "parse as json: invalid character 'p' looking for beginning of value"
    )
    assert run('root = this.catch("none")', "plain")[0] == b"none"


def test_a_failure_names_statement_line_column_and_shows_the_line():
    failed = failure(
        "root.a = 1\nroot.b = this.list.map_each(x -> x.name.uppercase())", '{"list":[{}]}'
    )
    assert str(failed) == (
        "failed assignment (line 2): field `this.list`: failed to process element 0: "
        "expected string value, got null from field `x.name`"
    )
    assert (failed.line, failed.column) == (2, 34)
    assert failed.rendered().splitlines()[-2:] == [
        "2 | root.b = this.list.map_each(x -> x.name.uppercase())",
        "  |                                  ^---",
    ]


def test_other_messages_of_the_batch_can_be_read():
    batch = [SimpleDocument(b'{"n":1}'), SimpleDocument(b'{"n":2}')]
    mapping = compile(
        'root.sum = json("n").from_all().sum()\nroot.other = json("n").from(1)\nroot.at = batch_index()'
    )
    assert mapping.run(batch, 0)[0] == {"sum": 3, "other": 2, "at": 0}


def test_a_flagged_message_tells_its_error():
    class Broken(Exception):
        name, label, path = "http", "sender", ("root", "pipeline")

    message = SimpleDocument(b"{}", {}, Broken("refused"))
    mapping = compile(
        "root = [errored(), error(), error_source_name(), error_source_label(), error_source_path()]"
    )
    assert mapping.run([message], 0)[0] == [True, "refused", "http", "sender", "root.pipeline"]


def test_check_wants_a_bool():
    messages = [SimpleDocument(b'{"n":5}')]
    assert compile("this.n > 3").check(messages, 0) is True
    with pytest.raises(MappingFailed, match="expected bool value, got number from mapping"):
        compile("this.n").check(messages, 0)


def test_computed_values_carry_their_kind_into_the_next_mapping():
    body, _ = run("root.i = this.n + 0\nroot.f = this.n / 2", '{"n":5}')
    assert type(body["i"]) is Int64
    assert type(body["f"]) is Float64


def test_maps_that_call_themselves_go_deep_and_end_with_an_error():
    count = 'map down {\n  root = if this > 0 { (this - 1).apply("down") } else { "end" }\n}\n'
    assert run(count + 'root = 2000.apply("down")')[0] == b"end"
    text = str(failure('map loop {\n  root = this.apply("loop")\n}\nroot = 1.apply("loop")'))
    assert "exceeded maximum allowed stacks of 5000" in text


def test_one_mapping_runs_in_several_threads_at_once():
    mapping = compile(
        'let x = this.n\nroot.list = [1, 2, 3].map_each(i -> i * $x)\nroot.text = this.n.string().catch("?")'
    )
    wrong = []

    def work(number):
        message = SimpleDocument(b'{"n":%d}' % number)
        for _ in range(200):
            body, _ = mapping.run([message], 0)
            if body != {"list": [number, 2 * number, 3 * number], "text": str(number)}:
                wrong.append(body)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_counters_belong_to_their_place_in_the_mapping():
    mapping = compile("root = [counter(), counter(min: 10)]")
    message = [SimpleDocument(b"{}")]
    assert [mapping.run(message, 0)[0] for _ in range(2)] == [[1, 10], [2, 11]]
    assert compile("root = counter()").run(message, 0)[0] == 1


def test_what_a_mapping_reads_can_be_asked():
    reads = compile(
        'root.a = this.user.id\nroot.b = @topic\nroot.c = env("HOME")\nroot.d = json("x").from(1)'
    ).reads
    assert reads.paths == {"user.id", "x"}
    assert reads.metadata == {"topic"}
    assert reads.env == {"HOME"}
    assert reads.batch
    assert not compile("root = this.items.map_each(x -> x.id)").reads.paths - {"items"}


def test_user_text_never_becomes_code():
    name = '__import__("os").system("false")'
    body, _ = run(
        f"root = this.{value_json.dumps(name).decode()}", value_json.dumps({name: 1}).decode()
    )
    assert body == 1
    with pytest.raises(MappingFailed):
        run('root = __import__("os")'.replace("__import__", "throw"))


def test_a_defect_in_a_function_is_told_as_such_and_with_its_place():
    """Also if it raises the same exception as a message that is no document."""

    @method("test")
    def broken(value: Value) -> Value:
        """Broken."""
        raise ValueError("oops")

    mapping = compile("root = this.a.broken()", registry=STANDARD.with_entries([broken]))
    with pytest.raises(MappingFailed, match="defect in this function: ValueError: oops") as caught:
        mapping.run([SimpleDocument(b"{}")], 0)
    assert caught.value.line == 1


@pytest.mark.parametrize(
    "mapping",
    [
        'root = throw("first") + this.a.uppercase().catch(throw("second"))',
        'root = [throw("first"), this.a.uppercase().catch(throw("second"))]',
        'root = {"a": throw("first"), "b": match this.a { _ => throw("second") }}',
        'root = "a".slice(throw("first"), this.a.uppercase().catch(throw("second")))',
    ],
)
def test_parts_are_computed_from_left_to_right(mapping):
    """Also if a later one needs statements before the expression."""
    assert "first" in str(failure(mapping, '{"a":5}'))
