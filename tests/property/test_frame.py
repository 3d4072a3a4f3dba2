"""A frame comes back as it was packed, and no damage to it goes unnoticed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.errors import StorageError
from openmeter_collector.message import Message
from openmeter_collector.storage.frame import decode_frame, encode_frame

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
maps = st.dictionaries(st.text(max_size=8), values, max_size=3)
batches = st.lists(st.tuples(st.binary(max_size=40), maps), max_size=8)


@given(batches)
@settings(max_examples=150, deadline=None)
def test_a_frame_comes_back_as_it_was_packed(batch):
    messages = [Message(content, metadata) for content, metadata in batch]
    again = decode_frame(encode_frame(messages))
    assert [(m.content, dict(m.metadata)) for m in again] == batch


def test_every_flipped_bit_and_every_cut_is_noticed():
    payload = encode_frame([Message(b'{"id":"1"}', {"k": "v"}), Message(b"second"), Message(b"")])
    for at in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[at] ^= 1 << bit
            with pytest.raises(StorageError):
                decode_frame(bytes(damaged))
        with pytest.raises(StorageError):
            decode_frame(payload[:at])
        with pytest.raises(StorageError):
            decode_frame(payload + payload[: at + 1])


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_what_is_no_frame_is_said_to_be_none(junk):
    with pytest.raises(StorageError):
        decode_frame(junk)
    with pytest.raises(StorageError):
        decode_frame(b"OMF1" + junk)
