"""`%` verbs: text with values put in, as the engine's `format` prints them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.values.json_exact import str_float32
from openmeter_collector.values.kinds import Float32, Integer, Marker, SourceNumber, Value
from openmeter_collector.values.numbers import text_float
from openmeter_collector.values.timestamp import Timestamp

_VERB: Final = re.compile(
    r"%(?P<flags>[#0+\- ]*)(?P<width>\*|[0-9]+)?(?:\.(?P<precision>\*|[0-9]*))?(?P<verb>.)?",
    re.DOTALL,
)
_MAX: Final = 1_000_000


@dataclass(frozen=True)
class _Spec:
    flags: str = ""
    width: int | None = None
    precision: int | None = None

    def has(self, flag: str) -> bool:
        return flag in self.flags


def type_of(value: Value) -> str:
    """The engine's name of a value's type."""
    from openmeter_collector.bloblang.failure import machine_type  # noqa: PLC0415 - a cycle else

    return machine_type(value)


def sprintf(text: str, values: Sequence[Value]) -> str:
    """Put values into a text."""
    out: list[str] = []
    last = used = 0
    for match in _VERB.finditer(text):
        out.append(text[last : match.start()])
        last = match.end()
        verb = match["verb"]
        if verb == "%":
            out.append("%")
            continue
        if verb is None:
            out.append("%!(NOVERB)")
            continue
        width, used, bad_width = _size(match["width"], values, used, "WIDTH")
        precision, used, bad_precision = _size(match["precision"], values, used, "PREC")
        out.append(bad_width + bad_precision)
        flags = match["flags"]
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        spec = _Spec(flags, width, precision)
        if used >= len(values):
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_value(spec, verb, values[used]))
        used += 1
    out.append(text[last:])
    if used < len(values):
        extra = ", ".join(_extra(value) for value in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _extra(value: Value) -> str:
    return "<nil>" if value is None else f"{type_of(value)}={_plain(value)}"


def _size(
    text: str | None, values: Sequence[Value], used: int, name: str
) -> tuple[int | None, int, str]:
    if text is None:
        return None, used, ""
    if text != "*":
        size = int(text) if text else 0
        return (size, used, "") if size <= _MAX else (None, used, f"%!(BAD{name})")
    if used < len(values):
        value = values[used]
        if isinstance(value, Integer) and abs(value) <= _MAX:
            return int(value), used + 1, ""
        used += 1
    return None, used, f"%!(BAD{name})"


def _pad(spec: _Spec, text: str, *, zeros: bool = False) -> str:
    if spec.width is None or len(text) >= spec.width:
        return text
    if spec.has("-"):
        return text.ljust(spec.width)
    if not zeros and spec.has("0"):
        return text.rjust(spec.width, "0")
    if zeros and spec.has("0"):
        sign = text[:1] if text[:1] in ("+", "-", " ") else ""
        return sign + text[len(sign) :].rjust(spec.width - len(sign), "0")
    return text.rjust(spec.width)


def _bad(spec: _Spec, verb: str, value: Value) -> str:
    if value is None:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_of(value)}={_default(spec, value)})"


def _value(spec: _Spec, verb: str, value: Value) -> str:
    if verb == "T":
        return _pad(spec, type_of(value))
    if verb == "v" and value is None:
        return _pad(spec, "<nil>")
    if value is None or verb == "p":
        return _bad(spec, verb, value)
    if verb == "v":
        return _default(spec, value)
    if isinstance(value, bool):
        return _pad(spec, _plain(value)) if verb == "t" else _bad(spec, verb, value)
    if isinstance(value, (list, dict)):
        return _each(spec, verb, value)
    text = _text(value)
    if text is not None:
        return _text_verb(spec, verb, value, text)
    if isinstance(value, Timestamp):
        return _pad(spec, _plain(value)) if verb in "sq" else _bad(spec, verb, value)
    if isinstance(value, int):
        return _int_verb(spec, verb, value)
    if isinstance(value, float):
        return _float_verb(spec, verb, value)
    return _bad(spec, verb, value)


def _text(value: Value) -> str | None:
    """Text, of strings and bytes, and of numbers that were read and never touched."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, SourceNumber):
        return value.text
    if type(value) is int:
        return str(value)
    return repr(value) if type(value) is float else None


def _default(spec: _Spec, value: Value) -> str:
    if (
        isinstance(value, float)
        and not isinstance(value, SourceNumber)
        and type(value) is not float
    ):
        if spec.precision is not None:
            return _float_verb(spec, "g", value)
        return _pad(spec, _plain(value), zeros=True)
    if isinstance(value, Integer):
        # The plus of `%+v` is about the names of fields, not about signs.
        bare = _Spec(spec.flags.replace("+", ""), spec.width, spec.precision)
        return _int_verb(bare, "d", value)
    if isinstance(value, (list, dict)):
        return _each(spec, "v", value)
    if isinstance(value, str) and spec.has("#"):
        return _pad(spec, quote(value))
    text = None if isinstance(value, bytes) else _text(value)
    if text is not None and spec.precision is not None:
        return _pad(spec, text[: spec.precision])
    return _pad(spec, _plain(value))


def _plain(value: Value) -> str:
    """A value by the verb `%v` without flags."""
    if value is None:
        return "<nil>"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "[" + " ".join(str(byte) for byte in value) + "]"
    text = _text(value)
    if text is not None:
        return text
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Float32):
        return text_float(float(str_float32(value)))
    if isinstance(value, float):
        return text_float(value)
    if isinstance(value, list):
        return "[" + " ".join(_plain(one) for one in value) + "]"
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-8", "surrogateescape"))
        return "map[" + " ".join(f"{key}:{_plain(one)}" for key, one in pairs) + "]"
    if isinstance(value, Timestamp):
        return _time(value)
    return "<nil>" if isinstance(value, Marker) else str(value)


def _time(value: Timestamp) -> str:
    from openmeter_collector.bloblang.gotext.layout import format_time  # noqa: PLC0415 - rare

    return format_time(value, "2006-01-02 15:04:05.999999999 -0700 MST")


def _inner(spec: _Spec, verb: str, value: Value) -> str:
    """An element; a null in it has no verb."""
    return "<nil>" if value is None else _value(spec, verb, value)


def _each(spec: _Spec, verb: str, value: Value) -> str:
    if isinstance(value, list):
        return "[" + " ".join(_inner(spec, verb, one) for one in value) + "]"
    pairs = sorted(value.items())
    shown = (f"{_value(spec, verb, key)}:{_inner(spec, verb, one)}" for key, one in pairs)
    return "map[" + " ".join(shown) + "]"


def _text_verb(spec: _Spec, verb: str, value: Value, text: str) -> str:
    if verb == "s":
        return _pad(spec, text if spec.precision is None else text[: spec.precision])
    if verb == "q":
        if spec.precision is not None:
            text = text[: spec.precision]
        if spec.has("#") and "`" not in text:
            return _pad(spec, f"`{text}`")
        return _pad(spec, quote(text, ascii_only=spec.has("+")))
    if verb in "xX":
        raw = text.encode("utf-8", "surrogateescape")
        if spec.precision is not None:
            raw = raw[: spec.precision]
        shown = raw.hex(" ") if spec.has(" ") else raw.hex()
        if spec.has("#"):
            shown = "0x" + shown.replace(" ", " 0x")
        return _pad(spec, shown.upper() if verb == "X" else shown)
    if isinstance(value, bytes) and verb == "d":
        return _pad(spec, _plain(value))
    return _bad(spec, verb, value)


def _int_verb(spec: _Spec, verb: str, value: int) -> str:
    number = int(value)
    sign = "-" if number < 0 else "+" if spec.has("+") else " " if spec.has(" ") else ""
    size = abs(number)
    if verb == "d":
        digits = str(size)
    elif verb in "bB" and verb == "b":
        digits = f"{size:b}"
        digits = "0b" + digits if spec.has("#") else digits
    elif verb in "oO":
        digits = f"{size:o}"
        digits = "0o" + digits if verb == "O" else "0" + digits if spec.has("#") else digits
    elif verb in "xX":
        digits = f"{size:x}"
        digits = "0x" + digits if spec.has("#") else digits
        digits = digits.upper() if verb == "X" else digits
    elif verb == "c":
        return _pad(spec, chr(number) if 0 <= number < 0x110000 else "\ufffd")
    elif verb == "q":
        char = chr(number) if 0 <= number < 0x110000 else "\ufffd"
        return _pad(spec, quote(char, "'", ascii_only=spec.has("+")))
    elif verb == "U":
        char = f" '{chr(number)}'" if spec.has("#") and 0 <= number < 0x110000 else ""
        return _pad(spec, f"U+{size:04X}{char}")
    else:
        return _bad(spec, verb, value)
    if spec.precision is not None:
        digits = "" if spec.precision == 0 and size == 0 else digits.rjust(spec.precision, "0")
        return _pad(spec, sign + digits)
    return _pad(spec, sign + digits, zeros=True)


def _float_verb(spec: _Spec, verb: str, value: float) -> str:
    number = float(str_float32(value)) if isinstance(value, Float32) else float(value)
    if verb not in "eEfFgG":
        return _bad(spec, verb, value)
    if number - number != 0:
        return _pad(_Spec(spec.flags.replace("0", ""), spec.width), text_float(number))
    size = abs(number)
    negative = number < 0 or (number == 0 and str(number)[0] == "-")
    sign = "-" if negative else "+" if spec.has("+") else " " if spec.has(" ") else ""
    if verb in "fF":
        text = f"{size:.{6 if spec.precision is None else spec.precision}f}"
    elif verb in "eE":
        text = f"{size:.{6 if spec.precision is None else spec.precision}e}"
    elif spec.precision is None:
        text = text_float(size)
    else:
        text = f"{size:.{spec.precision or 1}g}"
    if verb in "EG":
        text = text.upper()
    return _pad(spec, sign + text, zeros=True)
