"""The library of the language: one visible list of everything it has."""

from __future__ import annotations

from openmeter_collector.bloblang.definition import Registry
from openmeter_collector.bloblang.library.arrays import ENTRIES as ARRAYS
from openmeter_collector.bloblang.library.coercion import ENTRIES as COERCION
from openmeter_collector.bloblang.library.compression import ENTRIES as COMPRESSION
from openmeter_collector.bloblang.library.durations import ENTRIES as DURATIONS
from openmeter_collector.bloblang.library.encoding import ENTRIES as ENCODING
from openmeter_collector.bloblang.library.environment import ENTRIES as ENVIRONMENT
from openmeter_collector.bloblang.library.event_ids import ENTRIES as EVENT_IDS
from openmeter_collector.bloblang.library.general import ENTRIES as GENERAL
from openmeter_collector.bloblang.library.ids import ENTRIES as IDS
from openmeter_collector.bloblang.library.messages import ENTRIES as MESSAGES
from openmeter_collector.bloblang.library.numbers import ENTRIES as NUMBERS
from openmeter_collector.bloblang.library.objects import ENTRIES as OBJECTS
from openmeter_collector.bloblang.library.parsing import ENTRIES as PARSING
from openmeter_collector.bloblang.library.regex import ENTRIES as REGEX
from openmeter_collector.bloblang.library.schemas import ENTRIES as SCHEMAS
from openmeter_collector.bloblang.library.secrets import ENTRIES as SECRETS
from openmeter_collector.bloblang.library.structures import ENTRIES as STRUCTURES
from openmeter_collector.bloblang.library.text import ENTRIES as TEXT
from openmeter_collector.bloblang.library.times import ENTRIES as TIMES

_GEOIP = "needs a licensed database of addresses"
LEFT_OUT: dict[str, str] = {
    "parse_parquet": "reads whole Parquet files at once, whatever their size",
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
        *GENERAL,
        *MESSAGES,
        *COERCION,
        *TEXT,
        *REGEX,
        *NUMBERS,
        *ARRAYS,
        *OBJECTS,
        *TIMES,
        *DURATIONS,
        *COMPRESSION,
        *ENCODING,
        *SECRETS,
        *PARSING,
        *SCHEMAS,
        *STRUCTURES,
        *IDS,
        *EVENT_IDS,
        *ENVIRONMENT,
    ],
    LEFT_OUT,
)
