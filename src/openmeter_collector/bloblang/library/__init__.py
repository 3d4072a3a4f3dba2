"""The library of the language: one visible list of everything it has."""

from __future__ import annotations

from openmeter_collector.bloblang.definition import Registry
from openmeter_collector.bloblang.library import (
    arrays,
    coercion,
    encoding,
    environment,
    general,
    ids,
    messages,
    numbers,
    objects,
    parsing,
    regex,
    schemas,
    secrets,
    structures,
    text,
    times,
)

_GEOIP = "needs a licensed database of addresses"
LEFT_OUT: dict[str, str] = {
    "parse_parquet": "reads whole Parquet files; the aws_s3 input has a scanner for them",
    **{
        f"geoip_{name}": _GEOIP
        for name in (
            "anonymous_ip",
            "asn",
            "city",
            "connection_type",
            "country",
            "domain",
            "enterprise",
            "isp",
        )
    },
}
"""What the engine has and this collector has not, with the reason."""

STANDARD = Registry(
    [
        *general.ENTRIES,
        *messages.ENTRIES,
        *coercion.ENTRIES,
        *text.ENTRIES,
        *regex.ENTRIES,
        *numbers.ENTRIES,
        *arrays.ENTRIES,
        *objects.ENTRIES,
        *times.ENTRIES,
        *encoding.ENTRIES,
        *secrets.ENTRIES,
        *parsing.ENTRIES,
        *schemas.ENTRIES,
        *structures.ENTRIES,
        *ids.ENTRIES,
        *environment.ENTRIES,
    ],
    LEFT_OUT,
)
