"""Checkpoints in forms, and the cards of bundled models."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from interp.behaviors import for_model
from interp.models import catalogue
from tests.pages.test_pages import address, assert_calm, open_page, words


def box(app: AppTest, label: str) -> AppTest:
    """The one choice with this label."""
    (found,) = [one for one in app.selectbox if one.label == label]
    return found


def test_a_form_takes_a_checkpoint_and_keeps_the_rest_of_the_question() -> None:
    app = open_page("logit_lens", model="induction-2l", prompt="abcdefabc")
    assert_calm(app)
    box(app, "Checkpoint").select("300").run()
    assert_calm(app)
    assert address(app)["model"] == "induction-2l@300"
    assert address(app)["prompt"] == "abcdefabc"
    box(app, "Checkpoint").select("").run()
    assert address(app)["model"] == "induction-2l"


def test_an_address_opens_on_its_checkpoint() -> None:
    app = open_page("logit_lens", model="induction-2l@300", prompt="abcdefabc")
    assert_calm(app)
    assert box(app, "Checkpoint").value == "300"
    assert box(app, "Model").value == "induction-2l@300"
    box(app, "Model").select("induction-handmade").run()
    assert_calm(app)
    assert not [one for one in app.selectbox if one.label == "Checkpoint"]


def test_a_checkpoint_that_is_not_there_is_advice() -> None:
    app = open_page("logit_lens", model="induction-2l@301", prompt="abc")
    assert not app.exception
    assert "301" in words(app)


def test_a_model_without_checkpoints_has_no_such_choice() -> None:
    app = open_page("logit_lens", model="induction-handmade", prompt="kmabcda")
    assert not [one for one in app.selectbox if one.label == "Checkpoint"]


@pytest.mark.parametrize("name", catalogue.bundled())
def test_a_card_shows_facts_behaviors_and_three_starts(name: str) -> None:
    app = open_page("models", card=name)
    assert not app.exception
    said = words(app)
    card = catalogue.card(name).facts
    assert str(card["title"]) in said
    starts = [b for b in app.button if str(b.key).startswith(f"start/{name}/")]
    assert len(starts) == 3
    patches = [b for b in app.button if str(b.key).startswith(f"behavior/{name}/")]
    assert len(patches) == len(for_model(name)) > 0
    patches[0].click().run()
    assert not app.exception
