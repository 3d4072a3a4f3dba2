"""A real Prometheus on a free port, and series written into it with times of our choice."""

import asyncio
import contextlib
import socket
import struct

import aiohttp
import cramjam

from kit.needs import require
from kit.waiting import eventually


class Server:
    """A Prometheus that can be killed and started again on the same data."""

    def __init__(self, program, folder):
        self._program = program
        self._folder = folder
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = None

    async def start(self):
        config = self._folder / "prometheus.yml"
        config.write_text("global: {scrape_interval: 1h}\n")
        self._process = await asyncio.create_subprocess_exec(
            str(self._program),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=promql-at-modifier",
            "--log.level=error",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await eventually(self._answers)

    async def _answers(self):
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/-/ready") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def write(self, series):
        """Remote write: [(labels, [(milliseconds, value), ...]), ...]."""
        body = b"".join(_field(1, _series(labels, samples)) for labels, samples in series)
        headers = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        content = bytes(cramjam.snappy.compress_raw(body))
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/v1/write", data=content, headers=headers) as answer,
        ):
            assert answer.status == 204, await answer.text()

    async def value(self, promql, at):
        """What it says itself: {labels as text: value as text}."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/query", params={"query": promql, "time": at}) as answer,
        ):
            found = (await answer.json())["data"]["result"]
        return {
            ",".join(f"{k}={v}" for k, v in sorted(one["metric"].items())): one["value"][1]
            for one in found
        }


@contextlib.asynccontextmanager
async def prometheus(folder):
    server = Server(require("Prometheus"), folder)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def _series(labels, samples):
    made = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode()))
        for name, value in sorted(labels.items())
    )
    for at, value in samples:
        sample = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at)
        made += _field(2, sample)
    return made


def _field(number, content):
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number):
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)
