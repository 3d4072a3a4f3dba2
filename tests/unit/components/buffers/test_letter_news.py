"""The log says that events became dead letters: seldom, and without what is in them."""

import asyncio
import re

from openmeter_collector.api import BatchFailed, DeadLetter, Delivery, Message, Undeliverable
from openmeter_collector.components.buffers.letter_news import letter_news, reason_for_logs
from openmeter_collector.components.buffers.sqlite import Sqlite
from openmeter_collector.storage.dead_letters import BuriedLetter
from openmeter_collector.testing.clock import run_virtual
from openmeter_collector.testing.env import FakeEnv

EVENT = (
    b'{"id":"e1","type":"request","subject":"customer-1","data":{"email":"a@b.example","n":12345}}'
)


def buried(reason="POST https://x: answered 400", response="", content=EVENT):
    letter = DeadLetter(Message(content), reason, response, 1, 1.0, 2.0, "out")
    return BuriedLetter(letter, 0, Message(content))


def told(env):
    found = [
        re.search(r"dead letters.* events=(\d+) first_reason=(.*)", line) for line in env.lines
    ]
    return [(int(one[1]), one[2].strip('"')) for one in found if one]


def test_letters_are_counted_and_said_once_a_minute_at_most():
    async def main():
        env = FakeEnv()
        async with letter_news(env) as heard:
            heard([buried("first"), buried("second")])
            assert told(env) == [(2, "first")]
            for number in range(1000):
                heard([buried(f"n{number}")])
            heard([])
            await asyncio.sleep(59)
            assert len(told(env)) == 1
            await asyncio.sleep(2)
            assert told(env)[1:] == [(1000, "n0")]
            await asyncio.sleep(3600)
            assert len(told(env)) == 2, "nothing is said of nothing"
            heard([buried("again")])
            heard([buried("the last"), buried("of all")])
        assert told(env)[2:] == [(1, "again"), (2, "the last")]

    run_virtual(main())


def test_a_reason_in_the_log_holds_nothing_of_the_event_or_the_answer():
    answer = '{"detail":"a@b.example is no number"}'
    reason = f"POST https://x: answered 400 Bad Request: {answer}"
    assert reason_for_logs(buried(reason, answer)) == "POST https://x: answered 400 Bad Request"
    mapping = "field `this.n`: expected text, got 12345 of a@b.example\nof customer-1"
    assert reason_for_logs(buried(mapping)) == "field `this.n`: expected text, got … of …"
    assert reason_for_logs(buried("no JSON: raw secret text", content=b"raw secret text")) == (
        "no JSON: …"
    )
    assert len(reason_for_logs(buried("x" * 10_000))) == 200
    deep = b"[" * 100_000
    assert reason_for_logs(buried("too deep", content=deep)) == "too deep"


async def test_the_buffer_says_it_of_the_letters_it_files_even_at_its_end(tmp_path):
    env = FakeEnv()
    async with Sqlite(path=str(tmp_path / "b.db")).open(env) as buffer:
        stored = asyncio.get_running_loop().create_future()
        buffer.write(Delivery([Message(EVENT)] * 3, stored.set_result))
        await stored
        lent = await buffer.read()
        verdicts = {index: Undeliverable(buried().letter) for index in range(3)}
        lent.settle(BatchFailed(verdicts))
    assert told(env) == [(3, "POST https://x: answered 400")]
    assert "customer-1" not in "".join(env.lines)
