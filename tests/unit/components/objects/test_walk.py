"""The walk through a store, as far as it is the same for all of them."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.components.inputs.numbered import Numbered
from openmeter_collector.components.inputs.object_walk import Walk, Walker
from openmeter_collector.components.objects.stored import Answer, Found, Place
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.errors import EndOfInput
from openmeter_collector.message import Delivery


class Text:
    """A body in one piece."""

    def __init__(self, text):
        self.text = text

    async def iter_chunks(self, size):
        yield self.text

    def close(self):
        pass


class Listing:
    """A store with objects of one line, their keys, that are listed as they stand here."""

    name = "s3"

    def __init__(self, *keys, in_order):
        self.keys = keys
        self.in_order = in_order

    async def found(self, bucket, prefix, after):
        for key in self.keys:
            if key > after:
                yield Found(key, "tag")

    async def ask(self, bucket, key, start, etag):
        return Answer(Place(bucket, key, "tag"), {}, Text(f"{key}\n".encode()[start:]))


@asynccontextmanager
async def walking(store, around):
    node = load("input: {aws_s3: {bucket: b, scanner: {lines: {}}}}", REGISTRY, env={}).input
    env = ComponentEnv(around, Resources(), node)
    async with env.scanner(node.config.scanner) as scanner:
        walk = Walk("b", node.config.prefix, "", None, delete=False)
        walker = Walker(env, store, Numbered(scanner, "s3_id"), walk)
        yield walker
        await walker.close()


async def taken(walker, around):
    """The next delivery, made safe as a pipeline does it; its contents."""
    delivery = await walker.read()
    safe = asyncio.Event()
    kept = Delivery(delivery.batch, lambda _: safe.set(), delivery.checkpoints)
    whole = around.state.attach(kept)
    if whole is not None:
        whole.settle(None)
    await safe.wait()
    delivery.settle(None)
    return [message.content.decode() for message in delivery.batch]


async def to_the_end(walker, around):
    read = []
    while True:
        try:
            read += await taken(walker, around)
        except EndOfInput:
            return read


async def test_after_a_crash_nothing_is_left_out_of_a_listing_that_is_in_no_order():
    store = Listing("a", "b/1", "c", "b-2", in_order=False)
    around = surroundings()
    async with walking(store, around) as walker:
        for key in ("a", "b/1", "c"):
            assert await taken(walker, around) == [key]
    async with walking(store, around) as walker:
        read = await to_the_end(walker, around)
    assert "b-2" in read
    assert "a" not in read


@pytest.mark.parametrize("in_order", [True, False])
async def test_after_its_end_a_walk_begins_anew(in_order):
    store = Listing("a", "b", "c", in_order=in_order)
    around = surroundings()
    for _ in range(2):
        async with walking(store, around) as walker:
            assert await to_the_end(walker, around) == ["a", "b", "c"]
