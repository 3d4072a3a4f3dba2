"""Functions that make ids, random data and counts."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.bloblang.convert import get_bytes, get_int
from openmeter_collector.bloblang.definition import Case, Param, function
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.library.fakes import fake_value
from openmeter_collector.bloblang.services import Services
from openmeter_collector.values.kinds import INT64_MAX, NOTHING, Int64, Value
from openmeter_collector.values.timestamp import Timestamp

_LENGTH = "root = {}.length() == {}"
_HEX: Final = "0123456789abcdef"


@function("ids", total=True, unstable="random", cases=[Case("root = uuid_v4().length()", "", "36")])
def uuid_v4() -> str:
    """A random UUID of version 4."""
    try:
        text = _random.pop()  # one step in C, so that nothing is given out twice
    except IndexError:
        text = _more_random()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


_random: Final[list[str]] = []
"""Random data of 16 bytes each, in hex; asking the system for it each time costs more than all else."""

_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in _HEX}


def _more_random() -> str:
    raw = os.urandom(16 * 256).hex()
    _random.extend(raw[at : at + 32] for at in range(32, len(raw), 32))
    return raw[:32]


# A child must not give out what its parent will.
os.register_at_fork(after_in_child=_random.clear)


@function(
    "ids",
    unstable="random",
    cases=[
        Case('root = uuid_v7("2024-01-01T00:00:00Z".timestamp()).slice(0, 13)', "", "018cc251-f400")
    ],
    params={"time": "The time in it; now when not given."},
)
def uuid_v7(time_: Timestamp | None = None) -> str:
    """A UUID of version 7, which sorts by time."""
    milliseconds = (time.time_ns() if time_ is None else time_.ns) // 1_000_000
    raw = bytearray((milliseconds & (1 << 48) - 1).to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KSUID_EPOCH: Final = 1_400_000_000
_SNOWFLAKE_EPOCH: Final = 1_288_834_974_657
_NANOID: Final = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _based(number: int, alphabet: str, size: int) -> str:
    made = []
    for _ in range(size):
        number, digit = divmod(number, len(alphabet))
        made.append(alphabet[digit])
    return "".join(reversed(made))


@function(
    "ids",
    unstable="random",
    prepared=True,
    cases=[Case("root = ulid().length()", "", "26")],
    params={
        "encoding": "`crockford` or `hex`.",
        "random_source": "`secure_random` or `fast_random`.",
    },
)
def ulid(encoding: str = "crockford", random_source: str = "secure_random") -> Any:
    """An id that sorts by time."""
    if encoding not in ("crockford", "hex"):
        raise Fail(f"invalid ulid encoding: {encoding}")
    if random_source not in ("secure_random", "fast_random"):
        raise Fail(f"invalid randomness source: {random_source}")
    bits: Callable[[int], int] = (
        secrets.randbits if random_source == "secure_random" else random.getrandbits
    )

    def make() -> str:
        number = (time.time_ns() // 1_000_000) << 80 | bits(80)
        return f"{number:032x}" if encoding == "hex" else _based(number, _CROCKFORD, 26)

    return make


@function("ids", unstable="random", cases=[Case("root = ksuid().length()", "", "27")])
def ksuid() -> str:
    """An id that sorts by time, to the second."""
    number = (int(time.time()) - _KSUID_EPOCH) << 128 | secrets.randbits(128)
    return _based(number, _BASE62, 27)


@function(
    "ids",
    unstable="random",
    cases=[Case("root = nanoid(8).length()", "", "8"), Case('root = nanoid(3, "a")', "", "aaa")],
    params={"length": "How long; 21 when not given.", "alphabet": "What to make it of."},
)
def nanoid(length: int | None = None, alphabet: str | None = None) -> str:
    """A short random id."""
    if alphabet is not None and length is None:
        raise Fail("field length must be specified when an alphabet is specified")
    size = 21 if length is None else length
    if size < 1 or size > 1_000_000:
        raise Fail("size must be positive integer")
    letters = alphabet or _NANOID
    return "".join(secrets.choice(letters) for _ in range(size))


@function(
    "ids",
    unstable="random",
    prepared=True,
    cases=[Case("root = snowflake_id(2).number() > 0", "", "true")],
    params={"node_id": "Which maker of ids this is, 0 to 1023."},
)
def snowflake_id(node_id: int = 1) -> Any:
    """An id that sorts by time and is unique among makers with different numbers."""
    if not 0 <= node_id <= 1023:
        raise Fail("Node number must be between 0 and 1023")
    lock = threading.Lock()
    state = [0, 0]

    def make() -> str:
        with lock:
            now = max(time.time_ns() // 1_000_000, state[0])
            state[1] = state[1] + 1 if now == state[0] else 0
            if state[1] > 4095:
                now, state[1] = now + 1, 0
            state[0] = now
            return str((now - _SNOWFLAKE_EPOCH) << 22 | node_id << 12 | state[1])

    return make


@function("ids", cases=[Case("root = bytes(5).length()", "", "5")], params={"length": "How many."})
def bytes_(length: int) -> bytes:
    """That many zero bytes."""
    if not 0 <= length <= 256 * 1024 * 1024:
        raise Fail(f"a length of {length} bytes is not possible")
    return b"\x00" * length


def _dynamic(name: str, default: Value, doc: str, *, query: bool = True) -> Param:
    kind = "query/scalar" if query else "integer"
    return Param(name, kind, default, dynamic=query, doc=doc)


@function(
    "random",
    unstable="random",
    stateful=[
        _dynamic("seed", Int64(0), "What to start from; computed once."),
        _dynamic("min", Int64(0), "The smallest number.", query=False),
        _dynamic("max", Int64(INT64_MAX - 1), "The largest number.", query=False),
    ],
    cases=[Case("root = random_int(min: 3, max: 3)", "", "3")],
)
def random_int() -> Any:
    """A random integer; with the same seed the same sequence."""
    engine: list[random.Random] = []
    lock = threading.Lock()

    def next_int(seed: Callable[..., Value], low: int, high: int) -> Value:
        if high < low:
            raise Fail(f"min ({low}) should be smaller or equal than max ({high})")
        with lock:
            if not engine:
                engine.append(random.Random(get_int(seed(None))))
            return Int64(engine[0].randint(low, high))

    return next_int


@function(
    "random",
    unstable="count",
    status="experimental",
    stateful=[
        _dynamic("min", Int64(1), "Where to start, and to start again."),
        _dynamic("max", Int64(INT64_MAX), "After which to start again."),
        Param(
            "set",
            "query",
            optional=True,
            doc="A number to go on from; null to look without counting.",
        ),
    ],
    cases=[Case("root = counter(min: 10)", "", "10")],
)
def counter() -> Any:
    """Count messages; each place in a mapping has a count of its own."""
    state: list[int] = []
    bounds: list[int] = []
    lock = threading.Lock()

    def bound(query: Callable[..., Value], name: str) -> int:
        try:
            return get_int(query(None))
        except TypeFail as fail:
            raise fail.under(f"failed to resolve {name} argument: ") from None

    def count(low: Callable[..., Value], high: Callable[..., Value], put: Any) -> Value:
        with lock:
            if not bounds:
                bounds[:] = [bound(low, "min"), bound(high, "max")]
            if put is not None:
                wanted = put(None)
                if wanted is None:
                    return Int64(state[0] if state else bounds[0] - 1)
                if wanted is not NOTHING:
                    state[:] = [get_int(wanted)]
                    return Int64(state[0])
            following = state[0] + 1 if state else bounds[0]
            state[:] = [bounds[0] if following > bounds[1] else following]
            return Int64(state[0])

    return count


@function(
    "random",
    unstable="count",
    prepared=True,
    services=True,
    status="deprecated",
    cases=[Case('root = count("things")', "", "1")],
    params={"name": "The name of the count."},
)
def count(services: Services, name: str) -> Any:
    """Count messages under a name that mappings share."""

    def run() -> Value:
        # One step in C, so that no count is given twice.
        number = next(services.counters.setdefault(name, itertools.count(1)))
        return Int64(number)

    return run


@function(
    "random",
    unstable="random",
    prepared=True,
    cases=[Case('root = fake("uuid_hyphenated").length()', "", "36")],
    params={"function": "What to make up, such as `name`, `email` or `ipv4`."},
)
def fake(function_: str = "") -> Any:
    """Made-up data for tests."""
    return fake_value(function_)


@function(
    "encoding",
    cases=[Case('root = with_schema_registry_header(123, "a").encode("hex")', "", "000000007b61")],
    params={"schema_id": "The id of the schema.", "message": "The message."},
)
def with_schema_registry_header(schema_id: Any, message: Any) -> bytes:
    """A message with the header of a schema registry before it."""
    number = get_int(schema_id)
    if not 0 <= number < 2**32:
        raise Fail(f"schema id {number} does not fit 32 bits")
    return b"\x00" + number.to_bytes(4, "big") + get_bytes(message)


ENTRIES = (
    uuid_v4,
    uuid_v7,
    ulid,
    ksuid,
    nanoid,
    snowflake_id,
    bytes_,
    random_int,
    counter,
    count,
    fake,
    with_schema_registry_header,
)
