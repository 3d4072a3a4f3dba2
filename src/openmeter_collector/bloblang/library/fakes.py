"""Made-up data for `fake`."""

from __future__ import annotations

import random
import string
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.kinds import Float64, Int64, Value
from openmeter_collector.values.timestamp import Timestamp

_WORDS: Final = [
    "amber",
    "birch",
    "cloud",
    "delta",
    "ember",
    "field",
    "grove",
    "harbor",
    "island",
    "jasper",
    "kettle",
    "lantern",
    "meadow",
    "north",
    "orchard",
    "pebble",
    "quartz",
    "river",
    "summit",
    "timber",
    "umber",
    "valley",
    "willow",
    "yonder",
    "zephyr",
]
_MALE: Final = ["Adam", "Ben", "Carl", "David", "Erik", "Felix", "Georg", "Hugo", "Ivan", "Jonas"]
_FEMALE: Final = [
    "Anna",
    "Berta",
    "Clara",
    "Dora",
    "Emma",
    "Fiona",
    "Greta",
    "Helen",
    "Ida",
    "Julia",
]
_LAST: Final = [
    "Archer",
    "Baker",
    "Carter",
    "Draper",
    "Fisher",
    "Gardner",
    "Hunter",
    "Mason",
    "Potter",
    "Weaver",
]
_MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS: Final = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_pick: Final = random.choice


def _moment() -> Timestamp:
    return Timestamp(random.randint(0, int(time.time())) * 1_000_000_000)


def _wall(layout: str) -> str:
    from openmeter_collector.bloblang.gotext.layout import format_time  # noqa: PLC0415

    return format_time(_moment(), layout)


def _digits(count: int) -> str:
    return "".join(_pick(string.digits) for _ in range(count))


def _sentence() -> str:
    words = " ".join(_pick(_WORDS) for _ in range(random.randint(5, 9)))
    return words.capitalize() + "."


def _domain() -> str:
    return f"{_pick(_WORDS)}.{_pick(('com', 'org', 'net'))}"


def _phone() -> str:
    return f"{random.randint(200, 999)}-{random.randint(200, 999)}-{_digits(4)}"


_MAKERS: Final[dict[str, Callable[[], Value]]] = {
    "": lambda: "",
    "latitude": lambda: Float64(random.uniform(-90, 90)),
    "longitude": lambda: Float64(random.uniform(-180, 180)),
    "unix_time": lambda: Int64(random.randint(0, int(time.time()))),
    "date": lambda: _wall("2006-01-02"),
    "time_string": lambda: _wall("15:04:05"),
    "month_name": lambda: _pick(_MONTHS),
    "year_string": lambda: _wall("2006"),
    "day_of_week": lambda: _pick(_DAYS),
    "day_of_month": lambda: _wall("2"),
    "timestamp": lambda: _wall("2006-01-02 15:04:05"),
    "century": lambda: _pick(("I", "V", "X", "XIV", "XIX", "XX", "XXI")),
    "timezone": lambda: _pick(("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")),
    "time_period": lambda: _pick(("AM", "PM")),
    "email": lambda: f"{_pick(_WORDS)}{_digits(3)}@{_domain()}",
    "mac_address": lambda: ":".join(f"{random.randint(0, 255):02x}" for _ in range(6)),
    "domain_name": _domain,
    "url": lambda: f"https://www.{_domain()}/{_pick(_WORDS)}",
    "username": lambda: _pick(_WORDS) + _digits(2),
    "ipv4": lambda: ".".join(str(random.randint(1, 254)) for _ in range(4)),
    "ipv6": lambda: ":".join(f"{random.randint(0, 65535):x}" for _ in range(8)),
    "password": lambda: "".join(_pick(string.ascii_letters) for _ in range(24)),
    "jwt": lambda: ".".join("".join(_pick(string.ascii_letters) for _ in range(30)) for _ in "abc"),
    "word": lambda: _pick(_WORDS),
    "sentence": _sentence,
    "paragraph": lambda: " ".join(_sentence() for _ in range(random.randint(3, 6))),
    "cc_type": lambda: _pick(("Visa", "Mastercard", "American Express")),
    "cc_number": lambda: "4" + _digits(15),
    "currency": lambda: _pick(("EUR", "USD", "GBP", "JPY")),
    "amount_with_currency": lambda: f"EUR {random.uniform(1, 999):.2f}",
    "title_male": lambda: "Mr.",
    "title_female": lambda: _pick(("Ms.", "Mrs.")),
    "first_name": lambda: _pick(_MALE + _FEMALE),
    "first_name_male": lambda: _pick(_MALE),
    "first_name_female": lambda: _pick(_FEMALE),
    "last_name": lambda: _pick(_LAST),
    "name": lambda: f"{_pick(_MALE + _FEMALE)} {_pick(_LAST)}",
    "gender": lambda: _pick(("Male", "Female")),
    "chinese_first_name": lambda: _pick("伟芳娜敏静"),
    "chinese_last_name": lambda: _pick("王李张刘陈"),
    "chinese_name": lambda: _pick("王李张刘陈") + _pick("伟芳娜敏静"),
    "phone_number": _phone,
    "toll_free_phone_number": lambda: f"(800) {_digits(3)}-{_digits(4)}",
    "e164_phone_number": lambda: "+" + str(random.randint(1, 9)) + _digits(10),
    "uuid_hyphenated": lambda: str(uuid.uuid4()),
    "uuid_digit": lambda: uuid.uuid4().hex,
}


def fake_value(name: str) -> Any:
    """The maker of a kind of data."""
    maker = _MAKERS.get(name)
    if maker is None:
        raise Fail(f"invalid faker function: {name}")
    return maker
