"""The preset `webhooks`: what Stripe signs becomes events, each once, and nothing else does."""

import json
import time
from datetime import UTC, datetime

import aiohttp
import pytest
import standardwebhooks
import stripe

from kit.waiting import eventually
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.presets import preset
from openmeter_collector.testing.running import free_port, running
from openmeter_collector.testing.sandbox import Sandbox

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Webhooks:
    """The preset under way, and the sandbox behind it."""

    def __init__(self, url, sandbox):
        self.url, self.sandbox = url, sandbox

    async def send(self, body, headers):
        async with aiohttp.ClientSession() as client:
            async with client.post(self.url, data=body, headers=headers) as answer:
                return answer.status, await answer.text()

    def events(self):
        return [json.loads(event.raw) for event in self.sandbox.events]


@pytest.fixture
async def webhooks(tmp_path, request):
    port = free_port()
    async with Sandbox(tokens=["t"]).serve() as sandbox:
        env = {
            "HTTP_ADDRESS": f"127.0.0.1:{port}",
            "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
            "BUFFER_PATH": str(tmp_path / "buffer.db"),
            "OPENMETER_URL": sandbox.url,
            "OPENMETER_TOKEN": "t",
            "WEBHOOK_SECRET": SECRET,
            **request.param,
        }
        config = preset("webhooks").path.read_text()
        async with running(config, standard_registry(), env):
            hooks = Webhooks(f"http://127.0.0.1:{port}/webhooks", sandbox)

            async def answers():
                try:
                    return await hooks.send(b"", {})
                except aiohttp.ClientConnectionError:
                    return None

            await eventually(answers)
            yield hooks


def invoice(number, **more):
    content = {"id": f"in_{number}", "object": "invoice", "customer": "cus_1", "amount_paid": 5}
    return json.dumps(
        {"id": f"evt_{number}", "created": 1_700_000_000, "type": "invoice.paid",
         "data": {"object": content | more}}
    ).encode()  # fmt: skip


def signed(body, secret=SECRET):
    at = int(time.time())
    signature = stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", secret)
    return {"Stripe-Signature": f"t={at},v1={signature}"}


@pytest.mark.parametrize("webhooks", [{"WEBHOOK_SCHEME": "stripe"}], indirect=True)
async def test_what_stripe_signs_counts_once_however_often_it_is_sent(webhooks):
    body = invoice(1)
    for _ in range(3):
        assert await webhooks.send(body, signed(body)) == (200, "")
    assert (await webhooks.send(invoice(2), signed(body)))[0] == 401
    assert (await webhooks.send(invoice(3), {}))[0] == 401
    last = invoice(4)
    assert (await webhooks.send(last, signed(last)))[0] == 200
    await eventually(lambda: any(event["id"] == "evt_4" for event in webhooks.events()))
    found = {(event["source"], event["id"]): event for event in webhooks.events()}
    assert set(found) == {("stripe", "evt_1"), ("stripe", "evt_4")}
    assert found["stripe", "evt_1"]["subject"] == "cus_1"
    assert found["stripe", "evt_1"]["time"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("webhooks", [{}], indirect=True)
async def test_a_signed_webhook_that_is_no_event_is_answered_400_with_the_reason(webhooks):
    body = json.dumps({"data": {"customer_id": "c"}})
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", now, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    status, text = await webhooks.send(body.encode(), headers)
    assert status == 400
    assert "type" in json.loads(text)["detail"]
    assert SECRET not in text
