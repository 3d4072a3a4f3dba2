from collections.abc import Mapping

import pytest

from openmeter_collector.message import NO_METADATA, Message, record_metadata
from openmeter_collector.storage.frame import decode_frame, encode_frame, pack_metadata

SHARED = {"s3_key": "a.jsonl", "s3_id": "x", "n": 1}
WHOLE = {"s3_key": "a.jsonl", "s3_id": "x-7", "n": 1}


def made():
    return record_metadata(SHARED, "s3_id", "x-", 7)


@pytest.mark.parametrize(
    "read",
    [
        dict,
        list,
        len,
        bool,
        lambda given: {**given, "more": 1},
        lambda given: list(given.items()),
        lambda given: list(given.values()),
        lambda given: [given["s3_id"], given.get("s3_id"), given.get("none"), given.get("none", 2)],
        lambda given: ["s3_id" in given, "none" in given],
        lambda given: isinstance(given, Mapping),
        pack_metadata,
    ],
)
def test_it_reads_as_the_mapping_it_stands_for(read):
    assert read(made()) == read(WHOLE)


def test_it_equals_any_mapping_with_the_same_in_it():
    assert made() == WHOLE
    assert made() == WHOLE
    assert made() == made()
    assert made() != SHARED
    assert made() != 7


def test_a_key_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="none"):
        made()["none"]


def test_what_is_shared_stays_as_it_is():
    dict(made())
    assert SHARED["s3_id"] == "x"


def test_it_comes_out_of_a_frame_as_it_went_in():
    batch = [Message(b"1", record_metadata(SHARED, "s3_id", "x-", at)) for at in range(3)]
    found = decode_frame(encode_frame(batch))
    assert [one.metadata for one in found] == [{**WHOLE, "s3_id": f"x-{at}"} for at in range(3)]


def test_a_message_without_metadata_has_the_one_empty_mapping():
    assert Message(b"1").metadata is NO_METADATA
    assert Message(value=1).metadata is NO_METADATA
