"""`doctor`: what it finds, what it says to do, and that it shows no secret and sends no event."""

import asyncio
import json
import socket
import sqlite3
import ssl
from contextlib import closing

import pytest
import trustme
from click.testing import CliRunner

from openmeter_collector.cli import checks
from openmeter_collector.cli.doctor import doctor
from openmeter_collector.testing.running import free_port
from openmeter_collector.testing.sandbox import Sandbox

CONFIG = """
http: {address: '127.0.0.1:${PORT}'}
input: {generate: {mapping: root = 1}}
buffer: {sqlite: {path: ./buffer.db}}
output:
  openmeter:
    url: ${OPENMETER_URL}
    token: ${OPENMETER_TOKEN:}
"""


@pytest.fixture
def examine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENMETER_URL", "OPENMETER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORT", str(free_port()))

    async def call(text, *arguments, **env):
        (tmp_path / "c.yaml").write_text(text)
        for name, value in env.items():
            monkeypatch.setenv(name, value)

        def invoke():
            return CliRunner().invoke(
                doctor, ["-c", "c.yaml", "--json", *arguments], standalone_mode=False
            )

        result = await asyncio.to_thread(invoke)
        if result.exception is not None:
            raise result.exception
        found = {one["name"]: one for one in json.loads(result.stdout)["checks"]}
        return result.return_value, found, result.stdout

    return call


def by_kind(found, kind):
    return next(one for name, one in found.items() if name.startswith(kind))


async def test_all_is_well_and_nothing_was_sent(examine, tmp_path):
    async with Sandbox(tokens=["good"]).serve() as sandbox:
        code, found, _ = await examine(CONFIG, OPENMETER_URL=sandbox.url, OPENMETER_TOKEN="good")
        assert not sandbox.events
    assert code == 0
    assert {one["status"] for name, one in found.items() if not name.endswith(" kept")} == {"ok"}
    assert {name.split()[0] for name in found} >= {
        "variable", "config", "disk", "buffer", "listen", "dns", "connection", "openmeter",
    }  # fmt: skip
    assert not (tmp_path / "buffer.db").exists()


@pytest.mark.parametrize(
    ("token", "path", "said"),
    [("bad-token-value", "", "401"), ("good", "/somewhere/events", "404")],
)
async def test_what_openmeter_refuses_is_told_with_what_to_do(examine, token, path, said):
    async with Sandbox(tokens=["good"]).serve() as sandbox:
        code, found, shown = await examine(
            CONFIG, OPENMETER_URL=sandbox.url + path, OPENMETER_TOKEN=token
        )
    assert code == 1
    one = by_kind(found, "openmeter")
    assert (one["status"], one["found"][:3]) == ("fail", said)
    assert one["todo"]
    assert "bad-token-value" not in shown


async def test_a_published_http_client_output_is_asked_as_well(examine):
    text = """
http: {enabled: false}
output:
  drop_on:
    error: true
    output:
      http_client:
        url: ${OPENMETER_URL}/api/v1/events
        headers: {Authorization: 'Bearer ${OPENMETER_TOKEN:}'}
"""
    async with Sandbox(tokens=["good"]).serve() as sandbox:
        for token, status in (("good", "ok"), ("bad", "fail")):
            _, found, _ = await examine(text, OPENMETER_URL=sandbox.url, OPENMETER_TOKEN=token)
            assert by_kind(found, "openmeter")["status"] == status


async def test_variables_and_files_are_looked_at(examine, tmp_path):
    code, found, _ = await examine(CONFIG + "logger: {level: '${NOT_SET_HERE}'}\n", "--offline")
    assert code == 1
    assert found["variable NOT_SET_HERE"]["status"] == "fail"
    assert found["variable OPENMETER_TOKEN"]["status"] == "warn"

    mapping = "pipeline: {processors: [{mapping: 'file://./map.blobl'}]}\n"
    (tmp_path / "map.blobl").write_text("root = this\n")
    code, found, _ = await examine(CONFIG + mapping, "--offline", OPENMETER_URL="http://x")
    assert (code, found["file ./map.blobl"]["found"]) == (0, "can be read")
    certificate = CONFIG.replace("http: {", "http: {cert_file: nope.pem, key_file: nope.key, ")
    code, found, _ = await examine(certificate, "--offline")
    assert (code, found["file nope.pem"]["found"]) == (1, "is not there")


async def test_a_foreign_buffer_and_a_taken_port_are_told(examine, tmp_path):
    with closing(sqlite3.connect(tmp_path / "buffer.db")) as other:
        other.execute("CREATE TABLE messages (id)")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, found, _ = await examine(CONFIG, "--offline", OPENMETER_URL="http://x", PORT=port)
    assert code == 1
    assert found["buffer buffer.db"]["found"] == "is a database of another program"
    assert found[f"listen 127.0.0.1:{port}"]["found"] == "address already in use"


async def test_faults_of_the_config_are_told_first(examine):
    code, found, _ = await examine("output: {openmeter: {}}\n")
    assert code == 1
    assert "field 'url' is missing" in found["config"]["found"]


async def test_names_connections_and_certificates():
    missing = await checks.check_peer(checks.Peer("nowhere.invalid", 443, True, "root.output"))
    assert [(one.name, one.status) for one in missing] == [("dns nowhere.invalid", "fail")]
    closed = await checks.check_peer(checks.Peer("127.0.0.1", free_port(), False, "root.output"))
    assert closed[1].status == "fail"

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        known = checks.Peer("localhost", port, True, "root.output", trusting)
        assert (await checks.check_peer(known))[1].status == "ok"
        stranger = checks.Peer("localhost", port, True, "root.output")
        told = (await checks.check_peer(stranger))[1]
        assert told.status == "fail"
        assert "unable to get local issuer certificate" in told.found


@pytest.mark.parametrize(("now", "status"), [(0, "ok"), (20, "ok"), (60, "warn"), (-900, "fail")])
def test_a_clock_that_is_off_is_told(now, status):
    date = "Fri, 27 Nov 2026 06:00:00 GMT"
    moment = 1795759200.0
    assert checks._check_clock(date, moment + now).status == status
