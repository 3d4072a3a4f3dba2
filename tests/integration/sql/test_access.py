"""Reaching a PostgreSQL server: TLS as the config asks for it, and passwords made by AWS."""

import asyncio
import hashlib
import hmac
import shutil
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from botocore import auth as botocore_auth

from kit.aws import REGION, moto
from kit.databases import postgres
from kit.sql import Kept, RealTime, execute, node_of, read_until
from openmeter_collector.components.aws.rds import RdsAuth, RdsRole
from openmeter_collector.errors import ConfigError, Retryable

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = "usage.abc123.us-east-1.rds.amazonaws.com"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(authority, tmp_path_factory):
    """A server that takes connections with TLS and nothing else, and of `sure` with a certificate only."""
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    mine = authority.issue_cert("sure@here", common_name="sure")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    mine.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (folder / "key.pem").chmod(0o600)

    def prepare(data):
        server = authority.issue_cert("127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(data / "server.key")
        server.cert_chain_pems[0].write_to_path(data / "server.crt")
        authority.cert_pem.write_to_path(data / "ca.crt")
        for name in ("server.key", "server.crt", "ca.crt"):
            (data / name).chmod(0o600)
            shutil.chown(data / name, data.stat().st_uid, data.stat().st_gid)
        (data / "pg_hba.conf").write_text(
            "hostssl all sure 127.0.0.1/32 cert\nhostssl all,replication all 127.0.0.1/32 trust\n"
        )
        return ["ssl=on", "ssl_ca_file=ca.crt"]

    with postgres(prepare, sslmode="require") as server:
        server.folder = folder
        asyncio.run(
            execute(
                server,
                "CREATE TABLE orders (id INT PRIMARY KEY)",
                "INSERT INTO orders VALUES (1)",
                "CREATE ROLE sure LOGIN SUPERUSER",
            )
        )
        yield server


def follow(server, dsn=None, **more):
    fields = {
        "dsn": dsn or server.dsn.replace("sslmode=require", "sslmode=disable"),
        "schema": "public",
        "tables": ["orders"],
        "slot_name": "meter",
        "stream_snapshot": True,
        "temporary_slot": True,
    }
    return node_of("input", "postgres_cdc", **(fields | more))


async def failure(node):
    """Why it cannot be opened."""
    with pytest.raises(Retryable) as caught:
        async with node.config.open(RealTime(node, Kept())):
            pass
    return str(caught.value)


async def test_tls_goes_before_what_the_dsn_says_and_verifies_the_server(secured, authority):
    ca = secured.folder / "ca.pem"
    for tls in (
        {"root_cas_file": str(ca)},
        {"root_cas": ca.read_text()},
        {"skip_cert_verify": True},
    ):
        kept = await read_until(follow(secured, tls={"enabled": True, **tls}), 1)
        assert kept.rows == [{"id": 1}]
    assert "no pg_hba.conf entry" in await failure(follow(secured))


async def test_a_server_of_somebody_else_is_not_spoken_to(secured, tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    other = {"enabled": True, "root_cas_file": str(tmp_path / "other.pem")}
    assert "certificate verify failed" in await failure(follow(secured, tls=other))
    everybody = {"enabled": True}
    assert "certificate verify failed" in await failure(follow(secured, tls=everybody))
    right = {"enabled": True, "root_cas_file": str(secured.folder / "ca.pem")}
    name = secured.dsn.replace("@127.0.0.1:", "@other.example:") + "&hostaddr=127.0.0.1"
    assert "other.example" in await failure(follow(secured, name, tls=right))


async def test_a_certificate_is_shown_to_a_server_that_asks(secured):
    tls = {"enabled": True, "root_cas_file": str(secured.folder / "ca.pem")}
    dsn = secured.dsn.replace("postgres@", "sure@")
    assert "certificate" in await failure(follow(secured, dsn, tls=tls))
    files = {name: str(secured.folder / f"{name[:-5]}.pem") for name in ("cert_file", "key_file")}
    kept = await read_until(follow(secured, dsn, tls={**tls, "client_certs": [files]}), 1)
    assert kept.rows == [{"id": 1}]


async def test_what_libpq_cannot_do_is_said_at_the_start(secured):
    files = {name: str(secured.folder / f"{name[:-5]}.pem") for name in ("cert_file", "key_file")}
    for certs, text in (
        ([files, files], "shows one certificate"),
        ([{"cert": "-----BEGIN"}], "put them into files"),
        ([{"cert_file": "/nowhere"}], "check the files"),
    ):
        node = follow(secured, tls={"enabled": True, "client_certs": certs})
        with pytest.raises(ConfigError, match=text):
            async with node.config.open(RealTime(node, Kept())):
                pass


# ---- AWS ------------------------------------------------------------------------------------------


def signature(secret, host, query):
    """What AWS would compute from the same request: version 4 of its signatures, in a query."""

    def keyed(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    day, scope = "20260102", f"20260102/{REGION}/rds-db/aws4_request"
    unsigned = "&".join(sorted(one for one in query.split("&") if "Signature=" not in one))
    nothing = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n/\n{unsigned}\nhost:{host}\n\nhost\n{nothing}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{day}T030405Z\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, REGION, "rds-db", "aws4_request"):
        key = keyed(key, part)
    return keyed(key, text).hex()


async def test_a_password_is_a_signed_request_to_connect(monkeypatch):
    monkeypatch.setattr(botocore_auth, "get_current_datetime", lambda: MOMENT)
    auth = RdsAuth(enabled=True, region=REGION, id="AKID", secret="s3cr+t/", token="t=&k")
    password = await auth.password("meter usr", HOST, "5433", "here")
    parts = urlsplit(f"https://{password}")
    given = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.netloc == f"{HOST}:5433"
    assert (given["Action"], given["DBUser"]) == ("connect", "meter usr")
    assert (given["X-Amz-Expires"], given["X-Amz-Security-Token"]) == ("900", "t=&k")
    assert given["X-Amz-Signature"] == signature("s3cr+t/", parts.netloc, parts.query)


async def test_the_endpoint_goes_before_the_host_of_the_dsn():
    auth = RdsAuth(enabled=True, region=REGION, endpoint=f"{HOST}:6000", id="a", secret="b")
    assert (await auth.password("u", "localhost", "5432", "here")).startswith(f"{HOST}:6000/?")


async def test_roles_are_assumed_one_after_the_other(monkeypatch):
    with moto() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        auth = RdsAuth(
            enabled=True,
            region=REGION,
            id="AKID",
            secret="secret",
            role="arn:aws:iam::123456789012:role/first",
            roles=[RdsRole(role="arn:aws:iam::123456789012:role/second", role_external_id="mine")],
        )
        query = urlsplit("//" + await auth.password("u", HOST, "5432", "here")).query
    given = parse_qs(query)
    assert given["X-Amz-Credential"][0].startswith("ASIA")
    assert given["X-Amz-Security-Token"]


async def test_without_a_region_or_credentials_it_is_said(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="the region is not known"):
        await RdsAuth(enabled=True, id="a", secret="b").password("u", HOST, "5432", "here")
    with pytest.raises(Retryable, match="no AWS credentials"):
        await RdsAuth(enabled=True, region=REGION).password("u", HOST, "5432", "here")


@asynccontextmanager
async def asking_for_passwords(authority):
    """The beginning of PostgreSQL's protocol, with TLS: asks for a password, and turns away who says one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    said = []

    async def talk(reader, writer):
        await reader.readexactly(8)  # may we use TLS?
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(context)
        size = int.from_bytes(await reader.readexactly(4))
        await reader.readexactly(size - 4)
        writer.write(b"R" + (8).to_bytes(4) + (3).to_bytes(4))
        await reader.readexactly(1)
        size = int.from_bytes(await reader.readexactly(4))
        said.append((await reader.readexactly(size - 4)).rstrip(b"\0").decode())
        text = b"SFATAL\0C28P01\0Mnot today\0\0"
        writer.write(b"E" + (len(text) + 4).to_bytes(4) + text)
        await writer.drain()
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = await asyncio.start_server(talk, sock=listening)
        async with server:
            yield said, listening.getsockname()[1]


async def test_the_password_is_made_for_each_connection_and_sent_with_tls_only(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    aws = {"enabled": True, "region": REGION, "endpoint": HOST, "id": "AKID", "secret": "secret"}
    tls = {"enabled": True, "root_cas_file": str(tmp_path / "ca.pem")}
    async with asking_for_passwords(authority) as (said, port):
        dsn = f"postgres://meter:ignored@127.0.0.1:{port}/db"
        text = await failure(follow(None, dsn, tls=tls, aws=aws))
        assert "not today" in text
        assert "X-Amz" not in text
        await failure(follow(None, dsn, tls=tls, aws=aws))
    assert len(said) == 2
    assert all(one.startswith(f"{HOST}:{port}/?Action=connect&DBUser=meter&") for one in said)
    node = follow(None, f"{dsn}?sslmode=disable", aws=aws)
    with pytest.raises(ConfigError, match="so TLS is needed"):
        async with node.config.open(RealTime(node, Kept())):
            pass
