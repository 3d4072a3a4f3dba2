"""Which faults happen to which request; how they look on the wire is in test_sandbox_wire."""

import re
from pathlib import Path

import msgspec
import pytest

from openmeter_collector.testing.sandbox import faults as fault
from openmeter_collector.testing.sandbox.faults import FaultPlan, parse_fault


def plan(*faults, seed=0):
    made = FaultPlan()
    made.arm(faults, seed)
    return made


def fires(made, *, path="/api/v1/events", events=(), size=0):
    return [type(f).__name__ for f in made.choose(path, events, size)]


def test_without_conditions_a_fault_happens_every_time():
    made = plan(fault.Status())
    assert [fires(made) for _ in range(3)] == [["Status"]] * 3


def test_after_lets_some_through_and_times_bounds_the_number():
    made = plan(fault.Status(after=2, times=1))
    assert [fires(made) for _ in range(4)] == [[], [], ["Status"], []]


def test_probability_is_repeatable_by_seed():
    runs = [[bool(fires(made)) for _ in range(200)] for made in [
        plan(fault.Status(probability=0.25), seed=7),
        plan(fault.Status(probability=0.25), seed=7),
        plan(fault.Status(probability=0.25), seed=8),
    ]]  # fmt: skip
    assert runs[0] == runs[1] != runs[2]
    assert 25 < sum(runs[0]) < 75


def test_path_is_searched():
    made = plan(fault.Status(path="v3"))
    assert fires(made) == []
    assert fires(made, path="/api/v3/openmeter/events") == ["Status"]


def test_one_event_must_match_all_patterns():
    made = plan(fault.Refuse(type="^bad$", subject="7"))
    assert (
        fires(made, events=[{"type": "bad", "subject": "1"}, {"type": "x", "subject": "7"}]) == []
    )
    assert fires(made, events=[{}, {"type": "bad", "subject": "17"}]) == ["Refuse"]


def test_too_large_looks_at_the_size():
    made = plan(fault.TooLarge(bytes=10, times=1))
    assert fires(made, size=10) == []
    assert fires(made, size=11) == ["TooLarge"]


def test_faults_mix_until_one_ends_the_exchange():
    made = plan(fault.Slow(), fault.Status(times=1), fault.Junk())
    assert fires(made) == ["Slow", "Status"]
    assert fires(made) == ["Slow", "Junk"]
    assert [f["fired"] for f in made.describe()["faults"]] == [2, 1, 1]


def test_arming_again_starts_the_counts_again():
    made = plan(fault.Status(times=1))
    fires(made)
    made.arm([fault.Status(times=1)])
    assert fires(made) == ["Status"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("hang", fault.Hang()),
        ("slow=0.5", fault.Slow(seconds=0.5)),
        ("status=429,retry_after=2", fault.Status(status=429, retry_after="2")),
        ("status=503,retry_after=date:2,times=3", fault.Status(retry_after="date:2", times=3)),
        ("refuse=422,type=^bad$", fault.Refuse(status=422, type="^bad$")),
        ("too_large=1000", fault.TooLarge(bytes=1000)),
        ("partial=3,status=503", fault.Partial(keep=3, status=503)),
        ("reset,ingest=false,probability=0.1", fault.Reset(ingest=False, probability=0.1)),
        (r"refuse,id=a{1\,2}", fault.Refuse(id="a{1,2}")),
        ("down=15", fault.Down(seconds=15)),
    ],
)
def test_faults_are_read_from_the_command_line(text, made):
    assert parse_fault(text) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "no fault is called 'nope'; there are down, slow"),
        ("slow=fast", "Expected `float`"),
        ("status=503,retry=1", "unknown field `retry`"),
        ("status=503,retry_after", "not field=value"),
        ("refuse", "needs one of id, type, subject, source"),
        ("status,id=[", "id: unterminated character set"),
        ("status,probability=2", "<= 1"),
    ],
)
def test_what_is_not_a_fault_is_explained(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_fault(text)


def test_every_fault_is_in_the_guide_with_all_its_fields():
    guide = (Path(__file__).parents[3] / "docs/guide/sandbox.md").read_text()
    common = {field.name for field in msgspec.structs.fields(fault.Fault)}
    for name, kind in fault.KINDS.items():
        section = re.search(rf"^\| `{name}` \|.*$", guide, re.MULTILINE)
        assert section, f"{name} is not in docs/guide/sandbox.md"
        for field in {f.name for f in msgspec.structs.fields(kind)} - common:
            assert f"`{field}`" in section[0], f"{name}: {field}"
    for field in common:
        assert f"`{field}`" in guide, field
