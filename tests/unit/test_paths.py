"""Names of receivers, who is upstream, the chain that is drawn, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import interp
from interp import analyses
from interp.analyses import _paths
from interp.analyses._paths import Link, Sender
from interp.behaviors import from_pairs
from interp.behaviors._record import PromptPair
from interp.errors import BadInput, InterpError
from interp.figures import paths as drawing
from interp.methods.paths import Senders, parse_receivers, tidy
from interp.models import catalogue
from interp.models.load import load

HANDMADE, BALANCER = "induction-handmade", "paren-balancer"
PAIR = {"clean": "kmabcda", "corrupted": "kmebcda", "answer": "b", "foil": "d"}


@pytest.mark.parametrize(
    ("typed", "tidied"),
    [
        (" logits ", "logits"),
        ("logits,L5H10.v , L5H2.q,L5H2.k, L5H2.q", "L5H2.q, L5H2.k, L5H10.v, logits"),
        ("L3.mlp_out, L03.mlp, L2.mlp_in", "L2.mlp_in, L3.mlp_in"),
        ("L5H2.q_in@07", "L5H2.q@7"),
        ("L5H2.q@3, L5H2.q, L4H0.k@1", "L4H0.k@1, L5H2.q"),
        ("L5H2.q; logits", "L5H2.q; logits"),
        ("", ""),
    ],
)
def test_receivers_are_written_in_one_way(typed: str, tidied: str) -> None:
    assert tidy(typed) == tidied
    assert tidy(tidied) == tidied


def test_one_question_has_one_key() -> None:
    fields = {"kind": "path_patching", "pairs": [PAIR]}
    a = interp.parse({**fields, "receivers": "L1H0.k,L1H0.q_in"})
    assert a == interp.parse({**fields, "receivers": "L1H0.q, L1H0.k"})


@pytest.mark.parametrize(
    ("model", "receivers", "said"),
    [
        (HANDMADE, "", "None is named"),
        (HANDMADE, "L1H0.z", "queries, keys or values"),
        (HANDMADE, "L1H0", "queries, keys or values"),
        (HANDMADE, "the logits", "queries, keys or values"),
        (HANDMADE, "L9H0.q", "layers 0 to 1"),
        (HANDMADE, "L1H7.k", "heads 0 to 1 of k"),
        (HANDMADE, "L1.q", "heads 0 to 1 of q"),
        (HANDMADE, "L0.mlp_in", "has no MLPs"),
        (HANDMADE, "L1H0.q@8", "positions that count in every prompt are 0 to 7"),
        (HANDMADE, "L1H0.q@-1", "positions that count in every prompt are 0 to 7"),
        (BALANCER, "L1H0.mlp_in", "A site is a layer"),
    ],
)
def test_what_is_no_receiver_is_refused_before_anything_runs(
    model: str, receivers: str, said: str
) -> None:
    pair = PAIR if model == HANDMADE else {
        "clean": "(())()", "corrupted": "()))()", "answer": "balanced", "foil": "unbalanced",
    }  # fmt: skip
    spec = {"kind": "path_patching", "model": model, "pairs": [pair], "receivers": receivers}
    with pytest.raises(BadInput) as refused:
        analyses.get("path_patching").inputs(interp.parse(spec))
    assert said in str(refused.value)


def test_shared_keys_are_counted_and_followed_as_they_are() -> None:
    info = replace(catalogue.info(HANDMADE), n_heads=4, n_key_value_heads=2)
    behavior = from_pairs(HANDMADE, [PromptPair(**PAIR)])
    assert str(parse_receivers(info, "L1H3.q", behavior)[0]) == "L1H3.q"
    with pytest.raises(InterpError, match="heads 0 to 1 of k"):
        parse_receivers(info, "L1H3.k", behavior)
    reads = {i: _paths.inputs_of(1, Senders.of(info).cols, i, 2) for i in (2, 3)}
    assert reads[3] == [
        ("L1H3's queries", "L1H3.q"),
        ("L1H3's keys (key head 1)", "L1H1.k"),
        ("L1H3's values (key head 1)", "L1H1.v"),
    ]
    senders = [
        Sender(f"L1H{i}", tuple(name for _, name in reads[i]), ("logits",), effect, "")
        for i, effect in ((3, 0.9), (2, 0.3))
    ]
    links = [
        Link(("logits",), "direct", tuple(senders)),
        Link(("L1H1.k@5",), "mlps", (Sender("L0H0", (), ("L1H1.k@5",), 0.5, ""),)),
    ]
    drawn = lines(_paths.chain(links, 2, 0.05, "lost"))
    assert drawn == ["L1H3 to logits", "L0H0 to L1H3"]


def lines(named: object) -> list[str]:
    return [t.name for t in named.figure.data if t.mode == "lines"]  # type: ignore[attr-defined]


def test_a_chain_shows_what_was_followed_and_the_strongest_of_the_last_answer() -> None:
    def sender(name: str, effect: float, *reaches: str) -> Sender:
        return Sender(name, (f"{name}.q", f"{name}.v"), reaches, effect, f"{effect:.2f}")

    heads = [sender(f"L9H{i}", 0.5 - i / 10, "logits") for i in range(4)]
    last = [sender(f"L{7 - i}H0", e, "L8H6.v") for i, e in enumerate((-0.4, 0.3, 0.25, 0.22, 0.1))]
    links = [
        Link(("logits",), "direct", tuple(heads)),
        Link(
            ("L9H0.q", "L9H2.q"),
            "direct",
            (sender("L8H6", 0.6, "L9H0.q", "L9H2.q"), sender("MLP 2", 0.1)),
        ),
        Link(("L8H6.v",), "direct", tuple(last)),
    ]
    named = _paths.chain(links, 12, 0.05, "lost")
    assert lines(named) == [
        "L9H0 to logits", "L9H2 to logits", "L8H6 to L9H0", "L8H6 to L9H2",
        "L7H0 to L8H6", "L6H0 to L8H6", "L5H0 to L8H6",
    ]  # fmt: skip
    nodes = next(t for t in named.figure.data if t.name == "components")
    height = {text.strip(" </b>"): y for text, y in zip(nodes.text, nodes.y, strict=True)}
    order = ["L5H0", "L6H0", "L7H0", "L8H6", "L9H0", "logits"]
    assert [height[name] for name in order] == sorted(height[name] for name in order)
    assert height["L9H0"] == height["L9H2"]
    assert len(named.figure.layout.yaxis.ticktext) == len(set(nodes.y))


def test_no_two_components_stand_on_one_spot() -> None:
    nodes = [drawing.Node(f"n{i}", i // 3, f"L{i // 3}") for i in range(9)]
    edges = [drawing.Edge(f"n{i}", f"n{i + 3}", "", 0.5, "") for i in range(6)]
    spots = drawing._places(nodes, edges)
    assert len(set(spots.values())) == len(nodes)


def test_a_model_whose_layers_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.methods import path_patching

    model, behavior = load(HANDMADE, "cpu"), from_pairs(HANDMADE, [PromptPair(**PAIR)])
    monkeypatch.setattr(path_patching, "layers_of", lambda *_: (None, "it is odd"))
    asked = path_patching.Paths(
        parse_receivers(model.info, "logits", behavior), "direct", "noising"
    )
    with pytest.raises(BadInput, match="it is odd"):
        next(path_patching.sweep(model, behavior, asked, "logit_diff"))


def test_a_map_without_a_strong_sender_says_so() -> None:
    """The induction head's queries are the same in both prompts: nobody writes into them."""
    answer = interp.run({"kind": "path_patching", "pairs": [PAIR], "receivers": "L1H0.q"})
    assert "No sender moves 0.05 or more" in answer.verdict
    ups = analyses.get("path_patching").follow_ups(answer.spec, answer.result)
    assert [up.fields["direction"] for up in ups] == ["denoising"]
    assert np.abs(answer.result.effect).max() < 1e-6


@pytest.mark.parametrize("value", [-0.0, -0.0004, -4e-17])
def test_no_minus_before_zero(value: float) -> None:
    assert _paths.decimals(value, 3) == "0.000"
    assert _paths.two(value) == "0.00"
    assert _paths.decimals(-0.0006, 3) == "-0.001"
    answer = interp.run({"kind": "path_patching", "pairs": [PAIR], "receivers": "L1H0.q"})
    effect = np.where(answer.result.inert, 0.0, value)
    said = analyses.get("path_patching").verdict(replace(answer.result, effect=effect))
    assert ", has 0.000." in said
    assert "-0.000" not in said


def test_signs_are_words_and_only_what_is_distinct_from_0_is_followed() -> None:
    analysis = analyses.get("path_patching")
    answer = interp.run({"kind": "path_patching", "pairs": [PAIR]})
    shape = answer.result.effect.shape
    effect, low, high = np.zeros(shape), np.full(shape, -0.1), np.full(shape, 0.1)
    for cell, numbers in {
        (1, 0): (-3.92, -21.0, 14.0),
        (0, 0): (2.5, -1.0, 6.0),
        (0, 1): (0.4, 0.3, 0.5),
    }.items():
        effect[cell], low[cell], high[cell] = numbers
    result = replace(answer.result, effect=effect, low=low, high=high)
    said = analysis.verdict(result)
    assert "Largest shares lost by one sender" in said
    assert "L0H0 2.50 [-1.00, 6.00]; pushing the other way: L1H0 -3.92 [-21.00, 14.00];" in said
    assert "Next: who writes into L0H1, 0.40 [0.30, 0.50]?" in said
    assert "L0H1's queries" in analysis.follow_ups(answer.spec, result)[0].label
    # Nobody is distinct from 0: nobody is followed.
    low[0, 1] = -0.3
    result = replace(result, low=low)
    assert "no interval leaves it out" in analysis.verdict(result)
    labels = [up.label for up in analysis.follow_ups(answer.spec, result)]
    assert not [label for label in labels if label.startswith("Who")]
    # The only strong sender is negative: it loses nothing.
    effect[0, 0], low[1, 0], high[1, 0] = 0.0, -5.0, -3.0
    said = analysis.verdict(replace(result, effect=effect, low=low, high=high))
    assert said.startswith("Largest pushes the other way by one sender")
    assert "lost" not in said
    assert "Next: who writes into L1H0?" in said


def test_a_chain_has_no_line_to_a_receiver_that_is_not_behind_the_sender() -> None:
    """Of two joint receivers a late sender reaches the later one only."""
    fields = {"kind": "path_patching", "model": BALANCER, "behavior": "paren-near-misses"}
    names = ("logits", "L1H0.v, L2.mlp_in, logits")
    answers = [interp.run({**fields, "n_pairs": 6, "receivers": text}) for text in names]
    chain = analyses.get("path_patching").lineage([(a.spec, a.result) for a in answers])
    drawn = lines(chain)
    assert {"MLP 1 to logits", "MLP 1 to MLP 2"} <= set(drawn), drawn
    assert not {"MLP 1 to L1H0", "L1H0 to L1H0", "MLP 2 to MLP 2"} & set(drawn), drawn
