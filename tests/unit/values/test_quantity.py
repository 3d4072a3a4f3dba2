"""Kubernetes quantities."""

import pytest

from openmeter_collector.values.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"), ("1", "1"), ("100m", "0.100"), ("250m", "0.250"), ("1.5", "1.5"), ("64Mi", "67108864"),
        ("1Ki", "1024"), ("1.5Gi", "1610612736.000000000"), ("1k", "1000"), ("2M", "2000000"),
        ("3E", "3000000000000000000"), ("1e3", "1000"), ("1E3", "1000"), ("12e-1", "1.2"), ("5n", "0.000000005"),
        ("7u", "0.000007"), ("-1", "-1"), ("+2", "2"), ("1Ei", "1152921504606846976.000000000"), ("0.1n", "0.000000001"), ("1.23456789012345678901", "1.234567891"), ("100Pi", "112589990684262400.000000000"), ("9999999999999999999", "9999999999999999999.000000000"), ("00010", "10"), ("1.", "1"), (".5", "0.5"), ("0.0", "0.0"), ("0Mi", "0"), ("-0.5m", "-0.0005"), ("12345678901234567890123m", "12345678901234567890.123000000"), ("10E", "10000000000000000000"), ("0.000000001Ki", "0.000001024"), ("0.5Ki", "512.000000000"),
    ],
)  # fmt: skip
def test_quantities_become_decimals(text, expected):
    assert parse_quantity(text) == expected


@pytest.mark.parametrize("text", ["", "x", "1x", "1.2.3", "m", "1 Gi", "1K", "--1", "1e", "Ki"])
def test_what_is_no_quantity_is_an_error(text):
    with pytest.raises(ValueError, match="quantit"):
        parse_quantity(text)
