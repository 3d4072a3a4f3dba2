"""kill -9 while objects are read: every record arrives, with one id, and reading goes on where it was."""

import asyncio
import json
import signal
import time

import pytest
from lives import Lives

from kit.aws import Aws, moto
from kit.waiting import until_true
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.visit import reading

LINES = 60_000
SMALL = 60
MAPPING = """
pipeline:
  processors:
    - mapping: |
        root.id = meta("s3_id").or(meta("blob_storage_id"))
        root.line = content().string()
"""
ROUNDS = 5


def objects():
    big = "".join(f"big {number}\n" for number in range(LINES))
    made = {f"m/{number:03}": f"small {number}\n" for number in range(SMALL)}
    return made | {"a/big": big, "z/big": big.replace("big", "last")}


def truth(made):
    return sorted(line for body in made.values() for line in body.splitlines())


def delivered(lives):
    return sorted(json.loads(copies[0])["line"] for copies in list(lives.sink.got.values()))


def play(tmp_path, config, made, repeats, over=lambda: True):
    """Lives that end among the objects, and one that goes on until all of it is delivered and it is `over`."""
    lives = Lives(tmp_path, config + MAPPING)
    wanted = truth(made)
    for _ in range(ROUNDS):
        before = len(lives.sink.got)
        lives.one(0.5, lambda before=before: len(lives.sink.got) > before)
    early = len(lives.sink.got)
    lives.last(lambda: len(lives.sink.got) >= len(wanted) and over(), 120)
    assert delivered(lives) == wanted
    assert all(len(set(copies)) == 1 for copies in lives.sink.got.values())
    assert lives.repeated() < repeats
    return lives, early


def figures(what, lives, early, again):
    """What a run came to, in a line."""
    return (
        f"\n  {what}, {lives.killed} kills: {early} records delivered before the last life, "
        f"{len(lives.sink.got)} in all, {again} read twice, {lives.repeated()} delivered twice"
    )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_bucket_is_read_to_its_end_however_often_the_collector_is_killed(tmp_path, capsys):
    made = objects()
    with moto() as url:

        async def prepare():
            async with Aws.at(url) as aws:
                return await aws.bucket(made), aws.fields(
                    bucket="{bucket}", force_path_style_urls="true", interval="1s"
                )

        bucket, fields = asyncio.run(prepare())
        config = f"input:\n  aws_s3:\n{fields.replace('{bucket}', bucket)}\n    scanner: {{lines: {{}}}}\n"
        lives, early = play(tmp_path, config, made, LINES * ROUNDS)
    again = received(lives) - len(truth(made))
    # From the first byte in every life, it would be more than all lines of the first object.
    assert again < LINES
    with capsys.disabled():
        print(figures("S3", lives, early, again), end="")


def of_a_queue(url, made):
    """Objects, and a queue that tells of them; its address, and the config that reads them."""

    async def prepare():
        async with Aws.at(url) as aws:
            bucket = await aws.bucket(made)
            queue = await aws.queue(visibility=2)
            for key in made:
                record = {"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
                await aws.sqs.send_message(
                    QueueUrl=queue, MessageBody=json.dumps({"Records": [record]})
                )
            fields = aws.fields(sqs=json.dumps({"url": queue}), force_path_style_urls="true")
            return queue, f"input:\n  aws_s3:\n{fields}\n    scanner: {{lines: {{}}}}\n"

    return asyncio.run(prepare())


def waiting(url, queue):
    async def ask():
        async with Aws.at(url) as aws:
            return await aws.waiting(queue)

    return asyncio.run(ask())


def several_objects():
    """Four that take long, and small ones before, between and behind them."""
    made = {}
    for at in range(4):
        made |= {f"s{at}/{number:03}": f"small {at} {number}\n" for number in range(SMALL // 4)}
        made[f"big{at}"] = "".join(f"big{at} {number}\n" for number in range(LINES // 2))
    return made


def received(lives):
    """How many events were taken in by all lives together."""
    with reading(lives.folder / "buffer.db") as connection:
        return total(audited(connection)).counts["received"]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_what_a_queue_tells_of_is_read_however_often_the_collector_is_killed(tmp_path, capsys):
    made = several_objects()
    with moto() as url:
        queue, config = of_a_queue(url, made)
        # What was read by lives before it may be delivered before the last one has seen a message.
        lives, early = play(
            tmp_path, config, made, LINES * ROUNDS, lambda: waiting(url, queue) == (0, 0)
        )
    again = received(lives) - len(truth(made))
    # From the first byte in every life, it would be more than one of the large objects each time.
    assert again < LINES // 2 * ROUNDS // 2
    with capsys.disabled():
        print(figures("S3 by SQS", lives, early, again), end="")


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_nothing_is_read_twice_though_the_time_of_messages_runs_out_under_a_collector_that_stands_still(
    tmp_path,
):
    made = objects()
    wanted = truth(made)
    with moto() as url:
        queue, config = of_a_queue(url, made)
        lives = Lives(tmp_path, config + MAPPING)
        worked_on = []

        def stand_still(process):
            until_true(lambda: len(lives.sink.got) > 10_000)
            process.send_signal(signal.SIGSTOP)
            try:
                worked_on.append(waiting(url, queue)[1])
                until_true(lambda: waiting(url, queue)[1] == 0)
                time.sleep(2)  # the fault itself: it stands still for twice their time
            finally:
                process.send_signal(signal.SIGCONT)

        def over():
            return len(lives.sink.got) >= len(wanted) and waiting(url, queue) == (0, 0)

        lives.last(over, 120, stand_still)
    assert delivered(lives) == wanted
    assert worked_on != [0]
    assert received(lives) == len(wanted)
