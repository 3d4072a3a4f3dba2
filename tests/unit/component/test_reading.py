"""Reading: deliveries of a source, and how far all of it is safe."""

from kit.scanning import scanner_node
from openmeter_collector.api import Checkpoint, Position, Reading, Retryable, Source
from openmeter_collector.testing.contracts import pieces
from openmeter_collector.testing.env import FakeEnv


class Opened:
    """A reading of `data`, a line a delivery, and what it told."""

    def __init__(self, data=b"a\nb\nc\n", start=None, text="lines: {}"):
        self.data, self.start, self.text = data, start or Position(), text
        self.safe, self.finished = [], 0

    async def __aenter__(self):
        node = scanner_node(self.text)
        self._life = node.config.open(FakeEnv(node))
        scanner = await self._life.__aenter__()
        source = Source("s", pieces(self.data, 2), {"path": "s"}, self.start)
        self.reading = Reading(
            scanner,
            source,
            checkpoint=lambda at: Checkpoint("k", b"%d" % at.records),
            safe=lambda at: self.safe.append(at.records),
            finished=self._finished,
        )
        return self

    def _finished(self):
        self.finished += 1

    async def all(self):
        made = []
        while (delivery := await self.reading.next()) is not None:
            made.append(delivery)
        return made

    async def __aexit__(self, *error):
        await self.reading.close()
        await self._life.__aexit__(*error)


async def test_what_is_safe_is_what_has_nothing_unsettled_before_it():
    async with Opened() as it:
        one, two, three = await it.all()
        two.settle(None)
        assert it.safe == []
        one.settle(None)
        assert it.safe == [2]
        three.settle(Retryable("no"))
        assert (it.safe, it.finished) == ([2], 0)


async def test_a_source_is_finished_when_it_was_read_and_all_of_it_is_settled():
    async with Opened() as it:
        first = await it.reading.next()
        first.settle(None)
        assert it.finished == 0
        rest = await it.all()
        for one in rest:
            assert it.finished == 0
            one.settle(None)
        assert it.finished == 1
    async with Opened(b"") as empty:
        assert await empty.all() == []
        assert empty.finished == 1


async def test_at_most_one_mark_is_under_way_and_it_covers_only_what_is_safe():
    async with Opened(b"a\nb\nc\nd\ne\n") as it:
        one = await it.reading.next()
        two = await it.reading.next()
        assert [mark.value for mark in one.checkpoints] == [b"1"]
        assert list(two.checkpoints) == []
        one.settle(None)
        three = await it.reading.next()
        assert [mark.value for mark in three.checkpoints] == [b"1"]
        three.settle(None)
        four = await it.reading.next()
        assert [mark.value for mark in four.checkpoints] == [b"1"]
        two.settle(None)
        four.settle(None)
        five = await it.reading.next()
        assert [mark.value for mark in five.checkpoints] == [b"5"]


async def test_messages_have_the_metadata_of_the_source():
    async with Opened() as it:
        assert [dict(one.batch[0].metadata) for one in await it.all()] == [{"path": "s"}] * 3


async def test_a_scanner_that_cannot_begin_in_the_middle_counts():
    data = b"n\n" + b"".join(b"%d\n" % n for n in range(600))
    async with Opened(data, Position(599, None), "csv: {}") as it:
        assert [m.content for d in await it.all() for m in d.batch] == [b'{"n":"599"}']
