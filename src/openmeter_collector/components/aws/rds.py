"""Passwords for databases of RDS and Aurora that know us by IAM."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from openmeter_collector.api import ConfigError, field, section
from openmeter_collector.components import extras
from openmeter_collector.components.aws.session import AwsCredentials, AwsFields, keys_of

_EXTRA: Final = "s3"  # that of the library, whatever it is used for
_EXPIRES: Final = 900  # seconds, which is what RDS allows


@section
class RdsRole:
    """A role to assume."""

    role: str = field(doc="Its ARN.")
    role_external_id: str = field(default="", doc="External id to show when assuming it.")


@section
class RdsAuth:
    """A password made from AWS credentials for each connection, good for 15 minutes. Needs TLS, and the
    extra `s3`.
    """

    enabled: bool = field(default=False, doc="Use it instead of a password in the dsn.")
    region: str = field(default="", doc="The region; else that of the environment.")
    endpoint: str = field(
        default="",
        doc="Host of the database, with or without its port, as RDS knows it; else those of the dsn.",
        examples=["usage.abc123.us-east-1.rds.amazonaws.com"],
    )
    id: str = field(default="", advanced=True, doc="Access key id; else the usual places.")
    secret: str = field(default="", secret=True, advanced=True, doc="Secret access key.")
    token: str = field(default="", secret=True, advanced=True, doc="Session token.")
    role: str = field(default="", doc="ARN of a role to assume.")
    role_external_id: str = field(default="", doc="External id to show when assuming it.")
    roles: list[RdsRole] = field(
        default_factory=list, doc="Roles to assume one after the other, after `role`."
    )

    async def password(self, user: str, host: str, port: str, where: str) -> str:
        """A password for a user of a database.

        Raises:
            ConfigError: the region is not known, or the extra is missing.
            Retryable: there are no credentials, or a role cannot be assumed now.
        """
        auth, request = extras.load(where, _EXTRA, "botocore.auth", "botocore.awsrequest")
        aws = AwsFields(
            region=self.region,
            credentials=AwsCredentials(id=self.id, secret=self.secret, token=self.token),
        )
        roles = [(self.role, self.role_external_id)] if self.role else []
        roles += [(one.role, one.role_external_id) for one in self.roles]
        keys, region = await keys_of(aws, roles, where, _EXTRA)
        if not region:
            raise ConfigError(f"{where}: aws: the region is not known; set region")
        place = self.endpoint or host
        if ":" not in place:
            place = f"{place}:{port}"
        query = urlencode({"Action": "connect", "DBUser": user})
        signed = request.AWSRequest(method="GET", url=f"https://{place}/?{query}")
        auth.SigV4QueryAuth(keys, "rds-db", region, _EXPIRES).add_auth(signed)
        url: str = signed.url
        return url.removeprefix("https://")
