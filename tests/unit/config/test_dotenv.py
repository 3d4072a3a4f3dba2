import pytest

from openmeter_collector.config.dotenv import parse_dotenv
from openmeter_collector.errors import ConfigError


def test_assignments():
    text = """
# a comment
A=1
export B = two words # and a comment
C="x\\n\\"y\\" # z"   # comment
D='raw \\n $A'
E=
F=a#b
A=2
"""
    assert parse_dotenv(text) == {
        "A": "2",
        "B": "two words",
        "C": 'x\n"y" # z',
        "D": "raw \\n $A",
        "E": "",
        "F": "a#b",
    }


def test_a_bad_line_is_named_without_its_content():
    with pytest.raises(ConfigError) as caught:
        parse_dotenv("A=1\nhunter2 is here", ".env")
    assert str(caught.value) == ".env:2:1: not an assignment; write NAME=value"
