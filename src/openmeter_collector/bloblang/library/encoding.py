"""Encoding, escaping, hashing and compressing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import html
import uuid
import zlib
from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.bloblang.convert import decode, encode, get_string
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.bloblang.gotext.urls import escape, unescape
from openmeter_collector.values.kinds import Value

_MAX: Final = 256 * 1024 * 1024


def _raw(value: Value) -> bytes:
    """The bytes of text or bytes; a timestamp has none."""
    if isinstance(value, bytes):
        return value
    if type(value) is str:
        return encode(value)
    raise TypeFail(value, "string")


_Z85: Final = (
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)


def _z85_encode(raw: bytes) -> bytes:
    if len(raw) % 4:
        raise Fail("z85: wrongly aligned input data")
    made = []
    for at in range(0, len(raw), 4):
        number = int.from_bytes(raw[at : at + 4], "big")
        made += [_Z85[number // 85**power % 85] for power in (4, 3, 2, 1, 0)]
    return "".join(made).encode()


def _z85_decode(raw: bytes) -> bytes:
    if len(raw) % 5:
        raise Fail("z85: wrongly aligned input data")
    made = b""
    for at in range(0, len(raw), 5):
        number = 0
        for byte in raw[at : at + 5]:
            digit = _Z85.find(chr(byte))
            if digit < 0:
                raise Fail(f"z85: invalid input byte: {_rune(byte)}")
            number = number * 85 + digit
        made += number.to_bytes(5, "big")[1:]
    return made


_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64rawurl": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
    "hex": binascii.hexlify,
    "ascii85": base64.a85encode,
    "z85": _z85_encode,
}


def _base64(raw: bytes, *, url: bool = False, padded: bool = True) -> bytes:
    text = raw.replace(b"\r", b"").replace(b"\n", b"")
    digits = _URL_DIGITS if url else _DIGITS
    whole = len(text) // 4 * 4
    end = whole
    for at in range(whole):
        if text[at] in digits:
            continue
        if not padded or text[at] != 0x3D or at % 4 < 2:
            raise Fail(f"illegal base64 data at input byte {at}")
        if at % 4 == 2 and text[at + 1] != 0x3D:
            raise Fail(f"illegal base64 data at input byte {at + 1}")
        end, last = at, at // 4 * 4 + 4
        if last < len(text):
            raise Fail(f"illegal base64 data at input byte {last}")
        break
    rest = text[whole:]
    if rest and padded:
        raise Fail("unexpected EOF")
    for at, byte in enumerate(rest):
        if byte not in digits:
            raise Fail(f"illegal base64 data at input byte {at}")
    if len(rest) == 1:
        raise Fail("illegal base64 data at input byte 0")
    body = text[:end] + rest
    body += b"=" * (-len(body) % 4)
    return base64.urlsafe_b64decode(body) if url else base64.b64decode(body)


def _hex(raw: bytes) -> bytes:
    for byte in raw:
        if byte not in b"0123456789abcdefABCDEF":
            raise Fail(f"encoding/hex: invalid byte: {_rune(byte)}")
    if len(raw) % 2:
        raise Fail("unexpected EOF")
    return binascii.unhexlify(raw)


def _rune(byte: int) -> str:
    return f"U+{byte:04X} {quote(chr(byte), chr(39))}"


def _ascii85(raw: bytes) -> bytes:
    made = bytearray()
    number = digits = 0
    for at, byte in enumerate(raw):
        if byte <= 0x20:
            continue
        if byte == 0x7A and not digits:
            made += bytes(4)
            continue
        if not 0x21 <= byte <= 0x75:
            raise Fail(f"illegal ascii85 data at input byte {at}")
        number, digits = number * 85 + byte - 0x21, digits + 1
        if digits == 5:
            made += (number & 0xFFFFFFFF).to_bytes(4, "big")
            number = digits = 0
    if digits == 1:
        raise Fail("illegal ascii85 data at input byte 1")
    if digits:
        for _ in range(5 - digits):
            number = number * 85 + 84
        made += (number & 0xFFFFFFFF).to_bytes(4, "big")[: digits - 1]
    return bytes(made)


_COMMON = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_DIGITS: Final = frozenset(_COMMON + b"+/")
_URL_DIGITS: Final = frozenset(_COMMON + b"-_")
_DECODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": _base64,
    "base64url": lambda raw: _base64(raw, url=True),
    "base64rawurl": lambda raw: _base64(raw, url=True, padded=False),
    "hex": _hex,
    "ascii85": _ascii85,
    "z85": _z85_decode,
}


@method(
    "encoding",
    prepared=True,
    name="encode",
    cases=[
        Case('root = this.encode("hex")', '"foo"', "666f6f"),
        Case('root = this.encode("base64")', '"foo"', "Zm9v"),
    ],
    params={"scheme": "`base64`, `base64url`, `base64rawurl`, `hex`, `ascii85` or `z85`."},
)
def encode_(scheme: str) -> Any:
    """Bytes as text in a scheme."""
    run = _ENCODERS.get(scheme)
    if run is None:
        raise Fail(f"unrecognized encoding type: {scheme}")
    return lambda value: run(_raw(value)).decode()


@method(
    "encoding",
    prepared=True,
    name="decode",
    cases=[
        Case('root = this.decode("hex")', '"666f6f"', "foo"),
        Case('root = this.decode("base64rawurl").string()', '"Zm8"', "fo"),
    ],
    params={"scheme": "`base64`, `base64url`, `base64rawurl`, `hex`, `ascii85` or `z85`."},
)
def decode_(scheme: str) -> Any:
    """The bytes of text in a scheme."""
    run = _DECODERS.get(scheme)
    if run is None:
        raise Fail(f"unrecognized encoding type: {scheme}")
    return lambda value: run(_raw(value))


_CRC_POLYNOMIALS: Final = {"IEEE": 0xEDB88320, "Castagnoli": 0x82F63B78, "Koopman": 0xEB31D82E}


def _crc32(raw: bytes, polynomial: int) -> int:
    if polynomial == _CRC_POLYNOMIALS["IEEE"]:
        return zlib.crc32(raw)
    crc = 0xFFFFFFFF
    for byte in raw:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (polynomial if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _fnv32(raw: bytes) -> int:
    number = 0x811C9DC5
    for byte in raw:
        number = number * 0x01000193 & 0xFFFFFFFF ^ byte
    return number


def _xxhash64(raw: bytes) -> bytes:
    import xxhash  # noqa: PLC0415 - loaded by who uses it

    return str(xxhash.xxh64_intdigest(raw)).encode()


_HASHES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "md5": lambda raw: hashlib.md5(raw, usedforsecurity=False).digest(),
    "sha1": lambda raw: hashlib.sha1(raw, usedforsecurity=False).digest(),
    "sha256": lambda raw: hashlib.sha256(raw).digest(),
    "sha512": lambda raw: hashlib.sha512(raw).digest(),
    "sha3_256": lambda raw: hashlib.sha3_256(raw).digest(),
    "sha3_512": lambda raw: hashlib.sha3_512(raw).digest(),
    "xxhash64": _xxhash64,
    "fnv32": lambda raw: str(_fnv32(raw)).encode(),
}


@method(
    "encoding",
    prepared=True,
    name="hash",
    cases=[
        Case('root = this.hash("xxhash64")', '"foo"', "3728699739546630719"),
        Case(
            'root = this.hash("hmac_sha1","key").encode("hex")',
            '"foo"',
            "9fc254126c2b1b7f106abacae0cb77e73411fad7",
        ),
    ],
    params={
        "algorithm": "`hmac_sha1`, `hmac_sha256`, `hmac_sha512`, `md5`, `sha1`, `sha256`, `sha512`, `sha3_256`, `sha3_512`, `xxhash64`, `crc32` or `fnv32`.",
        "key": "The key of the `hmac_` ones.",
        "polynomial": "That of `crc32`: `IEEE`, `Castagnoli` or `Koopman`.",
    },
)
def hash_(algorithm: str, key: str | None = None, polynomial: str = "IEEE") -> Any:
    """The hash of bytes, as bytes; `xxhash64` and `fnv32` give a decimal number as text."""
    if algorithm.startswith("hmac_") and algorithm[5:] in ("sha1", "sha256", "sha512"):
        if key is None:
            raise Fail(f"hash algorithm {algorithm} requires a key argument")
        secret, name = encode(key), algorithm[5:]
        return lambda value: hmac.new(secret, _raw(value), name).digest()
    if algorithm == "crc32":
        known = _CRC_POLYNOMIALS.get(polynomial)

        def crc32(value: Value) -> bytes:
            raw = _raw(value)
            if known is None:
                raise Fail(f'unsupported crc32 hash key "{polynomial}"')
            return _crc32(raw, known).to_bytes(4, "big")

        return crc32
    run = _HASHES.get(algorithm)
    if run is None:
        raise Fail(f"unrecognized hash type: {algorithm}")
    return lambda value: run(_raw(value))


_NAMESPACES: Final = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
}


@method(
    "encoding",
    cases=[
        Case('root = this.uuid_v5("dns")', '"example.com"', "cfbff0d1-9375-5685-968c-48ce8b15ae17")
    ],
    params={"ns": "`dns`, `url`, `oid`, `x500` or a UUID."},
)
def uuid_v5(value: Value, ns: str | None = None) -> Value:
    """The UUID of version 5 for a name in a namespace."""
    if value is None:
        return None
    space = uuid.UUID(int=0)
    if ns is not None:
        known = _NAMESPACES.get(ns if ns.isupper() is False else ns.lower())
        try:
            space = known or uuid.UUID(ns)
        except ValueError:
            raise Fail(f"invalid ns uuid: {quote(ns)}") from None
    name = _raw(value)
    digest = bytearray(hashlib.sha1(space.bytes + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


@method(
    "strings",
    cases=[Case("root = this.escape_html()", "\"<a> & 'b'\"", "&lt;a&gt; &amp; &#39;b&#39;")],
)
def escape_html(value: Value) -> str:
    """Escape `<`, `>`, `&` and quotes for HTML."""
    text = html.escape(get_string(value), quote=False)
    return text.replace("'", "&#39;").replace('"', "&#34;")


@method("strings", cases=[Case("root = this.unescape_html()", '"&lt;&eacute;&#225;"', "<éá")])
def unescape_html(value: Value) -> str:
    """Resolve HTML entities."""
    return html.unescape(get_string(value))


@method("strings", cases=[Case("root = this.escape_url_query()", '"foo & bar"', "foo+%26+bar")])
def escape_url_query(value: Value) -> str:
    """Escape text for the query of a URL."""
    return escape(get_string(value), query=True)


@method("strings", cases=[Case("root = this.unescape_url_query()", '"foo+%26+bar"', "foo & bar")])
def unescape_url_query(value: Value) -> str:
    """Resolve the escapes of a URL's query."""
    return unescape(get_string(value), query=True)


@method("strings", cases=[Case("root = this.escape_url_path()", '"foo & bar"', "foo%20&%20bar")])
def escape_url_path(value: Value) -> str:
    """Escape text for one segment of a URL's path."""
    return escape(get_string(value), query=False)


@method("strings", cases=[Case("root = this.unescape_url_path()", '"foo%20&%20bar"', "foo & bar")])
def unescape_url_path(value: Value) -> str:
    """Resolve the escapes of a URL's path."""
    return unescape(get_string(value), query=False)


@method(
    "strings", cases=[Case("root = this.filepath_join()", '["/foo/","bar.txt"]', "/foo/bar.txt")]
)
def filepath_join(value: Value) -> str:
    """Join the parts of a file path, and clean it."""
    if not isinstance(value, list):
        raise TypeFail(value, "array")
    parts: list[str] = []
    for index, one in enumerate(value):
        try:
            parts.append(get_string(one))
        except TypeFail as fail:
            raise fail.under(f"path element {index}: ") from None
    joined = "/".join(part for part in parts if part)
    if not joined:
        return ""
    import posixpath  # noqa: PLC0415

    cleaned = posixpath.normpath(joined)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


@method(
    "strings", cases=[Case("root = this.filepath_split()", '"/foo/bar.txt"', '["/foo/","bar.txt"]')]
)
def filepath_split(value: Value) -> Value:
    """A file path as its folder and its file name."""
    text = get_string(value)
    at = text.rfind("/") + 1
    return [text[:at], text[at:]]


ENTRIES = (
    encode_,
    decode_,
    hash_,
    uuid_v5,
    escape_html,
    unescape_html,
    escape_url_query,
    unescape_url_query,
    escape_url_path,
    unescape_url_path,
    filepath_join,
    filepath_split,
)

__all__ = ["ENTRIES", "decode"]
