"""The `tls` section of components that connect to somebody."""

from __future__ import annotations

import ssl
from pathlib import Path

from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.component import field, section


@section
class ClientCert:
    """A certificate that we show, in the text of the config or in files."""

    cert: str = field(default="", doc="Certificate, PEM text.")
    key: str = field(default="", secret=True, doc="Private key, PEM text.")
    cert_file: str = field(default="", file=bool, doc="File with the certificate.")
    key_file: str = field(default="", file=bool, doc="File with the private key.")
    password: str = field(default="", secret=True, doc="Password of the private key.")


@section
class ClientTls:
    """How the server is verified, and what we show it."""

    enabled: bool = field(
        default=False, doc="Use these settings; `https` addresses use TLS anyway."
    )
    skip_cert_verify: bool = field(
        default=False,
        doc="Do not verify the server. Anyone on the way can then read and change events.",
    )
    enable_renegotiation: bool = field(
        default=False, advanced=True, doc="Accepted; TLS 1.3 has none."
    )
    root_cas: str = field(default="", secret=True, doc="Authorities to trust, PEM text.")
    root_cas_file: str = field(default="", file=bool, doc="File with the authorities to trust.")
    client_certs: list[ClientCert] = field(
        default_factory=list, doc="Certificates to show to servers that ask."
    )

    def context(self, where: str) -> ssl.SSLContext | None:
        """The context these settings stand for; None for the usual one.

        Raises:
            ConfigError: a file is missing or is not what it should be.
        """
        if not self.enabled:
            return None
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.root_cas or self.root_cas_file:
                context = ssl.create_default_context(
                    cafile=self.root_cas_file or None, cadata=self.root_cas or None
                )
            for shown in self.client_certs:
                if not shown.cert_file:
                    raise ConfigError(
                        f"{where}.client_certs: certificates in the config's text are not "
                        "supported; put them into files and use cert_file and key_file"
                    )
                context.load_cert_chain(
                    Path(shown.cert_file), shown.key_file or None, shown.password or None
                )
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"{where}: {error}; check the files") from error
        if self.skip_cert_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
