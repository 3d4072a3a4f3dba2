"""`selftest --chaos`, in short; and that its oracle sees what it is there to see."""

import random
import sys

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.selftest import selftest
from openmeter_collector.errors import CollectorError
from openmeter_collector.testing.chaos import Chaos

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uses limits that only Linux has")


def rounds(count):
    return lambda evidence: evidence.rounds >= count


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_whatever_is_broken_nothing_acknowledged_is_lost(tmp_path, capsys):
    seed = random.SystemRandom().randrange(10**6)
    evidence = await Chaos(tmp_path / "data", seed).run(rounds(10), lambda _: None)
    with capsys.disabled():
        print("\n  " + "\n  ".join(evidence.lines()), end="")
    assert evidence.wrong == []
    assert evidence.acknowledged > 100
    assert evidence.ended["SIGKILL"]


class Lying(Chaos):
    """Notes events as acknowledged, or as sent, that were not."""

    def _judge(self, sandbox):
        self._acknowledged.add("never sent")
        name = next(iter(self._acknowledged & {event.id for event in sandbox.events}))
        self._issued[name] = b"something else"
        self._issued.pop(next(event.id for event in sandbox.events if event.id != name))
        super()._judge(sandbox)


async def test_the_oracle_sees_what_is_lost_altered_and_invented(tmp_path):
    evidence = await Lying(tmp_path / "data", 1, faults=False).run(rounds(1), lambda _: None)
    told = "\n".join(evidence.lines())
    for text in ("1 acknowledged events are nowhere", "not as they were sent", "that nobody sent"):
        assert text in told
    assert "FAILED" in told


async def test_the_books_are_part_of_the_verdict(tmp_path, monkeypatch):
    from openmeter_collector.storage.ledger import Line  # noqa: PLC0415

    chaos = Chaos(tmp_path / "data", 1, faults=False)
    judge = chaos._judge

    def judged(sandbox):
        monkeypatch.setattr(Line, "balance", property(lambda self: 1))
        judge(sandbox)

    monkeypatch.setattr(chaos, "_judge", judged)
    evidence = await chaos.run(rounds(1), lambda _: None)
    assert any("the books" in one for one in evidence.wrong)


async def test_a_folder_with_a_journal_in_it_is_left_alone(tmp_path):
    (tmp_path / "buffer.db").write_bytes(b"somebody's")
    with pytest.raises(CollectorError, match="is there already"):
        await Chaos(tmp_path, 1).run(rounds(1), lambda _: None)
    assert (tmp_path / "buffer.db").read_bytes() == b"somebody's"


def test_the_command_prints_the_evidence(tmp_path):
    words = ["--rounds", "1", "--dir", str(tmp_path / "data"), "--seed", "3"]
    done = CliRunner().invoke(selftest, words, standalone_mode=False)
    assert done.return_value == 0, (done.output, done.exception)
    assert "losses        0" in done.output
    assert "nothing went wrong there" in done.output
