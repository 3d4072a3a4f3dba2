"""What stands in front of the service: TLS, passwords, and cross-origin requests."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

from openmeter_collector.component.env import AsgiApp, AsgiReceive, AsgiSend, Scope
from openmeter_collector.components.inputs.http_ingest import TokenCheck
from openmeter_collector.config.model import BasicAuth, Cors, Http
from openmeter_collector.errors import ConfigError, install_extra

_PROBES: Final = ("/ping", "/ready")
_SCRYPT: Final = {"n": 32768, "r": 8, "p": 1, "dklen": 32, "maxmem": 64 << 20}
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_MAX_AGE: Final = b"600"


def guarded(app: AsgiApp, http: Http) -> AsgiApp:
    """The service behind what `http` asks for.

    Raises:
        ConfigError: the password's hash cannot be used.
    """
    plain = app
    if http.basic_auth.enabled:
        app = Locked(app, http.basic_auth, http.root_path)
    tokens = TokenCheck(http.tokens, "http.tokens")
    if tokens.active:
        app = Bearer(plain, tokens, http.root_path, app if http.basic_auth.enabled else None)
    if http.cors.enabled:
        app = CrossOrigin(app, http.cors)
    return app


def tls_of(http: Http) -> ssl.SSLContext | None:
    """How the service is encrypted; None for not at all.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    if not http.cert_file and not http.key_file:
        return None
    if not (http.cert_file and http.key_file):
        raise ConfigError("http: cert_file and key_file go together; give both or none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(http.cert_file, http.key_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"http.cert_file: {error.strerror or error}; give a certificate and its key, both PEM"
        ) from error
    return context


class Locked:
    """Asks for a user name and a password."""

    def __init__(self, app: AsgiApp, auth: BasicAuth, root_path: str = "") -> None:
        """Take the settings.

        Raises:
            ConfigError: they cannot be used.
        """
        self._app = app
        self._challenge = f'Basic realm="{auth.realm}"'.replace("\n", "").encode()
        self._user = auth.username.encode()
        self._matches = _matcher(auth)
        self._open: tuple[str, ...] = ()
        if auth.except_probes:
            self._open = (*_PROBES, *(root_path + path for path in _PROBES))
        # Hashes that are slow on purpose are not computed again for each scrape.
        self._key = os.urandom(32)
        self._known = b""

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer 401, or hand on."""
        if scope["path"] in self._open or self._allowed(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        await answer(send, 401, b"Unauthorized\n", headers=[(b"www-authenticate", self._challenge)])

    def _allowed(self, headers: dict[bytes, bytes]) -> bool:
        kind, _, encoded = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"basic" or len(encoded) > 4096:
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        digest = hmac.digest(self._key, given, "sha256")
        if self._known and hmac.compare_digest(digest, self._known):
            return True
        user, _, password = given.partition(b":")
        # Both are looked at, so that the time does not tell which one was wrong.
        good = hmac.compare_digest(user, self._user) & self._matches(password)
        if good:
            self._known = digest
        return good


def _matcher(auth: BasicAuth) -> Callable[[bytes], bool]:
    where = "http.basic_auth"
    if not auth.username or not auth.password_hash:
        raise ConfigError(f"{where}: username and password_hash are needed when it is enabled")
    try:
        wanted = base64.b64decode(auth.password_hash, validate=True)
        salt = base64.b64decode(auth.salt, validate=True)
    except binascii.Error:
        raise ConfigError(f"{where}: password_hash and salt must be base64") from None
    if auth.algorithm == "bcrypt":
        return _bcrypt(wanted)
    if auth.algorithm == "scrypt":
        if not salt:
            raise ConfigError(f"{where}.salt: is empty; scrypt needs the salt of the hash, base64")
        return lambda password: hmac.compare_digest(
            hashlib.scrypt(password, salt=salt, **_SCRYPT), wanted
        )
    digest: Any = hashlib.sha256 if auth.algorithm == "sha256" else hashlib.md5
    return lambda password: hmac.compare_digest(digest(password).digest(), wanted)


def _bcrypt(wanted: bytes) -> Callable[[bytes], bool]:
    try:
        import bcrypt  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            f"http.basic_auth: algorithm bcrypt needs a library; {install_extra('bloblang')}"
        ) from None

    def matches(password: bytes) -> bool:
        try:
            return bool(bcrypt.checkpw(password[:72], wanted))
        except ValueError:
            return False

    matches(b"")  # the library is loaded now, not with the first request
    return matches


class Bearer:
    """Asks for a bearer token, but not for the answers that orchestrators need."""

    def __init__(
        self, app: AsgiApp, tokens: TokenCheck, root_path: str, otherwise: AsgiApp | None
    ) -> None:
        """`otherwise`: whom to ask when there is no token; None refuses."""
        self._app = app
        self._tokens = tokens
        self._open = (*_PROBES, *(root_path + path for path in _PROBES))
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer 401, or hand on."""
        header = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] in self._open or self._tokens.knows(header):
            await self._app(scope, receive, send)
        elif self._otherwise is not None:
            await self._otherwise(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            challenge = (b"www-authenticate", b'Bearer realm="openmeter-collector"')
            await answer(send, 401, b"Unauthorized\n", headers=[challenge])


class CrossOrigin:
    """Lets pages of other origins ask."""

    def __init__(self, app: AsgiApp, cors: Cors) -> None:
        """Take the settings.

        Raises:
            ConfigError: nobody is allowed.
        """
        if not cors.allowed_origins:
            raise ConfigError(
                "http.cors.allowed_origins: is empty; name the origins that may ask, or '*'"
            )
        self._app = app
        self._origins = frozenset(origin.encode() for origin in cors.allowed_origins)

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer a preflight, or hand on and say who may read the answer."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None:
            await self._app(scope, receive, send)
            return
        allowed = self._allowed(origin)
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await answer(send, 204 if allowed else 403, b"", headers=_preflight(allowed, headers))
            return

        async def send_allowed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *allowed]}
            await send(message)

        await self._app(scope, receive, send_allowed)

    def _allowed(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        if b"*" in self._origins:
            return [(b"access-control-allow-origin", b"*")]
        if origin in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        return []


def _preflight(
    allowed: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    if not allowed:
        return []
    asked = headers.get(b"access-control-request-headers", b"")
    more = [(b"access-control-allow-headers", asked)] if asked else []
    return [
        *allowed,
        (b"access-control-allow-methods", _METHODS.encode()),
        (b"access-control-max-age", _MAX_AGE),
        *more,
    ]


async def answer(
    send: AsgiSend,
    status: int,
    body: bytes,
    kind: bytes = b"text/plain; charset=utf-8",
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    head: bool = False,
) -> None:
    """A whole answer; `head` leaves the body out."""
    length = (b"content-length", str(len(body)).encode())
    start = [(b"content-type", kind), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if head else body})
