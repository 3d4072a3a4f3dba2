"""Variables are filled in as they always were, and every place can be found again in the file."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmeter_collector.config import InvalidConfig
from openmeter_collector.config import source_text as source
from openmeter_collector.config.source_text import interpolate, read


@pytest.mark.parametrize(
    ("text", "env", "result"),
    [
        ("a: ${V}", {"V": "x"}, "a: x"),
        ("a: ${V}", {"V": ""}, "a: "),
        ("a: ${V:}", {}, "a: "),
        ("a: ${V:d}", {}, "a: d"),
        ("a: ${V:d}", {"V": ""}, "a: d"),
        ("a: ${V:d}", {"V": "x"}, "a: x"),
        ("a: ${V:http://h:80}/x", {}, "a: http://h:80/x"),
        ("a: ${A:${B}}", {"B": "b"}, "a: b"),
        ("a: ${A:${B:c}}", {}, "a: c"),
        ("a: ${A:${B}}", {"A": "a"}, "a: a"),
        ("a: ${V.w_1}", {"V.w_1": "x"}, "a: x"),
        ("a: ${V}", {"V": "1\n2"}, "a: 1\\n2"),
        ("a: ${{V}}", {"V": "x"}, "a: ${V}"),
        ("a: ${{V:d}}", {}, "a: ${V:d}"),
        ("a: ${V|base64decode}", {"V": base64.b64encode(b"hi").decode()}, "a: hi"),
        ("a: ${! this.x }${!error()}", {}, "a: ${! this.x }${!error()}"),
        ("a: $V {V} ${} ${-}", {"V": "x"}, "a: $V {V} ${} ${-}"),
        ("a: ${V}", {"V": "${W}"}, "a: ${W}"),
    ],
)
def test_variables(text, env, result):
    made = interpolate(text, env)
    assert (made.text, made.missing, made.bad) == (result, (), ())


def test_what_is_missing_is_told_in_order_with_its_place():
    made = interpolate("a: ${B}\nb: x${A}${B} ${C:${D}}", {})
    assert [(name, made.place_of(at)) for at, name in made.missing] == [
        ("B", (1, 4)),
        ("A", (2, 5)),
        ("B", (2, 9)),
        ("D", (2, 14)),
    ]


def test_functions_other_than_base64decode_are_faults():
    made = interpolate("a: ${V|nope} ${W:a|b} ${X|base64decode}", {"V": "", "W": "w", "X": "~"})
    assert [fault for _, fault in made.bad] == [
        "unknown env var decode function: nope",
        "unknown env var decode function: b",
        "environment variable X is not base64 of a text",
    ]


def test_secrets_are_known_by_the_names_of_their_variables():
    env = {"A_TOKEN": "t1", "HOST": "h", "DB_PASSWORD": base64.b64encode(b"p2").decode()}
    made = interpolate("${A_TOKEN} ${HOST} ${DB_PASSWORD|base64decode} ${X_SECRET:d}", env)
    assert made.secrets == {"t1", "p2", env["DB_PASSWORD"]}


_PIECES = st.one_of(
    st.sampled_from(["${A}", "${B:}", "${C:default}", "${{A}}", "\n", "$", "{", "}", ":", "é"]),
    st.text(alphabet="ab \n\r$", max_size=4),
)


@given(
    st.lists(_PIECES, max_size=20).map("".join),
    st.dictionaries(st.sampled_from("ABC"), st.text(alphabet="xy\n", max_size=5)),
)
def test_text_outside_variables_is_kept_and_found_again(text, env):
    made = interpolate(text, env)
    if "${" not in text:
        assert made.text == text
    for at, char in enumerate(made.text):
        line = made.text.count("\n", 0, at) + 1
        if char not in "éb" or "\r" in text:
            continue
        col = at - (made.text.rfind("\n", 0, at) + 1) + 1
        original_line, original_col = made.locate(line, col)
        original = text.split("\n")[original_line - 1][original_col - 1 :]
        assert original.startswith((char, "${"))


def test_places_behind_a_variable_point_into_the_file():
    made = interpolate("a: ${LONG_NAME:x} b\nc: ${L:\n\n} d", {"L": "1\n2"})
    assert made.text == "a: x b\nc: 1\\n2 d"
    assert made.locate(1, 4) == (1, 4)
    assert made.locate(1, 6) == (1, 19)
    assert made.locate(2, 4) == (2, 4)
    assert made.locate(2, 9) == (4, 3)


def test_files_are_read_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_FILE_BYTES", 10)
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(path) == "a: 1"
    for content, fault in (
        (b"x" * 11, "larger than 10 bytes"),
        (b"a: \xff", "not UTF-8 at byte 3"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidConfig) as caught:
            read(path)
        assert fault in str(caught.value)
    with pytest.raises(InvalidConfig, match="no such file"):
        read(tmp_path / "none.yaml")


def test_what_variables_add_is_bounded(monkeypatch):
    monkeypatch.setattr(source, "MAX_TEXT_CHARS", 1000)
    with pytest.raises(InvalidConfig, match="too long"):
        interpolate("${A}" * 20, {"A": "x" * 100})


def test_a_tower_of_defaults_ends():
    deep = "${A:" * 100_000 + "x" + "}" * 100_000
    assert interpolate(deep, {}).missing == ()
