"""Cumulative counters as deltas: each increment once, whatever is repeated, restarted or late."""

import time

import grpc
import pytest

from kit.otlp import METHODS, Intake, counter_request, free_port, log_request, taking
from kit.pipes import REGISTRY, WRITTEN
from kit.waiting import eventually
from openmeter_collector.components.inputs import otlp_counters
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.errors import Overloaded, Retryable
from openmeter_collector.testing.running import running
from openmeter_collector.values.units import Duration

NOW = time.time()
LATER = NOW + 1_000
"""A start after the input first ran, which is now."""


def counting(intake, **config):
    return taking(OtlpInput, intake, **{"cumulative_counters": "delta"} | config)


def seen(intake):
    """Value, start and end of each delta, relative to `LATER`."""
    points = [value["point"] for value in intake.values]
    return [
        (
            point["value"],
            round(point.get("start_time_unix_nano", 0) / 1e9 - LATER),
            round(point["time_unix_nano"] / 1e9 - LATER),
        )
        for point in points
    ]


async def deltas(*requests, **config):
    intake = Intake()
    async with counting(intake, **config) as server:
        for request in requests:
            await server.export(request, "metrics")
    return seen(intake)


def points(*several, start=0.0, **more):
    return counter_request(*(("c", LATER + start, LATER + when, n) for when, n in several), **more)


async def test_each_point_becomes_what_was_added_since_the_one_before():
    made = await deltas(points((10, 5)), points((20, 7)), points((30, 7)), points((40, 2**60)))
    assert made == [(5, 0, 10), (2, 10, 20), (0, 20, 30), (2**60 - 7, 30, 40)]


async def test_the_message_says_that_it_is_a_delta():
    intake = Intake()
    async with counting(intake) as server:
        await server.export(points((10, 5)), "metrics")
    assert intake.values[0]["metric"]["temporality"] == "delta"
    assert intake.values[0]["metric"]["monotonic"] is True


async def test_a_repeated_or_late_point_adds_nothing():
    made = await deltas(points((10, 5)), points((10, 5)), points((30, 9)), points((20, 7)))
    assert made == [(5, 0, 10), (4, 10, 30)]


async def test_a_counter_with_a_new_start_counts_from_zero():
    made = await deltas(points((10, 5)), points((30, 9), start=20))
    assert made == [(5, 0, 10), (9, 20, 30)]


async def test_two_lives_of_a_counter_that_overlap_are_counted_apart():
    old, new = points((10, 5)), points((12, 1), start=11)
    made = await deltas(old, new, points((20, 6)), points((22, 3), start=11))
    assert [value for value, _, _ in made] == [5, 1, 1, 2]


async def test_a_smaller_value_without_a_new_start_is_a_reset():
    made = await deltas(points((10, 5)), points((20, 2)), points((30, 3)))
    assert made == [(5, 0, 10), (2, 10, 20), (1, 20, 30)]


async def test_doubles_are_subtracted_too():
    assert [v for v, *_ in await deltas(points((10, 0.5)), points((20, 2.0)))] == [0.5, 1.5]


async def test_series_are_told_apart_by_producer_name_and_attributes():
    made = await deltas(
        points((10, 5)),
        points((10, 6), instance="b"),
        points((10, 7), name="other"),
        counter_request(("d", LATER, LATER + 10, 8)),
    )
    assert [value for value, _, _ in made] == [5, 6, 7, 8]


async def test_deltas_gauges_and_sums_that_may_fall_are_left_as_they_are():
    made = await deltas(
        points((10, 5), cumulative=False),
        points((20, 7), cumulative=False),
        points((10, 3), monotonic=False),
        points((20, 1), monotonic=False),
    )
    assert [value for value, _, _ in made] == [5, 7, 3, 1]


@pytest.mark.parametrize(("initial", "expected"), [("auto", [2]), ("keep", [5, 2]), ("drop", [2])])
async def test_what_a_counter_came_to_before_this_input_ran_counts_by_choice(initial, expected):
    before = NOW - 1_000 - LATER
    made = await deltas(
        points((10, 5), start=before), points((20, 7), start=before), initial_value=initial
    )
    assert [value for value, _, _ in made] == expected


async def test_drop_leaves_the_first_value_of_a_young_counter_out_too():
    made = await deltas(points((10, 5)), points((20, 7)), initial_value="drop")
    assert [value for value, _, _ in made] == [2]


async def test_a_request_that_was_not_taken_is_counted_when_it_comes_again():
    intake = Intake(Retryable("later"))
    async with counting(intake) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await server.export(points((10, 5)), "metrics")
        intake.verdict = Overloaded("full")
        intake.verdict.at_once = True
        with pytest.raises(grpc.aio.AioRpcError):
            await server.export(points((10, 5)), "metrics")
        intake.verdict, intake.messages = None, []
        await server.export(points((10, 5)), "metrics")
    assert seen(intake) == [(5, 0, 10)]


async def test_a_request_that_was_given_up_on_but_is_safe_is_not_counted_again():
    intake = Intake("silent")
    async with counting(intake, timeout=Duration("100ms")) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await server.export(points((10, 5)), "metrics")
        # As long as nobody knows what became of it, the next one cannot be counted.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.export(points((20, 6)), "metrics")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await server.export(log_request(), "logs")
        intake.deliveries[0].settle(None)
        intake.verdict = None
        await server.export(points((10, 5)), "metrics")
        await server.export(points((20, 6)), "metrics")
    assert seen(intake) == [(5, 0, 10), (1, 10, 20)]


async def test_an_unknown_series_that_may_have_been_forgotten_is_not_counted_from_its_start(
    monkeypatch,
):
    monkeypatch.setattr(otlp_counters, "_MOST_IN_SHARD", 1)
    one, two, three = (
        counter_request((who, LATER, LATER + when, 5))
        for who, when in zip("abc", (1, 2, 3), strict=True)
    )
    again = counter_request(("a", LATER, LATER + 9, 6))
    more = counter_request(("a", LATER, LATER + 12, 8))
    made = await deltas(one, two, three, again, more)
    assert made == [(5, 0, 1), (5, 0, 2), (2, 9, 12)]


CONFIG = """
http: {{enabled: false}}
input:
  otlp:
    grpc_address: 127.0.0.1:{port}
    http_address: ""
    cumulative_counters: delta
buffer:
  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}
pipeline:
  processors:
    - mapping: 'root = "%v".format(this.point.value)'
output:
  scripted: {{name: out}}
"""


async def send(port, request):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHODS["metrics"])
        await call(request.SerializeToString(), wait_for_ready=True, timeout=20)


async def test_what_was_counted_is_known_after_a_restart(tmp_path):
    WRITTEN.clear()
    for request in (points((10, 5)), points((20, 7)), points((20, 7))):
        port = free_port()
        async with running(CONFIG.format(port=port, folder=tmp_path), REGISTRY) as collector:
            await collector.until_connected()
            await send(port, request)
            await eventually(lambda: not collector.status.buffer().events)
    assert [value for batch in WRITTEN["out"] for value in batch] == ["5", "2"]


async def test_a_counter_that_began_after_the_first_start_counts_even_if_its_first_point_is_late(
    tmp_path,
):
    """The time of the first start is durable before anything is taken."""
    WRITTEN.clear()
    port = free_port()
    async with running(CONFIG.format(port=port, folder=tmp_path), REGISTRY) as collector:
        await collector.until_connected()
        await eventually(lambda: any("over gRPC" in line for line in collector.lines))
        began = time.time()
    async with running(CONFIG.format(port=port, folder=tmp_path), REGISTRY) as collector:
        await collector.until_connected()
        await send(port, counter_request(("c", began, began + 1, 5)))
        await eventually(lambda: WRITTEN.get("out"))
    assert WRITTEN["out"] == [["5"]]
