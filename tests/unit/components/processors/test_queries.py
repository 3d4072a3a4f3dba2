"""jmespath and jq."""

import asyncio
import sys

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.errors import ConfigError

STATES = (
    '{"locations":[{"name":"Seattle","state":"WA"},{"name":"New York","state":"NY"},'
    '{"name":"Bellevue","state":"WA"},{"name":"Olympia","state":"WA"}]}'
)
CITIES = '{"Cities":"Bellevue, Olympia, Seattle"}'


async def test_jmespath_replaces_a_message_by_the_result():
    query = "locations[?state == 'WA'].name | sort(@) | {Cities: join(', ', @)}"
    async with processors(f'- jmespath: {{query: "{query}"}}') as opened:
        assert shown(await opened.run(STATES)) == [[CITIES]]


async def test_jmespath_knows_all_our_numbers_and_writes_them_as_ever():
    async with processors("- jmespath: {query: '[sum(n), n[3], max(n)]'}") as opened:
        batches = await opened.run('{"n":[1.10,1e1,1.9,9007199254740993]}', '{"n":[1.5,1.5,0,1]}')
        assert shown(batches)[0][1] == "[4,1,1.5]"
        assert "9007199254740993,9007199254740993]" in shown(batches)[0][0]


async def test_jmespath_flags_what_it_fails_on_and_leaves_it():
    async with processors("- jmespath: {query: length(n)}") as opened:
        batches = await opened.run('{"n":5}', "nope", '{"n":[1]}')
    assert shown(batches) == [['{"n":5}', "nope", "1"]]
    assert [one is None for one in errors(batches)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- jmespath: {query: 'a ['}", "the query cannot be compiled: "),
        ("- jq: {query: '.a ['}", "syntax error.* line 1"),
        ("- jq: {query: 'import \"x\" as x; .'}", "module not found"),
    ],
)
async def test_a_query_that_is_none_is_refused_at_the_start(text, fault):
    with pytest.raises(ConfigError, match=fault):
        async with processors(text):
            pass


@pytest.mark.parametrize(("name", "module"), [("jq", "jq"), ("jmespath", "jmespath")])
async def test_a_missing_library_is_named_with_its_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("openmeter_collector.components.processors.jq.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"pip install 'openmeter-collector\[{name}\]'"):
        async with processors(f"- {name}: {{query: a}}"):
            pass


async def test_jq_replaces_a_message_by_what_is_emitted():
    query = '{Cities: .locations | map(select(.state == "WA").name) | sort | join(", ")} # all'
    async with processors(f"- jq: {{query: '{query}'}}") as opened:
        assert shown(await opened.run(STATES)) == [[CITIES]]


async def test_jq_makes_an_array_of_several_values_and_drops_a_message_without_any():
    async with processors("- jq: {query: '.[]'}") as opened:
        assert shown(await opened.run("[1,2]", "[]", '["a"]')) == [["[1,2]", '"a"']]


async def test_jq_knows_metadata_texts_and_raw_output():
    text = "- jq: {query: '$metadata.k, ., 5', raw: true, output_raw: true}"
    async with processors(text) as opened:
        batches = await opened.run_batch([message('no "json"', metadata={"k": "v"})])
        assert shown(batches) == [['vno "json"5']]
    async with processors("- jq: {query: '\"\"', output_raw: true}") as opened:
        assert shown(await opened.run("{}")) == [[""]]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ('error("boom")', "boom"),
        ("halt", "halt"),
        ('"why" | halt_error', "why"),
        ("halt_error(3)", "1"),
        ("input", "break"),
        ("def f: repeat(1); f", "more than max_values (100000)"),
        ("[1] | until(false; . + .)", "needs more memory"),
    ],
)
async def test_what_jq_fails_on_is_flagged_and_stays(query, fault):
    async with processors(
        f"- jq: {{query: '. as $in | if . == 1 then {query} else . end', timeout: 60s}}"
    ) as opened:
        batches = await opened.run("0", "1", "2")
    assert shown(batches) == [["0", "1", "2"]]
    assert [one is None for one in errors(batches)] == [True, False, True]
    assert fault in errors(batches)[1]


async def test_a_program_that_never_ends_costs_its_message_alone():
    query = "if . == 1 then last(repeat(1)) else . + 1 end"
    async with processors(f"- jq: {{query: '{query}', timeout: 200ms}}") as opened:
        batches = await opened.run("5", "1", "6")
        again = await opened.run("7")
    assert shown(batches) == [["6", "1", "7"]]
    assert errors(batches) == [None, "the query took longer than 0.2 s", None]
    assert shown(again) == [["8"]]


async def test_jq_refuses_to_change_a_number():
    async with processors("- jq: {query: .}") as opened:
        batches = await opened.run('{"id":9007199254740993}', '{"id":"9007199254740993"}', "1.10")
    assert errors(batches) == ["jq would change the number 9007199254740993", None, None]
    assert shown(batches)[0][0] == '{"id":9007199254740993}'


async def test_jq_refuses_to_change_a_fraction():
    async with processors("- jq: {query: .}") as opened:
        batches = await opened.run(
            "0.12345678901234567890", "1234567.80000000000000", "0.1234567890123456"
        )
    assert errors(batches) == ["jq would change the number 0.12345678901234567890", None, None]
    assert shown(batches)[0][1] == "1234567.8"


async def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_another():
    query = "if . == 1 then last(range(300000)) else . end"
    async with processors(f"- jq: {{query: '{query}', timeout: 60s}}") as opened:
        asking = asyncio.create_task(opened.run("1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        batches = await opened.run("5")
    assert (shown(batches), errors(batches)) == ([["5"]], [None])


async def test_jq_sees_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENMETER_TOKEN", "secret")
    async with processors("- jq: {query: '[$ENV, env]'}") as opened:
        ((text,),) = shown(await opened.run("{}"))
    assert "secret" not in text
    assert text == "[{},{}]"
