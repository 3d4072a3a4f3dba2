"""A real listener in a thread of its own, under the loop that production uses."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import uvloop

from openmeter_collector.server.listener import listen


class Echo:
    """Answers 200 with the length of the body; keeps what it was asked. `hold` delays answers."""

    def __init__(self):
        self.scopes = []
        self.bodies = []
        self.hold = None
        self.read_body = True
        self.headers = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        body = b""
        if self.read_body:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        self.bodies.append(body)
        if self.hold is not None:
            await self.hold.wait()
        text = f"{scope['path']} {len(body)}".encode()
        headers = [*self.headers, (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Running:
    """A listener that runs; `stop` begins its end and does not wait for it."""

    def __init__(self, app, options):
        self._app, self._options = app, options
        self._ready = threading.Event()
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self):
        try:
            asyncio.Runner(loop_factory=uvloop.new_event_loop).run(self._main())
        finally:
            self._ready.set()
            self.ended.set()

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if isinstance(self._app, Echo) and self._app.hold is True:
            self._app.hold = asyncio.Event()
        async with listen(self._app, self._options) as listener:
            host, _, port = listener.address.rpartition(":")
            self.address = (host, int(port))
            self._ready.set()
            await self._stop.wait()

    def call(self, function):
        self.loop.call_soon_threadsafe(function)

    def stop(self):
        self.call(self._stop.set)

    def join(self):
        self.stop()
        self._thread.join(20)


@contextmanager
def connected(server):
    with socket.create_connection(server.address, timeout=10) as line:
        yield line


def read_to_end(line):
    data = b""
    try:
        while chunk := line.recv(65536):
            data += chunk
    except ConnectionResetError:
        data += b"<reset>"
    return data


def read_answers(line, count):
    """So many answers with a content-length, as (status, body)."""
    data, found = b"", []
    while len(found) < count:
        while b"\r\n\r\n" not in data:
            chunk = line.recv(65536)
            assert chunk, f"closed after {found} {data!r}"
            data += chunk
        head, _, rest = data.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            data = rest
            found.append((100, b""))
            continue
        lengths = [h for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(rest) < length:
            chunk = line.recv(65536)
            assert chunk
            rest += chunk
        found.append((status, rest[:length]))
        data = rest[length:]
    return found
