"""Inputs that fetch windows: nothing missing, nothing twice, whatever fails."""

import asyncio

import orjson

from kit.windows import START, ListedWindows, Stored, WindowEnv, assert_tiled, running, spans_of
from openmeter_collector.api import (
    BatchFailed,
    Message,
    Overloaded,
    Retryable,
    Superseded,
    Unfinished,
    Unobtainable,
    WindowedInput,
    WindowPlan,
)
from openmeter_collector.errors import Disconnected
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import ask
from openmeter_collector.values.schedule import parse_schedule
from openmeter_collector.values.windows import Window, grid_of

MS = int(START * 1000)


def plan(every="10s", **more):
    return WindowPlan(grid_of(parse_schedule(every)), **more)


def made(source=None, stored=None, every="10s", **more):
    env = WindowEnv(stored)
    source = source or ListedWindows()
    return WindowedInput(env, source, plan(every, **more)), env, source


def total(env, name):
    return env.metrics.store.total(name)


@virtual_time
async def test_each_window_is_fetched_once_when_it_has_ended():
    window_input, env, source = made()
    async with running(window_input, env.stored):
        await asyncio.sleep(95)
    assert_tiled(spans_of(env.stored.messages), MS, MS + 90_000)
    assert len(source.asked) == 9
    assert total(env, "windows_done") == 9
    assert total(env, "gaps_open") == 0


@virtual_time
async def test_the_first_window_is_the_one_of_the_start():
    window_input, env, _ = made()
    env.offset = 7.0
    async with running(window_input, env.stored):
        await asyncio.sleep(5)
    assert_tiled(spans_of(env.stored.messages), MS, MS + 10_000)


@virtual_time
async def test_windows_of_a_time_when_nobody_ran_are_fetched_oldest_first_and_said_once():
    stored = Stored()
    first, _, _ = made(stored=stored)
    async with running(first, stored):
        await asyncio.sleep(21)
    await asyncio.sleep(60)
    second, env, source = made(stored=stored, source=ListedWindows(takes=0.1), max_parallel=1)
    async with running(second, stored):
        await asyncio.sleep(15)
    assert_tiled(spans_of(stored.messages), MS, MS + 90_000)
    asked = [window.start for window, _ in source.asked]
    assert asked[0] == MS + 70_000, "the newest does not wait"
    assert asked[1:7] == sorted(asked[1:7])
    told = [line for line in env.lines if "windows are missing" in line]
    assert len(told) == 1
    assert "2023-11-14T22:13:40Z" in told[0], "since when"
    assert sum("a gap is closed" in line for line in env.lines) == 1


@virtual_time
async def test_a_failed_window_comes_again_and_does_not_hold_up_the_newest():
    poison = Window(MS + 10_000, MS + 20_000)

    def fail(window, attempt):
        return Retryable("no") if window == poison and attempt < 8 else None

    window_input, env, _ = made(ListedWindows(fail))
    late = []
    put = env.stored.put

    async def timed(delivery):
        now = asyncio.get_running_loop().time()
        late.extend(now - (one.structured()["end"] - MS) / 1000 for one in delivery.batch)
        await put(delivery)

    env.stored.put = timed
    async with running(window_input, env.stored):
        await asyncio.sleep(55)
        assert total(env, "gaps_open") == 1
        spans = spans_of(env.stored.messages)
        assert (poison.start, poison.end) not in spans
        assert len(spans) == 4, "all others are on time"
        assert max(late) < 0.1
        await asyncio.sleep(60)
    assert_tiled(spans_of(env.stored.messages), MS, MS + 110_000)
    assert sum("windows are missing" in line for line in env.lines) == 1, "once for each gap"
    assert total(env, "gaps_open") == 0


@virtual_time
async def test_an_outage_is_one_gap_and_is_made_up_for():
    def fail(window, attempt):
        away = 30 < asyncio.get_running_loop().time() < 3600
        return Retryable("away") if away else None

    window_input, env, source = made(ListedWindows(fail))
    async with running(window_input, env.stored):
        await asyncio.sleep(3500)
        during = len(source.asked)
        await asyncio.sleep(605)
    assert_tiled(spans_of(env.stored.messages), MS, MS + 4_100_000)
    assert sum("windows are missing" in line for line in env.lines) == 1
    assert during < 347 + 100, "each new window once, and few attempts at the old ones"


@virtual_time
async def test_catching_up_is_bounded():
    stored = Stored()
    first, _, _ = made(stored=stored)
    async with running(first, stored):
        await asyncio.sleep(11)
    await asyncio.sleep(1000)
    source = ListedWindows(takes=3)
    second, _, _ = made(source, stored, max_parallel=3)
    async with running(second, stored):
        await asyncio.sleep(200)
    assert source.most_under_way == 4, "three of the past and the newest"
    assert_tiled(spans_of(stored.messages), MS, MS + 1_200_000)


@virtual_time
async def test_what_is_older_than_max_age_is_lost_with_its_cause_and_not_fetched():
    stored = Stored()
    first, _, _ = made(stored=stored)
    async with running(first, stored):
        await asyncio.sleep(11)
    await asyncio.sleep(1000)
    second, env, source = made(stored=stored, max_age=100)
    async with running(second, stored):
        await asyncio.sleep(15)
    ledger = stored.ledger()
    assert [(one.start, one.end) for one in ledger.lost] == [(MS + 10_000, MS + 910_000)]
    assert "catch_up.max_age" in ledger.lost[0].cause
    assert min(window.start for window, _ in source.asked) == MS + 910_000
    assert total(env, "gaps_impossible") == 1
    assert total(env, "gaps_impossible_seconds") == 900
    assert sum("windows are lost" in line for line in env.lines) == 1


@virtual_time
async def test_a_source_that_knows_only_the_present_is_not_asked_for_the_past():
    stored = Stored()
    first, _, _ = made(stored=stored, history=False)
    async with running(first, stored):
        await asyncio.sleep(11)
    await asyncio.sleep(100)
    second, _, source = made(stored=stored, history=False)
    async with running(second, stored):
        await asyncio.sleep(5)
    assert [window.start for window, _ in source.asked] == [MS + 100_000]
    assert [(one.start, one.end) for one in stored.ledger().lost] == [(MS + 10_000, MS + 100_000)]


@virtual_time
async def test_a_window_that_is_gone_is_lost_and_others_go_on():
    def fail(window, attempt):
        return Unobtainable("retention is 2h") if window.start == MS else None

    window_input, env, _ = made(ListedWindows(fail))
    async with running(window_input, env.stored):
        await asyncio.sleep(35)
    ledger = env.stored.ledger()
    assert [(one.start, one.cause) for one in ledger.lost] == [(MS, "retention is 2h")]
    assert_tiled(spans_of(env.stored.messages), MS + 10_000, MS + 30_000)


@virtual_time
async def test_a_source_that_never_answers_is_said_to_lose_windows_once():
    window_input, env, _ = made(
        ListedWindows(lambda window, attempt: Retryable("never")), max_age=60
    )
    async with running(window_input, env.stored):
        await asyncio.sleep(1000)
    assert sum("windows are lost" in line for line in env.lines) == 1
    (span,) = env.stored.ledger().lost
    assert "never" in span.cause


@virtual_time
async def test_of_a_window_in_parts_only_what_is_missing_is_fetched_again():
    asked = []

    class Parts:
        async def fetch(self, window, rest):
            asked.append((window.start, tuple(rest)))
            if window.start == MS and not rest:
                yield [Message(b"a")]
                yield [Message(b"b")]
                raise Unfinished("c did not answer", ["c"])
            yield [Message(b"c" if rest else b"all")]

    window_input, env, _ = made(Parts())
    async with running(window_input, env.stored):
        await asyncio.sleep(15)
    assert [one.content for one in env.stored.messages] == [b"a", b"b", b"c"]
    assert asked == [(MS, ()), (MS, ("c",))]


@virtual_time
async def test_what_is_missing_is_still_known_after_a_restart():
    asked = []

    class Parts:
        async def fetch(self, window, rest):
            asked.append(tuple(rest))
            yield [Message(b"x")]
            raise Unfinished("c did not answer", ["c"])

    stored = Stored()
    window_input, _, _ = made(Parts(), stored)
    async with running(window_input, stored):
        await asyncio.sleep(10.1)
    window_input, _, _ = made(Parts(), stored)
    async with running(window_input, stored):
        await asyncio.sleep(0.1)
    assert asked == [(), ("c",)]


@virtual_time
async def test_a_position_becomes_true_with_the_events_of_its_window():
    """Whatever is cut off after whichever commit: the ledger says done exactly of what is stored."""
    window_input, env, _ = made(ListedWindows(takes=0.5))
    seen = []
    put = env.stored.put

    async def watch(delivery):
        await put(delivery)
        ledger = env.stored.ledger()
        left = [(one.start, one.end) for one in ledger.open]
        stored = spans_of(env.stored.messages)
        seen.append(sum(e - s for s, e in [*left, *stored]) == ledger.upto - ledger.begun)

    env.stored.put = watch
    async with running(window_input, env.stored):
        await asyncio.sleep(200)
    assert len(seen) >= 19
    assert all(seen)


@virtual_time
async def test_what_could_not_be_stored_is_handed_over_again_before_anything_later():
    refusals = [Retryable("disk full"), Retryable("disk full")]
    window_input, env, _ = made()
    env.stored.refuse = lambda delivery: refusals.pop() if refusals and delivery.batch else None
    async with running(window_input, env.stored):
        await asyncio.sleep(45)
    assert_tiled(spans_of(env.stored.messages), MS, MS + 40_000)
    starts = [one.structured()["start"] for one in env.stored.messages]
    assert starts == sorted(starts)


@virtual_time
async def test_of_a_batch_that_failed_in_part_only_that_part_comes_again():
    class Two:
        async def fetch(self, window, rest):
            yield [Message(b"good"), Message(b"bad")]

    fates = [BatchFailed({1: Retryable("this one")})]
    window_input, env, _ = made(Two())
    tried = []

    def refuse(delivery):
        tried.append([one.content for one in delivery.batch])
        return fates.pop() if fates and delivery.batch else None

    env.stored.refuse = refuse
    async with running(window_input, env.stored):
        await asyncio.sleep(15)
    assert tried[1:3] == [[b"good", b"bad"], [b"bad"]]


@virtual_time
async def test_a_replica_that_leads_no_more_stops_and_does_not_advance():
    window_input, env, _ = made()
    env.stored.refuse = lambda delivery: Superseded("term 2 leads") if delivery.batch else None
    task = asyncio.ensure_future(window_input.run(env.stored))
    await asyncio.wait({task}, timeout=60)
    assert task.done()
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Disconnected)
    assert env.stored.ledger().upto == MS


@virtual_time
async def test_a_clock_that_jumps_leaves_no_hole_and_repeats_nothing():
    window_input, env, _ = made()
    async with running(window_input, env.stored):
        await asyncio.sleep(35)
        env.offset -= 1000  # back: nothing is due for a while
        await asyncio.sleep(50)
        env.offset += 3000  # on: all that is passed by is opened
        await asyncio.sleep(50)
    spans = spans_of(env.stored.messages)
    assert_tiled(spans, MS, spans[-1][1])
    assert spans[-1][1] == MS + (35 + 50 + 50 + 2000) // 10 * 10_000


@virtual_time
async def test_a_clock_that_drifts_changes_no_edge():
    window_input, env, _ = made(every="1s")
    async with running(window_input, env.stored):
        for _ in range(300):
            await asyncio.sleep(0.97)
            env.offset += 0.01
    spans = spans_of(env.stored.messages)
    assert_tiled(spans, MS, spans[-1][1])
    assert len(spans) == 293
    assert all(start % 1000 == 0 for start, _ in spans)


@virtual_time
async def test_a_changed_schedule_still_tiles():
    stored = Stored()
    first, _, _ = made(stored=stored, every="10s")
    async with running(first, stored):
        await asyncio.sleep(25)
    second, _, _ = made(stored=stored, every="7s")
    async with running(second, stored):
        await asyncio.sleep(40)
    spans = spans_of(stored.messages)
    assert_tiled(spans, MS, spans[-1][1])


@virtual_time
async def test_a_source_that_asks_for_time_gets_it():
    def fail(window, attempt):
        return Overloaded("429", 30.0) if window.start == MS and attempt == 1 else None

    window_input, env, source = made(ListedWindows(fail), every="100s")
    async with running(window_input, env.stored):
        await asyncio.sleep(125)
        assert len(source.asked) == 1
        await asyncio.sleep(10)
        assert len(source.asked) == 2


@virtual_time
async def test_a_defect_of_a_source_costs_no_window():
    def fail(window, attempt):
        return ZeroDivisionError("defect") if attempt == 1 else None

    window_input, env, _ = made(ListedWindows(fail))
    async with running(window_input, env.stored):
        await asyncio.sleep(35)
    assert_tiled(spans_of(env.stored.messages), MS, MS + 30_000)


@virtual_time
async def test_a_ledger_that_cannot_be_read_is_begun_anew_and_said():
    stored = Stored()
    env = WindowEnv(stored)
    stored.values["/root.input/windows"] = b"{"
    async with running(WindowedInput(env, ListedWindows(), plan()), stored):
        await asyncio.sleep(11)
    assert any("cannot be read and was begun anew" in line for line in env.lines)
    assert_tiled(spans_of(stored.messages), MS, MS + 10_000)


@virtual_time
async def test_a_person_sees_fills_and_accepts_gaps():
    def fail(window, attempt):
        gone = window.start < MS + 30_000 and asyncio.get_running_loop().time() < 60
        return Unobtainable("retention") if gone else None

    window_input, env, _ = made(ListedWindows(fail))
    async with running(window_input, env.stored):
        await asyncio.sleep(61)
        app = env.apps["/windows/root.input/windows"]
        said = orjson.loads((await ask(app, "GET", "/")).body)
        assert [(one["start"], one["cause"]) for one in said["lost"]] == [
            ("2023-11-14T22:13:20Z", "retention")
        ]
        span = {"start": "2023-11-14T22:13:20Z", "end": "2023-11-14T22:13:30Z"}
        filled = await ask(app, "POST", "/", orjson.dumps({"action": "fill", **span}))
        assert filled.status == 200
        await asyncio.sleep(1)
        assert spans_of(env.stored.messages)[0] == (MS, MS + 10_000)
        span = {"start": "2023-11-14T22:13:20Z", "end": "2023-11-14T22:20:00Z"}
        await ask(app, "POST", "/", orjson.dumps({"action": "accept", **span}))
        assert env.stored.ledger().lost == []
        bad = await ask(app, "POST", "/", orjson.dumps({"action": "bill", **span}))
        assert bad.status == 400


@virtual_time
async def test_only_the_own_machine_may_change_the_book():
    window_input, env, _ = made()
    async with running(window_input, env.stored):
        await asyncio.sleep(1)
        app = env.apps["/windows/root.input/windows"]
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "client": ("10.0.0.9", 1)}
        await app(scope, None, send)
    assert sent[0]["status"] == 403
