"""The real process with the real listener and a journal on disk, as a sender meets it."""

import gzip
import http.client
import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

sys.path.insert(0, str(Path(__file__).parent.parent / "fault"))

from sink import Sink, free_port, listening, wait_for

CONFIG = """
logger: {{level: all}}
http: {{enabled: false}}
shutdown_timeout: 1s
input:
  cloudevents:
    address: 127.0.0.1:{port}
{input}
buffer:
  sqlite:
    path: {folder}/buffer.db
    min_free_bytes: 1MiB
{buffer}
output:
  openmeter:
    url: {url}
"""

EVENT = {
    "id": "1",
    "source": "s",
    "specversion": "1.0",
    "type": "t",
    "subject": "c",
    "time": "2026-01-01T00:00:00Z",
}


class Collector:
    def __init__(self, folder, url, input_="", buffer=""):
        self.port = free_port()
        config = folder / "config.yaml"
        config.write_text(
            CONFIG.format(port=self.port, folder=folder, url=url, input=input_, buffer=buffer)
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openmeter_collector.cli.main", "run", "-c", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: listening(self.port) or self.process.poll() is not None, what="listening")

    def post(self, body, headers=None, context=None):
        if context is None:
            line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            line = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=context)
        try:
            given = {"Content-Type": "application/json"} | (headers or {})
            line.request("POST", "/api/v1/events", body, given)
            answer = line.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            line.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output.decode()


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def collector(tmp_path, sink):
    running = []

    def start(**config):
        one = Collector(tmp_path, sink.url, **config)
        running.append(one)
        return one

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def test_no_token_is_ever_in_a_file_or_a_log_line(collector, sink, tmp_path):
    sink.status = 503
    running = collector(input_="    tokens: [sesame-open]")
    body = json.dumps([EVENT]).encode()
    assert running.post(body, {"Authorization": "Bearer sesame-open"})[0] == 204
    assert running.post(body, {"Authorization": "Bearer wrong-guess"})[0] == 401
    assert running.post(b"{", {"Authorization": "Bearer sesame-open"})[0] == 400
    held = b"".join(one.read_bytes() for one in tmp_path.glob("buffer.db*"))
    code, output = running.stop()
    held += b"".join(one.read_bytes() for one in tmp_path.glob("buffer.db*")) + output.encode()
    assert code == 0
    assert b'"id": "1"' in held
    for secret in (b"sesame-open", b"wrong-guess", b"Bearer", b"uthorization"):
        assert secret not in held


def test_a_full_buffer_is_answered_503_and_let_go_when_there_is_room(collector, sink):
    sink.status = 503
    running = collector(buffer="    max_bytes: 4KiB")
    body = json.dumps(EVENT | {"data": {"pad": "x" * 3000}}).encode()
    assert running.post(body)[0] == 204
    status, headers, text = running.post(body)
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert "max_bytes" in json.loads(text)["detail"]
    sink.status = 204
    wait_for(lambda: sink.got, what="delivery")
    wait_for(lambda: running.post(body)[0] == 204, what="room")


def test_compressed_batches_arrive_with_the_senders_bytes(collector, sink):
    running = collector()
    events = [
        json.dumps(EVENT | {"id": str(n), "x": "é"}, ensure_ascii=n % 2 == 0) for n in range(50)
    ]
    body = gzip.compress(("[" + " ,\n".join(events) + "]").encode())
    assert running.post(body, {"Content-Encoding": "gzip"})[0] == 204
    wait_for(lambda: len(sink.got) == 50, what="delivery")
    assert [sink.got[str(n)] for n in range(50)] == [[one.encode()] for one in events]
    assert running.stop()[0] == 0


def certificates(folder):
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    server.private_key_pem.write_to_path(folder / "key.pem")
    for at, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=at > 0)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return authority


def test_tls_and_with_client_certificates_only_those_who_have_one(collector, sink, tmp_path):
    authority = certificates(tmp_path)
    running = collector(
        input_=f"""    tls:
      cert_file: {tmp_path}/cert.pem
      key_file: {tmp_path}/key.pem
      client_ca_file: {tmp_path}/ca.pem
"""
    )
    body = json.dumps(EVENT).encode()
    stranger = ssl.create_default_context()
    authority.configure_trust(stranger)
    with pytest.raises(OSError, match=r"(?i)certificate|reset|eof|closed"):
        running.post(body, context=stranger)
    friend = ssl.create_default_context()
    authority.configure_trust(friend)
    authority.issue_cert("client@example.com").configure_cert(friend)
    assert running.post(body, context=friend)[0] == 204
    old = ssl.create_default_context()
    authority.configure_trust(old)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert("client@example.com").configure_cert(old)
    assert running.post(body, context=old)[0] == 204


def test_one_bad_event_among_a_hundred_becomes_a_dead_letter_and_its_neighbours_arrive(
    collector, sink, tmp_path
):
    take = sink.take

    def refuse_bad(body):
        sink.status = 400 if b'"bad"' in body else 204
        take(body)

    sink.take = refuse_bad
    running = collector()
    events = [EVENT | {"id": str(n), "type": "bad" if n == 41 else "good"} for n in range(100)]
    assert running.post(json.dumps(events).encode())[0] == 204
    wait_for(lambda: len(sink.got) == 99, what="delivery")
    code, output = running.stop()
    assert code == 0
    assert '"dead_letters"' in output or "dead_letters=1" in output
    assert all(len(copies) == 1 for copies in sink.got.values())
