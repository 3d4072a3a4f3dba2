"""Signed tokens with every algorithm, encryption with every scheme."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from openmeter_collector.bloblang import MappingFailed, SimpleDocument, compile

CURVES = {"es256": ec.SECP256R1(), "es384": ec.SECP384R1(), "es512": ec.SECP521R1()}


def keys(algorithm):
    if algorithm.startswith("hs"):
        return "secret", "secret"
    if algorithm.startswith("rs"):
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        private = ec.generate_private_key(CURVES[algorithm])
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return secret.decode(), public.decode()


def run(text, given, **metadata):
    return compile(text).run([SimpleDocument(given, metadata)], 0)[0]


ALGORITHMS = [f"{kind}{size}" for kind in ("hs", "rs", "es") for size in (256, 384, 512)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_token_is_read_back_and_a_changed_one_is_not(algorithm):
    private, public = keys(algorithm)
    sign = f"root = this.sign_jwt_{algorithm}(@key)"
    token = run(sign, b'{"sub":"a","n":5}', key=private)
    read = f"root = content().string().parse_jwt_{algorithm}(@key)"
    assert run(read, token, key=public) == {"sub": "a", "n": 5}
    changed = token[:-6] + (b"AAAAAA" if token[-6:] != b"AAAAAA" else b"BBBBBB")
    with pytest.raises(MappingFailed, match="signature is invalid"):
        run(read, changed, key=public)


def test_a_token_of_another_algorithm_or_time_is_refused():
    token = run('root = this.sign_jwt_hs256("k")', b'{"exp":1000}')
    with pytest.raises(MappingFailed, match="incorrect signing method"):
        run('root = content().string().parse_jwt_hs512("k")', token)
    with pytest.raises(MappingFailed, match="token is expired"):
        run('root = content().string().parse_jwt_hs256("k")', token)


@pytest.mark.parametrize("scheme", ["ctr", "gcm", "ofb", "cbc"])
def test_what_was_encrypted_is_decrypted(scheme):
    vector = "0123456789ab" if scheme == "gcm" else "0123456789abcdef"
    text = (
        f'let iv = "{vector}"\nlet key = "0123456789abcdef"\n'
        f'root = content().string().encrypt_aes("{scheme}", $key, $iv)'
        f'.decrypt_aes("{scheme}", $key, $iv).string()'
    )
    assert run(text, b"sixteen bytes !!") == b"sixteen bytes !!"


@pytest.mark.parametrize("algorithm", ["flate", "gzip", "pgzip", "zlib", "zstd", "lz4", "snappy"])
def test_what_was_compressed_is_decompressed(algorithm):
    text = f'root = content().compress("{algorithm}").decompress("{algorithm}")'
    assert (
        run(text, b"a text that repeats, a text that repeats")
        == b"a text that repeats, a text that repeats"
    )
    with pytest.raises(MappingFailed):
        run(f'root = content().decompress("{algorithm}")', b"this is no compressed data")
