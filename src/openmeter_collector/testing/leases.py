"""What Kubernetes' API takes for a Lease: for its fake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# To the digit: its decoder knows one layout for times with microseconds.
_MICRO_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$")
_INT32: Final = 2**31 - 1


def wrong_lease(made: Mapping[str, Any]) -> tuple[int, str]:
    """The status with which a lease is refused and why; 0 if it is taken."""
    spec = made.get("spec") or {}
    for name in ("acquireTime", "renewTime"):
        value = spec.get(name)
        if value is not None and not (isinstance(value, str) and _MICRO_TIME.match(value)):
            return 400, f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00"'
    for name, least in (("leaseDurationSeconds", 1), ("leaseTransitions", 0)):
        value = spec.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or abs(value) > _INT32:
            return (
                400,
                f"cannot unmarshal number into Go struct field LeaseSpec.spec.{name} of type int32",
            )
        if value < least:
            return 422, f"spec.{name}: Invalid value: {value}"
    return 0, ""
