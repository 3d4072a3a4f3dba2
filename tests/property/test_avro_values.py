"""What a schema says about its values: changing only those that need it gives what changing all does."""

import copy
import io
from decimal import Decimal
from itertools import count

import fastavro
from fastavro.utils import generate_many
from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.components.rows import plain
from openmeter_collector.components.scanners.avro import change_of

PLAIN = st.sampled_from(["null", "boolean", "int", "long", "string"])
LOGICAL = st.sampled_from(
    [
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "int", "logicalType": "date"},
        {"type": "int", "logicalType": "time-millis"},
        {"type": "string", "logicalType": "uuid"},
        {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
    ]
)
LEAF = PLAIN | st.sampled_from(["float", "double", "bytes"]) | LOGICAL
NAMES = count()


def record(kinds):
    fields = [{"name": f"f{at}", "type": kind} for at, kind in enumerate(kinds)]
    return {"type": "record", "name": f"r{next(NAMES)}", "fields": fields}


def enum(_):
    return {"type": "enum", "name": f"e{next(NAMES)}", "symbols": ["a", "b"]}


SCHEMAS = st.recursive(
    LEAF | st.builds(enum, st.none()),
    lambda inner: st.one_of(
        inner.map(lambda one: {"type": "array", "items": one}),
        inner.map(lambda one: {"type": "map", "values": one}),
        LEAF.filter(lambda one: one != "null").map(lambda one: ["null", one]),
        st.lists(inner, min_size=1, max_size=4).map(record),
    ),
    max_leaves=8,
).map(lambda one: record([one, "string"]))


@given(SCHEMAS)
@settings(max_examples=150, deadline=None)
def test_what_the_schema_says_is_plain_is_plain(schema):
    out = io.BytesIO()
    fastavro.writer(out, schema, list(generate_many(schema, 3)))
    reader = fastavro.reader(io.BytesIO(out.getvalue()))
    records = list(reader)
    change = change_of(reader.writer_schema)
    wanted = [plain(copy.deepcopy(one)) for one in records]
    found = [one if change is None else change(one) for one in records]
    assert repr(found) == repr(wanted)


def test_what_has_no_need_is_left_alone():
    assert change_of(record(["long"])) is None


def test_what_cannot_be_said_in_json_is_changed_wherever_it_stands():
    for kind in (
        "double",
        ["null", "float"],
        {"type": "array", "items": "bytes"},
        {
            "type": "map",
            "values": {"type": "record", "name": "q", "fields": [{"name": "x", "type": "float"}]},
        },
        "named_before",
    ):
        assert change_of(kind) is plain
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}
    change = change_of(record(["string", decimal]))
    assert change({"f0": "a", "f1": Decimal("1.5")})["f1"].text == "1.5"
