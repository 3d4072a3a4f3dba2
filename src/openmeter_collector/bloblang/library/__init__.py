"""The library of the language: one visible list of everything it has."""

from __future__ import annotations

from openmeter_collector.bloblang.definition import Registry
from openmeter_collector.bloblang.library import (
    arrays,
    coercion,
    general,
    messages,
    numbers,
    objects,
    regex,
    text,
    times,
)

LEFT_OUT: dict[str, str] = {}

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
    ],
    LEFT_OUT,
)
