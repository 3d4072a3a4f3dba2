import pytest

from openmeter_collector.components.sql.statements import filled, formatted, numbered, separate


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a = ? AND b > ?", "a = $1 AND b > $2"),
        ("a = '?' AND b = ?", "a = '?' AND b = $1"),
        ("a = 'it''s ?' AND b = ?", "a = 'it''s ?' AND b = $1"),
        ("a = '\\' AND b = ?", "a = '\\' AND b = $1"),
        ('"co?l" = ? -- why?\nAND c = ?', '"co?l" = $1 -- why?\nAND c = $2'),
        ("/* ? */ a = ?", "/* ? */ a = $1"),
        ("$$ ? $$, $tag$ ? $$ $tag$, ?", "$$ ? $$, $tag$ ? $$ $tag$, $1"),
        ("doc ?? 'key' AND a = ?", "doc ? 'key' AND a = $1"),
    ],
)
def test_placeholders_are_numbered_outside_of_quotes_and_comments(query, expected):
    assert numbered(query) == expected


def test_a_query_for_formatting_has_its_per_cent_signs_doubled():
    assert (
        formatted("a LIKE '%?' AND b = ? AND c % 2 = ?")
        == "a LIKE '%%?' AND b = %s AND c %% 2 = %s"
    )
    assert formatted(r"a = '\'?' AND b = ?") == r"a = '\'?' AND b = %s"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a = ? AND b = ?", "a = 1 AND b = 'x'"),
        ("b = $2 AND a = $1 AND c = $1", "b = 'x' AND a = 1 AND c = 1"),
        (r"s = '\'?$1' AND a = ? AND b = ?", r"s = '\'?$1' AND a = 1 AND b = 'x'"),
    ],
)
def test_literals_are_filled_in(query, expected):
    assert filled(query, ["1", "'x'"]) == expected


def test_a_literal_is_not_looked_into():
    assert filled("a = ? AND b = ?", ["'?'", "'$1'"]) == "a = '?' AND b = '$1'"


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("a = ? AND b = ? AND c = ?", r"no value for placeholder \?, args_mapping made 2"),
        ("a = $3 AND b = ?", r"no value for placeholder \$3"),
        ("a = ?", "made 2 values, the query takes 1"),
        ("a = $0 AND ?", "no value for placeholder"),
    ],
)
def test_values_and_placeholders_have_to_match(query, fault):
    with pytest.raises(ValueError, match=fault):
        filled(query, ["1", "2"])


def test_a_script_is_cut_at_its_semicolons():
    text = "CREATE TABLE a (b TEXT DEFAULT ';'); -- no; not here\n/* ; */ SELECT 1;\n ;\nSELECT 2"
    assert [one.strip() for one in separate(text)] == [
        "CREATE TABLE a (b TEXT DEFAULT ';')",
        "-- no; not here\n/* ; */ SELECT 1",
        "SELECT 2",
    ]
