"""The HTTP client on a wire that fails: every trouble is said as one that may pass."""

import asyncio
import socket

import pytest

from openmeter_collector.component.env import ListenOptions
from openmeter_collector.engine.batching import Policy
from openmeter_collector.engine.chain import ProcessorChain
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.output_loop import OutputLoop, OutputOptions
from openmeter_collector.errors import Retryable
from openmeter_collector.server.listener import listen
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.testing.faults import FaultyWire, HangingOutput, flaky, rejecting
from openmeter_collector.testing.memory import MemoryBuffer


async def answer(scope, receive, send):
    headers = [(b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 1000})


@pytest.mark.parametrize(
    ("fault", "value"),
    [("refuse", True), ("blackhole", True), ("cut_after", 50), ("cut_after", 700)],
)
async def test_a_broken_wire_is_retryable_and_the_client_recovers(fault, value):
    async with listen(answer, ListenOptions("127.0.0.1:0")) as listener:
        host, _, port = listener.address.rpartition(":")
        async with FaultyWire.to(host, int(port)) as wire, open_http_client() as client:
            url = f"http://{wire.address}/"
            setattr(wire, fault, value)
            with pytest.raises(Retryable):
                await client.request("POST", url, body=b"a", timeout=0.5)
            setattr(wire, fault, None if fault == "cut_after" else False)
            wire.cut()
            assert (await client.request("POST", url, body=b"a", timeout=10)).body == b"x" * 1000


async def test_a_port_at_which_nobody_listens_is_said_in_the_words_of_the_system():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
        url = f"http://{address}/"
    async with open_http_client() as client:
        with pytest.raises(Retryable) as told:
            await client.request("GET", url, timeout=10)
    assert str(told.value) == f"GET {url}: cannot connect to {address} (Connection refused)"


async def test_a_server_that_speaks_no_tls_is_not_called_an_error_of_the_system():
    async with (
        listen(answer, ListenOptions("127.0.0.1:0")) as listener,
        open_http_client() as client,
    ):
        with pytest.raises(Retryable, match=r"cannot connect to .* \(\[SSL"):
            await client.request("GET", f"https://{listener.address}/", timeout=10)


def loop_for(env, buffer, output):
    nothing = ProcessorChain([])
    return OutputLoop(env, buffer, nothing, output, nothing, OutputOptions(Policy(count=10), 2))


@virtual_time
async def test_an_output_that_hangs_is_left_at_once_when_told_to_stop_and_keeps_its_events():
    buffer, output = MemoryBuffer([[b"a"], [b"b"]]), HangingOutput()
    running = asyncio.ensure_future(loop_for(FakeEnv(), buffer, output).run())
    await asyncio.sleep(1)
    assert output.under_way == 1
    running.cancel()
    await asyncio.wait({running})
    assert output.under_way == 0
    assert not buffer.settled
    assert not buffer.letters


@virtual_time
async def test_outputs_that_fail_for_a_while_or_refuse_some():
    for output, dead in ((flaky(7), 0), (rejecting(b"bad"), 1)):
        buffer = MemoryBuffer([[b"a", b"bad", b"c"]])
        buffer.drain()
        await loop_for(FakeEnv(), buffer, output).run()
        assert len(buffer.letters) == dead
        assert len(buffer.settled) == 3 - dead
