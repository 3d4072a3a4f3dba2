"""The fast encoder writes exactly what the exact one does, whatever the text."""

from hypothesis import example, given
from hypothesis import strategies as st

from openmeter_collector.values import json as value_json

# Beside any text, the neighbours of the two separators, which share their first bytes.
TEXTS = st.text(st.sampled_from('a"\\é\u2026\u2027\u2028\u2029\u202a€😀') | st.characters())


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
@example({"plain": "ASCII"})
@example({"dots": "\u2026"})
@example({"separators": "\u2028\u2029"})
@example({"\u2028": "é"})
def test_text_is_written_as_by_the_exact_encoder(document):
    assert value_json.dumps(document) == value_json.json_exact.dumps(document)
