"""URLs: escaping, and taking them apart, with the engine's error texts."""

from __future__ import annotations

import re
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.values.kinds import Value

_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
)
_IN_SEGMENT: Final = _UNRESERVED | frozenset(b"$&+=:@")
_IN_PATH: Final = _IN_SEGMENT | frozenset(b"/;,")
_IN_FRAGMENT: Final = _IN_PATH | frozenset(b"?!()*")
_HEX: Final = re.compile(r"[0-9a-fA-F]{2}")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _escaped(text: str, allowed: frozenset[int]) -> str:
    return "".join(chr(byte) if byte in allowed else f"%{byte:02X}" for byte in _raw(text))


def escape(text: str, *, query: bool) -> str:
    """Escape text for a query, or for a segment of a path."""
    if query:
        return _escaped(text.replace(" ", "\x00"), _UNRESERVED).replace("%00", "+")
    return _escaped(text, _IN_SEGMENT)


def unescape(text: str, *, query: bool) -> str:
    """Resolve escapes."""
    if query:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    parts: list[bytes] = []
    pos = 0
    while True:
        at = text.find("%", pos)
        if at < 0:
            break
        found = _HEX.match(text, at + 1)
        if found is None:
            raise Fail(f"invalid URL escape {quote(text[at : at + 3])}")
        parts.append(_raw(text[pos:at]) + bytes([int(found[0], 16)]))
        pos = found.end()
    parts.append(_raw(text[pos:]))
    return b"".join(parts).decode("utf-8", "surrogateescape")


def parse_url(text: str) -> dict[str, Value]:
    """The parts of a URL."""
    whole = text
    try:
        return _parse(text)
    except _Wrong as wrong:
        raise Fail(f"parse {quote(wrong.text or whole)}: {wrong.why}") from None
    except Fail as fail:
        raise Fail(f"parse {quote(whole.partition('#')[0])}: {fail}") from None


class _Wrong(Exception):
    """A URL that is none."""

    def __init__(self, why: str, text: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.text = text


def _parse(text: str) -> dict[str, Value]:
    rest, has_fragment, fragment = text.partition("#")
    if any(byte < 0x20 or byte == 0x7F for byte in _raw(rest)):
        raise _Wrong("net/url: invalid control character in URL", rest)
    made: dict[str, Value] = {
        "scheme": "",
        "opaque": "",
        "host": "",
        "path": "",
        "raw_path": "",
        "raw_query": "",
        "fragment": "",
        "raw_fragment": "",
    }
    found = _SCHEME.match(rest)
    if found:
        made["scheme"] = found[1].lower()
        rest = rest[found.end() :]
    elif rest.startswith(":"):
        raise _Wrong("missing protocol scheme", text.partition("#")[0])
    rest, _, made["raw_query"] = rest.partition("?")
    if not rest.startswith("/"):
        if made["scheme"]:
            made["opaque"] = rest
            _fragment(made, fragment, has_fragment)
            return made
        if ":" in rest.split("/", 1)[0]:
            raise _Wrong("first path segment in URL cannot contain colon", text.partition("#")[0])
    if rest.startswith("//") and (made["scheme"] or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        _authority(made, authority)
        rest = slash + path
    path = unescape(rest, query=False)
    made["path"] = path
    made["raw_path"] = "" if rest == _escaped(path, _IN_PATH) else rest
    _fragment(made, fragment, has_fragment)
    return made


def _fragment(made: dict[str, Value], fragment: str, present: str) -> None:
    if not present:
        return
    text = unescape(fragment, query=False)
    made["fragment"] = text
    made["raw_fragment"] = "" if fragment == _escaped(text, _IN_FRAGMENT) else fragment


def _authority(made: dict[str, Value], authority: str) -> None:
    user, at, host = authority.rpartition("@")
    port = (
        re.search(r":([^\]]*)$", host)
        if not host.startswith("[")
        else re.search(r"\]:?([^\]]*)$", host)
    )
    if port and not re.fullmatch(r"[0-9]*", port[1], re.ASCII):
        raise _Wrong(f"invalid port {quote(':' + port[1])} after host")
    made["host"] = unescape(host, query=False)
    if at:
        name, colon, password = user.partition(":")
        made["user"] = {"name": unescape(name, query=False)}
        if colon:
            made["user"]["password"] = unescape(password, query=False)


def parse_query(text: str) -> dict[str, list[str]]:
    """The parameters of a query with all their values."""
    made: dict[str, list[str]] = {}
    for part in text.split("&"):
        if ";" in part:
            raise Fail("invalid semicolon separator in query")
        if part:
            key, _, value = part.partition("=")
            made.setdefault(unescape(key, query=True), []).append(unescape(value, query=True))
    return made
