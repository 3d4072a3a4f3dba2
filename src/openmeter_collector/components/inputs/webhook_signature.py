"""Who a webhook is from: the signatures that senders of webhooks put on them.

Four schemes, one rule: a request passes only if one of the configured secrets made a signature of it, over
the bytes as they came, not too long ago. Why not is said without a word about the secrets, and takes
the same time whichever secret, and whichever part of a signature, it was.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

from openmeter_collector.api import ConfigError, Duration, field, section

_SECRETS_DOC: Final = (
    "Secrets that are accepted; several while one replaces another. Empty ones do not count, but one "
    "must be there."
)
_TOLERANCE_DOC: Final = "How far the time of a request may be from ours, either way."
_MOST_SIGNATURES: Final = 20


@section
class StandardWebhooks:
    """Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`)."""

    secrets: list[str] = field(secret=True, doc=f"{_SECRETS_DOC} They begin with `whsec_`.")
    tolerance: Duration = field(default=Duration("5m"), doc=_TOLERANCE_DOC)
    header_prefix: Literal["webhook", "svix"] = field(
        default="webhook", doc="What the names of the three headers begin with."
    )


@section
class Stripe:
    """Stripe (`Stripe-Signature`, with `t` and `v1` in it)."""

    secrets: list[str] = field(secret=True, doc=f"{_SECRETS_DOC} They begin with `whsec_`.")
    tolerance: Duration = field(default=Duration("5m"), doc=_TOLERANCE_DOC)


@section
class GitHub:
    """GitHub (`X-Hub-Signature-256`). It signs no time: a request that was recorded stays valid."""

    secrets: list[str] = field(secret=True, doc=_SECRETS_DOC)


@section
class PlainHmac:
    """An HMAC in a header, as many services have it in forms of their own."""

    header: str = field(doc="The header with the signature.", examples=["X-Signature"], minimum=1)
    secrets: list[str] = field(secret=True, doc=_SECRETS_DOC)
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = field(
        default="sha256", doc="The hash."
    )
    encoding: Literal["hex", "base64"] = field(
        default="hex", doc="How the signature is written; `base64` in either alphabet."
    )
    prefix: str = field(default="", doc="What stands before it.", examples=["sha256=", "v0="])
    timestamp_header: str = field(
        default="",
        doc="The header with the time, in Unix seconds. Empty: none is asked for, and a request that "
        "was recorded stays valid.",
    )
    signed: str = field(
        default="{body}",
        doc="What is signed; `{body}` and `{timestamp}` stand for themselves.",
        examples=["v0:{timestamp}:{body}"],
        lint=lambda text: (
            None
            if text.count("{body}") == 1
            else "the body is not in it once; write {body} where it stands"
        ),
    )
    tolerance: Duration = field(default=Duration("5m"), doc=_TOLERANCE_DOC)


@section
class Verify:
    """How requests show who they are from. One of these, or none."""

    standard_webhooks: StandardWebhooks | None = field(
        default=None,
        doc="As standardwebhooks.com describes it, with shared secrets (`v1`); also Svix, Clerk, OpenAI and others.",
    )
    stripe: Stripe | None = field(default=None, doc="As Stripe does.")
    github: GitHub | None = field(default=None, doc="As GitHub does.")
    hmac: PlainHmac | None = field(default=None, doc="In a form of its own, such as Slack's.")


class NotVerified(Exception):
    """A request does not show that it is from whom it should be; the text says why not."""


class Headers(Protocol):
    """Request headers."""

    def get(self, name: str) -> str:
        """A value by its lower-case name, empty when it is not there."""


Verifier = Callable[[Headers, bytes, float], None]
"""Takes headers, body and the time now in Unix seconds; raises `NotVerified`."""


def verifier(config: Verify, where: str) -> Verifier | None:
    """What checks requests; None when nothing is asked for.

    Raises:
        ConfigError: more than one way is asked for, or a secret is missing or none.
    """
    asked = {
        name: one
        for name in ("standard_webhooks", "stripe", "github", "hmac")
        if (one := getattr(config, name)) is not None
    }
    if len(asked) > 1:
        raise ConfigError(f"{where}.verify: {' and '.join(asked)} are asked for; keep one of them")
    for name, one in asked.items():
        return _MAKE[name](one, f"{where}.verify.{name}")
    return None


class _Keys:
    """Secrets, ready to sign with."""

    def __init__(self, secrets: Sequence[bytes], where: str, algorithm: str = "sha256") -> None:
        if not secrets:
            # Fail closed: a variable that was not set must not open the door.
            raise ConfigError(f"{where}.secrets: there is none; set one, or remove `verify`")
        self._keyed = [hmac.new(secret, digestmod=algorithm) for secret in secrets]

    def check(self, given: Sequence[bytes], *parts: bytes) -> None:
        """Let pass if one of the signatures is one of ours over the parts.

        Raises:
            NotVerified: none is.
        """
        known = False
        for keyed in self._keyed:
            made = keyed.copy()
            for part in parts:
                made.update(part)
            ours = made.digest()
            # All are compared, whichever fits, so that time tells nothing about them.
            for one in given:
                known |= hmac.compare_digest(ours, one)
        if not known:
            raise NotVerified("the signature does not fit the body")


def _standard(config: StandardWebhooks, where: str) -> Verifier:
    keys = _Keys([_whsec(one, where) for one in config.secrets if one], where)
    prefix, tolerance = config.header_prefix, float(config.tolerance)

    def verify(headers: Headers, body: bytes, now: float) -> None:
        identity = _header(headers, f"{prefix}-id")
        timestamp = _header(headers, f"{prefix}-timestamp")
        signatures = _header(headers, f"{prefix}-signature").split(" ")
        _check_time(timestamp, now, tolerance)
        given = [_unbase64(one.removeprefix("v1,")) for one in signatures if one.startswith("v1,")]
        keys.check(given[:_MOST_SIGNATURES], f"{identity}.{timestamp}.".encode("latin-1"), body)

    return verify


def _stripe(config: Stripe, where: str) -> Verifier:
    keys = _Keys([one.encode() for one in config.secrets if one], where)
    tolerance = float(config.tolerance)

    def verify(headers: Headers, body: bytes, now: float) -> None:
        pairs = [
            one.strip().partition("=") for one in _header(headers, "stripe-signature").split(",")
        ]
        timestamp = next((value for key, _, value in pairs if key == "t"), "")
        _check_time(timestamp, now, tolerance)
        given = [_unhex(value) for key, _, value in pairs if key == "v1"]
        keys.check(given[:_MOST_SIGNATURES], f"{timestamp}.".encode("latin-1"), body)

    return verify


def _github(config: GitHub, where: str) -> Verifier:
    keys = _Keys([one.encode() for one in config.secrets if one], where)

    def verify(headers: Headers, body: bytes, now: float) -> None:
        del now
        signature = _header(headers, "x-hub-signature-256")
        keys.check([_unhex(signature.removeprefix("sha256="))], body)

    return verify


def _plain(config: PlainHmac, where: str) -> Verifier:
    keys = _Keys([one.encode() for one in config.secrets if one], where, config.algorithm)
    header, clock = config.header.lower(), config.timestamp_header.lower()
    if ("{timestamp}" in config.signed) != bool(clock):
        raise ConfigError(
            f"{where}: timestamp_header and {{timestamp}} in `signed` need each other: a time that is "
            "not signed shows nothing; set both or neither"
        )
    before, _, after = config.signed.partition("{body}")
    decode = _unhex if config.encoding == "hex" else _unbase64
    tolerance = float(config.tolerance)

    def verify(headers: Headers, body: bytes, now: float) -> None:
        signature = _header(headers, header)
        timestamp = ""
        if clock:
            timestamp = _header(headers, clock)
            _check_time(timestamp, now, tolerance)
        if not signature.startswith(config.prefix):
            raise NotVerified(f"the header {header} does not begin with {config.prefix!r}")
        lead, rest = (
            text.replace("{timestamp}", timestamp).encode("latin-1", "replace")
            for text in (before, after)
        )
        keys.check([decode(signature.removeprefix(config.prefix))], lead, body, rest)

    return verify


def _whsec(secret: str, where: str) -> bytes:
    text = secret.removeprefix("whsec_")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ConfigError(
            f"{where}.secrets: one is not `whsec_` and base64; copy it again from the sender"
        ) from None


def _header(headers: Headers, name: str) -> str:
    value = headers.get(name)
    if not value:
        raise NotVerified(f"the header {name} is missing")
    return value


def _check_time(text: str, now: float, tolerance: float) -> None:
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise NotVerified("the request's time is no number of seconds")
    if abs(now - int(text)) > tolerance:
        raise NotVerified("the request's time is too far from now")


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError:
        return b""


def _unbase64(text: str) -> bytes:
    try:
        plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


_MAKE: Final[Mapping[str, Callable[..., Verifier]]] = {
    "standard_webhooks": _standard,
    "stripe": _stripe,
    "github": _github,
    "hmac": _plain,
}
