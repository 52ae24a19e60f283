"""Forms in the address: what is written is read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from interp import analyses
from interp.models import catalogue, registry
from ui.state import PAIR_PARTS, example, lines_of, pairs_of, to_params, usual

ROOT = Path(__file__).resolve().parents[2]

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
_PAIR = st.fixed_dictionaries({part: _TEXT for part in PAIR_PARTS})


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(_PAIR.filter(lambda pair: any(v.strip() for v in pair.values())), max_size=4))
def test_pairs_round_trip_through_lines(pairs: list[dict[str, str]]) -> None:
    assert pairs_of(lines_of(pairs)) == pairs


@pytest.mark.parametrize("kind", analyses.kinds())
@pytest.mark.parametrize("model", catalogue.bundled())
def test_a_form_of_another_model_needs_only_its_name(kind: str, model: str) -> None:
    own = example(kind)
    fields = usual(kind, model)
    assert to_params(kind, fields) == ({} if model == own["model"] else {"model": model})
    # What equals the example of another model is not what this model's form holds of itself.
    if model != own["model"] and "answer" in own:
        assert fields["answer"] == ""
        asked = {**fields, "answer": own["answer"] or "x"}
        assert to_params(kind, asked)["answer"] == asked["answer"]


def test_the_prompt_stays_where_the_new_model_can_read_it() -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["prompt"] = "abcab"
    app.run()
    app.switch_page("pages/logit_lens.py").run()
    variant = registry.join("induction-handmade", "raw", "float64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "names", lambda: (*catalogue.bundled(), variant))
        app.query_params["prompt"] = "abcab"
        app.run()
        app.selectbox(key="logit_lens/model").select(variant).run()
        assert app.text_input(key="logit_lens/prompt").value == "abcab"
        app.selectbox(key="logit_lens/model").select("paren-balancer").run()
        assert app.text_input(key="logit_lens/prompt").value != "abcab"
    assert not app.exception
