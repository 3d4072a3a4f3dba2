"""A destination that writes down what it gets, and a sender that writes down what it was told."""

import http.client
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink:
    """Takes arrays of events; `got` is every event's bytes by id, as often as it came."""

    def __init__(self):
        self.got = {}
        self.status = 204
        self.lock = threading.Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                try:
                    body = self.rfile.read(int(self.headers["content-length"]))
                    sink.take(body)
                    self.send_response(sink.status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def take(self, body):
        if self.status >= 300:
            return
        with self.lock:
            for event in split_array(body):
                self.got.setdefault(json.loads(event)["id"], []).append(event)

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def split_array(body):
    """The events of an array with their bytes, without a JSON library's opinion of them."""
    decoder = json.JSONDecoder()
    text = body.decode()
    at, found = 1, []
    while at < len(text) and text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + (text[end] == ",")
    return found


class Senders:
    """Post minted events from several threads; know what was issued and what was answered 2xx."""

    def __init__(self, mint, threads=3):
        self._mint = mint
        self._threads = threads
        self.issued = {}
        self.acked = set()
        self._lock = threading.Lock()

    def run(self, port, until):
        """Post until the process is gone or the event is set."""
        workers = [
            threading.Thread(target=self._post, args=(port, until), daemon=True)
            for _ in range(self._threads)
        ]
        for worker in workers:
            worker.start()
        return workers

    def _post(self, port, until):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            while not until.is_set():
                events = self._mint()
                with self._lock:
                    self.issued |= events
                single = len(events) == 1
                body = (
                    next(iter(events.values()))
                    if single
                    else b"[" + b", ".join(events.values()) + b"]"
                )
                kind = (
                    "application/cloudevents+json"
                    if single
                    else "application/cloudevents-batch+json"
                )
                connection.request("POST", "/api/v1/events", body, {"Content-Type": kind})
                answer = connection.getresponse()
                answer.read()
                if 200 <= answer.status < 300:
                    with self._lock:
                        self.acked |= set(events)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds=30.0, what="it"):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.005)


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def verdict(senders, sink):
    """What the oracle finds wrong: acknowledged ⊆ delivered ⊆ issued, bytes equal."""
    wrong = []
    lost = senders.acked - set(sink.got)
    if lost:
        wrong.append(f"acknowledged and not delivered: {sorted(lost)[:5]} ({len(lost)})")
    invented = set(sink.got) - set(senders.issued)
    if invented:
        wrong.append(f"delivered and never sent: {sorted(invented)[:5]}")
    for one, copies in sink.got.items():
        if any(copy != senders.issued.get(one) for copy in copies):
            wrong.append(f"not the bytes that were sent: {one}")
    return wrong
