"""Where the collector's own traces and metrics are sent."""

from __future__ import annotations

from openmeter_collector.api import field, section


@section
class Endpoint:
    """A collector to send to."""

    address: str = field(
        default="", doc="Host and port, or a whole address.", examples=["localhost:4318"]
    )
    url: str = field(default="", deprecated=True, doc="The same as `address`.")
    secure: bool = field(default=False, doc="Use TLS.")

    def over_http(self, path: str) -> str:
        """The whole address, with the path of a signal."""
        address = self.address or self.url
        if "://" not in address:
            address = f"{'https' if self.secure else 'http'}://{address}"
        address = address.rstrip("/")
        return address if address.endswith(path) else address + path

    def over_grpc(self) -> tuple[str, bool]:
        """Host and port, and whether TLS is used; an address that begins with `https` asks for it."""
        scheme, separator, rest = (self.address or self.url).rpartition("://")
        return rest.rstrip("/") if separator else rest, self.secure or scheme == "https"
