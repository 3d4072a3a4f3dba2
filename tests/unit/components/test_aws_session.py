"""Who we are to AWS: what a config says, and the usual places when it says nothing."""

import pytest

from kit.aws import REGION
from openmeter_collector.components.aws.queue import receive
from openmeter_collector.components.aws.session import AwsCredentials, AwsFields, client_of
from openmeter_collector.errors import Retryable


async def identity(**about):
    """The access key and token that requests are signed with."""
    credentials = AwsCredentials(**about.pop("credentials", {}))
    fields = AwsFields(region=REGION, credentials=credentials, **about)
    async with client_of("s3", fields, "input.test", extra="s3") as client:
        await client.list_buckets()
        found = await client._request_signer._credentials.get_frozen_credentials()
        return found.access_key, found.token


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A machine on which nobody is known to AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    shared = tmp_path / "credentials"
    shared.write_text(
        "[default]\naws_access_key_id = of-default\naws_secret_access_key = s\n"
        "[other]\naws_access_key_id = of-other\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return shared


async def test_keys_of_the_config_come_first(aws, nobody, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    keys = {"id": "mine", "secret": "s", "token": "t"}
    assert await identity(endpoint=aws.url, credentials=keys) == ("mine", "t")
    assert await identity(endpoint=aws.url) == ("of-the-environment", None)


async def test_the_shared_file_and_its_profiles_are_read(aws, nobody, monkeypatch):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nobody))
    assert (await identity(endpoint=aws.url))[0] == "of-default"
    of_other = {"profile": "other"}
    assert (await identity(endpoint=aws.url, credentials=of_other))[0] == "of-other"


async def test_a_role_is_assumed_with_the_credentials_that_are_there(aws, nobody, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    about = {
        "id": "mine",
        "secret": "s",
        "role": "arn:aws:iam::123456789012:role/reader",
        "role_external_id": "from-you",
    }
    key, token = await identity(endpoint=aws.url, credentials=about)
    assert key != "mine"
    assert token


async def test_without_any_it_is_tried_again_and_said(aws, nobody):
    fields = AwsFields(region=REGION, endpoint=aws.url)
    async with client_of("sqs", fields, "input.test", extra="s3") as client:
        with pytest.raises(Retryable, match="credentials"):
            await receive(client, "http://x/q")
