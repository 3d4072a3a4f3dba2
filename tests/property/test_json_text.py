"""The fast encoder writes exactly what the exact one does, whatever the text."""

from hypothesis import example, given
from hypothesis import strategies as st

from openmeter_collector.values import json as value_json

# Beside any text, the neighbours of the two separators, which share their first bytes, and what stands
# for bytes that are no UTF-8. No other surrogates: no document has them.
TEXTS = st.text(
    st.sampled_from('a"\\é\u2026\u2027\u2028\u2029\u202a€😀\udc80\udcff')
    | st.characters(exclude_categories=["Cs"])
)


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
@example({"plain": "ASCII"})
@example({"dots": "\u2026"})
@example({"separators": "\u2028\u2029"})
@example({"\u2028": "é"})
def test_text_is_written_as_by_the_exact_encoder(document):
    assert value_json.dumps(document) == value_json.json_exact.dumps(document)
