"""Ways to show a server who we are, shared by all components that speak HTTP to one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import urllib.parse
from dataclasses import dataclass
from typing import Any

import orjson

from openmeter_collector.component.env import Env, HttpClient
from openmeter_collector.errors import ConfigError, Paused, install_extra
from openmeter_collector.spec.component import field, section
from openmeter_collector.spec.http_answers import raise_for_answer


@section
class BasicAuth:
    """User name and password (RFC 7617)."""

    enabled: bool = field(default=False, doc="Send them.")
    username: str = field(default="", doc="User name.")
    password: str = field(default="", secret=True, doc="Password.")


@section
class OAuth:
    """OAuth 1.0 request signing (RFC 5849, HMAC-SHA1)."""

    enabled: bool = field(default=False, doc="Sign requests.")
    consumer_key: str = field(default="", doc="Consumer key.")
    consumer_secret: str = field(default="", secret=True, doc="Consumer secret.")
    access_token: str = field(default="", secret=True, doc="Access token.")
    access_token_secret: str = field(default="", secret=True, doc="Its secret.")


@section
class OAuth2:
    """OAuth 2.0 with client credentials (RFC 6749 4.4)."""

    enabled: bool = field(default=False, doc="Fetch a token and send it.")
    client_key: str = field(default="", doc="Client id.")
    client_secret: str = field(default="", secret=True, doc="Client secret.")
    token_url: str = field(default="", doc="Where tokens are given out.")
    scopes: list[str] = field(default_factory=list, doc="Scopes to ask for.")
    endpoint_params: dict[str, Any] = field(
        default_factory=dict, advanced=True, doc="More form fields for the token request."
    )


@section
class Jwt:
    """A signed JSON Web Token in each request."""

    enabled: bool = field(default=False, doc="Sign and send a token.")
    private_key_file: str = field(
        default="", file=bool, doc="PEM file with the key (PKCS1 or PKCS8)."
    )
    signing_method: str = field(default="", doc="Such as RS256 or EdDSA.")
    claims: dict[str, Any] = field(default_factory=dict, doc="Claims of the token.")
    headers: dict[str, Any] = field(default_factory=dict, doc="Further headers of the token.")


@dataclass(slots=True)
class _Token:
    value: str
    until: float


class Authorizer:
    """Makes the `Authorization` header of a request."""

    def __init__(
        self, env: Env, client: HttpClient, basic: BasicAuth, oauth: OAuth, oauth2: OAuth2, jwt: Jwt
    ) -> None:
        """Take the settings of a component.

        Raises:
            ConfigError: a library is missing, or a key file.
        """
        self._env = env
        self._client = client
        self._basic = basic
        self._oauth = oauth
        self._oauth2 = oauth2
        self._token: _Token | None = None
        self._jwt = _sign_jwt(jwt, env.node.path) if jwt.enabled else ""

    async def header(self, method: str, url: str) -> str:
        """The value for this request; empty for none."""
        if self._oauth2.enabled:
            return f"Bearer {await self._oauth2_token()}"
        if self._oauth.enabled:
            return _oauth1(self._oauth, method, url, int(self._env.now()))
        if self._jwt:
            return f"Bearer {self._jwt}"
        if self._basic.enabled:
            pair = f"{self._basic.username}:{self._basic.password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return ""

    def forget(self) -> None:
        """A request was answered 401: fetch a new token for the next one."""
        self._token = None

    async def _oauth2_token(self) -> str:
        if self._token is not None and self._env.monotonic() < self._token.until:
            return self._token.value
        config = self._oauth2
        form = {"grant_type": "client_credentials", "scope": " ".join(config.scopes)}
        form |= {name: str(value) for name, value in config.endpoint_params.items()}
        pair = f"{_quote(config.client_key)}:{_quote(config.client_secret)}".encode()
        response = await self._client.request(
            "POST",
            config.token_url,
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            },
            body=urllib.parse.urlencode({k: v for k, v in form.items() if v}).encode(),
        )
        if response.status in {400, 401, 403}:
            raise Paused(f"{config.token_url}: gave no token ({response.status}); check oauth2")
        raise_for_answer(config.token_url, response)
        try:
            answer = orjson.loads(response.body)
            token, lasts = str(answer["access_token"]), float(answer.get("expires_in", 300))
        except (ValueError, KeyError, TypeError) as error:
            raise Paused(
                f"{config.token_url}: its answer has no access_token; check oauth2"
            ) from error
        # Renewed a little early, so that it does not end on the way.
        self._token = _Token(token, self._env.monotonic() + max(1.0, lasts - 10.0))
        return token


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="-._~")


def _oauth1(config: OAuth, method: str, url: str, now: int) -> str:
    parts = urllib.parse.urlsplit(url)
    oauth = {
        "oauth_consumer_key": config.consumer_key,
        "oauth_nonce": secrets.token_hex(16),
        "oauth_signature_method": "HMAC-SHA1",
        "oauth_timestamp": str(now),
        "oauth_token": config.access_token,
        "oauth_version": "1.0",
    }
    # RFC 5849 3.4.1: all parameters, encoded, sorted, encoded once more into the base string.
    query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    pairs = sorted((_quote(k), _quote(v)) for k, v in [*oauth.items(), *query])
    text = "&".join(f"{k}={v}" for k, v in pairs)
    address = f"{parts.scheme}://{parts.netloc}{parts.path}"
    base = "&".join([method.upper(), _quote(address), _quote(text)])
    key = f"{_quote(config.consumer_secret)}&{_quote(config.access_token_secret)}"
    digest = hmac.new(key.encode(), base.encode(), hashlib.sha1).digest()
    oauth["oauth_signature"] = base64.b64encode(digest).decode()
    return "OAuth " + ", ".join(f'{k}="{_quote(v)}"' for k, v in oauth.items())


def _sign_jwt(config: Jwt, where: str) -> str:
    try:
        import jwt  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"{where}.jwt needs the extra 'jwt'; run: {install_extra('jwt')}"
        ) from error
    try:
        with open(config.private_key_file, encoding="utf-8") as file:  # noqa: PTH123
            key = file.read()
        return jwt.encode(
            dict(config.claims), key, config.signing_method, headers=dict(config.headers)
        )
    except (OSError, ValueError, NotImplementedError, jwt.PyJWTError) as error:
        raise ConfigError(
            f"{where}.jwt: no token can be signed ({error}); check its fields"
        ) from error
