"""Forms in the address: what is written is read back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ui.state import PAIR_PARTS, lines_of, pairs_of

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
_PAIR = st.fixed_dictionaries({part: _TEXT for part in PAIR_PARTS})


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(_PAIR.filter(lambda pair: any(v.strip() for v in pair.values())), max_size=4))
def test_pairs_round_trip_through_lines(pairs: list[dict[str, str]]) -> None:
    assert pairs_of(lines_of(pairs)) == pairs
