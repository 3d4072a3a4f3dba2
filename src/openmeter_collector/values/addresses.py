"""Questions about network addresses."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a client's address is this machine's own; a name, or nonsense, is not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
