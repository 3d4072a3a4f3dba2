"""Encryption, signed tokens and hashed passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.bloblang.convert import decode, encode, get_string
from openmeter_collector.bloblang.definition import Case, Entry, method
from openmeter_collector.bloblang.extras import extra
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.library.parsing import computed
from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import Value, is_number

_AES = {
    "scheme": "`ctr`, `gcm`, `ofb` or `cbc`.",
    "key": "The key, 16, 24 or 32 bytes.",
    "iv": "The initialisation vector.",
}
_AES_CASE = 'let iv = "0123456789abcdef"\nlet key = "0123456789abcdef"\n'


def _cipher(scheme: str, key: str, iv: str) -> tuple[Any, Any, bytes]:
    ciphers = extra("cryptography.hazmat.primitives.ciphers", "encrypt with AES")
    secret, vector = encode(key), encode(iv)
    if len(secret) not in (16, 24, 32):
        raise Fail(f"crypto/aes: invalid key size {len(secret)}")
    if scheme not in ("ctr", "gcm", "ofb", "cbc"):
        raise Fail(f"unrecognized encryption type: {scheme}")
    if scheme != "gcm" and len(vector) != 16:
        raise Fail("the key must match the initialisation vector size")
    return ciphers, ciphers.algorithms.AES(secret), vector


def _mode(scheme: str, ciphers: Any, vector: bytes) -> Any:
    if scheme == "ofb":
        return extra("cryptography.hazmat.decrepit.ciphers.modes", "encrypt with AES").OFB(vector)
    return {"ctr": ciphers.modes.CTR, "cbc": ciphers.modes.CBC}[scheme](vector)


def _raw(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    if type(value) is str:
        return encode(value)
    raise TypeFail(value, "string")


@method(
    "encoding",
    prepared=True,
    params=_AES,
    cases=[
        Case(
            _AES_CASE + 'root = this.encrypt_aes("ctr", $key, $iv).encode("hex")',
            '"hello world!"',
            "1a1712e471fc8a6e72cb7c49",
        )
    ],
)
def encrypt_aes(scheme: str, key: str, iv: str) -> Any:
    """Encrypt with AES; the result is text."""
    ciphers, algorithm, vector = _cipher(scheme, key, iv)

    def run(value: Value) -> str:
        raw = _raw(value)
        if scheme == "gcm":
            aead = extra("cryptography.hazmat.primitives.ciphers.aead", "encrypt with AES")
            return decode(aead.AESGCM(encode(key)).encrypt(vector, raw, None))
        if scheme == "cbc" and len(raw) % 16:
            raise Fail("plaintext is not a multiple of the block size")
        engine = ciphers.Cipher(algorithm, _mode(scheme, ciphers, vector)).encryptor()
        return decode(engine.update(raw) + engine.finalize())

    return run


@method(
    "encoding",
    prepared=True,
    params=_AES,
    cases=[
        Case(
            _AES_CASE + 'root = this.decode("hex").decrypt_aes("ctr", $key, $iv).string()',
            '"1a1712e471fc8a6e72cb7c49"',
            "hello world!",
        )
    ],
)
def decrypt_aes(scheme: str, key: str, iv: str) -> Any:
    """Decrypt with AES; the result is bytes."""
    ciphers, algorithm, vector = _cipher(scheme, key, iv)

    def run(value: Value) -> bytes:
        raw = _raw(value)
        if scheme == "gcm":
            aead = extra("cryptography.hazmat.primitives.ciphers.aead", "decrypt with AES")
            exceptions = extra("cryptography.exceptions", "decrypt with AES")
            try:
                return bytes(aead.AESGCM(encode(key)).decrypt(vector, raw, None))
            except exceptions.InvalidTag:
                raise Fail("gcm decrypting failed: cipher: message authentication failed") from None
        if scheme == "cbc" and len(raw) % 16:
            raise Fail("ciphertext is not a multiple of the block size")
        engine = ciphers.Cipher(algorithm, _mode(scheme, ciphers, vector)).decryptor()
        return bytes(engine.update(raw) + engine.finalize())

    return run


# Signed tokens -----------------------------------------------------------------------------


_NO_KEY: Final = "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key"


def _unpadded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _part(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        raise Fail("parsing JWT string: token is malformed: could not base64 decode") from None


def _signer(algorithm: str, secret: str) -> Callable[[bytes], bytes]:
    name = "sha" + algorithm[2:]
    if algorithm.startswith("HS"):
        key = encode(secret)
        return lambda message: hmac.new(key, message, name).digest()
    serialization, hashes = _keys(algorithm)
    try:
        private: Any = serialization.load_pem_private_key(encode(secret), None)
    except ValueError as error:
        raise Fail(f"decoding signing_secret: {_NO_KEY}") from error
    digest = getattr(hashes, name.upper())()
    if algorithm.startswith("RS"):
        padding = extra("cryptography.hazmat.primitives.asymmetric.padding", "sign tokens")
        return lambda message: bytes(private.sign(message, padding.PKCS1v15(), digest))
    ec = extra("cryptography.hazmat.primitives.asymmetric.ec", "sign tokens")
    utils = extra("cryptography.hazmat.primitives.asymmetric.utils", "sign tokens")
    size = (private.curve.key_size + 7) // 8

    def sign(message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(private.sign(message, ec.ECDSA(digest)))
        return bytes(r.to_bytes(size, "big") + s.to_bytes(size, "big"))

    return sign


def _keys(algorithm: str) -> tuple[Any, Any]:
    purpose = f"use {algorithm} tokens"
    base = "cryptography.hazmat.primitives"
    return extra(f"{base}.serialization", purpose), extra(f"{base}.hashes", purpose)


def _verifier(algorithm: str, secret: str) -> Callable[[bytes, bytes], bool]:
    if algorithm.startswith("HS"):
        sign = _signer(algorithm, secret)
        return lambda message, signature: hmac.compare_digest(sign(message), signature)
    serialization, hashes = _keys(algorithm)
    try:
        public: Any = serialization.load_pem_public_key(encode(secret))
    except ValueError as error:
        raise Fail(_NO_KEY) from error
    digest = getattr(hashes, "SHA" + algorithm[2:])()
    invalid = extra("cryptography.exceptions", "use tokens").InvalidSignature

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            if algorithm.startswith("RS"):
                padding = extra("cryptography.hazmat.primitives.asymmetric.padding", "use tokens")
                public.verify(signature, message, padding.PKCS1v15(), digest)
            else:
                ec = extra("cryptography.hazmat.primitives.asymmetric.ec", "use tokens")
                utils = extra("cryptography.hazmat.primitives.asymmetric.utils", "use tokens")
                half = len(signature) // 2
                r, s = (
                    int.from_bytes(part, "big") for part in (signature[:half], signature[half:])
                )
                public.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(digest))
        except invalid:
            return False
        return True

    return verify


def _claims(token: str, algorithm: str, verify: Callable[[bytes, bytes], bool]) -> Value:
    parts = encode(token).split(b".")
    if len(parts) != 3:
        raise Fail(
            "parsing JWT string: token is malformed: token contains an invalid number of segments"
        )
    header_raw, body_raw, signature = parts
    try:
        header = value_json.loads(_part(header_raw))
        claims = computed(value_json.loads(_part(body_raw)))
    except value_json.JSONError as error:
        raise Fail(
            f"parsing JWT string: token is malformed: could not JSON decode: {error}"
        ) from None
    found = header.get("alg") if isinstance(header, dict) else None
    if found != algorithm:
        raise Fail(
            "parsing JWT string: token is unverifiable: error while executing keyfunc: "
            f"incorrect signing method: {found}"
        )
    if not verify(header_raw + b"." + body_raw, _part(signature)):
        raise Fail("parsing JWT string: token signature is invalid: signature is invalid")
    if isinstance(claims, dict):
        now = time.time()
        expires, starts = claims.get("exp"), claims.get("nbf")
        if is_number(expires) and now > expires:
            raise Fail("parsing JWT string: token has invalid claims: token is expired")
        if is_number(starts) and now < starts:
            raise Fail("parsing JWT string: token has invalid claims: token is not valid yet")
    return claims


def _parse_entry(algorithm: str) -> Entry:
    def parse(signing_secret: str) -> Any:
        verify = _verifier(algorithm, signing_secret)
        return lambda value: _claims(get_string(value), algorithm, verify)

    parse.__doc__ = f"The claims of a token signed with {algorithm}, once its signature is checked."
    cases = []
    if algorithm == "HS256":
        cases = [
            Case(
                'root = this.sign_jwt_hs256("key").parse_jwt_hs256("key")',
                '{"sub":"a"}',
                '{"sub":"a"}',
            )
        ]
    params = {"signing_secret": "The secret, or the public key as PEM."}
    name = f"parse_jwt_{algorithm.lower()}"
    return method("tokens", plugin=True, prepared=True, name=name, params=params, cases=cases)(
        parse
    )


def _sign_entry(algorithm: str) -> Entry:
    def sign(signing_secret: str, headers: Any = None) -> Any:
        signer = _signer(algorithm, signing_secret)
        header = {"alg": algorithm, "typ": "JWT", **(headers if isinstance(headers, dict) else {})}

        def run(value: Value) -> str:
            if not isinstance(value, dict):
                raise TypeFail(value, "object")
            message = (
                _unpadded(value_json.dumps(header)) + b"." + _unpadded(value_json.dumps(value))
            )
            return (message + b"." + _unpadded(signer(message))).decode()

        return run

    sign.__doc__ = f"A token with the object as its claims, signed with {algorithm}."
    cases = []
    if algorithm == "HS256":
        cases = [
            Case(
                'root = this.sign_jwt_hs256("dont-tell-anyone")',
                '{"sub":"user123"}',
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyMTIzIn0.hUl-nngPMY_3h9vveWJUPsCcO5PeL6k9hWLnMYeFbFQ",
            )
        ]
    params = {
        "signing_secret": "The secret, or the private key as PEM.",
        "headers": "More fields of the header.",
    }
    name = f"sign_jwt_{algorithm.lower()}"
    return method("tokens", plugin=True, prepared=True, name=name, params=params, cases=cases)(sign)


_ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512")


# Passwords ---------------------------------------------------------------------------------


@method(
    "strings",
    plugin=True,
    params={"hashed_secret": "The stored hash."},
    cases=[
        Case(
            'root = this.compare_bcrypt("$2y$10$Dtnt5NNzVtMCOZONT705tOcS8It6krJX8bEjnDJnwxiFKsz1C.3Ay")',
            '"nope"',
            "false",
        )
    ],
)
def compare_bcrypt(value: Value, hashed_secret: str) -> bool:
    """Whether text is what a bcrypt hash was made of."""
    bcrypt = extra("bcrypt", "compare bcrypt hashes")
    secret = encode(get_string(value))
    if len(hashed_secret) < 59:
        raise Fail("crypto/bcrypt: hashedSecret too short to be a bcrypted password")
    try:
        return bool(bcrypt.checkpw(secret, encode(hashed_secret)))
    except ValueError as error:
        raise Fail(f"crypto/bcrypt: {error}") from None


@method(
    "strings",
    plugin=True,
    params={"hashed_secret": "The stored hash."},
    cases=[
        Case(
            'root = this.compare_argon2("$argon2id$v=19$m=4096,t=3,p=1$c2FsdHktbWNzYWx0ZmFjZQ$RMUMwgtS32/mbszd+ke4o4Ej1jFpYiUqY6MHWa69X7Y")',
            '"nope"',
            "false",
        )
    ],
)
def compare_argon2(value: Value, hashed_secret: str) -> bool:
    """Whether text is what an argon2 hash was made of."""
    low = extra("argon2.low_level", "compare argon2 hashes")
    exceptions = extra("argon2.exceptions", "compare argon2 hashes")
    secret = encode(get_string(value))
    parts = hashed_secret.split("$")
    if len(parts) != 6:
        raise Fail("invalid argon2 hash")
    kind = {"argon2id": low.Type.ID, "argon2i": low.Type.I}.get(parts[1])
    if kind is None:
        raise Fail("invalid argon2 hash: unrecognised argon2 format")
    try:
        return bool(low.verify_secret(encode(hashed_secret), secret, kind))
    except exceptions.VerifyMismatchError:
        return False
    except exceptions.Argon2Error as error:
        raise Fail(f"invalid argon2 hash: {error}") from None


ENTRIES = (
    encrypt_aes,
    decrypt_aes,
    *(_parse_entry(algorithm) for algorithm in _ALGORITHMS),
    *(_sign_entry(algorithm) for algorithm in _ALGORITHMS),
    compare_bcrypt,
    compare_argon2,
)

__all__ = ["ENTRIES", "hashlib"]
