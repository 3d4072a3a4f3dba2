"""Delivery: what each answer of a destination does to the events, the others, and the pace."""

import asyncio
import gc
import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from openmeter_collector.component.env import HttpResponse
from openmeter_collector.components.outputs.openmeter import OpenMeter
from openmeter_collector.engine.batching import Policy
from openmeter_collector.engine.chain import ProcessorChain
from openmeter_collector.engine.output_loop import MOST_UNDER_WAY, OutputLoop, OutputOptions
from openmeter_collector.errors import BatchFailed, Paused, Rejected, Retryable
from openmeter_collector.message import Message
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.testing.memory import MemoryBuffer, MemoryOutput

URL = "http://openmeter.test"


def loop_for(env, buffer, output, count=100, max_in_flight=4, **policy):
    nothing = ProcessorChain([])
    options = OutputOptions(Policy(count=count, **policy), max_in_flight)
    return OutputLoop(env, buffer, nothing, output, nothing, options)


def events(count, bad=()):
    return [(b'{"bad":%d}' if n in bad else b'{"ok":%d}') % n for n in range(count)]


async def deliver(buffer, output, env=None, **options):
    env = env or FakeEnv()
    loop = loop_for(env, buffer, output, **options)
    buffer.drain()
    await loop.run()
    return loop


def refuses_bad(batch):
    bad = any(b"bad" in message.content for message in batch)
    return Rejected("400", "no such meter") if bad else None


@pytest.mark.parametrize(
    "bad", [{0}, {99}, {41}, {0, 99}, {7, 8}, {3, 50, 51, 97}, set(range(100))]
)
@virtual_time
async def test_exactly_the_bad_events_become_dead_letters_and_the_rest_is_delivered_once(bad):
    sent = events(100, bad)
    buffer, output = MemoryBuffer([sent]), MemoryOutput(refuses_bad)
    loop = await deliver(buffer, output)
    assert loop.state.last_refusal == "400"
    assert loop.state.last_refused == buffer.letters[-1].last_attempt
    assert loop.state.last_failure == 0, "to be refused an event is no failure of delivery"
    assert sorted(letter.message.content for letter in buffer.letters) == sorted(
        one for one in sent if b"bad" in one
    )
    assert sorted(output.delivered) == sorted(one for one in sent if b"ok" in one)
    assert len(output.writes) <= 1 + len(bad) * (2 * math.log2(128) + 1)
    assert buffer.letters[0].response == "no such meter"


@virtual_time
async def test_taking_a_refused_batch_apart_is_bounded_and_does_not_hold_up_the_others():
    poison, healthy = events(64, set(range(64))), [events(64) for _ in range(12)]
    buffer, output = MemoryBuffer([poison, *healthy]), MemoryOutput(refuses_bad)
    await deliver(buffer, output, count=64, max_in_flight=2)
    assert len(buffer.letters) == 64
    with_bad = [at for at, one in enumerate(output.writes) if any(b"bad" in c for c in one)]
    assert len(with_bad) == 2 * 64 - 1, "each event alone, and the pieces on the way there"
    last_healthy = max(at for at, one in enumerate(output.writes) if at not in with_bad)
    assert last_healthy <= with_bad[len(healthy) + 1], "as if the poison were one batch of many"


@virtual_time
async def test_verdicts_on_single_messages_bury_the_refused_and_repeat_the_rest():
    failed_before = set()

    def verdict(batch):
        errors = {}
        for at, message in enumerate(batch):
            if b"bad" in message.content:
                errors[at] = Rejected("bad")
            elif message.content == b'{"ok":5}' and b"5" not in failed_before:
                failed_before.add(b"5")
                errors[at] = Retryable("later")
        return BatchFailed(errors) if errors else None

    class PartlyOutput(MemoryOutput):
        async def write(self, batch):
            try:
                await super().write(batch)
            except BatchFailed as error:
                good = [m.content for at, m in enumerate(batch) if at not in error.errors]
                self.delivered += good
                raise

    buffer, output = MemoryBuffer([events(10, {2})]), PartlyOutput(verdict)
    loop = await deliver(buffer, output)
    assert [letter.message.content for letter in buffer.letters] == [b'{"bad":2}']
    assert sorted(output.delivered) == sorted(one for one in events(10, {2}) if b"ok" in one)
    assert loop.state.delivered == 9


@virtual_time
async def test_an_output_that_names_messages_that_are_not_there_ends_nothing():
    tries = []

    def verdict(batch):
        tries.append(1)
        return BatchFailed({99: Retryable("?")}) if len(tries) < 3 else None

    buffer, output = MemoryBuffer([events(3)]), MemoryOutput(verdict)
    await deliver(buffer, output)
    assert len(buffer.settled) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 302])
@virtual_time
async def test_a_destination_that_refuses_us_pauses_all_and_loses_nothing(status):
    env = FakeEnv()
    loop = asyncio.get_running_loop()
    env.http_script.script = lambda _: (
        HttpResponse(status, {"location": "http://elsewhere.test"}, b"")
        if loop.time() < 3600
        else HttpResponse(204, {}, b"")
    )
    buffer = MemoryBuffer([events(100) for _ in range(20)])
    async with OpenMeter(url=URL).open(env) as output:
        loop_ = loop_for(env, buffer, output)
        running = asyncio.ensure_future(loop_.run())
        await asyncio.sleep(1800)
        assert loop_.state.paused
        assert not buffer.settled
        assert not buffer.letters
        assert len(env.http_script.requests) < 4 + 1800 / 30
        assert all(request.url.startswith(URL) for request in env.http_script.requests)
        assert sum("delivery paused" in line for line in env.lines) == 1
        buffer.drain()
        await running
    assert not loop_.state.paused
    assert len(buffer.settled) == 2000
    assert len(buffer.letters) == 0


def http_date(seconds):
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize("form", ["seconds", "date"])
@virtual_time
async def test_a_destination_that_asks_for_time_gets_it(form, monkeypatch):
    env = FakeEnv()
    asked = []
    monkeypatch.setattr("openmeter_collector.spec.http_answers.time.time", env.now)

    def script(request):
        asked.append(env.now())
        if len(asked) == 1:
            text = "120" if form == "seconds" else http_date(env.now() + 120)
            return HttpResponse(429, {"retry-after": text}, b"")
        return HttpResponse(204, {}, b"")

    env.http_script.script = script
    buffer = MemoryBuffer([events(10)])
    async with OpenMeter(url=URL).open(env) as output:
        await deliver(buffer, output, env, max_in_flight=1)
    assert 119 <= asked[1] - asked[0] <= 121
    assert len(buffer.settled) == 10


@pytest.mark.parametrize("trouble", [500, 503, "timeout", "refused"])
@virtual_time
async def test_trouble_on_the_way_backs_off_with_jitter_and_recovers(trouble):
    env = FakeEnv()
    loop = asyncio.get_running_loop()
    answers = {
        500: HttpResponse(500, {}, b""),
        503: HttpResponse(503, {}, b""),
        "timeout": TimeoutError(),
        "refused": Retryable("refused"),
    }
    env.http_script.script = lambda _: (
        answers[trouble] if loop.time() < 600 else HttpResponse(204, {}, b"")
    )
    buffer = MemoryBuffer([events(100) for _ in range(30)])
    async with OpenMeter(url=URL).open(env) as output:
        await deliver(buffer, output, env)
    in_trouble = len(env.http_script.requests) - 30
    assert in_trouble < 4 + 600 / 15 + 200
    assert len(buffer.settled) == 3000
    assert not buffer.letters
    assert loop.time() < 700


@virtual_time
async def test_a_batch_that_always_times_out_does_not_block_the_others_and_is_sent_in_pieces():
    env = FakeEnv()
    sizes = []

    def script(request):
        count = request.body.count(b"slow")
        if count:
            sizes.append(count)
        return TimeoutError() if count > 1 else HttpResponse(204, {}, b"")

    env.http_script.script = script
    buffer = MemoryBuffer([[b'{"slow":%d}' % n for n in range(4)]])
    async with OpenMeter(url=URL).open(env) as output:
        loop_ = loop_for(env, buffer, output, count=4)
        running = asyncio.ensure_future(loop_.run())
        for _ in range(100):
            buffer.put(events(4))
            await asyncio.sleep(5)
        assert sum(b"ok" in one for one in buffer.settled) >= 4 * 85
        buffer.drain()
        await running
    assert sum(b"slow" in one for one in buffer.settled) == 4
    assert sorted(set(sizes)) == [1, 2, 4]


@virtual_time
async def test_batches_that_are_too_much_for_the_destination_get_smaller_even_when_none_succeeds():
    env = FakeEnv()
    env.http_script.script = lambda request: (
        TimeoutError() if request.body.count(b"ok") > 10 else HttpResponse(204, {}, b"")
    )
    buffer = MemoryBuffer([events(100)])
    async with OpenMeter(url=URL).open(env) as output:
        await deliver(buffer, output, env, max_in_flight=1)
    assert len(buffer.settled) == 100


@virtual_time
async def test_a_defect_of_an_output_loses_nothing():
    tries = []

    def verdict(batch):
        tries.append(1)
        return KeyError("a defect") if len(tries) < 5 else None

    buffer, output = MemoryBuffer([events(5)]), MemoryOutput(verdict)
    await deliver(buffer, output)
    assert len(buffer.settled) == 5


@virtual_time
async def test_what_waits_for_company_goes_at_once_when_the_pipeline_is_stopping():
    loop = asyncio.get_running_loop()
    buffer, output = MemoryBuffer([events(3)]), MemoryOutput()
    driver = loop_for(FakeEnv(), buffer, output, period=3000.0)
    running = asyncio.ensure_future(driver.run())
    await asyncio.sleep(1)
    assert not output.delivered
    buffer.drain()
    driver.hurry()
    await running
    assert len(buffer.settled) == 3
    assert loop.time() < 2


@virtual_time
async def test_a_stop_in_the_middle_of_a_batch_keeps_what_was_answered():
    """A refused and a delivered part of a batch are settled, the part without an answer is not."""

    def verdict(batch):
        if len(batch) > 4 or any(b"bad" in one.content for one in batch):
            return Rejected("400", "no such meter")
        return Retryable("down") if any(b":7}" in one.content for one in batch) else None

    buffer, output = MemoryBuffer([events(8, bad={0})]), MemoryOutput(verdict)
    running = asyncio.ensure_future(loop_for(FakeEnv(), buffer, output).run())
    await asyncio.sleep(30)
    assert not buffer.settled
    running.cancel()
    await asyncio.wait({running})
    assert [letter.message.content for letter in buffer.letters] == [b'{"bad":0}']
    assert len(buffer.settled) == len(output.delivered) > 0
    assert b'{"ok":7}' not in output.delivered


@virtual_time
async def test_a_peer_that_fails_all_messages_one_by_one_is_not_stormed():
    buffer = MemoryBuffer([events(10) for _ in range(10)])
    output = MemoryOutput(lambda batch: BatchFailed({n: Retryable("x") for n in range(len(batch))}))
    driver = loop_for(FakeEnv(), buffer, output, count=10)
    running = asyncio.ensure_future(driver.run())
    await asyncio.sleep(600)
    running.cancel()
    assert len(output.writes) < 4 + 10 + 600 / 15
    assert not buffer.settled
    assert not isinstance(Paused("x"), Retryable)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html; charset=utf-8"}, b"Sign in"),
        ({}, b"<!doctype html><title>Sign in</title>"),
    ],
)
@virtual_time
async def test_a_login_page_in_between_is_no_success_and_nothing_is_lost(headers, body):
    env = FakeEnv()
    loop = asyncio.get_running_loop()
    env.http_script.script = lambda _: (
        HttpResponse(200, headers, body) if loop.time() < 600 else HttpResponse(204, {}, b"")
    )
    buffer = MemoryBuffer([events(10)])
    async with OpenMeter(url=URL).open(env) as output:
        loop_ = await deliver(buffer, output, env)
    assert len(buffer.settled) == 10
    assert "a page for people" in loop_.state.last_error


@pytest.mark.parametrize(
    ("status", "body"), [(204, b""), (202, b""), (200, b'{"ok":true}'), (200, b"OK")]
)
@virtual_time
async def test_other_answers_of_2xx_are_success_whatever_is_in_them(status, body):
    """Repeating what was taken, for the sake of an odd body, would only double it."""
    env = FakeEnv()
    env.http_script.script = lambda _: HttpResponse(status, {"content-type": "text/plain"}, body)
    buffer = MemoryBuffer([events(10)])
    async with OpenMeter(url=URL).open(env) as output:
        await deliver(buffer, output, env)
    assert len(buffer.settled) == 10
    assert len(env.http_script.requests) == 1


@virtual_time
async def test_a_slow_output_that_sets_no_count_does_not_hold_the_whole_source_in_memory():
    held = []

    class Slow(MemoryOutput):
        async def write(self, batch):
            held.append(len(batch))
            await asyncio.sleep(3600)

    frames = [events(1000) for _ in range(200)]
    buffer = MemoryBuffer(frames)
    loop = loop_for(FakeEnv(), buffer, Slow(), count=0, max_in_flight=64)
    running = asyncio.ensure_future(loop.run())
    await asyncio.sleep(60)
    running.cancel()
    taken = 200_000 - sum(len(one.batch) for one in buffer._waiting)
    assert sum(held) <= taken <= 2 * MOST_UNDER_WAY
    assert len(held) > 1


@virtual_time
async def test_writers_that_wait_for_work_hold_nothing_of_what_they_wrote():
    frames = [[b'{"held":%d}' % n for n in range(50)] for _ in range(64)]
    buffer, output = MemoryBuffer(frames), MemoryOutput()
    running = asyncio.ensure_future(
        loop_for(FakeEnv(), buffer, output, count=50, max_in_flight=64).run()
    )
    while len(output.delivered) < 64 * 50:
        await asyncio.sleep(1)
    await asyncio.sleep(1)
    gc.collect()
    held = sum(
        isinstance(one, Message) and one.content.startswith(b'{"held"') for one in gc.get_objects()
    )
    assert held <= 2 * 50  # what was read last
    running.cancel()
