"""HTTP replicas behind a balancer, each with its own journal: killed, and restarted in turn, under traffic."""

import itertools
import random
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest
from sink import free_port

from kit.traffic import Running, Traffic
from kit.waiting import until_true

CONFIG = """\
logger: {{format: json}}
shutdown_timeout: 10s
http: {{enabled: false}}
input:
  cloudevents: {{address: "127.0.0.1:{port}"}}
buffer:
  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}
output:
  openmeter: {{url: "{url}", batching: {{count: 100, period: 20ms}}}}
"""


class Balancer:
    """Gives connections to backends in turn; a backend that refuses is passed over."""

    def __init__(self, backends):
        self._turn = itertools.cycle(backends)
        self._backends = len(backends)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.served = dict.fromkeys(backends, 0)

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            thread.join(10)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            for port in itertools.islice(self._turn, self._backends):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as backend:
                    self.served[port] += 1
                    back = threading.Thread(target=_pump, args=(backend, client), daemon=True)
                    back.start()
                    _pump(client, backend)
                    back.join()
                    return


def _pump(source, target):
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def replicas(tmp_path, sink):
    """Two replicas, running, by port."""
    made = {}
    with ExitStack() as stack:
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            port = free_port()
            config = folder / "config.yaml"
            config.write_text(CONFIG.format(port=port, folder=folder, url=sink.url))
            made[port] = stack.enter_context(Running(config, folder / "log"))
        for one in made.values():
            one.says("taking events")
        yield made


def restart(replica):
    lives = len(replica.lines("taking events"))
    replica.start()
    replica.says("taking events", lives + 1)


def delivered_whole(traffic, sink, balancer):
    until_true(lambda: traffic.acked <= sink.got.keys())
    assert sink.got.keys() <= traffic.issued, "events that nobody sent"
    assert min(balancer.served.values()) > 1, "all went to one of them"


@pytest.mark.slow
def test_a_replica_that_is_killed_loses_nothing_and_the_other_takes_its_traffic(replicas, sink):
    chance = random.Random(1)
    with Balancer(list(replicas)).running() as balancer, Traffic(balancer.port) as traffic:
        for one in [*replicas.values(), chance.choice(list(replicas.values()))]:
            traffic.more(chance.randint(50, 300))
            one.end(signal.SIGKILL)
            traffic.more(200)  # by the other one alone
            restart(one)
        traffic.more(200)
    delivered_whole(traffic, sink, balancer)


@pytest.mark.slow
def test_replicas_restarted_in_turn_while_the_destination_fails_lose_nothing(replicas, sink):
    with Balancer(list(replicas)).running() as balancer, Traffic(balancer.port) as traffic:
        traffic.more(200)
        sink.status = 503
        for one in replicas.values():
            traffic.more(100)
            one.process.send_signal(signal.SIGTERM)
            traffic.more(100)
            sink.status = 204  # else its backlog would be waited for in vain
            assert one.process.wait(30) == 0
            sink.status = 503
            restart(one)
        sink.status = 204
        traffic.more(200)
    delivered_whole(traffic, sink, balancer)
