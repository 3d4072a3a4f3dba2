"""Batches keep their caps, their order and their time; nothing is lost, whoever gives up waiting."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.engine.batching import Batcher, Policy
from openmeter_collector.errors import EndOfInput
from openmeter_collector.message import Delivery, Message
from openmeter_collector.testing.clock import run_virtual, virtual_time


def contents(delivery):
    return [message.content for message in delivery.batch]


policies = st.builds(
    Policy,
    count=st.integers(0, 5),
    byte_size=st.sampled_from([0, 1, 10, 40]),
    period=st.sampled_from([0.0, 1.0, 7.5]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(1, 20), min_size=1, max_size=9)),
        st.tuples(st.just("wait"), st.floats(0.1, 20)),
        st.tuples(st.just("give up"), st.integers(0, 3)),
    ),
    max_size=25,
)


@given(policies, steps, st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_caps_order_and_period_hold_and_nothing_is_lost(policy, script, taker_count):
    async def main():
        loop = asyncio.get_running_loop()
        batcher = Batcher(policy, loop.time, 50, lambda reason: None)
        taken, waited, added_at = [], [], {}
        settled = []

        async def taker():
            while True:
                try:
                    delivery = await batcher.take()
                except EndOfInput:
                    return
                taken.append(contents(delivery))
                waited.extend(loop.time() - added_at[one] for one in taken[-1])
                delivery.settle(None)

        takers = [asyncio.ensure_future(taker()) for _ in range(taker_count)]
        made = []
        for what, detail in script:
            if what == "add":
                batch = []
                for size in detail:
                    content = b"%04d" % len(made) + b"." * size
                    made.append(content)
                    added_at[content] = loop.time()
                    batch.append(Message(content))
                batcher.add(Delivery(batch, settled.append))
            elif what == "wait":
                await asyncio.sleep(detail)
            else:
                at = detail % taker_count
                takers[at].cancel()
                takers[at] = asyncio.ensure_future(taker())
        await asyncio.sleep(policy.period + 1)
        assert batcher.held == 0
        batcher.close()
        await asyncio.gather(*takers, return_exceptions=True)
        assert [one for batch in taken for one in batch] == made
        assert len(settled) == sum(what == "add" for what, _ in script)
        for batch in taken:
            assert not policy.count or len(batch) <= policy.count
            size = sum(map(len, batch))
            assert not policy.byte_size or size <= policy.byte_size or len(batch) == 1
        assert all(one <= policy.period + 1e-6 for one in waited)

    run_virtual(main())


@virtual_time
async def test_a_wake_up_given_to_one_who_gives_up_reaches_the_next():
    loop = asyncio.get_running_loop()
    batcher = Batcher(Policy(count=1), loop.time, 10, lambda reason: None)
    first, second = (asyncio.ensure_future(batcher.take()) for _ in range(2))
    await asyncio.sleep(0)
    batcher.add(Delivery([Message(b"a")]))
    first.cancel()
    assert contents(await second) == [b"a"]


@virtual_time
async def test_a_batch_that_is_not_full_goes_when_its_oldest_message_has_waited_long_enough():
    loop = asyncio.get_running_loop()
    batcher = Batcher(Policy(count=10, period=5.0), loop.time, 10, lambda reason: None)
    batcher.add(Delivery([Message(b"a")]))
    taking = asyncio.ensure_future(batcher.take())
    await asyncio.sleep(4.0)
    batcher.add(Delivery([Message(b"b")]))
    assert not taking.done()
    assert contents(await taking) == [b"a", b"b"]
    assert abs(loop.time() - 5.0) < 1e-6
