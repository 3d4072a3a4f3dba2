"""Ids that stay the same, and finding out which would not."""

import os
import uuid

from hypothesis import given
from hypothesis import strategies as st

from openmeter_collector.bloblang import SimpleDocument, compile
from openmeter_collector.bloblang.library.event_ids import event_id
from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import Float64, Int64

PARTS = st.recursive(
    st.text(max_size=4) | st.integers(-99, 99) | st.booleans() | st.floats(-9, 9, width=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip


def plain(value):
    """A value in a form that is equal exactly if the language calls it the same."""
    if isinstance(value, (bool, str)):
        return type(value).__name__, value
    if isinstance(value, (int, float)):
        return "number", float(value)
    if isinstance(value, dict):
        return "object", tuple(sorted((key, plain(one)) for key, one in value.items()))
    return "array", tuple(plain(one) for one in value)


@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(PARTS, min_size=1, max_size=4))
def test_ids_are_the_same_exactly_if_all_parts_are(first, second):
    same = [plain(one) for one in first] == [plain(one) for one in second]
    assert (event_id.call(*first) == event_id.call(*second)) is same


def test_parts_cannot_run_into_each_other():
    groups = [("a", "bc"), ("ab", "c"), ("abc",), ("abc", ""), ("", "abc"), (["a", "bc"],), (["abc"],),
              ({"a": "bc"},), ("s1:a",), ("1",), (1,), (True,), ("true",), ([],), ({},), ("",)]  # fmt: skip
    assert len({event_id.call(*parts) for parts in groups}) == len(groups)


def test_a_number_is_what_it_is_worth_and_an_object_what_is_in_it():
    read = value_json.loads(b'[5, 5.0, 5e0, 50e-1, 123456789012345678901234567890, {"a":1,"b":2}]')
    assert len({event_id.call(one) for one in (*read[:4], Int64(5), Float64(5))}) == 1
    assert event_id.call(read[4]) != event_id.call(read[4] + 1)
    assert event_id.call(read[5]) == event_id.call({"b": Int64(2), "a": Float64(1)})


def test_an_id_is_a_uuid_that_never_changes_between_versions():
    assert event_id.call("kubernetes", "pod-1", "2024-01-01T00:00:00Z", "cpu", 60) == (
        "0061508d-dd64-8383-a301-a3a91307f1ce"
    )


MAPPING = """
let id = uuid_v4()
map inner {
  root.x = ksuid()
}
root.id = $id
root.time = now()
root.data = {"fixed": this.b, "nonce": nanoid(), "deep": {"n": count("stability")}}
if this.z {
  root.k = this.apply("inner")
}
root.stable = event_id("a", this.b)
"""


def test_a_mapping_says_which_targets_another_run_would_fill_otherwise():
    reads = compile(MAPPING).reads
    assert reads.random == {"uuid_v4", "ksuid", "nanoid", "count"}
    assert reads.clock == {"now"}
    assert reads.ours == {"event_id"}
    assert reads.unstable.behind("id") == {"uuid_v4"}
    assert reads.unstable.behind("k.x") == {"ksuid"}
    assert reads.unstable.behind("data.nonce") == {"nanoid"}
    assert reads.unstable.behind("data.deep.n") == {"count"}
    assert not reads.unstable.behind("data.fixed")
    assert not reads.unstable.behind("stable")


def test_a_whole_document_counts_for_every_path_in_it():
    reads = compile('root = this.merge({"id": uuid_v4()})').reads
    assert reads.unstable.behind("id") == {"uuid_v4"}


def test_a_stable_mapping_says_so():
    reads = compile('root.id = this.id.uuid_v5("dns")\nroot.n = this.n * 2').reads
    assert not reads.random
    assert not reads.clock
    assert not reads.unstable.targets


def test_a_peeked_counter_has_not_counted_yet():
    body, _ = compile("root = counter(min: 10, set: null)").run([SimpleDocument(b"{}")], 0)
    assert body == 9


def test_random_ids_are_well_made_and_none_comes_twice():
    mapping = compile("root = uuid_v4()")
    made = [mapping.run([SimpleDocument(b"")], 0)[0].decode() for _ in range(3000)]
    assert len(set(made)) == len(made)
    for one in made:
        read = uuid.UUID(one)
        assert (str(read), read.version, read.variant) == (one, 4, uuid.RFC_4122)


def test_a_forked_process_gives_out_ids_of_its_own():
    mapping = compile("root = uuid_v4()")
    mapping.run([SimpleDocument(b"")], 0)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, mapping.run([SimpleDocument(b"")], 0)[0])
        os._exit(0)
    os.waitpid(child, 0)
    ours, theirs = mapping.run([SimpleDocument(b"")], 0)[0], os.read(reader, 36)
    os.close(reader)
    os.close(writer)
    assert ours != theirs
