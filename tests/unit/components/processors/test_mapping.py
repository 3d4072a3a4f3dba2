"""mapping, bloblang and mutation."""

import pytest

from kit.chains import errors, message, processors, shown


@pytest.mark.parametrize("name", ["mapping", "bloblang"])
async def test_a_mapping_makes_a_new_message_and_keeps_where_it_came_from(name):
    context = object()
    async with processors(f"- {name}: root.b = this.a + 1") as opened:
        batches = await opened.run('{"a":1}', '{"a":2}', context=context)
    assert shown(batches) == [['{"b":2}', '{"b":3}']]
    assert [one.origin for one in batches[0]] == [0, 1]
    assert {one.context for one in batches[0]} == {context}


async def test_text_and_bytes_become_the_content_itself():
    async with processors('- mapping: root = "a" + content().string()') as opened:
        assert shown(await opened.run("b")) == [["ab"]]


async def test_without_an_assignment_to_root_the_bytes_stay():
    async with processors('- mapping: meta kind = "x"') as opened:
        ((made,),) = await opened.run('{ "a" : 1.0 }', metadata={"k": "v"})
    assert made.content == b'{ "a" : 1.0 }'
    assert made.metadata == {"k": "v", "kind": "x"}


async def test_a_message_on_which_a_mapping_fails_goes_on_unchanged_and_flagged_alone():
    text = "- label: up\n  mapping: root.a = this.a.uppercase()"
    async with processors(text) as opened:
        batches = await opened.run('{"a":"x"}', '{ "a":5 }', '{"a":"y"}')
    assert shown(batches) == [['{"a":"X"}', '{ "a":5 }', '{"a":"Y"}']]
    assert errors(batches)[::2] == [None, None]
    flag = batches[0][1].error
    assert str(flag).startswith("failed assignment (line 1): ")
    assert (flag.name, flag.label, flag.path) == ("mapping", "up", "root.pipeline.processors.0")


async def test_a_result_without_a_json_form_flags_its_message_and_not_the_batch_it_is_sent_in():
    async with processors("- mapping: root.a = this.a.number() * 2") as opened:
        batches = await opened.run('{"a":"NaN"}', '{"a":1}')
    assert errors(batches)[0] is not None
    assert errors(batches)[1] is None
    assert shown(batches) == [['{"a":"NaN"}', '{"a":2}']]


async def test_deleted_drops_and_an_empty_batch_is_none():
    async with processors("- mapping: root = if this.a { deleted() }") as opened:
        assert shown(await opened.run('{"a":true}', '{"a":false}')) == [['{"a":false}']]
        assert await opened.run('{"a":true}') == []


async def test_processors_after_a_flag_still_run_and_it_stays():
    async with processors(
        "- mapping: root.a = this.a.uppercase()\n- mapping: root.e = error()"
    ) as o:
        batches = await o.run('{"a":5}')
    assert b"failed assignment" in batches[0][0].content
    assert errors(batches)[0] is not None


async def test_a_mapping_sees_the_batch_as_it_came():
    async with processors("- mapping: root.first = json().from(0)") as opened:
        batches = await opened.run('{"a":1}', '{"a":2}')
    assert shown(batches) == [['{"first":{"a":1}}', '{"first":{"a":1}}']]


async def test_a_mutation_changes_what_it_names():
    async with processors("- mutation: |\n    root.b = 2\n    root.a = deleted()") as opened:
        assert shown(await opened.run('{"a":1,"c":3}')) == [['{"b":2,"c":3}']]


async def test_what_a_failed_mutation_wrote_before_stays():
    text = "- mutation: |\n    root.b = 2\n    root.c = this.a.uppercase()"
    async with processors(text) as opened:
        batches = await opened.run('{"a":1}')
    assert errors(batches)[0] is not None
    assert shown(batches) == [['{"a":1,"b":2}']]


async def test_the_message_that_was_given_is_not_touched():
    given = message('{"a":{"b":1}}')
    async with processors("- mutation: root.a.c = 2") as opened:
        await opened.run_batch([given])
    assert given.structured() == {"a": {"b": 1}}
    assert given.content == b'{"a":{"b":1}}'
