"""The journal against a model of five lines, through crashes.

The model: `written` in order, of which each is waiting, delivered, dropped or a letter. A crash copies
the files as they are and opens the copy, without closing anything. The books balance at every start,
and say of every event what the model says.
"""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, Dropped, Overloaded, Retryable
from openmeter_collector.message import Checkpoint, Delivery, Message
from openmeter_collector.storage import audit, ledger
from openmeter_collector.storage import journal as journal_module
from openmeter_collector.storage import reader as reader_module
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.schema import open_reader

FULL = 4000


class JournalMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize(hot=st.sampled_from([0, 150, 1 << 20]))
    def start(self, hot):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(reader_module, "HOT_BYTES", hot)
        self.patch.setattr(reader_module, "_PAGE_FRAMES", 2)
        self.patch.setattr(journal_module, "_REDELIVER_FIRST", 0.0001)
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.life = 0
        self.number = 0
        self.waiting = {}
        self.delivered = set()
        self.dropped = set()
        self.letters = set()
        self.unsure = set()
        self.checkpoint = None
        self.out = []
        self.runner = asyncio.Runner()
        (self.folder / "0").mkdir()
        self.open()

    def open(self):
        self.stack = AsyncExitStack()
        options = JournalOptions(
            self.folder / str(self.life) / "b.db", max_bytes=FULL, min_free_bytes=0
        )
        self.journal = self.runner.run(self.stack.enter_async_context(Journal.open(options)))
        self.path = options.path

    # ---- what can be done ------------------------------------------------------------------

    @rule(sizes=st.lists(st.integers(5, 600), min_size=1, max_size=5), keep_position=st.booleans())
    def write(self, sizes, keep_position):
        contents = []
        for size in sizes:
            names = (b"source-%d" % (self.number % 3), b"type-%d" % (size % 2))
            contents.append(
                b'{"id":"%06d","source":"%b","type":"%b","pad":"' % (self.number, *names)
                + b"x" * size
                + b'"}'
            )
            self.number += 1
        checkpoint = Checkpoint("at", contents[-1][7:13]) if keep_position else None

        async def main():
            told = asyncio.get_running_loop().create_future()
            batch = [Message(content, {"n": len(content)}) for content in contents]
            self.journal.write(
                Delivery(batch, told.set_result, (checkpoint,) if checkpoint else ())
            )
            return await told

        held = self.journal.status().size_bytes
        try:
            assert self.runner.run(main()) is None
        except Overloaded:
            assert held + sum(map(len, contents)) > FULL
            return
        assert not held or held + sum(map(len, contents)) <= FULL
        self.waiting |= dict.fromkeys(contents)
        if checkpoint:
            self.checkpoint = checkpoint.value

    def available(self):
        return [one for one in self.waiting if not any(one in contents for _, contents in self.out)]

    @precondition(lambda self: self.available())
    @rule()
    def read(self):
        delivery = self.runner.run(asyncio.wait_for(self.journal.read(), 10))
        contents = [message.content for message in delivery.batch]
        for message in delivery.batch:
            assert message.metadata["n"] == len(message.content)
        assert contents
        known = set(self.waiting) | self.unsure
        assert set(contents) <= known, "invented, or delivered again without a reason"
        for _, others in self.out:
            assert not set(contents) & set(others), "given out twice"
        self.out.append((delivery, contents))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def settle(self, data):
        delivery, contents = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        fates = [data.draw(st.sampled_from(["ok", "again", "dead", "drop"])) for _ in contents]
        errors = {}
        for at, (content, fate) in enumerate(zip(contents, fates, strict=True)):
            if fate == "again":
                errors[at] = Retryable("later")
            else:
                self.waiting.pop(content, None)
                where = {"ok": self.delivered, "dead": self.letters, "drop": self.dropped}
                where[fate].add(content)
            if fate == "drop":
                errors[at] = Dropped("a rule")
            if fate == "dead":
                letter = DeadLetter(Message(content), "bad", "", 1, 1.0, 1.0, "out")
                errors[at] = Undeliverable(letter)

        async def main():
            delivery.settle(BatchFailed(errors) if errors else None)

        self.runner.run(main())
        # What a crash may undo: acknowledgements are committed a moment later.
        self.unsure |= {c for c, fate in zip(contents, fates, strict=True) if fate != "again"}

    @rule()
    def stop_and_start(self):
        self.out.clear()
        self.runner.run(self.stack.aclose())
        self.unsure.clear()
        self.open()
        assert self.journal.set_aside is None
        self.check_reopened()

    @rule()
    def crash(self):
        self.life += 1
        copy = self.folder / str(self.life)
        copy.mkdir()
        # The database first: a commit that comes in between is then only in the log.
        for name in ("b.db", "b.db-wal"):
            if (self.path.parent / name).exists():
                shutil.copy(self.path.parent / name, copy / name)
        self.out.clear()
        self.runner.run(self.stack.aclose())
        shutil.rmtree(self.path.parent)
        self.open()
        assert self.journal.set_aside is None
        self.check_reopened()

    def check_reopened(self):
        reader = open_reader(self.path)
        filed = [content for (content,) in reader.execute("SELECT content FROM dead_letters")]
        marks = list(reader.execute("SELECT id, events, done, payload FROM frames ORDER BY id"))
        reader.close()
        assert len(filed) == len(set(filed)), "a letter is there twice"
        assert set(filed) <= self.letters
        from openmeter_collector.storage.frame import decode_frame  # noqa: PLC0415

        held = [
            message.content
            for _, events, done, payload in marks
            for message, one in zip(decode_frame(payload), done or bytes(events), strict=True)
            if not one
        ]
        assert held == sorted(held), "the order is lost"
        assert set(self.waiting) <= set(held), "lost"
        back = set(held) - set(self.waiting)
        assert back <= self.unsure, "came back without a reason"
        assert not set(filed) & set(held), "a letter and waiting as well"
        missing = (self.letters - set(filed)) - set(held)
        assert not missing, "neither a letter nor waiting"
        self.letters -= back
        self.delivered -= back
        self.dropped -= back
        self.waiting = dict.fromkeys(held)
        self.unsure.clear()
        self.check_the_books()
        assert self.journal.checkpoint("at") == self.checkpoint

    def check_the_books(self):
        reader = open_reader(self.path)
        lines = audit.audited(reader)
        reader.close()
        assert all(line.balance == 0 for line in lines), lines
        for names, told in by_names(lines).items():
            for column, contents in (
                ("delivered", self.delivered),
                ("dead", self.letters),
                ("dropped", self.dropped),
            ):
                meant = {one for one in contents if ledger.names_of(one) == names}
                assert told[column] == len(meant), (names, column)
        assert ledger.total(lines).dropped_by.get("a rule", 0) == len(self.dropped)
        assert ledger.total(lines).counts["received"] == sum(
            map(len, (self.waiting, self.delivered, self.letters, self.dropped))
        )

    @invariant()
    def counts_agree(self):
        if hasattr(self, "journal"):
            assert self.journal.status().events == len(self.waiting)
            assert self.journal.status().size_bytes >= sum(map(len, self.waiting))

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.run(self.stack.aclose())
            self.runner.close()
            self.patch.undo()
            shutil.rmtree(self.folder)


def by_names(lines):
    told = {}
    for line in lines:
        counts = told.setdefault((line.source, line.type), dict.fromkeys(ledger.COLUMNS, 0))
        for column, count in line.counts.items():
            counts[column] += count
    return told


JournalMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestJournal = JournalMachine.TestCase
