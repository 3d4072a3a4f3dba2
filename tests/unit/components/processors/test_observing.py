"""log and metric."""

import json

import pytest

from kit.chains import processors, shown
from openmeter_collector.api import ConfigError
from openmeter_collector.components.processors import metric


def lines(opened):
    return [json.loads(line) for line in opened.lines]


async def test_log_writes_a_line_for_each_message_with_what_was_asked_for_only():
    async with processors("- log: {message: 'seen ${! this.id }', level: warn}") as opened:
        assert shown(await opened.run('{"id":1,"secret":"s"}', '{"id":2}')) == [
            ['{"id":1,"secret":"s"}', '{"id":2}']
        ]
    assert [(line["msg"], line["level"]) for line in lines(opened)] == [
        ("seen 1", "warn"),
        ("seen 2", "warn"),
    ]
    assert "secret" not in "".join(opened.lines)


async def test_fields_of_an_event_do_not_hide_those_of_the_line():
    text = "- log:\n    message: m\n    fields_mapping: root = this"
    event = '{"time":"T","msg":"x","level":"l","message":"y","self":"z","name":"n","n":1.50}'
    async with processors(text) as opened:
        await opened.run(event)
    (line,) = lines(opened)
    assert (line["msg"], line["level"]) == ("m", "info")
    assert line["time"] != "T"
    found = {key: line[key] for key in ("fields.time", "fields.msg", "fields.level")}
    assert found == {"fields.time": "T", "fields.msg": "x", "fields.level": "l"}
    assert (line["message"], line["self"], line["name"], line["n"]) == ("y", "z", "n", 1.5)


async def test_a_line_is_written_even_when_its_fields_cannot_be_made():
    text = "- log:\n    message: 'bad ${! error().or(\"none\") }'\n    fields_mapping: root = this"
    async with processors(text) as opened:
        await opened.run("{nope")
        await opened.run("[1]")
    first, second = lines(opened)
    assert first["msg"] == second["msg"] == "bad none"
    assert "parse as json" in first["fields_error"]
    assert second["fields_error"] == "fields_mapping gave no object"


async def test_levels_below_the_loggers_cost_and_write_nothing():
    text = (
        "- log: {message: '${! throw(\"no\") }', level: trace}\n- log: {message: x, level: 'OFF'}"
    )
    async with processors(text) as opened:
        await opened.run("1")
    assert opened.lines == []


async def test_a_counter_counts_messages_and_shows_before_the_first():
    async with processors("- metric: {type: counter, name: seen, value: 5}") as opened:
        assert b"\nseen{" in opened.metrics.exposition()
        await opened.run("1", "2", "3")
    assert opened.metrics.total("seen") == 3


async def test_labels_are_made_for_each_message():
    text = "- metric: {type: counter_by, name: used, labels: {type: '${! this.t }', name: x}, value: '${! this.n }'}"
    async with processors(text) as opened:
        await opened.run('{"t":"a","n":2}', '{"t":"b","n":1}', '{"t":"a","n":3.5}')
        exposed = opened.metrics.exposition().decode()
    assert 'used{label="",name="x",path="root.pipeline.processors.0",type="a"} 5.5' in exposed
    assert opened.metrics.total("used") == 6.5


async def test_values_that_are_none_are_not_counted_and_said_once():
    text = "- metric: {type: counter_by, name: used, value: '${! content() }'}"
    async with processors(text) as opened:
        assert len((await opened.run("x", "-1", "NaN", "inf", "2"))[0]) == 5
    assert opened.metrics.total("used") == 2
    assert len(opened.lines) == 1


async def test_gauges_are_what_was_last_and_timings_are_observed():
    text = (
        "- metric: {type: gauge, name: now, value: '${! content() }'}\n"
        "- metric: {type: timing, name: took, value: '${! content() }'}"
    )
    async with processors(text) as opened:
        await opened.run("5", "-3")
        exposed = opened.metrics.exposition().decode()
    assert opened.metrics.total("now") == -3
    assert "took_sum" in exposed
    assert "took_count" in exposed


async def test_label_values_from_events_cannot_fill_the_memory(monkeypatch):
    monkeypatch.setattr(metric, "_MOST_SERIES", 3)
    text = "- metric: {type: counter, name: seen, labels: {id: '${! content() }'}}"
    async with processors(text) as opened:
        await opened.run(*(str(number) for number in range(50)), "0")
        exposed = opened.metrics.exposition().decode()
    assert exposed.count("\nseen{") == 3
    assert opened.metrics.total("seen") == 4
    assert len(opened.lines) == 1


async def test_a_name_in_use_for_another_kind_is_refused():
    text = "- metric: {type: counter, name: processor_latency_ns}"
    with pytest.raises(ConfigError, match="use another name"):
        async with processors(f"- noop: {{}}\n{text}"):
            pass
