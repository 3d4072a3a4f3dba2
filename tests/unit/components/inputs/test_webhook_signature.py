"""Signatures of webhooks: those that others made, and what is wrong with wrong ones."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
import standardwebhooks
import stripe

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.components.inputs.webhook_signature import NotVerified, verifier
from openmeter_collector.config import Config, load, read
from openmeter_collector.config.render import render
from openmeter_collector.errors import ConfigError

NOW = 1_700_000_000
BODY = b'{"id":"evt_1","amount":1}'
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()


class Headers(dict):
    def get(self, name):
        return super().get(name, "")


def verify_config(text):
    config = load(f"input: {{http_server: {{verify: {text}}}}}", standard_registry(), env={})
    return config.input.config.verify


def check(text, headers, body=BODY, now=NOW):
    lower = Headers({name.lower(): value for name, value in headers.items()})
    verifier(verify_config(text), "here")(lower, body, now)


def refused(text, headers, body=BODY, now=NOW):
    with pytest.raises(NotVerified) as caught:
        check(text, headers, body, now)
    return str(caught.value)


# ---- made by the senders' own libraries ----------------------------------------------------------


def standard(secret=SECRET, at=NOW, body=BODY, prefix="webhook"):
    signature = standardwebhooks.Webhook(secret).sign(
        "msg_1", datetime.fromtimestamp(at, UTC), body.decode()
    )
    return {
        f"{prefix}-id": "msg_1",
        f"{prefix}-timestamp": str(at),
        f"{prefix}-signature": signature,
    }


def of_stripe(secret=SECRET, at=NOW, body=BODY):
    signature = stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", secret)
    return {"Stripe-Signature": f"t={at},v1={signature},v0=old"}


def of_github(secret=SECRET, at=NOW, body=BODY):
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def plain(secret=SECRET, at=NOW, body=BODY):
    digest = hmac.new(secret.encode(), b"%d|%s" % (at, body), hashlib.sha512).digest()
    return {
        "X-Sig": "s=" + base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "X-Time": str(at),
    }


PLAIN = (
    "hmac: {header: X-Sig, algorithm: sha512, encoding: base64, prefix: 's=', "
    "timestamp_header: X-Time, signed: '{timestamp}|{body}', secrets: "
)
SCHEMES = {
    "standard_webhooks": ("standard_webhooks: {secrets: ", standard),
    "stripe": ("stripe: {secrets: ", of_stripe),
    "github": ("github: {secrets: ", of_github),
    "hmac": (PLAIN, plain),
}
TIMED = ["standard_webhooks", "stripe", "hmac"]


def scheme(name, *secrets):
    text, sign = SCHEMES[name]
    return f"{{{text}[{', '.join(repr(one) for one in secrets or [SECRET])}]}}}}", sign


@pytest.mark.parametrize("name", SCHEMES)
def test_what_the_sender_signed_passes(name):
    text, sign = scheme(name)
    check(text, sign())
    check(text, sign(body=b""), b"")


def test_the_library_of_stripe_agrees_on_what_passes():
    headers = of_stripe(at=int(datetime.now(UTC).timestamp()))
    event = stripe.Webhook.construct_event(BODY.decode(), headers["Stripe-Signature"], SECRET)
    assert event.id == "evt_1"


@pytest.mark.parametrize("name", SCHEMES)
def test_another_body_or_another_secret_does_not_pass(name):
    text, sign = scheme(name)
    assert refused(text, sign(), BODY + b" ") == "the signature does not fit the body"
    assert refused(text, sign(OTHER)) == "the signature does not fit the body"


@pytest.mark.parametrize("name", SCHEMES)
def test_one_of_several_secrets_is_enough_and_empty_ones_do_not_count(name):
    text, sign = scheme(name, OTHER, "", SECRET)
    check(text, sign())
    check(text, sign(OTHER))


@pytest.mark.parametrize("name", SCHEMES)
def test_without_a_secret_the_door_stays_shut(name):
    """Such as when the variable that should hold it was not set."""
    text, _ = scheme(name, "")
    with pytest.raises(ConfigError, match=r"secrets: there is none; set one"):
        verifier(verify_config(text), "here")


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize(
    ("shift", "passes"), [(300, True), (301, False), (-300, True), (-301, False)]
)
def test_a_request_is_valid_around_its_time_only(name, shift, passes):
    text, sign = scheme(name)
    if passes:
        check(text, sign(), now=NOW + shift)
    else:
        assert refused(text, sign(), now=NOW + shift) == "the request's time is too far from now"


@pytest.mark.parametrize("name", TIMED)
def test_the_time_is_signed(name):
    text, sign = scheme(name)
    headers = {key: value.replace(str(NOW), str(NOW + 1)) for key, value in sign().items()}
    assert refused(text, headers) == "the signature does not fit the body"


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_missing_or_no_signature_is_said(name):
    text, sign = scheme(name)
    for header in sign():
        left = {key: value for key, value in sign().items() if key != header}
        assert refused(text, left) == f"the header {header.lower()} is missing"
    for junk in ("nonsense", "v1,", "v1,!!!", "sha256=zz", "t=1", "t=x,v1=00", "s=", "é"):
        headers = dict.fromkeys(sign(), junk) | {"webhook-timestamp": str(NOW), "X-Time": str(NOW)}
        assert SECRET not in refused(text, headers)


def test_the_id_of_a_standard_webhook_is_signed():
    text, sign = scheme("standard_webhooks")
    assert refused(text, sign() | {"webhook-id": "msg_2"}) == "the signature does not fit the body"


def test_senders_that_rotate_put_several_signatures_on_a_request():
    text, _ = scheme("standard_webhooks")
    mine, others = standard()["webhook-signature"], standard(OTHER)["webhook-signature"]
    check(text, standard() | {"webhook-signature": f"v1a,x {others} {mine}"})
    text, _ = scheme("stripe")
    both = of_stripe(OTHER)["Stripe-Signature"] + "," + of_stripe()["Stripe-Signature"]
    check(text, {"Stripe-Signature": both})


def test_older_headers_of_svix_are_known_by_name():
    text = f"{{standard_webhooks: {{header_prefix: svix, secrets: ['{SECRET}']}}}}"
    check(text, standard(prefix="svix"))
    assert refused(text, standard()) == "the header svix-id is missing"


# ---- published by the senders --------------------------------------------------------------------


def test_the_example_of_svix():
    text = "{standard_webhooks: {header_prefix: svix, secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}}"
    headers = {
        "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "svix-timestamp": "1614265330",
        "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    check(text, headers, b'{"test": 2432232314}', now=1_614_265_330)


def test_the_example_of_github():
    text = '{github: {secrets: ["It\'s a Secret to Everybody"]}}'
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(text, {"X-Hub-Signature-256": f"sha256={digest}"}, b"Hello, World!")


def test_the_example_of_slack():
    text = (
        "{hmac: {header: X-Slack-Signature, prefix: 'v0=', signed: 'v0:{timestamp}:{body}', "
        "timestamp_header: X-Slack-Request-Timestamp, secrets: [8f742231b10e8888abcd99yyyzzz85a5]}}"
    )
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&"
        b"channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&"
        b"command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    check(text, headers, body, now=1_531_420_618)


# ---- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{stripe: {secrets: [a]}, github: {secrets: [a]}}", "stripe and github are asked for"),
        ("{standard_webhooks: {secrets: ['whsec_no base64']}}", "one is not `whsec_` and base64"),
        ("{hmac: {header: X, secrets: [a], timestamp_header: T}}", "need each other"),
        ("{hmac: {header: X, secrets: [a], signed: '{timestamp}.{body}'}}", "need each other"),
        ("{hmac: {header: X, secrets: [a], signed: nothing}}", "the body is not in it once"),
    ],
)
def test_what_cannot_be_is_refused(text, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        verifier(verify_config(text), "here")
    assert "no base64" not in str(caught.value)


def test_nothing_asked_for_lets_everything_pass():
    assert verifier(verify_config("{}"), "here") is None


def test_secrets_are_never_shown():
    reading = read(
        f"input: {{http_server: {{verify: {{stripe: {{secrets: ['{SECRET}']}}}}}}}}",
        standard_registry(),
        Config,
        env={},
    )
    assert SECRET not in render(reading.config, reading.secrets)
    assert SECRET not in repr(reading.config.input.config.verify.stripe)
