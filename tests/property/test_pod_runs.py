"""Running seconds of pods: whatever is seen of their lives, and when, windows add up to what ran."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.components.inputs.pod_runs import PodRuns, length_of

T = 1_700_000_000


def stamp(second):
    return datetime.fromtimestamp(T + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_at(runs, second):
    """The status a node would report at a moment, of a container that lived like this."""
    begun = [run for run in runs if run[0] <= second]
    state, last = {"waiting": {"reason": "ContainerCreating"}}, {}
    if begun:
        start, end = begun[-1]
        if second < end:
            state = {"running": {"startedAt": stamp(start)}}
        else:
            state = {"terminated": {"startedAt": stamp(start), "finishedAt": stamp(end)}}
        if len(begun) > 1:
            start, end = begun[-2]
            last = {"terminated": {"startedAt": stamp(start), "finishedAt": stamp(end)}}
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"name": "c", "state": state, "lastState": last, "restartCount": len(begun)}
            ],
        },
    }


LIVES = st.lists(st.integers(1, 40), min_size=2, max_size=12).map(
    lambda steps: [sum(steps[: at + 1]) for at in range(len(steps) // 2 * 2)]
)


@settings(max_examples=300, deadline=None)
@given(LIVES, st.integers(3, 60), st.data())
def test_windows_add_up_to_what_ran_as_long_as_each_life_is_seen(edges, step, data):
    """Seen at each change, or at least before a life is two lives ago; in any order of windows."""
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    looks = set()
    for at, (start, end) in enumerate(runs):
        upto = runs[at + 2][0] if at + 2 < len(runs) else end + 100
        looks.add(data.draw(st.integers(end, max(end, upto - 1))))
        looks.update(data.draw(st.lists(st.integers(start, end), max_size=2)))
    known = PodRuns()
    for second in sorted(looks):
        known.seen(pod_at(runs, second), (T + second) * 1000)
    total = 0
    last = edges[-1] + step
    for start in range(0, last, step):
        window = ((T + start) * 1000, (T + start + step) * 1000)
        for _, parts in known.usage(*window):
            total += sum(part.milliseconds for part in parts)
    assert total == sum(end - start for start, end in runs) * 1000


@settings(max_examples=200, deadline=None)
@given(LIVES, st.integers(1, 200), st.sampled_from(["deleted", "unseen"]))
def test_nothing_is_counted_that_is_not_known_to_have_run(edges, gone, how):
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    known = PodRuns()
    for second in [one for one in edges if one <= gone]:
        known.seen(pod_at(runs, second), (T + second) * 1000)
    if how == "deleted":
        known.deleted(pod_at(runs, gone), (T + gone) * 1000)
    else:
        known.only(set(), (T + gone) * 1000)
    total = sum(
        part.milliseconds
        for _, parts in known.usage(T * 1000, (T + 10_000) * 1000)
        for part in parts
    )
    assert total <= sum(max(0, min(end, gone) - start) for start, end in runs) * 1000
    known.forget((T + 10_000) * 1000)
    assert len(known) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted), max_size=8))
def test_what_overlaps_is_counted_once(spans):
    covered = {second for low, high in spans for second in range(low, high)}
    assert length_of([tuple(one) for one in spans]) == len(covered)
