"""kill -9 at random moments, many times, under load."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from rounds import play

ROUNDS = 208
SIDE_BY_SIDE = 2


def describe(series):
    sink, senders = series.sink, series.senders
    return (
        f"{series.rounds} rounds ({series.before_ready} before it listened), "
        f"{len(senders.issued)} issued, {len(senders.acked)} acknowledged, "
        f"{len(sink.got)} delivered ({series.delivered_in_lives} of them by lives that were killed), "
        f"{sum(len(copies) - 1 for copies in sink.got.values())} repeated"
    )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_whatever_moment_the_process_is_killed_nothing_acknowledged_is_lost(capsys):
    seeds = [random.SystemRandom().randrange(10**6) for _ in range(SIDE_BY_SIDE)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        results = list(pool.map(lambda seed: play(ROUNDS // SIDE_BY_SIDE, seed), seeds))
    with capsys.disabled():
        for series, _ in results:
            print(f"\n  kill -9, seed {series.seed}: {describe(series)}", end="")
    for series, wrong in results:
        assert not wrong, f"seed {series.seed}: {wrong}"
        assert len(series.senders.acked) > series.rounds
        assert series.delivered_in_lives
