"""The gate: one probe at a time while a peer is in trouble, nobody left waiting when it is not."""

import asyncio
import random

import pytest

from openmeter_collector.engine.retry import BackOff, Gate
from openmeter_collector.testing.clock import virtual_time

BACK_OFF = BackOff(initial=1.0, longest=8.0)


def new_gate():
    loop = asyncio.get_running_loop()
    return Gate(loop.time, asyncio.sleep, lambda: 1.0)


async def settle_down():
    for _ in range(10):
        await asyncio.sleep(0)


@virtual_time
async def test_after_a_failure_one_at_a_time_goes_through():
    gate = new_gate()
    gate.failed(await gate.enter(), BACK_OFF)
    entering = [asyncio.ensure_future(gate.enter()) for _ in range(10)]
    await asyncio.sleep(5)
    assert sum(one.done() for one in entering) == 1
    gate.failed(entering[0].result(), BACK_OFF)
    await asyncio.sleep(1.5)
    assert sum(one.done() for one in entering) == 1
    await asyncio.sleep(1)
    assert sum(one.done() for one in entering) == 2
    gate.succeeded()
    await settle_down()
    assert all(one.done() for one in entering)


@virtual_time
async def test_pauses_grow_to_the_longest_and_start_anew_after_a_success():
    gate = new_gate()
    loop = asyncio.get_running_loop()
    pauses = []
    for _ in range(6):
        gate.failed(await gate.enter(), BACK_OFF)
        began = loop.time()
        entered = await gate.enter()
        pauses.append(round(loop.time() - began, 6))
        gate.abandoned(entered)
    assert pauses == [1, 2, 4, 8, 8, 8]
    gate.succeeded()
    gate.failed(await gate.enter(), BACK_OFF)
    assert gate.seconds_to_probe() == 1


def test_pauses_are_spread_over_their_upper_half():
    delays = [BACK_OFF.delay(3, random.Random(seed).random()) for seed in range(200)]
    assert all(2.0 <= one <= 4.0 for one in delays)
    assert max(delays) - min(delays) > 1.5


@virtual_time
async def test_writers_that_were_under_way_together_count_as_one_failure():
    gate = new_gate()
    entered = [await gate.enter() for _ in range(64)]
    for one in entered:
        gate.failed(one, BACK_OFF)
    assert gate.attempts == 1


@pytest.mark.parametrize("asleep", [True, False])
@virtual_time
async def test_a_probe_that_is_cancelled_hands_over_to_the_next(asleep):
    gate = new_gate()
    gate.failed(await gate.enter(), BACK_OFF)
    first, second = (asyncio.ensure_future(gate.enter()) for _ in range(2))
    if asleep:
        await asyncio.sleep(0.5)
        first.cancel()
    else:
        gate.abandoned(await first)
    await asyncio.sleep(2)
    assert second.done()


@virtual_time
async def test_one_who_was_woken_and_gives_up_wakes_the_next():
    gate = new_gate()
    gate.failed(await gate.enter(), BACK_OFF)
    probe = await gate.enter()
    second, third = (asyncio.ensure_future(gate.enter()) for _ in range(2))
    await settle_down()
    gate.abandoned(probe)
    second.cancel()
    await settle_down()
    assert third.done()


@virtual_time
async def test_whoever_waits_to_probe_goes_at_once_when_somebody_else_succeeded():
    """It slept on, up to an hour after the peer had asked for one, while all others delivered."""
    gate = new_gate()
    under_way, failing = await gate.enter(), await gate.enter()
    gate.failed(failing, BACK_OFF, at_least=3000)
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(1)
    gate.succeeded()
    await settle_down()
    assert waiting.done()
    gate.abandoned(under_way)


@virtual_time
async def test_an_old_probe_that_fails_late_lets_no_second_one_in():
    gate = new_gate()
    under_way = await gate.enter()
    gate.failed(await gate.enter(), BACK_OFF)
    old_probe = await gate.enter()
    gate.succeeded()
    gate.abandoned(under_way)
    gate.failed(await gate.enter(), BACK_OFF)
    await gate.enter()
    waiting = asyncio.ensure_future(gate.enter())
    gate.failed(old_probe, BACK_OFF)
    await asyncio.sleep(100)
    assert not waiting.done()
    waiting.cancel()


@virtual_time
async def test_what_the_peer_asked_for_is_waited_for_but_never_more_than_an_hour():
    gate = new_gate()
    gate.failed(await gate.enter(), BACK_OFF, at_least=100)
    assert gate.seconds_to_probe() == 100
    gate.failed(await gate.enter(), BACK_OFF, at_least=10**9)
    assert gate.seconds_to_probe() == 3600


@virtual_time
async def test_a_late_answer_that_asks_for_time_is_heard_even_when_the_gate_is_open():
    gate = new_gate()
    late, first = await gate.enter(), await gate.enter()
    gate.failed(first, BACK_OFF)
    gate.succeeded()
    gate.failed(late, BACK_OFF, at_least=60)
    assert gate.seconds_to_probe() == 60


@virtual_time
async def test_no_storm_while_a_peer_is_away_for_an_hour():
    gate = new_gate()
    loop = asyncio.get_running_loop()
    tries = 0

    async def writer():
        nonlocal tries
        while loop.time() < 3600:
            entered = await gate.enter()
            tries += 1
            await asyncio.sleep(0.01)
            gate.failed(entered, BACK_OFF)

    writers = [asyncio.ensure_future(writer()) for _ in range(64)]
    await asyncio.sleep(3600)
    for one in writers:
        one.cancel()
    assert tries < 64 + 3600 / 7
