"""Messages that are worked on, against a queue whose answers are late, lost or refusals.

A duplicate that we could have spared ourselves is a fault: what is worked on is not begun twice, and
what is safe is deleted, however often its time runs out meanwhile.
"""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.components.aws.queue import Held
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.testing.clock import virtual_time


class Queue:
    """A queue of SQS, as a client of it sees it. Time is that of the loop.

    Attributes:
        visibility: seconds that a message is hidden after it was received.
        given_out: how often each message was received.
        before: called with the name of a request before it takes effect; may wait and raise.
        refused: entries, by name of the request and id of the message, that are refused once with
            this value of `SenderFault`.
    """

    def __init__(self, *ids, visibility=30):
        self.visibility = visibility
        self.hidden = dict.fromkeys(ids, 0.0)
        self.receipts = {}
        self.given_out = Counter()
        self.refused = {}
        self.before = self._nothing

    async def _nothing(self, request):
        pass

    def receive(self):
        """Everything that is not hidden."""
        now = asyncio.get_running_loop().time()
        return [self._give(one, now) for one, until in self.hidden.items() if until <= now]

    def _give(self, one, now):
        self.given_out[one] += 1
        self.hidden[one] = now + self.visibility
        self.receipts[one] = f"{one}#{self.given_out[one]}"
        return {"MessageId": one, "ReceiptHandle": self.receipts[one]}

    async def delete_message_batch(self, QueueUrl, Entries):  # noqa: N803
        await self.before("delete")
        return {"Failed": [no for entry in Entries if (no := self._entry("delete", entry))]}

    async def change_message_visibility_batch(self, QueueUrl, Entries):  # noqa: N803
        await self.before("extend")
        return {"Failed": [no for entry in Entries if (no := self._entry("extend", entry))]}

    def _entry(self, request, entry):
        one = entry["ReceiptHandle"].partition("#")[0]
        fault = self.refused.pop((request, one), None)
        now = asyncio.get_running_loop().time()
        if fault is None and self.receipts.get(one) != entry["ReceiptHandle"]:
            fault = True
        if fault is None and request == "extend" and self.hidden[one] <= now:
            fault = True  # nobody works on it, as far as the queue knows
        if fault is not None:
            return {"Id": entry["Id"], "SenderFault": fault, "Code": "no"}
        if request == "delete":
            del self.hidden[one], self.receipts[one]
        else:
            self.hidden[one] = now + entry["VisibilityTimeout"]
        return None


@asynccontextmanager
async def holding(queue, deleted=lambda _: None):
    node = load("input: {aws_sqs: {url: 'http://q'}}", REGISTRY, env={}).input
    around = surroundings(sleep=asyncio.sleep)
    env = ComponentEnv(around, Resources(), node)
    async with Held(env, queue, "http://q", queue.visibility, deleted).kept() as held:
        held.around = around
        yield held


def taken(held, queue):
    """What is to be begun of everything that can be received now."""
    return [one for message in queue.receive() if (one := held.take(message)) is not None]


async def hang(request):
    await asyncio.Event().wait()


@virtual_time
async def test_a_message_whose_time_runs_out_while_it_is_worked_on_is_not_begun_twice():
    queue = Queue("a")
    async with holding(queue) as held:
        (one,) = taken(held, queue)
        queue.before = hang
        await asyncio.sleep(31)
        assert taken(held, queue) == []
        assert queue.given_out["a"] == 2
        queue.before = queue._nothing
        held.done(one)
        await asyncio.sleep(120)
        assert queue.hidden == {}
        assert held.around.metrics.total("sqs_messages_received_again") == 1


@virtual_time
async def test_what_comes_again_while_its_deletion_is_under_way_is_deleted_and_nothing_else():
    queue = Queue("a")
    gone = []
    async with holding(queue, gone.append) as held:
        (one,) = taken(held, queue)
        held.done(one)

        async def late(request):
            if request == "delete":
                queue.before = queue._nothing
                queue.hidden["a"] = 0.0
                assert taken(held, queue) == []

        queue.before = late
        await asyncio.sleep(10)
        assert queue.hidden == {}
        assert gone == ["a"]


@virtual_time
async def test_a_deletion_that_hangs_does_not_cost_other_messages_their_time():
    queue = Queue("a", "b")

    async def deaf(request):
        if request == "delete":
            await hang(request)

    async with holding(queue) as held:
        one, _other = taken(held, queue)
        queue.before = deaf
        held.done(one)
        for _ in range(300):
            await asyncio.sleep(1)
            assert taken(held, queue) == []
        assert queue.given_out == {"a": 1, "b": 1}


@virtual_time
async def test_deletions_that_are_refused_for_now_are_said_again_and_cost_others_nothing():
    queue = Queue("a", "b")

    async def busy(request):
        if request == "delete" and asyncio.get_running_loop().time() < 200:
            raise TimeoutError

    async with holding(queue) as held:
        one, _other = taken(held, queue)
        queue.before = busy
        held.done(one)
        await asyncio.sleep(250)
        assert set(queue.hidden) == {"b"}
        assert queue.given_out == {"a": 1, "b": 1}


@virtual_time
async def test_an_entry_that_the_queue_could_not_delete_now_is_deleted_later():
    queue = Queue("a", "b")
    queue.refused["delete", "a"] = False
    async with holding(queue) as held:
        for one in taken(held, queue):
            held.done(one)
        await asyncio.sleep(10)
        assert queue.hidden == {}


@virtual_time
async def test_what_was_safe_and_comes_again_with_a_new_receipt_is_deleted_and_not_begun_again():
    queue = Queue("a")
    queue.refused["delete", "a"] = True
    async with holding(queue) as held:
        (one,) = taken(held, queue)
        held.done(one)
        await asyncio.sleep(31)
        assert taken(held, queue) == []
        await asyncio.sleep(10)
        assert queue.hidden == {}


@virtual_time
async def test_an_extension_that_is_lost_is_said_again_in_time():
    queue = Queue("a")
    lost = []

    async def lossy(request):
        if len(lost) < 2:
            lost.append(request)
            await hang(request)

    queue.before = lossy
    async with holding(queue) as held:
        taken(held, queue)
        for _ in range(100):
            await asyncio.sleep(1)
            assert taken(held, queue) == []
    assert lost == ["extend", "extend"]
    assert queue.given_out["a"] == 1


@virtual_time
async def test_an_extension_that_the_queue_could_not_do_now_is_said_again_in_time():
    queue = Queue("a")
    queue.refused["extend", "a"] = False
    async with holding(queue) as held:
        taken(held, queue)
        # Asked after a quarter of its time, and once more before the half of it is over.
        await asyncio.sleep(14)
        assert queue.hidden["a"] > 40


@virtual_time
async def test_a_thousand_messages_are_kept_from_others_though_each_answer_takes_long():
    queue = Queue(*map(str, range(1000)))

    async def slow(request):
        await asyncio.sleep(2)

    async with holding(queue) as held:
        taken(held, queue)
        queue.before = slow
        for _ in range(100):
            await asyncio.sleep(1)
            assert taken(held, queue) == []


@virtual_time
async def test_what_was_given_back_and_is_received_again_is_not_given_back_once_more():
    queue = Queue("a")
    async with holding(queue) as held:
        (one,) = taken(held, queue)
        queue.hidden["a"] = 0.0
        held.give_back(one, 0)
        (again,) = taken(held, queue)
        asked = []

        async def note(request):
            asked.append(request)

        queue.before = note
        await asyncio.sleep(5)
        assert asked == []
        assert taken(held, queue) == []
        held.done(again)
        await asyncio.sleep(5)
        assert queue.hidden == {}


@virtual_time
async def test_what_waits_for_its_deletion_counts_among_what_is_worked_on():
    queue = Queue("a", "b")
    async with holding(queue) as held:
        queue.before = hang
        for one in taken(held, queue):
            held.done(one)
        room = asyncio.ensure_future(held.fewer_than(2))
        await asyncio.sleep(5)
        assert not room.done()
        room.cancel()
        queue.before = queue._nothing
