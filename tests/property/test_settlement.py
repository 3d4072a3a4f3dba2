"""Acknowledgements find their way back through any tree of splits, merges and processors.

The model is one sentence: a message may be forgotten only if each leaf that came of it was settled
well (or with a final verdict), or a rule dropped it; and each delivery is told exactly once.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, Retryable
from openmeter_collector.message import Delivery, Message, by_index
from openmeter_collector.message.settlement import derived, entering, merge, split

STEPS = ("split", "merge", "filter", "multiply", "regroup", "join", "blind")


class Root:
    def __init__(self, number, size):
        self.ids = [(number, at) for at in range(size)]
        self.told = []
        batch = [Message(b"%d/%d" % one, context=frozenset([one])) for one in self.ids]
        self.delivery = Delivery(batch, self.told.append)


def apply(step, draw, deliveries):
    if step == "split":
        size = draw(st.integers(1, 3))
        return [part for one in deliveries for part in (split(one, size) if one.batch else [one])]
    if step == "merge":
        at = draw(st.integers(0, len(deliveries)))
        group, rest = deliveries[:at], deliveries[at:]
        return ([merge(group)] if group else []) + rest
    made = []
    for delivery in deliveries:
        batch = entering(delivery.batch)
        if step == "filter":
            results = [[m for m in batch if draw(st.booleans())]]
        elif step == "multiply":
            results = [[m for m in batch for _ in range(draw(st.integers(1, 2)))]]
        elif step == "regroup":
            at = draw(st.integers(0, len(batch)))
            results = [batch[at:], batch[:at]]
        elif step == "join":
            ids = frozenset(i for m in batch for i in m.context)
            origins = tuple(m.origin for m in batch)
            results = [[Message(b"[]", origin=origins, context=ids)]] if batch else []
        else:  # a processor that does not say where its results come from
            ids = frozenset(i for m in batch for i in m.context)
            results = [[Message(m.content, context=ids) for m in batch]]
        made += derived(delivery, results)
    return made


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_each_delivery_is_settled_once_and_names_exactly_what_has_to_come_again(data):
    draw = data.draw
    roots = [Root(n, draw(st.integers(1, 4))) for n in range(draw(st.integers(1, 3)))]
    leaves = [root.delivery for root in roots]
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=5)):
        leaves = apply(step, draw, leaves)
        if not leaves:
            break
    leaves = draw(st.permutations(leaves))
    again, letters = set(), {}
    for leaf in leaves:
        for root in roots:
            assert len(root.told) <= 1
        verdict = draw(st.sampled_from(["ok", "all", "some", "none named", "out of range"]))
        if verdict == "ok":
            leaf.settle(None)
        elif verdict == "none named":
            leaf.settle(BatchFailed({}))
        elif verdict in {"all", "out of range"}:
            error = Retryable("x")
            leaf.settle(error if verdict == "all" else BatchFailed({99: error}))
            for message in leaf.batch:
                again |= message.context
        else:
            errors = {}
            for at, message in enumerate(leaf.batch):
                one = draw(st.sampled_from(["ok", "again", "dead"]))
                if one == "again":
                    errors[at] = Retryable("x")
                    again |= message.context
                elif one == "dead":
                    letter = DeadLetter(message, "", "", 1, 0.0, 0.0, "")
                    errors[at] = Undeliverable(letter)
                    for one_id in message.context:
                        letters.setdefault(one_id, set()).add(id(letter))
            leaf.settle(BatchFailed(errors) if errors else None)
        leaf.settle(Retryable("a second time"))
    for root in roots:
        assert len(root.told) == 1
        verdicts = by_index(root.told[0], len(root.ids))
        for at, one_id in enumerate(root.ids):
            error = verdicts.get(at)
            if one_id in again:
                assert isinstance(error, Retryable)
            elif one_id in letters:
                assert isinstance(error, Undeliverable)
                assert {id(letter) for letter in error.letters} == letters[one_id]
            else:
                assert error is None
