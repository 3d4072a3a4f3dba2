"""What can go wrong at a server, as values.

A fault says what happens, and with the common fields when: to requests that match, with a
probability, after some were let through, a number of times. Faults are tried in the order of the
list until one ends the exchange; all but `slow` do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec

_Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Fault(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="fault"
):
    """When a fault happens.

    Attributes:
        probability: chance on each request that matches.
        times: how many requests it happens to; absent means without end.
        after: let this many matching requests through first.
        path: a pattern found in the request's path.
        id, type, subject, source: a pattern found in that attribute of one of the events;
            where several are given, one event must match them all.
    """

    probability: _Probability = 1.0
    times: _Count | None = None
    after: _Count = 0
    path: str | None = None
    id: str | None = None
    type: str | None = None
    subject: str | None = None
    source: str | None = None

    main: ClassVar[str | None] = None
    """The field that `name=value` on the command line sets."""

    def patterns(self) -> dict[str, re.Pattern[str]]:
        """The patterns over events."""
        named = {key: getattr(self, key) for key in ("id", "type", "subject", "source")}
        return {key: re.compile(text) for key, text in named.items() if text is not None}

    def check(self) -> None:
        """Look at what the types cannot say.

        Raises:
            ValueError: a pattern is not one, or a field that is needed is missing.
        """
        for key in ("path", "id", "type", "subject", "source"):
            try:
                re.compile(getattr(self, key) or "")
            except re.error as error:
                raise ValueError(f"{key}: {error}") from None


class Slow(Fault, frozen=True, tag="slow"):
    """Wait before doing anything. The exchange then goes on as if nothing had been."""

    main = "seconds"
    seconds: _Seconds = 1.0


class Hang(Fault, frozen=True, tag="hang"):
    """Read the request and never answer, until the client goes away or `seconds` are over, when the
    connection is closed. Nothing is ingested unless `ingest` is set.
    """

    main = "seconds"
    seconds: _Seconds | None = None
    ingest: bool = False


class Reset(Fault, frozen=True, tag="reset"):
    """Ingest, send the first `bytes` bytes of the answer, and reset the connection. The sender
    cannot know that its events are in. With `ingest` false they are not.
    """

    main = "bytes"
    bytes: _Count = 12
    ingest: bool = True


class Refuse(Fault, frozen=True, tag="refuse"):
    """Refuse the whole body with `status` because of one event that matches, as the real server
    does with an invalid one. Nothing is ingested. Needs at least one of id, type, subject, source.
    """

    main = "status"
    status: int = 400
    detail: str = "refused by the sandbox"

    def check(self) -> None:
        super().check()
        if not self.patterns():
            raise ValueError("refuse needs one of id, type, subject, source")


class Status(Fault, frozen=True, tag="status"):
    """Answer `status` and do nothing else: 401, 403, 404, 429, 500, 503, or any other.

    Attributes:
        retry_after: a `Retry-After` header: seconds as they stand, or `date:5` for the HTTP date
            five seconds from now. Absent means no header.
        body: instead of a problem.
        content_type: of that body.
        headers: more headers.
    """

    main = "status"
    status: int = 503
    retry_after: str | float | None = None
    detail: str = "the sandbox was told to answer this"
    body: str | None = None
    content_type: str = "text/plain"
    headers: dict[str, str] = {}


class TooLarge(Fault, frozen=True, tag="too_large"):
    """Answer 413 when the body has more than `bytes` bytes as it came over the wire."""

    main = "bytes"
    bytes: _Count = 1_048_576


class Partial(Fault, frozen=True, tag="partial"):
    """Ingest the first `keep` events and answer `status`, as the real server does when its broker
    fails half-way. Sending again is safe only where identities are remembered.
    """

    main = "keep"
    keep: _Count = 1
    status: int = 500


class Late(Fault, frozen=True, tag="late"):
    """Ingest, and send the success only after `seconds`, when the client may have given up."""

    main = "seconds"
    seconds: _Seconds = 60.0


class Junk(Fault, frozen=True, tag="junk"):
    """Answer a 2xx that is not OpenMeter's, as a proxy or a login page in between does. Nothing is
    ingested unless `ingest` is set.
    """

    main = "body"
    body: str = "<!doctype html><title>Sign in</title><p>Welcome to the hotel network."
    status: int = 200
    content_type: str = "text/html"
    ingest: bool = False


class Drip(Fault, frozen=True, tag="drip"):
    """Ingest, and send the answer byte by byte with `seconds` between two bytes."""

    main = "seconds"
    seconds: _Seconds = 0.05
    ingest: bool = True


class WrongLength(Fault, frozen=True, tag="wrong_length"):
    """Ingest, and announce `extra` more bytes than are sent before the connection is closed."""

    main = "extra"
    extra: int = 100
    status: int = 200
    body: str = "{}"
    ingest: bool = True


class Down(Fault, frozen=True, tag="down"):
    """Close the listening socket and every connection, so that connecting is refused, and come back
    after `seconds`. Happens when it is set, not on a request; the common fields mean nothing to it.
    """

    main = "seconds"
    seconds: _Seconds = 15.0


AnyFault = (
    Slow | Hang | Reset | Refuse | Status | TooLarge
    | Partial | Late | Junk | Drip | WrongLength | Down
)  # fmt: skip
KINDS: dict[str, type[Fault]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Down, Slow, Hang, Reset, Refuse, Status, TooLarge, Partial, Late, Junk, Drip, WrongLength,
    )
}  # fmt: skip


class FaultSettings(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /sandbox/faults`."""

    faults: list[AnyFault] = []
    seed: int = 0


def parse_fault(text: str) -> AnyFault:
    """Read `name`, `name=value` or `name=value,field=value,...`.

    Raises:
        ValueError: it is not a fault; the text says what is expected.
    """
    head, *rest = _split(text)
    name, _, value = head.partition("=")
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"no fault is called {name!r}; there are {', '.join(KINDS)}")
    fields: dict[str, Any] = {"fault": name}
    if value:
        assert kind.main is not None
        fields[kind.main] = value
    for part in rest:
        key, equals, given = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} in {text!r} is not field=value")
        fields[key] = given
    try:
        return checked(msgspec.convert(fields, AnyFault, strict=False))
    except msgspec.ValidationError as error:
        raise ValueError(f"{text!r}: {error}") from None


def checked(fault: AnyFault) -> AnyFault:
    """The same fault, if it makes sense.

    Raises:
        ValueError: it does not.
    """
    fault.check()
    return fault


def _split(text: str) -> list[str]:
    # A comma inside a pattern is written \, because {1,2} and friends need it.
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]


@dataclass(slots=True)
class _Armed:
    fault: AnyFault
    patterns: dict[str, re.Pattern[str]]
    path: re.Pattern[str] | None
    matched: int = 0
    fired: int = 0


@dataclass(slots=True)
class FaultPlan:
    """Decides which faults happen to a request. Equal seeds and requests give equal decisions."""

    seed: int = 0
    _armed: list[_Armed] = field(default_factory=list)
    _random: random.Random = field(default_factory=random.Random)

    def arm(self, faults: Sequence[AnyFault], seed: int | None = None) -> None:
        """Replace all faults.

        Raises:
            ValueError: one of them makes no sense; nothing was replaced.
        """
        armed = [
            _Armed(fault, fault.patterns(), re.compile(fault.path) if fault.path else None)
            for fault in map(checked, faults)
            if not isinstance(fault, Down)
        ]
        self.seed = self.seed if seed is None else seed
        self._random = random.Random(self.seed)
        self._armed = armed

    @property
    def active(self) -> bool:
        """Whether there is any fault at all."""
        return bool(self._armed)

    def choose(self, path: str, events: Sequence[dict[str, str]], size: int = 0) -> list[AnyFault]:
        """The faults that happen to a request of `size` bytes, in order, and count them."""
        chosen: list[AnyFault] = []
        for armed in self._armed:
            fault = armed.fault
            if armed.path is not None and not armed.path.search(path):
                continue
            if armed.patterns and matching(armed.patterns, events) is None:
                continue
            if isinstance(fault, TooLarge) and size <= fault.bytes:
                continue
            armed.matched += 1
            if armed.matched <= fault.after:
                continue
            if fault.times is not None and armed.fired >= fault.times:
                continue
            if fault.probability < 1 and self._random.random() >= fault.probability:
                continue
            armed.fired += 1
            chosen.append(fault)
            if not isinstance(fault, Slow):
                break
        return chosen

    def describe(self) -> dict[str, Any]:
        """The faults with their counts, as plain values."""
        return {
            "seed": self.seed,
            "faults": [
                {**msgspec.to_builtins(a.fault), "matched": a.matched, "fired": a.fired}
                for a in self._armed
            ],
        }


def matching(patterns: dict[str, re.Pattern[str]], events: Sequence[dict[str, str]]) -> int | None:
    """The index of the first event that all patterns match."""
    for index, event in enumerate(events):
        if all(pattern.search(event.get(key, "")) for key, pattern in patterns.items()):
            return index
    return None
