"""Clients of AWS services, with the credentials and addresses that a config names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

from openmeter_collector.api import Duration, Paused, Rejected, Retryable, field, section
from openmeter_collector.components import extras

_LATER: Final = frozenset({408, 429})
_THROTTLES: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "AWS.SimpleQueueService.RequestThrottled",
        "SlowDown",
        "RequestTimeout",
        "OperationAborted",
    }
)
_OF_THE_DATA: Final = frozenset(
    {
        "EntityTooLarge",
        "EntityTooSmall",
        "InvalidTag",
        "KeyTooLongError",
        "MetadataTooLarge",
        "InvalidMessageContents",
        "AWS.SimpleQueueService.BatchRequestTooLong",
    }
)
"""Only these speak of the message. All other refusals (no such bucket or queue, no permission, a wrong
key) are answered 400 to 404 as well, and are ours to change.
"""


@section
class AwsCredentials:
    """Who we are. What is left empty comes from the usual places: the environment, shared files, a
    web identity, the container, the machine's role.
    """

    profile: str = field(default="", doc="A profile of the shared credentials file.")
    id: str = field(default="", doc="Access key id.")
    secret: str = field(default="", secret=True, doc="Secret access key.")
    token: str = field(default="", secret=True, doc="Session token, for temporary credentials.")
    from_ec2_role: bool = field(
        default=False, doc="Use the role of the EC2 machine and nothing else."
    )
    role: str = field(default="", doc="ARN of a role to assume with these credentials.")
    role_external_id: str = field(default="", doc="External id to show when assuming the role.")


@section
class KeepAlive:
    """Accepted for compatibility."""

    idle: Duration = field(default=Duration("15s"), doc="Accepted; the system's value is used.")
    interval: Duration = field(default=Duration("15s"), doc="Accepted; the system's value is used.")
    count: int = field(default=9, doc="Accepted; the system's value is used.")


@section
class AwsTcp:
    """Connections."""

    connect_timeout: Duration = field(
        default=Duration("0s"), doc="Time to connect; 0 is ten seconds."
    )
    keep_alive: KeepAlive = field(default_factory=KeepAlive, doc="Accepted for compatibility.")
    tcp_user_timeout: Duration = field(
        default=Duration("0s"), doc="Accepted; the system's value is used."
    )


@section
class AwsFields:
    """The fields of every component that speaks with AWS."""

    region: str = field(default="", doc="The region; else that of the environment or the profile.")
    endpoint: str = field(
        default="", doc="Address of a service that speaks the same protocol, such as MinIO's."
    )
    tcp: AwsTcp = field(default_factory=AwsTcp, advanced=True, doc="How connections are made.")
    credentials: AwsCredentials = field(
        default_factory=AwsCredentials, advanced=True, doc="Who we are."
    )


@asynccontextmanager
async def client_of(
    service: str,
    aws: AwsFields,
    where: str,
    *,
    extra: str,
    endpoint: str = "",
    path_style: bool = False,
    connections: int = 32,
) -> AsyncIterator[Any]:
    """A client of one's own, closed with the block.

    Args:
        endpoint: used instead of the session's when it is not empty.
        path_style: the bucket in the path instead of the host name.

    Raises:
        ConfigError: the extra is missing.
        Retryable: there are no credentials.
    """
    sessions, configs = extras.load(where, extra, "aiobotocore.session", "aiobotocore.config")
    session = sessions.get_session()
    config = configs.AioConfig(
        connect_timeout=float(aws.tcp.connect_timeout) or 10.0,
        read_timeout=60,
        max_pool_connections=connections,
        retries={"mode": "standard", "max_attempts": 3},
        # Not every service that speaks this protocol knows the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if path_style else None,
    )
    async with AsyncExitStack() as stack:
        with failures(where):
            await _identify(session, aws, where, extra)
            client = await stack.enter_async_context(
                session.create_client(
                    service,
                    region_name=aws.region or None,
                    endpoint_url=endpoint or aws.endpoint or None,
                    config=config,
                )
            )
        yield client


async def _identify(session: Any, aws: AwsFields, where: str, extra: str) -> None:
    given = aws.credentials
    if given.profile:
        session.set_config_variable("profile", given.profile)
    if given.id:
        session.set_credentials(given.id, given.secret, given.token or None)
    if given.from_ec2_role:
        provider = session.get_component("credential_provider").get_provider("iam-role")
        session._credentials = await provider.load()  # noqa: SLF001 - there is no other door
    if given.role:
        await _assume(session, given.role, given.role_external_id, aws.region, where, extra)


async def _assume(
    session: Any, role: str, external_id: str, region: str, where: str, extra: str
) -> None:
    """Go on as a role, with what the session has so far."""
    (module,) = extras.load(where, extra, "aiobotocore.credentials")
    about = {"RoleSessionName": "openmeter-collector"}
    if external_id:
        about["ExternalId"] = external_id
    fetcher = module.AioAssumeRoleCredentialFetcher(
        client_creator=partial(session.create_client, region_name=region or None),
        source_credentials=await session.get_credentials(),
        role_arn=role,
        extra_args=about,
    )
    session._credentials = module.AioDeferredRefreshableCredentials(  # noqa: SLF001 - as above
        refresh_using=fetcher.fetch_credentials, method="assume-role"
    )


async def keys_of(
    aws: AwsFields, roles: Sequence[tuple[str, str]], where: str, extra: str
) -> tuple[Any, str]:
    """Keys to sign something with, and the region.

    Args:
        roles: ARN and external id of roles to assume one after the other.

    Raises:
        ConfigError: the extra is missing.
        Retryable: there are no credentials, or a role cannot be assumed now.
    """
    (sessions,) = extras.load(where, extra, "aiobotocore.session")
    session = sessions.get_session()
    with failures(where):
        await _identify(session, aws, where, extra)
        for role, external_id in roles:
            await _assume(session, role, external_id, aws.region, where, extra)
        credentials = await session.get_credentials()
        if credentials is None:
            raise Retryable(f"{where}: there are no AWS credentials; set id and secret, or a role")
        keys = await credentials.get_frozen_credentials()
    return keys, aws.region or session.get_config_variable("region") or ""


def code_of(error: Exception) -> str:
    """What AWS calls an error, such as `NoSuchKey`; "" when it is none of AWS."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(code)


def status_of(error: Exception) -> int:
    """The HTTP status of an answer that is an error; 0 when there was none."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def failures(where: str) -> Iterator[None]:
    """What the library raises as what the engine knows, for inputs: all of it may pass.

    Raises:
        Retryable: no answer, or one that is an error.
    """
    client_error, botocore_error, http_error = _kinds()
    try:
        yield
    except (client_error, botocore_error, http_error, TimeoutError, OSError) as error:
        raise Retryable(f"{where}: {_said(error)}") from error


@contextmanager
def verdicts(where: str) -> Iterator[None]:
    """What the library raises as what the engine knows, for outputs.

    Raises:
        Rejected: the data is refused.
        Paused: it is we, or the address, that is refused.
        Retryable: anything else.
    """
    client_error, botocore_error, http_error = _kinds()
    try:
        yield
    except client_error as error:
        status, code, text = status_of(error), code_of(error), f"{where}: {_said(error)}"
        if code in _OF_THE_DATA:
            raise Rejected(text, _said(error)) from error
        if 300 <= status < 500 and status not in _LATER and code not in _THROTTLES:
            raise Paused(f"{text}; check the name, the credentials and what they may do") from error
        raise Retryable(text) from error
    except (botocore_error, http_error, TimeoutError, OSError) as error:
        raise Retryable(f"{where}: {_said(error)}") from error


def _kinds() -> tuple[type[Exception], type[Exception], type[Exception]]:
    exceptions, http = extras.load("aws", "s3", "botocore.exceptions", "aiohttp")
    return exceptions.ClientError, exceptions.BotoCoreError, http.ClientError


def _said(error: Exception) -> str:
    return str(error)[:2_000] or type(error).__name__
