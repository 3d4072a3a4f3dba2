"""Passwords and cross-origin requests in front of the service; TLS; debug endpoints."""

import base64
import hashlib
import ssl

import aiohttp
import pytest
import trustme

from openmeter_collector.component.env import ListenOptions
from openmeter_collector.config.model import BasicAuth, Cors, Http
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.guards import Locked, guarded, tls_of
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.testing.env import ask

SALT = b"some salt"


def encoded(raw):
    return base64.b64encode(raw).decode()


def bcrypted(password):
    import bcrypt  # noqa: PLC0415

    return bcrypt.hashpw(password, bcrypt.gensalt(4))


HASHES = {
    "sha256": lambda p: hashlib.sha256(p).digest(),
    "md5": lambda p: hashlib.md5(p).digest(),
    "scrypt": lambda p: hashlib.scrypt(p, salt=SALT, n=32768, r=8, p=1, dklen=32, maxmem=64 << 20),
    "bcrypt": bcrypted,
}


def auth(algorithm="sha256", **fields):
    return BasicAuth(
        enabled=True,
        username="me",
        password_hash=encoded(HASHES[algorithm](b"secret:word")),
        algorithm=algorithm,
        salt=encoded(SALT),
        **fields,
    )


def said(user, password):
    return {"Authorization": "Basic " + encoded(f"{user}:{password}".encode())}


@pytest.mark.parametrize("algorithm", sorted(HASHES))
async def test_only_the_right_user_and_password_get_in(algorithm):
    app = guarded(Service(MetricStore()), Http(basic_auth=auth(algorithm)))
    for headers, status in (
        ({}, 401),
        (said("me", "secret:word"), 200),
        (said("me", "secret:word"), 200),  # remembered
        (said("me", "secret:wor"), 401),
        (said("you", "secret:word"), 401),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": "Bearer x"}, 401),
    ):
        answer = await ask(app, "GET", "/ping", headers=headers)
        assert answer.status == status, headers
        if status == 401:
            assert answer.headers["www-authenticate"] == 'Basic realm="restricted"'
            assert answer.body == b"Unauthorized\n"


async def test_probes_can_be_left_open():
    app = guarded(Service(MetricStore()), Http(basic_auth=auth(except_probes=True)))
    for path, status in (
        ("/ping", 200),
        ("/benthos/ping", 200),
        ("/ready", 503),
        ("/metrics", 401),
    ):
        assert (await ask(app, "GET", path)).status == status, path


@pytest.mark.parametrize(
    "wrong",
    [
        BasicAuth(enabled=True),
        BasicAuth(enabled=True, username="me", password_hash="***"),
        BasicAuth(enabled=True, username="me", password_hash="aaaa", algorithm="scrypt"),
    ],
)
def test_a_password_that_cannot_be_checked_stops_the_start(wrong):
    with pytest.raises(ConfigError, match=r"http\.basic_auth"):
        Locked(Service(MetricStore()), wrong)


async def test_pages_of_allowed_origins_may_read_answers():
    cors = Cors(enabled=True, allowed_origins=["https://good.example"])
    app = guarded(Service(MetricStore()), Http(cors=cors, basic_auth=auth()))
    headers = {"Origin": "https://good.example", **said("me", "secret:word")}
    answer = await ask(app, "GET", "/ping", headers=headers)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (
        200, "https://good.example",
    )  # fmt: skip
    # A preflight carries no password.
    preflight = {
        "Origin": "https://good.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-a",
    }
    answer = await ask(app, "OPTIONS", "/streams", headers=preflight)
    assert answer.status == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "x-a"
    bad = preflight | {"Origin": "https://bad.example"}
    answer = await ask(app, "OPTIONS", "/streams", headers=bad)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_cors_for_nobody_and_half_a_certificate_stop_the_start():
    with pytest.raises(ConfigError, match="allowed_origins"):
        guarded(Service(MetricStore()), Http(cors=Cors(enabled=True)))
    with pytest.raises(ConfigError, match="go together"):
        tls_of(Http(cert_file="a.pem"))
    with pytest.raises(ConfigError, match="No such file"):
        tls_of(Http(cert_file="nowhere.pem", key_file="nowhere.key"))
    assert tls_of(Http()) is None


async def test_debug_endpoints_answer_only_when_asked_for():
    service = Service(MetricStore())
    assert (await ask(service, "GET", "/debug/stack")).status == 404
    service.config = "a: 1\n", b'{"a":1}'
    assert (await ask(service, "GET", "/debug/config/yaml")).body == b"a: 1\n"
    assert (await ask(service, "GET", "/debug/config/json")).body == b'{"a":1}'
    stack = (await ask(service, "GET", "/benthos/debug/stack")).body.decode()
    assert "test_debug_endpoints_answer_only_when_asked_for" in stack
    profile = await ask(service, "GET", "/debug/pprof/heap")
    assert profile.status == 501
    assert b"py-spy" in profile.body


async def test_the_service_speaks_tls_with_the_files_it_is_given(tmp_path):
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in made.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    http = Http(cert_file=str(tmp_path / "cert.pem"), key_file=str(tmp_path / "key.pem"))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    options = ListenOptions("127.0.0.1:0", tls=tls_of(http))
    async with (
        listen(guarded(Service(MetricStore()), http), options) as bound,
        aiohttp.ClientSession() as client,
        client.get(f"https://{bound.address}/ping", ssl=trusting) as answer,
    ):
        assert await answer.text() == "pong"


@pytest.mark.parametrize("basic", [False, True])
async def test_a_token_is_asked_for_everywhere_but_at_the_probes(basic):
    hashed = "sha256:" + hashlib.sha256(b"second").hexdigest()
    password = auth() if basic else BasicAuth()
    app = guarded(Service(MetricStore()), Http(tokens=["first", hashed], basic_auth=password))
    for headers, status in (
        ({"Authorization": "Bearer first"}, 200),
        ({"Authorization": "bearer second"}, 200),
        ({"Authorization": f"Bearer {hashed}"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic first"}, 401),
        ({}, 401),
        (said("me", "secret:word"), 200 if basic else 401),
    ):
        for path in ("/version", "/benthos/version", "/metrics", "/endpoints"):
            answered = await ask(app, "GET", path, headers=headers)
            assert answered.status == status, (headers, path)
    for path in ("/ping", "/benthos/ping"):
        assert (await ask(app, "GET", path)).status == 200
    assert (await ask(app, "GET", "/ping/")).status == 401
