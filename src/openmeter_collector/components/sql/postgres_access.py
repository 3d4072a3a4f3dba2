"""How a PostgreSQL server is reached beside its DSN: the `tls` section, and passwords made by AWS."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from openmeter_collector.api import ClientTls, ConfigError
from openmeter_collector.components.aws.rds import RdsAuth

_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities that everybody trusts; libpq takes a file."""


@contextmanager
def tls_parameters(tls: ClientTls, where: str) -> Iterator[dict[str, str]]:
    """What libpq calls the settings; they go before those of a DSN. Empty when they are not enabled.

    Raises:
        ConfigError: a file is missing or is not what it should be, or libpq has no such setting.
    """
    if not tls.enabled:
        yield {}
        return
    tls.context(where)  # what is wrong with the files is said here
    if len(tls.client_certs) > 1:
        raise ConfigError(f"{where}.client_certs: a connection shows one certificate; leave one")
    made = {"sslmode": "require" if tls.skip_cert_verify else "verify-full"}
    for shown in tls.client_certs:
        made["sslcert"] = shown.cert_file
        made["sslkey"] = shown.key_file or shown.cert_file
        if shown.password:
            made["sslpassword"] = shown.password
    with tempfile.TemporaryDirectory(prefix="openmeter-") as folder:
        if tls.skip_cert_verify:
            # With authorities, "require" would look at them after all.
            made["sslrootcert"] = str(Path(folder) / "none")
        elif tls.root_cas:
            path = Path(folder) / "authorities.pem"
            files = [Path(tls.root_cas_file).read_text("utf-8")] if tls.root_cas_file else []
            path.write_text("\n".join([tls.root_cas, *files]), "utf-8")
            made["sslrootcert"] = str(path)
        else:
            made["sslrootcert"] = tls.root_cas_file or _authorities()
        yield made


def _authorities() -> str:
    known = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_SYSTEM)
    return next((path for path in known if path and Path(path).is_file()), "system")


async def password_parameters(aws: RdsAuth, given: dict[str, str], where: str) -> dict[str, str]:
    """A password that AWS made, when it is asked for one.

    Args:
        given: the parameters of the connection.

    Raises:
        ConfigError: the connection would not be encrypted; a password must not be seen on the way.
    """
    if not aws.enabled:
        return {}
    if given.get("sslmode") not in {"require", "verify-ca", "verify-full"}:
        raise ConfigError(
            f"{where}: aws: a password of AWS is sent as it is, so TLS is needed; "
            "set tls.enabled, or sslmode=verify-full in the dsn"
        )
    host, port = given.get("host", "localhost"), given.get("port", "5432")
    return {"password": await aws.password(given.get("user", ""), host, port, where)}
