"""Secrets are planted everywhere they can be, and looked for everywhere they must not be."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from kit.waiting import eventually

CANARIES = {
    name: f"canary-{name.lower()}-7f3a9c"
    for name in (
        "OUTPUT_TOKEN", "INGEST_TOKEN", "ADMIN_TOKEN", "HEADER", "PASSWORD", "UNUSED_ENV",
        "SENT_AUTHORIZATION", "SENT_COOKIE", "URL_PASSWORD",
    )
}  # fmt: skip
EVENT = {
    "specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "c",
    "time": "2026-01-01T00:00:00Z",
}  # fmt: skip
CONFIG = """
http:
  address: 127.0.0.1:0
  debug_endpoints: true
  tokens: ["${ADMIN_TOKEN}"]
logger: {level: TRACE}
input:
  broker:
    inputs:
      - cloudevents:
          address: 127.0.0.1:0
          tokens: ["${INGEST_TOKEN}"]
      - http_server:
          address: 127.0.0.1:0
buffer: {sqlite: {path: buffer.db, min_free_bytes: 0, keep_sent: 1h}}
pipeline:
  processors:
    - mapping: root = this.id.not_a_number().missing
    - log: {level: INFO, message: an event}
output:
  switch:
    cases:
      - check: this.id == "1"
        output:
          openmeter:
            url: SINK
            token: ${OUTPUT_TOKEN}
      - output:
          http_client:
            url: http://user:${URL_PASSWORD}@127.0.0.1:1/events
            headers: {X-Api-Key: "${HEADER}"}
            basic_auth: {enabled: true, username: me, password: "${PASSWORD}"}
            dump_request_log_level: INFO
            retries: 1
            retry_period: 10ms
"""


def leaked(text):
    """The canaries in a text, also as base64, which is how basic auth spells them."""
    import base64  # noqa: PLC0415

    found = [name for name, value in CANARIES.items() if value in text]
    spelled = base64.b64encode(f"me:{CANARIES['PASSWORD']}".encode()).decode()
    return found + (["PASSWORD in base64"] if spelled in text else [])


@pytest.fixture
def config(tmp_path):
    # A closed port, so that every way of failing is gone through.
    text = CONFIG.replace("SINK", "http://127.0.0.1:1")
    text = text.replace("    - mapping: root = this.id.not_a_number().missing\n", "")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def collector(*arguments, cwd, env=None):
    command = [sys.executable, "-m", "openmeter_collector.cli.main", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | CANARIES | (env or {}), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_commands_that_read_a_config_print_no_secret(config):
    for arguments in (
        ("echo", "config.yaml"),
        ("lint", "config.yaml"),
        ("lint", "--deprecated", "config.yaml"),
        ("ledger", "-c", "config.yaml"),
        ("echo", "-s", "http.nothing=1", "config.yaml"),
    ):
        assert leaked(collector(*arguments, cwd=config.parent)) == [], arguments


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("token: ${OUTPUT_TOKEN}", "token: [${OUTPUT_TOKEN}, {a: 1}]"),
        ('tokens: ["${INGEST_TOKEN}"]', 'tokens: ["sha256:${INGEST_TOKEN}"]'),
        ('tokens: ["${ADMIN_TOKEN}"]', 'tokens: ["sha256:${ADMIN_TOKEN}"]'),
        ("token: ${OUTPUT_TOKEN}", "tken: ${OUTPUT_TOKEN}"),
    ],
)
def test_a_config_with_a_fault_at_a_secret_is_refused_without_saying_it(config, before, after):
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    told = collector("run", "-c", "config.yaml", cwd=config.parent)
    assert told
    assert leaked(told) == [], told


def ask(url, headers=(), body=None, method=None):
    request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


async def test_a_running_collector_in_trouble_says_and_stores_no_secret(config):
    log = config.with_name("log")
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: ASYNC220 - it has to be killed in its own way
            [sys.executable, "-X", "faulthandler", "-m", "openmeter_collector.cli.main", "run",
             "-c", "config.yaml"],
            cwd=config.parent, env=os.environ | CANARIES, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        addresses = {}

        def listening():
            text = log.read_text()
            assert process.poll() is None, text
            addresses["admin"] = re.findall(r"probes and metrics.*?(127\.0\.0\.1:\d+)", text)
            addresses["others"] = [
                one
                for one in re.findall(r"127\.0\.0\.1:\d+", text)
                if one not in addresses["admin"]
            ]
            return addresses["admin"] and addresses["others"]

        await eventually(listening)
        said = await asyncio.to_thread(talk, addresses)
        await eventually(lambda: log.read_text().count("backing off") >= 1)
        os.kill(process.pid, signal.SIGABRT)  # the crash output of faulthandler
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "Current thread" in log.read_text() or "Thread" in log.read_text()
    assert leaked(log.read_text()) == []
    assert leaked(said) == []
    for file in config.parent.iterdir():
        if file.name.startswith("buffer.db"):
            assert leaked(file.read_bytes().decode("latin-1")) == [], file.name
    assert b'"id":"1"' in b"".join(
        one.read_bytes() for one in config.parent.iterdir() if one.name.startswith("buffer.db")
    ), "the events themselves are there"


def talk(addresses):
    """Ask everything, rightly and wrongly; all that was answered."""
    said = []
    admin = {"Authorization": f"Bearer {CANARIES['ADMIN_TOKEN']}"}
    events = {
        "Content-Type": "application/json",
        "Cookie": CANARIES["SENT_COOKIE"],
    }
    body = json.dumps(EVENT, separators=(",", ":")).encode()
    for address in set(addresses["others"]):
        for path, content in (
            ("/api/v1/events", body),
            ("/api/v1/events", body.replace(b'"id":"1"', b'"id":"2"')),
            ("/api/v1/events", b"{"),
            ("/post", body),
            ("/nowhere", body),
        ):
            for token in (CANARIES["INGEST_TOKEN"], CANARIES["SENT_AUTHORIZATION"]):
                headers = events | {"Authorization": f"Bearer {token}"}
                try:
                    said.append(ask(f"http://{address}{path}", headers, content)[1])
                except (OSError, TimeoutError):
                    continue
    for path in ("/ready", "/metrics", "/stats", "/endpoints", "/version", "/debug/config/yaml",
                 "/debug/config/json", "/debug/stack", "/nowhere"):  # fmt: skip
        status, text = ask(f"http://{addresses['admin'][0]}{path}", admin)
        assert status in {200, 404, 503}, (path, status)
        said.append(text)
        status, text = ask(f"http://{addresses['admin'][0]}{path}")
        assert status in ({200, 503} if path == "/ready" else {401})
        said.append(text)
    return "\n".join(said)
