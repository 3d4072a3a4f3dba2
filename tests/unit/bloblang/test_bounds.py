"""No mapping takes all time or all memory, whatever a message or its author asks for."""

import itertools
import json
import re

import pytest

from openmeter_collector.bloblang import MappingFailed, SimpleDocument, compile
from openmeter_collector.bloblang.gotext import linear
from openmeter_collector.bloblang.gotext.regex import Pattern, compile_pattern

TWICE = """map f {
  root = if this <= 1 { 1 } else { (this - 1).apply("f") + (this - 2).apply("f") }
}
"""
DOUBLING = """map f {
  root = if this.n <= 0 { this.t } else { {"n": this.n - 1, "t": this.t + this.t}.apply("f") }
}
root = {"n": 60, "t": this.x}.apply("f")"""


def run(mapping, document):
    body, _ = compile(mapping).run([SimpleDocument(json.dumps(document).encode())], 0)
    return body


def failure(mapping, document):
    with pytest.raises(MappingFailed) as caught:
        run(mapping, document)
    return caught.value


def test_a_map_that_calls_itself_twice_is_stopped_at_its_place():
    error = failure(TWICE + 'root = this.n.apply("f")', {"n": 100})
    assert "entering map f exceeded the 250000 maps that one run may apply" in str(error)
    assert error.line == 2
    assert str(error).count("failed assignment") == 2  # of the mapping, and of the map


def test_all_maps_of_a_run_share_the_bound_and_each_run_has_its_own():
    spread = TWICE + 'root = this.many.map_each(n -> n.apply("f"))'
    assert "exceeded the 250000 maps" in str(failure(spread, {"many": [22] * 30}))
    one = compile(TWICE + 'root = this.n.apply("f")')
    for _ in range(12):  # 30,000 each
        assert one.run([SimpleDocument(b'{"n":21}')], 0)[0] == 17711


def test_catching_the_failure_does_not_go_around_the_bound():
    caught = TWICE.replace('apply("f")', 'apply("f").catch(0)')
    assert isinstance(run(caught + 'root = this.n.apply("f")', {"n": 100}), int)


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ("root = range(0, this.n)", "a range of 1000000000 numbers is too long"),
        ("root = this.x.repeat(this.n)", "makes more than 64 MiB"),
        ('root = this.big.replace_all("x", this.big)', "makes more than 64 MiB"),
        ('root = this.big.replace_all_many(["x", this.big])', "make more than 64 MiB"),
        ('root = this.big.re_replace_all("x", this.big)', "make more than 64 MiB"),
        ('root = range(0, 1000).map_each(i -> this.big).join("")', "make"),
        ('root = this.l.fold("x", item -> item.tally + item.tally)', "grown beyond 64 MiB"),
        ("root = this.l.fold([1], item -> item.tally.concat(item.tally))", "grown beyond"),
        ('root = this.l.fold({"a": [1]}, i -> i.tally.merge(i.tally))', "grown beyond"),
        (DOUBLING, "grown beyond 64 MiB"),
    ],
)
def test_what_grows_without_end_is_a_failure(mapping, told):
    document = {"n": 10**9, "x": "x", "big": "x" * 100_000, "l": [1] * 60}
    if "range(0, 1000)" in mapping:
        mapping = mapping.replace("this.big", "$b").replace("root", "let b = this.big\nroot")
    assert told in str(failure(mapping, document))


def test_aliases_of_yaml_are_bounded():
    levels = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    told = str(failure("root = this.y.parse_yaml()", {"y": "\n".join(levels)}))
    assert "excessive aliasing" in told


# Expressions

PATTERNS = [
    "(a+)+$", "(a|aa)+$", "(x+x+)+y", "x*x*x*y", "(a?){20}a{20}", "a(x*)b", "(?P<n>[a-z]+)-([0-9]+)?",
    "^([^,]*),(.*)$", r"\b\w+\b", "(?i)ÄB+", "(?m)^a+$", "(?s)a.*b", "a*?b??", "é+|(ü)", "()*", "[^a]*",
]  # fmt: skip
TEXTS = [
    "", "a", "b", "aaaab", "xaxxb-ab-", "abc-123 de-", "a,b,c", "äb ÄBB", "a\naa\nb", "üéé a ü",
    "x" * 30, "\ud800a\udfffb", "😀a😀", "-ab-axb", "aXb",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_run_by_re2_finds_the_same(pattern):
    with_re2 = compile_pattern(pattern)
    assert with_re2.linear is not None
    without = Pattern(with_re2.code, with_re2.names)
    for text in TEXTS:
        if text == "x" * 30 and pattern in PATTERNS[:5]:
            continue  # the other one would not come to an end
        found = [list(every(one, with_re2)) for one in with_re2.found(text)]
        assert found == [list(every(one, without)) for one in without.found(text)]


def every(match, pattern):
    yield match.start(), match.end()
    yield from (match[group] for group in range(len(pattern.names) + 1))


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(a?){40}a{40}$", "a*a*a*a*a*a*c", r"\s+$", "a.*b.*c"]
)
def test_expressions_take_time_in_proportion_to_the_text(pattern):
    """Without RE2 each of these takes longer than anybody waits."""
    text = ("a" * 50_000 + "b") if "a" in pattern else " " * 200_000 + "b"
    assert run(f"root = this.re_match({json.dumps(pattern)})", text) is False


def test_simple_expressions_are_left_to_python():
    for pattern in ("^[a-z]+$", "abc", "https?://", "[0-9]{4}"):
        assert compile_pattern(pattern).linear is None
        assert isinstance(
            compile_pattern(pattern).search("https://abc 2024 " + "abc"), re.Match | None
        )


def test_without_the_library_all_are(monkeypatch):
    monkeypatch.setattr(linear, "_library", lambda: None)
    assert linear.compile_linear("(a+)+$") is None
    assert not linear.available()


def test_offsets_of_characters_are_found_from_those_of_bytes():
    text = "".join(itertools.chain.from_iterable(zip("aé€😀" * 5, "-----" * 4, strict=True)))
    look = linear.compile_linear("[^-]")(text)
    assert [look(at).start() for at in range(0, 40, 2)] == list(range(0, 40, 2))
