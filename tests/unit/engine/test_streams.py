"""Several pipelines in one process."""

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Stream, read
from openmeter_collector.engine.streams import waves


def stream(text):
    return read(text, standard_registry(), Stream, env={}).or_raise()


def test_who_gives_to_others_stops_before_them():
    streams = {
        "last": stream("input: {inproc: b}\noutput: {drop: {}}"),
        "middle": stream("input: {inproc: a}\noutput: {broker: {outputs: [{inproc: b}]}}"),
        "first": stream("input: {generate: {mapping: root = 1}}\noutput: {inproc: a}"),
        "alone": stream("input: {generate: {mapping: root = 1}}\noutput: {drop: {}}"),
    }
    assert waves(streams) == [["first", "alone"], ["middle"], ["last"]]


def test_streams_in_a_circle_stop_together():
    streams = {
        "one": stream("input: {inproc: a}\noutput: {inproc: b}"),
        "two": stream("input: {inproc: b}\noutput: {inproc: a}"),
    }
    assert waves(streams) == [["one", "two"]]
