"""Hypotheses: what is refused and why, text, words, circuits and presets."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from interp import expressions
from interp.behaviors import populations
from interp.errors import BadInput, UnknownName
from interp.explanations import (
    Circuit,
    Feature,
    Hypothesis,
    Node,
    RunOptions,
    check,
    label,
    read,
    sentence,
    summary,
    to_hypothesis,
    write,
)
from interp.explanations.circuits import Edge
from interp.explanations.hypothesis import MOST_NODES
from interp.explanations.presets import PRESETS, preset, presets
from interp.models import catalogue
from interp.models.info import Answers, ModelInfo

PARENS, INDUCTION = catalogue.info("paren-balancer"), catalogue.info("induction-handmade")
GPT = catalogue.of_shape(
    "gpt2",
    {"n_layers": 12, "n_heads": 12, "d_model": 768, "d_head": 64, "d_mlp": 3072, "n_ctx": 1024}
    | {"d_vocab": 50257},
    answers=Answers("tokens", (), -1),
    weights="0123456789abcdef" * 4,
    folder=Path("gpt2"),
)
PARALLEL = replace(GPT, name="parallel", parallel=True)


def tree(*children: str, root: str = "site: logits, agree: exact") -> str:
    """A hypothesis with these nodes below the root, in YAML."""
    graph = f"{{{root}, children: [{below(*children)}]}}"
    return f"{{features: {{f: count(3), g: count(4)}}, graph: {graph}}}"


def below(*children: str) -> str:
    return ", ".join(f"{{{child}}}" for child in children)


def head(*children: str, site: str = "a2.h0", more: str = "agree: exact") -> str:
    return f"site: {site}, {more}, children: [{below(*children)}]"


def features(**of: str) -> str:
    return json.dumps({"features": of, "graph": {"site": "logits", "agree": "exact"}})


def rewrites(*of: dict[str, object], site: str = "a0.h0") -> str:
    graph = {"site": "logits", "agree": "exact", "children": [{"site": site, "agree": "exact"}]}
    return json.dumps({"features": {"f": "count(3)"}, "rewrites": of, "graph": graph})


def about(model: str) -> str:
    return json.dumps({"model": model, "graph": {"site": "logits", "agree": "exact"}})


@dataclass(frozen=True)
class Case:
    """A hypothesis that is refused, one that differs in one thing and is not, and the message."""

    bad: str
    good: str
    asked: str
    found: str
    works: str
    model: ModelInfo = PARENS
    error: type[BadInput] = BadInput


WIDE = PARENS.d_model
UNIT = [1.0] + [0.0] * (WIDE - 1)
_A = "site: a2.h0, agree: exact"
CASES = {
    "too many nodes": Case(
        tree(*[f"site: a{n % 3}.h0, pos: [{n}], agree: exact" for n in range(MOST_NODES)]),
        tree(*[f"site: a{n % 3}.h0, pos: [{n}], agree: exact" for n in range(MOST_NODES - 1)]),
        f"hypothesis of {MOST_NODES + 1} nodes",
        f"may have {MOST_NODES}",
        "Take terms together",
    ),
    "root that is a head": Case(
        f"graph: {{{_A}}}",
        "graph: {site: logits, agree: exact}",
        "'a2.h0' (L2H0) is the root",
        "explains the logits",
        "Make the site of the root logits",
    ),
    "root that agrees on nothing": Case(
        tree(root="site: logits"),
        tree(root="site: logits, agree: f"),
        "agrees on nothing",
        "answers to other inputs",
        "agree: exact",
    ),
    "root with a position": Case(
        tree(root="site: logits, agree: exact, pos: [0]"),
        tree(root="site: logits, agree: exact, pos: all"),
        "root has pos: [0]",
        "read whole",
        "Leave pos out",
    ),
    "root with a pool": Case(
        tree(root="site: logits, agree: exact, pool: 3"),
        tree(root="site: logits, agree: exact"),
        "root has pool: 3",
        "nothing is above",
        "Leave pool out",
    ),
    "root with a slot": Case(
        tree(root="site: logits, agree: exact, into: k"),
        tree(root="site: logits, agree: exact"),
        "root has into: k",
        "nothing is above",
        "Leave into out",
    ),
    "logits below the root": Case(
        tree("site: logits, agree: exact"),
        tree(_A),
        "(logits) is below 'logits'",
        "Only the root is logits",
        "written before",
    ),
    "layer that is not there": Case(
        tree("site: a3.h0, agree: exact"),
        tree(_A),
        "'a3.h0' (L3H0): There is no site in paren-balancer called 'a3.h0'",
        "a2.h1",
        "Did you mean",
        error=UnknownName,
    ),
    "MLP of a model of attention only": Case(
        tree("site: m1, agree: exact"),
        tree("site: a1.h0, agree: exact"),
        "no site in induction-handmade called 'm1'",
        "a1.h1",
        "Choose one of these",
        INDUCTION,
        UnknownName,
    ),
    "input from a later layer": Case(
        tree(head("site: a2.h0, agree: exact", site="a1.h0")),
        tree(head("site: a1.h0, agree: exact", site="a2.h0")),
        "'a1.h0/a2.h0' (L1H0 ← L2H0) names a2.h0 as an input of a1.h0",
        "written after a1.h0 has read",
        "heads and MLPs of layers 0 to 0",
    ),
    "input from the same layer": Case(
        tree(head("site: a1.h1, agree: exact", site="a1.h0")),
        tree(head("site: a1.h1, agree: exact", site="m1")),
        "names a1.h1 as an input of a1.h0",
        "or at once with it",
        "embeddings, heads and MLPs of layers 0",
    ),
    "MLP as an input of a head of its layer": Case(
        tree(head("site: m1, agree: exact", site="a1.h0")),
        tree(head("site: m0, agree: exact", site="a1.h0")),
        "names m1 as an input of a1.h0",
        "written after",
        "layers 0 to 0",
    ),
    "MLP as an input of itself": Case(
        tree(head("site: m1, agree: exact", site="m1")),
        tree(head("site: m0, agree: exact", site="m1")),
        "names m1 as an input of m1",
        "or at once with it",
        "heads of layers 0 to 1, MLPs of layers 0 to 0",
    ),
    "head as an input of the MLP beside it": Case(
        tree(head("site: a1.h0, agree: exact", site="m1")),
        tree(head("site: a0.h0, agree: exact", site="m1")),
        "names a1.h0 as an input of m1",
        "or at once with it",
        "heads and MLPs of layers 0 to 0",
        PARALLEL,
    ),
    "input of a group after its earliest": Case(
        tree(head("site: a1.h0, agree: exact", site="a1.h1+a2.h0")),
        tree(head("site: a0.h0, agree: exact", site="a1.h1+a2.h0")),
        "names a1.h0 as an input of a1.h1+a2.h0",
        "at once with it",
        "layers 0 to 0",
    ),
    "input through resid from a later layer": Case(
        tree(head("site: resid, pos: [1], children: [{site: m1, agree: exact}]", site="a1.h0")),
        tree(head("site: resid, pos: [1], children: [{site: m0, agree: exact}]", site="a1.h0")),
        "names m1 as an input of a1.h0",
        "written after",
        "Below a1.h0 name what is written before",
    ),
    "children of an embedding": Case(
        tree(head("site: pos_embed, agree: exact", site="embed")),
        tree("site: embed, agree: exact"),
        "'embed' (embedding) has children",
        "input itself",
        "Leave its children out",
    ),
    "children of a group of MLPs": Case(
        tree(head("site: embed, agree: exact", site="m1+a2.h0")),
        tree(head("site: embed, agree: exact", site="a1.h0+a2.h0")),
        "'a2.h0+m1' (L2H0 + L1 MLP) has children",
        "only where all are heads",
        "a node of each",
    ),
    "slot of the logits": Case(
        tree("site: a2.h0, into: q, agree: exact"),
        tree("site: a2.h0, agree: exact"),
        "(L2H0) goes into q",
        "logits above it has no queries",
        "Leave into out",
    ),
    "slot of an MLP": Case(
        tree(head("site: a0.h0, into: v", site="m1")),
        tree(head("site: a0.h0, into: v", site="a1.h0")),
        "goes into v",
        "m1 above it has no queries",
        "Leave into out",
    ),
    "slot below resid": Case(
        tree(head("site: resid, children: [{site: a0.h0, into: v}]")),
        tree(head("site: resid, into: v, children: [{site: a0.h0}]")),
        "goes into v",
        "resid above it has no queries",
        "only below heads",
    ),
    "mask below an MLP": Case(
        tree(head("site: mask, agree: f", site="m1")),
        tree(head("site: mask, agree: f", site="a1.h0")),
        "'m1/mask' (L1 MLP ← mask) is below m1",
        "Only heads have a mask",
        "below a head",
    ),
    "mask with a slot": Case(
        tree(head("site: mask, into: k")),
        tree(head("site: mask")),
        "has into: k",
        "one thing for all positions",
        "Leave into out",
    ),
    "mask with children": Case(
        tree(head("site: mask, children: [{site: embed}]")),
        tree(head("site: mask, children: []")),
        "(L2H0 ← mask) has children",
        "length alone",
        "Leave its children out",
    ),
    "mask of a causal model": Case(
        tree(head("site: mask", site="a1.h0")),
        tree(head("site: embed", site="a1.h0")),
        "is a mask",
        "In induction-handmade a position sees those before it",
        "both directions",
        INDUCTION,
    ),
    "resid below the logits": Case(
        tree("site: resid, pos: [0], agree: f"),
        tree(head("site: resid, pos: [0], agree: f")),
        "'resid@0' (input@0) is below logits",
        "input of a head or an MLP",
        "Put it below a head",
    ),
    "resid below resid": Case(
        tree(head("site: resid, children: [{site: resid}]")),
        tree(head("site: resid, children: [{site: embed}]")),
        "is below resid",
        "input of a head or an MLP",
        "its children in its place",
    ),
    "resid through MLPs": Case(
        tree(head("site: resid, via: mlps")),
        tree(head("site: embed, via: mlps")),
        "has via: mlps",
        "all that the node above reads",
        "Leave via out",
    ),
    "attention term of an MLP": Case(
        tree("site: m1, attn_term: prev"),
        tree("site: a1.h0, attn_term: prev"),
        "'m1' (L1 MLP) has attn_term: prev",
        "Only heads read other positions",
        "name heads alone",
    ),
    "two indirect ways": Case(
        tree("site: a0.h0, via: mlps", "site: a0.h1, via: any"),
        tree("site: a0.h0, via: mlps", "site: a0.h1"),
        "'logits' (logits) has inputs through MLPs (a0.h0) and through any layers (a0.h1)",
        "run again once",
        "the same via",
    ),
    "a term twice": Case(
        tree("site: a0.h0", "site: a1.h0+a0.h0"),
        tree("site: a0.h0", "site: a1.h0+a0.h1"),
        "'a0.h0' (L0H0) and the node 'a0.h0+a1.h0' are inputs of 'logits'",
        "same term in the same slot at the same position",
        "Make one node",
    ),
    "a slot and all slots": Case(
        tree(head("site: a0.h0, into: k", "site: a0.h0")),
        tree(head("site: a0.h0, into: k", "site: a0.h0, into: v")),
        "'a2.h0/a0.h0.k' (L2H0 ← L0H0 (k)) and the node 'a2.h0/a0.h0'",
        "same term in the same slot",
        "slots (into)",
    ),
    "a position and all positions": Case(
        tree("site: a0.h0, pos: [1, 2]", "site: a0.h0"),
        tree("site: a0.h0, pos: [1, 2]", "site: a0.h0, pos: [3]"),
        "'a0.h0@1,2' (L0H0@1,2) and the node 'a0.h0'",
        "at the same position",
        "positions that differ",
    ),
    "the position read, by number": Case(
        tree("site: a0.h0, pos: [0]", "site: a0.h0, pos: read"),
        tree("site: a0.h0, pos: [1]", "site: a0.h0, pos: read"),
        "'a0.h0@0' (L0H0@0) and the node 'a0.h0'",
        "or may do so",
        "as numbers",
    ),
    "the position read, from the end": Case(
        tree("site: a0.h0, pos: [3]", "site: a0.h0, pos: read"),
        tree("site: a0.h0, pos: [3]", "site: a0.h0, pos: [4]"),
        "'a0.h0@3'",
        "or may do so",
        "as numbers",
        INDUCTION,
    ),
    "both attention terms": Case(
        tree("site: a0.h0, attn_term: prev", "site: a0.h0"),
        tree("site: a0.h0, attn_term: prev", "site: a0.h0, attn_term: self"),
        "and the node 'a0.h0~2'",
        "same term",
        "Make one node",
    ),
    "resid and a term in it": Case(
        tree(head("site: resid, pos: [1]", "site: embed, pos: [1]")),
        tree(head("site: resid, pos: [1]", "site: embed, pos: [2]")),
        "(L2H0 ← input@1) and the node 'a2.h0/embed@1'",
        "same position",
        "Make one node",
    ),
    "two masks": Case(
        tree(head("site: mask", "site: mask, agree: f")),
        tree(head("site: mask", "site: resid, agree: f")),
        "and the node 'a2.h0/mask~2'",
        "same term",
        "Make one node",
    ),
    "feature that is not there": Case(
        tree("site: a2.h0, agree: [f, h]"),
        tree("site: a2.h0, agree: [f, g]"),
        "'a2.h0' (L2H0) agrees on 'h'. There is no feature called 'h'",
        "Known: f, g",
        "Choose one of these",
        error=UnknownName,
    ),
    "near a feature that is not there": Case(
        tree("site: a2.h0, agree: {near: ff}"),
        tree("site: a2.h0, agree: {near: f}"),
        "agrees on 'ff'",
        "Known: f, g",
        "Did you mean 'f'",
        error=UnknownName,
    ),
    "exact in a list": Case(
        tree("site: a2.h0, agree: [f, exact]"),
        tree("site: a2.h0, agree: exact"),
        "agrees on ['exact', 'f']",
        "stand alone",
        "a list of features",
    ),
    "no feature in a list": Case(
        tree("site: a2.h0, agree: []"),
        tree("site: a2.h0, agree: any"),
        "agrees on []",
        "must all agree",
        "any",
    ),
    "feature called any": Case(
        features(any="count(3)"),
        features(some="count(3)"),
        "called 'any'",
        "are taken",
        "another name",
    ),
    "feature that is no name": Case(
        features(**{"two words": "count(3)"}),
        features(two_words="count(3)"),
        "called 'two words'",
        "letters, digits and _",
        "another name",
    ),
    "features in a ring": Case(
        features(a="b + 1", b="c + 1", c="a + 1", d="a"),
        features(a="b + 1", b="c + 1", c="count(3) + 1", d="a"),
        "'a' was to be computed",
        "a → b → c → a",
        "without the other",
    ),
    "feature of itself, not of a column": Case(
        features(a="a + 1"),
        features(a="column('a') + 1"),
        "'a' was to be computed",
        "a → a",
        "without the other",
    ),
    "feature of itself": Case(
        features(a="a + 1"),
        features(a="count(3) + 1"),
        "'a' was to be computed",
        "a → a",
        "without the other",
    ),
    "expression that cannot be read": Case(
        features(a="count(3"),
        features(a="count(3)"),
        "The feature 'a'",
        "",
        "",
    ),
    "pool of none": Case(
        tree("site: a2.h0, pool: 0"),
        tree("site: a2.h0, pool: 1"),
        "has pool: 0",
        "1 or more",
        "leave it out",
    ),
    "pool of no name": Case(
        tree("site: a2.h0, pool: two words"),
        tree("site: a2.h0, pool: two_words"),
        "has pool: two words",
        "or a tag",
        "leave it out",
    ),
    "unknown way to draw": Case(
        tree(head("site: embed", more="other: sharde")),
        tree(head("site: embed", more="other: shared")),
        "'a2.h0' (L2H0): There is no way to draw called 'sharde'",
        "same_as:<id>",
        "Did you mean 'shared'",
        error=UnknownName,
    ),
    "same as a node behind it": Case(
        tree(
            head("site: embed", more="other: 'same_as:x'"),
            head("site: embed", more="id: x", site="m1"),
        ),
        tree(
            head("site: embed", more="id: x", site="m1"),
            head("site: embed", more="other: 'same_as:x'"),
        ),
        "'a2.h0' (L2H0) has other: same_as:x",
        "Known: logits",
        "Choose one of these",
        error=UnknownName,
    ),
    "same as one of its own descendants": Case(
        tree(head(head("site: embed", site="a1.h0", more="id: x"), more="other: 'same_as:x'")),
        tree(head(head("site: embed", site="a1.h0", more="other: 'same_as:x'"), more="id: x")),
        "same_as:x",
        "Known: logits",
        "Choose",
        error=UnknownName,
    ),
    "same as what is drawn separately": Case(
        tree(
            head("site: embed", site="m1", more="id: x, other: separate"),
            head("site: embed", more="other: 'same_as:x'"),
        ),
        tree(
            head("site: embed", site="m1", more="id: x, other: shared"),
            head("site: embed", more="other: 'same_as:x'"),
        ),
        "'a2.h0' (L2H0) has other: same_as:x",
        "or draws separately",
        "Name a node before it for which one is: logits",
    ),
    "several layers through others": Case(
        tree("site: a0.h0+a1.h0, via: mlps"),
        tree("site: a0.h0+a0.h1, via: mlps"),
        "'a0.h0+a1.h0' (L0H0 + L1H0) goes through other layers",
        "enter at several places",
        "via: direct",
    ),
    "drawn separately through others": Case(
        tree(head("site: a0.h0, via: mlps", more="other: separate")),
        tree(head("site: a0.h0", more="other: separate")),
        "'a2.h0' (L2H0) draws what is not named separately",
        "read one stream",
        "other: shared",
    ),
    "same as a leaf": Case(
        tree("id: x, site: m1", head("site: embed", more="other: 'same_as:x'")),
        tree(
            head("site: embed", more="id: x", site="m1"),
            head("site: embed", more="other: 'same_as:x'"),
        ),
        "has other: same_as:x",
        "it has no children",
        "Name a node before it for which one is: logits",
    ),
    "negative position": Case(
        tree("site: a2.h0, pos: [-1]"),
        tree("site: a2.h0, pos: [1]"),
        "'a2.h0@-1' (L2H0@-1) counts at position -1",
        "count from 0",
        "read for the position read",
    ),
    "no position": Case(
        tree("site: a2.h0, pos: []"),
        tree("site: a2.h0, pos: all"),
        "at the positions []",
        "nowhere",
        "Name each position once",
    ),
    "a position twice": Case(
        tree("site: a2.h0, pos: [1, 1]"),
        tree("site: a2.h0, pos: [1, 2]"),
        "at the positions [1, 1]",
        "named twice",
        "Name each position once",
    ),
    "rewrite of two terms": Case(
        rewrites({"site": "a0.h0+a0.h1", "split": {"phi": "f"}}),
        rewrites({"site": "a0.h0", "split": {"phi": "f"}}),
        "rewrite of 'a0.h0+a0.h1'",
        "one term",
        "Name one whole term",
    ),
    "rewrite of a missing term": Case(
        rewrites({"site": "a7.h0", "split": {"phi": "f"}}),
        rewrites({"site": "m2", "split": {"phi": "f"}}),
        "called 'a7.h0'",
        "m2",
        "Choose",
        error=UnknownName,
    ),
    "two rewrites of one term": Case(
        rewrites({"site": "a0.h0", "split": {"phi": "f"}}, {"site": "L0H0", "split": {"phi": "1"}}),
        rewrites({"site": "a0.h0", "split": {"phi": "f"}}, {"site": "L0H1", "split": {"phi": "1"}}),
        "rewrite of 'a0.h0' was given twice",
        "not be clear",
        "one rewrite of each",
    ),
    "rewrite along too few numbers": Case(
        rewrites({"site": "a0.h0", "split": {"direction": UNIT[1:]}}),
        rewrites({"site": "a0.h0", "split": {"direction": UNIT}}),
        "rewrite of 'a0.h0' along a direction",
        f"{WIDE - 1} numbers; the model is {WIDE} wide",
        f"{WIDE} finite numbers",
    ),
    "rewrite along nothing": Case(
        rewrites({"site": "a0.h0", "split": {"direction": [0.0] * WIDE}}),
        rewrites({"site": "a0.h0", "split": {"direction": UNIT}}),
        "along a direction",
        "are 0",
        "not all 0",
    ),
    "rewrite along infinity": Case(
        rewrites({"site": "a0.h0", "split": {"direction": [float("inf"), *UNIT[1:]]}}),
        rewrites({"site": "a0.h0", "split": {"direction": UNIT}}),
        "along a direction",
        "not finite",
        "finite numbers",
    ),
    "rewrite by what cannot be read": Case(
        rewrites({"site": "a0.h0", "split": {"phi": "f +"}}),
        rewrites({"site": "a0.h0", "split": {"phi": "f + 1"}}),
        "The rewrite of 'a0.h0' by phi",
        "",
        "",
    ),
    "part without a rewrite": Case(
        rewrites({"site": "a0.h1", "split": {"phi": "f"}}, site="a0.h0#part"),
        rewrites({"site": "a0.h0", "split": {"phi": "f"}}, site="a0.h0#part"),
        "'a0.h0#part' (L0H0 (part)) names a0.h0#part",
        "No rewrite splits a0.h0; rewrites split a0.h1",
        "Add a rewrite of a0.h0",
    ),
    "a term and its part": Case(
        rewrites({"site": "a0.h0", "split": {"phi": "f"}}, site="a0.h0#part+a0.h0"),
        rewrites({"site": "a0.h0", "split": {"phi": "f"}}, site="a0.h0#part+a0.h0#rest"),
        "names a0.h0 and a0.h0#part",
        "overlap",
        "both of its parts",
    ),
    "inputs of a part by an expression": Case(
        rewrites({"site": "a1.h0", "split": {"phi": "f"}}).replace(
            '{"site": "a0.h0", "agree": "exact"}', f"{{{head('site: embed', site='a1.h0#part')}}}"
        ),
        rewrites({"site": "a1.h0", "split": {"direction": UNIT}}).replace(
            '{"site": "a0.h0", "agree": "exact"}', f"{{{head('site: embed', site='a1.h0#part')}}}"
        ),
        "'a1.h0#part' (L1H0 (part)) has children",
        "no inputs of its own",
        "name a1.h0 itself",
    ),
    "another model": Case(
        about("induction-handmade"),
        about("paren-balancer@seed-2"),
        "about induction-handmade was to be tested on paren-balancer",
        "other parts in another model",
        "Test it on induction-handmade",
    ),
    "another model's weights": Case(
        about("gpt2#" + "f" * 12),
        about("gpt2#0123456789AB"),
        f"'gpt2#{'f' * 12}'",
        "made for another model's weights: those of gpt2 are 0123456789ab",
        "Load the weights",
        GPT,
    ),
    "a hash that is too short": Case(
        about("gpt2#0123"),
        about("gpt2#01234567"),
        "'gpt2#0123'",
        "first 8 or more hexadecimal digits",
        "Write gpt2#0123456789ab",
        GPT,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_reason_and_its_neighbour_is_not(name: str) -> None:
    case = CASES[name]
    bad, good = read(case.bad)[0], read(case.good)[0]
    check(good, case.model)
    with pytest.raises(BadInput) as raised:
        check(bad, case.model)
    error = raised.value
    assert type(error) is case.error or name == "expression that cannot be read"
    assert case.asked in error.asked
    assert case.found in error.found
    assert case.works in error.works
    assert error.works


def test_names_are_checked_against_columns_where_there_are_some() -> None:
    hypothesis = read(features(a="width + 1"))[0]
    check(hypothesis, PARENS)
    check(hypothesis, PARENS, columns=("width", "OPEN"))
    with pytest.raises(UnknownName, match="The feature 'a' uses 'width'") as raised:
        check(hypothesis, PARENS, columns=("OPEN", "widths"))
    assert "Did you mean 'widths'" in raised.value.works
    rewritten = read(rewrites({"site": "a0.h0", "split": {"phi": "width"}}))[0]
    check(rewritten, PARENS, columns=("width",))
    with pytest.raises(UnknownName, match=r"rewrite of 'a0\.h0' by phi uses 'width'"):
        check(rewritten, PARENS, columns=("OPEN",))
    quoted = read(features(a="column('b')", b="count(3)"))[0]
    check(quoted, PARENS, columns=("b",))
    with pytest.raises(UnknownName, match=r"uses 'b'\. There is no column called 'b'"):
        check(quoted, PARENS, columns=("OPEN",))


def test_positions_are_checked_where_their_number_is_known() -> None:
    for text in (
        tree("site: a2.h0, pos: [3, 41]"),
        rewrites({"site": "a0.h0", "pos": [41], "split": {"phi": "f"}}),
    ):
        hypothesis = read(text)[0]
        check(hypothesis, PARENS)
        check(hypothesis, PARENS, n_positions=42)
        with pytest.raises(BadInput, match="counts at position 41") as raised:
            check(hypothesis, PARENS, n_positions=41)
        assert "The last one of these inputs is 40" in raised.value.found
        assert raised.value.works


def test_long_chains_of_features_are_no_rings() -> None:
    chain = {f"f{n}": f"f{n - 1} + 1" for n in range(1, 100)} | {"f0": "count(3)"}
    check(read(features(**chain))[0], PARENS)


# --- text -----------------------------------------------------------------------------------------

PAREN_2A = """
features:
  cnt:   {expr: "count(OPEN) == count(CLOSE)", dtype: bool}
  start: {expr: "at(1) == OPEN", dtype: bool}
  cas:   {expr: "cnt & start", dtype: bool}
  hor:   {expr: "max(cumsum_right(OPEN, CLOSE)) <= 0", dtype: bool}
  p1s:   {expr: "where(start, count(OPEN) / (count(OPEN) + count(CLOSE)), -1)", dtype: float}
graph:
  site: logits
  agree: exact
  children:
    - {id: h21, site: a2.h1, via: direct, agree: hor}
    - id: h20
      site: a2.h0
      via: direct
      agree: cas
      children:
        - id: h20p1
          site: resid
          pos: [1]
          agree: cas
          children:
            - {site: a0.h0, via: mlps, agree: p1s}
            - {site: embed, via: mlps, agree: start}
    - {id: h10, site: a1.h0, via: direct, agree: cas}      # same subtree as h20 in 2a
"""
NAIVE = """
behaviour: {metric: ce, READOUTanchors: [{disable: [a1.h5, a1.h6]}]}
graph:
  site: logits
  agree: exact
  other: exact                                # the rest of the model is not under test
  children:
    - site: "a1.h5+a1.h6"
      agree: exact
      other: any
      children:
        - {site: embed, into: v, agree: exact}
        - {site: embed, into: q, agree: exact}
        - {site: a0.h0, into: k, attn_term: prev, agree: exact}   # only the key-position t-1 term
"""
IOI = """
features:
  io:  {expr: "column('IO')", dtype: int}
  spos: {expr: "column('S1_first')", dtype: bool}     # ABB vs BAB order
  stok: {expr: "column('S')", dtype: int}
graph:
  site: logits
  agree: exact
  children:
    - site: "a9.h9+a9.h6+a10.h0"           # name movers, direct
      pos: [END]
      agree: [io, stok]
      children:
        - {site: embed, into: v, via: any, pos: [IO], agree: io}
        - site: "a7.h3+a7.h9+a8.h6+a8.h10" # S-inhibition -> query
          into: q
          pos: [END]
          agree: [spos, stok]
          children:
            - {site: "a5.h5+a6.h9+a5.h8+a5.h9", into: v, pos: [S2], agree: [spos, stok]}
            - {site: "a3.h0+a0.h1+a0.h10", into: v, pos: [S2], agree: [spos, stok]}
    - {site: "a10.h7+a11.h10", pos: [END], agree: [io, stok]}
"""


def test_the_paren_example_is_read() -> None:
    hypothesis, options = read(PAREN_2A)
    check(hypothesis, PARENS)
    assert options == RunOptions()
    assert [node.id for node, _ in hypothesis.nodes()] == [
        "logits", "h21", "h20", "h20p1", "h20p1/a0.h0", "h20p1/embed", "h10",
    ]  # fmt: skip
    assert hypothesis.node("h20p1").pos == (1,)
    assert hypothesis.node("h20p1/a0.h0").features == ("p1s",)
    assert hypothesis.features["p1s"].dtype == "float"


def test_the_induction_example_is_read_but_for_its_masked_readout() -> None:
    with pytest.raises(BadInput, match=r"behaviour\.readout") as raised:
        read(NAIVE.replace("READOUT", 'readout: {pos: "mask:cur_in_whitelist"}, '))
    assert "one position of each input" in raised.value.found
    assert raised.value.works
    hypothesis, _ = read(NAIVE.replace("READOUT", ""))
    heads = hypothesis.graph.children[0]
    assert (hypothesis.graph.other, heads.other) == ("exact", "shared")
    assert [child.into for child in heads.children] == ["v", "q", "k"]
    assert heads.children[2].attn_term == "prev"
    check(hypothesis, GPT)


def test_the_ioi_example_is_read_but_for_names_of_positions() -> None:
    with pytest.raises(BadInput, match=r"graph\.children\[0\]\.pos has 'END'") as raised:
        read(IOI)
    assert "no names here" in raised.value.found
    assert "numbers" in raised.value.works
    numbered = IOI.replace("[END]", "read").replace("[IO]", "[2, 4]").replace("[S2]", "[10]")
    hypothesis, _ = read(numbered)
    check(hypothesis, GPT)
    assert hypothesis.graph.children[0].agree == ("io", "stok")


def test_blocks_give_the_behavior_and_the_options() -> None:
    text = """
version: 1
model: paren-balancer
data: {source: paren-strings, reference: {split: heldout, n: 4000}, pool: {split: all}}
behaviour: {metric: bce, anchors: [shuffled, prior], name: paren-strings}
features: {f: "count(OPEN)"}
graph: {site: logits, agree: exact}
options: {replicates: 8, seed: 0, swap_prob: 0.5, nulls: 60}
"""
    hypothesis, options = read(text)
    assert hypothesis.behavior == "paren-strings"
    assert hypothesis.swap_prob == 0.5
    assert hypothesis.features == {"f": Feature(expr="count(OPEN)")}
    assert options == RunOptions(references=4000, replicates=8, seed=0, nulls=60)
    plain = read("behavior: paren-strings\ngraph: {site: logits}")[0]
    assert plain.behavior == "paren-strings"
    assert read("data: {source: x}\ngraph: {site: logits}")[0].behavior == "x"


G = "graph: {site: logits, agree: exact}"
TEXTS = {
    "nothing": ("", "read as a hypothesis", "no keys"),
    "a list": ("[1, 2]", "read as a hypothesis", "no keys"),
    "no graph": ("version: 1", "read as a hypothesis", "no graph"),
    "broken YAML": ("graph: {site: logits", "read as YAML", "in line 1"),
    "broken JSON": ('{"graph": {"site": "logits"}', "read as YAML", "none in line"),
    "control character": ("graph: \x00", "read as YAML", "special characters"),
    "too long": ("# " + "x" * 100_000 + "\n" + G, "100,", "100,000"),
    "alias": ("a: &x 1\nb: *x\n" + G, "alias *x in line 2", "more than fits"),
    "merge": (G + "\nfeatures: {<<: {f: '1'}}", "read as YAML", "merge"),
    "tag": ("graph: !!python/object/apply:os.system [true]", "read as YAML", "constructor"),
    "key twice": (G + "\n" + G, "'graph' stands twice in line 2", "Only one"),
    "key twice in JSON": ('{"graph": {}, "graph": {}}', "'graph' stands twice", "Only one"),
    "too deep": ("[" * 5000, "read as a hypothesis", "too deeply"),
    "too deep in JSON": ('{"graph":' * 10_000, "read as a hypothesis", "too deeply"),
    "too deep a tree": (
        'graph: {"site": "logits"' + ', "children": [{"site": "embed"' * 300 + "}]" * 300 + "}",
        "read as a hypothesis",
        "too deeply",
    ),
    "unknown key": (G + "\nfeature: {}", "no key in the hypothesis called 'feature'", "features"),
    "unknown key of a node": ("graph: {site: logits, agre: exact}", "key in graph called", "agree"),
    "unknown key further down": (
        tree(head("site: embed, slot: k")),
        "no key in graph.children[0].children[0] called 'slot'",
        "into",
    ),
    "unknown key of a feature": (G + "\nfeatures: {f: {exp: x}}", "key in the feature 'f'", "expr"),
    "unknown key of a rewrite": (
        G + "\nrewrites: [{site: a0.h0, splt: 1}]",
        "no key in rewrites[0] called 'splt'",
        "split",
    ),
    "unknown key of an agreement": (
        tree("site: a0.h0, agree: {near: f, n: 3}"),
        "no key in graph.children[0].agree called 'n'",
        "near",
    ),
    "unknown option": (G + "\noptions: {replicate: 3}", "key in options called", "replicates"),
    "unknown key in data": (G + "\ndata: {ref: 3}", "no key in data called 'ref'", "reference"),
    "number for options": (G + "\noptions: 3", "options is 3", "no block"),
    "negative option": (G + "\noptions: {seed: -1}", "seed is -1", "greater than or equal to 0"),
    "behavior twice": (G + "\nbehavior: a\nbehaviour: a", "a behavior and a behaviour", "one"),
    "behavior and other data": (
        G + "\nbehavior: a\ndata: {source: b}",
        "behavior is 'a' and data.source 'b'",
        "they are one",
    ),
    "unknown metric": (G + "\nbehavior: {metric: f1}", "behavior.metric is 'f1'", "ce or kl"),
    "label": (G + "\nbehavior: {label: f}", "behavior.label is 'f'", "part of the behavior"),
    "split": (
        G + "\ndata: {reference: {split: search}}",
        "data.reference.split is 'search'",
        "heldout",
    ),
    "swap probability twice": (
        G + "\nswap_prob: 1\noptions: {swap_prob: 1}",
        "at the top and in options",
        "They are one",
    ),
    "swap probability of 0": (G + "\nswap_prob: 0", "swap_prob is 0", "greater than 0"),
    "newer version": (G + "\nversion: 2", "version is 2", "should be 1"),
    "number for a feature": (G + "\nfeatures: {f: 3}", "feature 'f' is 3", "no expression"),
    "both splits": (
        G + "\nrewrites: [{site: a0.h0, split: {phi: '1', direction: [1.0]}}]",
        "rewrites[0].split",
        "either phi or direction",
    ),
    "rewrite without a split": (G + "\nrewrites: [{site: a0.h0}]", "has no split", "must have"),
    "rewrites that are no list": (G + "\nrewrites: 3", "rewrites is 3", "no list"),
    "node that is none": ("graph: 3", "graph is 3", "no node"),
    "node without a site": ("graph: {agree: exact}", "graph has the site None", "at a site"),
    "children that are no list": (
        "graph: {site: logits, children: 3}",
        "graph.children is 3",
        "no list",
    ),
    "unknown slot": (
        tree(head("site: embed, into: x")),
        "graph.children[0].children[0].into is 'x'",
        "should be 'q', 'k' or 'v'",
    ),
    "a name for a position": (
        tree("site: a0.h0, pos: END"),
        "graph.children[0].pos is 'END'",
        "no names here",
    ),
    "unknown term": (tree("site: b0.h0"), "site 'b0.h0' was asked", "a head (a1.h0)"),
    "term twice in a site": (tree("site: a0.h0+L0H0"), "names a term twice", ""),
    "an id twice": (
        tree("id: x, site: m0", "id: x, site: m1"),
        "Two nodes are called 'x'",
        "no id",
    ),
    "an id that another node has anyway": (
        tree("site: m0", "id: m0, site: m1"),
        "Two nodes are called 'm0'",
        "by its site",
    ),
    "number for an id": (tree("id: 3, site: m0"), "graph.children[0].id is 3", "valid string"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_refused(name: str) -> None:
    text, asked, found = TEXTS[name]
    with pytest.raises(BadInput) as raised:
        read(text)
    assert asked in raised.value.asked
    assert found in raised.value.found + raised.value.works
    assert raised.value.works
    read(G)


def test_text_is_tidy() -> None:
    written = write(read(PAREN_2A)[0])
    assert written.splitlines()[:2] == ["version: 1", "features:"]
    assert "        - {id: h21, site: a2.h1, agree: hor}\n" not in written
    assert "    - {id: h21, site: a2.h1, agree: hor}\n" in written
    assert "            - {site: embed, via: mlps, agree: start}\n" in written
    assert "id: logits" not in written
    assert "h20p1/" not in written
    assert "pos: [1]\n" in written
    assert "other" not in written


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_canonical_json_are_read_back(name: str) -> None:
    hypothesis = preset(name).hypothesis
    assert read(write(hypothesis))[0] == hypothesis
    assert read(hypothesis.canonical)[0] == hypothesis


# --- words ----------------------------------------------------------------------------------------

HEAD, KEYS = Node(site="a1.h0"), Node(site="a0.h0", into="k")
ROOT = Node(site="logits", agree="exact")
SENTENCES: dict[str, tuple[Node, Node | None]] = {
    "The answer is read on each input itself. Whatever is not named below comes from one random "
    "input.": (ROOT, None),
    "The answer is read on inputs with the same f and g. Whatever is not named below comes from "
    "random inputs, another for each part.": (
        Node(site="logits", agree=("f", "g"), other="separate"),
        None,
    ),
    "L2H1, direct to the logits, matters only through horizon.": (
        Node(site="a2.h1", agree="horizon"),
        ROOT,
    ),
    "L2 MLP, direct to the logits, matters in full.": (Node(site="m2", agree="exact"), ROOT),
    "Embedding, direct to L1H0, may come from any input.": (Node(site="embed"), HEAD),
    "L1H0 and L1H1 together, direct to the logits, matter only through f, g and h.": (
        Node(site="a1.h0+a1.h1", agree=("f", "g", "h")),
        ROOT,
    ),
    "L0H0 at positions 1 and 2, through MLPs to the keys of L1H0, matters only through f.": (
        Node(site="a0.h0", into="k", via="mlps", pos=(1, 2), agree="f"),
        HEAD,
    ),
    "L0H0 at the position read, through any layers to the logits, matters only through about what "
    "f is: any of the 5 inputs nearest by it are as good.": (
        Node.model_validate(
            {"site": "a0.h0", "pos": "read", "via": "any", "agree": {"near": "f", "k": 5}}
        ),
        ROOT,
    ),
    "What L0H0 reads at the position before, direct to the keys of L1H0, matters in full.": (
        Node(site="a0.h0", into="k", attn_term="prev", agree="exact"),
        HEAD,
    ),
    "What L0H0 reads at its own position, direct to the values of L1H0, matters in full.": (
        Node(site="a0.h0", into="v", attn_term="self", agree="exact"),
        HEAD,
    ),
    "What L0H0 and L0H1 together read at the position before, direct to L1H0, matters in full.": (
        Node(site="a0.h0+a0.h1", attn_term="prev", agree="exact"),
        HEAD,
    ),
    "The whole input of L1H0 at position 1 matters only through f.": (
        Node(site="resid", pos=(1,), agree="f"),
        HEAD,
    ),
    "The whole input of the queries of L1H0 matters in full.": (
        Node(site="resid", into="q", agree="exact"),
        HEAD,
    ),
    "Embedding, through MLPs to that input, matters only through f.": (
        Node(site="embed", via="mlps", agree="f"),
        Node(site="resid"),
    ),
    "Which positions L1H0 may attend to matters only through length.": (
        Node(site="mask", agree="length"),
        HEAD,
    ),
    "L0H0 (part), direct to the logits, matters only through f.": (
        Node(site="a0.h0#part", agree="f"),
        ROOT,
    ),
    "L1H0, direct to the logits, matters in full. What else it reads stays as it is.": (
        Node(site="a1.h0", agree="exact", other="exact", children=(KEYS,)),
        ROOT,
    ),
    "L1H0, direct to the logits, matters through what is named below it. What else it reads comes "
    "from the input drawn "
    "for logits.": (
        Node(site="a1.h0", agree="exact", other="same_as:logits", children=(KEYS,)),
        ROOT,
    ),
    "L1H0, direct to the logits, matters only through f. Only 4 inputs of each class are ever "
    "drawn.": (Node(site="a1.h0", agree="f", pool=4), ROOT),
    "L1H0, direct to the logits, matters only through f. Drawn with the random numbers of all "
    "nodes tagged 't'.": (Node(site="a1.h0", agree="f", pool="t"), ROOT),
}


@pytest.mark.parametrize("said", SENTENCES)
def test_sentences(said: str) -> None:
    assert sentence(*SENTENCES[said]) == said


def test_labels() -> None:
    assert label(Node(site="a2.h1"), ROOT) == "L2H1"
    assert label(KEYS, HEAD) == "L1H0 ← L0H0 (k)"
    assert label(Node(site="resid", pos=(1,)), HEAD) == "L1H0 ← input@1"
    assert label(Node(site="a0.h0+m0", pos="read")) == "L0H0 + L0 MLP@read"
    assert label(ROOT) == "logits"


def test_summaries() -> None:
    assert summary(preset("paren-0a").hypothesis) == "No claims: everything matters."
    assert summary(preset("paren-0b").hypothesis) == (
        "No claims: everything is exchanged at random."
    )
    assert summary(preset("handmade-wrong-head").hypothesis) == "1 claim."
    assert summary(preset("paren-1a").hypothesis) == (
        "3 claims, through 2 features (equal_counts and horizon_test)."
    )
    assert summary(preset("paren-2a").hypothesis).startswith(
        "9 claims, 3 levels deep, through 4 features"
    )


# --- circuits -------------------------------------------------------------------------------------

EDGES: tuple[Edge, ...] = (
    ("embed", "a0.h0", "v"),
    ("a0.h0", "a1.h0", "k"),
    ("embed", "a1.h0", "q"),
    ("embed", "a1.h0", "v"),
    ("a1.h0", "logits", None),
)
CIRCUIT = Circuit(model="induction-handmade", nodes=("embed", "a0.h0", "a1.h0"), edges=EDGES)


def test_a_circuit_becomes_a_tree_of_its_paths() -> None:
    made = to_hypothesis(CIRCUIT, INDUCTION)
    found = {(node.id, node.into, node.agree, node.other) for node, _ in made.nodes()}
    assert found == {
        ("logits", None, "exact", "shared"),
        ("a1.h0", None, "exact", "shared"),
        ("a1.h0/a0.h0.k", "k", "exact", "shared"),
        ("a1.h0/a0.h0.k/embed.v", "v", "exact", "shared"),
        ("a1.h0/embed.q", "q", "exact", "shared"),
        ("a1.h0/embed.v", "v", "exact", "shared"),
    }
    known = preset("handmade-previous-from-embedding").hypothesis
    claims = {(node.site, node.into, node.agree) for node, _ in known.nodes()}
    assert {(node.site, node.into, node.agree) for node, _ in made.nodes()} == claims
    assert (made.model, made.features) == ("induction-handmade", {})


def test_a_circuit_is_the_same_in_any_order() -> None:
    turned = Circuit(
        model="induction-handmade", nodes=("L1H0", "a0.h0", "embed", "embed"), edges=EDGES[::-1]
    )
    assert turned == CIRCUIT
    assert turned.hash == CIRCUIT.hash
    assert Circuit.model_validate_json(CIRCUIT.canonical) == CIRCUIT
    less = Circuit(model="induction-handmade", nodes=CIRCUIT.nodes, edges=EDGES[1:])
    assert less.hash != CIRCUIT.hash


def test_nodes_that_lead_nowhere_claim_nothing() -> None:
    more = Circuit(
        model="induction-handmade",
        nodes=(*CIRCUIT.nodes, "a0.h1", "a1.h1"),
        edges=(*EDGES, ("a0.h1", "a1.h1", "q")),
    )
    assert to_hypothesis(more, INDUCTION) == to_hypothesis(CIRCUIT, INDUCTION)


def dense(layers: int) -> Circuit:
    """All edges between one head of each layer, and of the last one to the logits."""
    nodes = [f"a{n}.h0" for n in range(layers)]
    edges = [(a, b, None) for i, b in enumerate(nodes) for a in nodes[:i]]
    return Circuit(model="gpt2", nodes=tuple(nodes), edges=(*edges, (nodes[-1], "logits", None)))


def test_paths_multiply() -> None:
    assert sum(1 for _ in to_hypothesis(dense(6), GPT).nodes()) == 1 + 2**5
    with pytest.raises(BadInput, match="A circuit of 29 edges") as raised:
        to_hypothesis(dense(8), GPT)
    assert f"it has {1 + 2**7} nodes; {MOST_NODES} fit" in raised.value.found
    assert raised.value.works


@pytest.mark.parametrize(
    ("edges", "asked", "found"),
    [
        ((), "made a hypothesis", "None of its edges reaches the logits"),
        ((("a1.h0", "a0.h0", None),), "a1.h0 → a0.h0", "written after a0.h0"),
        ((("a0.h0", "embed", None),), "a0.h0 → embed", "written after embed"),
        ((("a1.h0", "logits", "k"),), "a1.h0 → logits (k)", "no queries"),
        ((*EDGES, ("embed", "a1.h0", None)), "embed → a1.h0 (q)", "So is embed → a1.h0"),
    ],
)
def test_circuits_that_are_refused(
    edges: tuple[tuple[str, str, None], ...], asked: str, found: str
) -> None:
    circuit = Circuit(model="induction-handmade", nodes=CIRCUIT.nodes, edges=edges)
    with pytest.raises(BadInput) as raised:
        to_hypothesis(circuit, INDUCTION)
    assert asked in raised.value.asked
    assert found in raised.value.found
    assert raised.value.works
    to_hypothesis(CIRCUIT, INDUCTION)


def test_circuits_name_their_nodes() -> None:
    with pytest.raises(UnknownName, match=r"node in the circuit called 'a1\.h0'"):
        Circuit(model="induction-handmade", nodes=("embed",), edges=(("embed", "a1.h0", None),))
    unknown = Circuit(model="induction-handmade", nodes=("a5.h0",))
    with pytest.raises(UnknownName, match=r"'a5\.h0'"):
        to_hypothesis(unknown, INDUCTION)
    with pytest.raises(BadInput, match="induction-handmade was to be tested on gpt2"):
        to_hypothesis(CIRCUIT, GPT)


# --- presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_tested_on_their_models(name: str) -> None:
    one = preset(name)
    assert (one.hypothesis.model, one.hypothesis.behavior) == (one.models[0], one.behavior)
    assert bool(one.published) == bool(one.why_different)
    for model in one.models:
        if model == GPT.name:
            check(one.hypothesis, GPT, columns=("unused",), n_positions=15)
            continue
        info = catalogue.info(model)
        known = populations.population(one.behavior, 8, model)
        names = {*populations.token_names(one.behavior, model), *dict(known.features)}
        check(one.hypothesis, info, columns=names, n_positions=max(known.lengths))
        used = {used for node, _ in one.hypothesis.nodes() for used in node.features}
        assert used <= set(one.hypothesis.features)


def values(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The features of a preset on inputs of its behavior, and what the behavior says of them."""
    one = preset(name)
    given = populations.population(one.behavior, 1000, one.models[0])
    ids = np.full((len(given), max(given.lengths)), -1)
    for row, tokens in zip(ids, given.clean, strict=True):
        row[: len(tokens)] = tokens
    columns = {key: np.array(of) for key, of in given.features}
    names = populations.token_names(one.behavior, one.models[0])
    inputs = expressions.Inputs(ids, np.array(given.lengths), names, columns)
    wanted = {key: feature.expr for key, feature in one.hypothesis.features.items()}
    return expressions.evaluate(wanted, inputs), columns


def test_features_of_presets_are_what_the_behaviors_say() -> None:
    found, known = values("paren-2b")
    np.testing.assert_array_equal(found["equal_counts"], known["count"])
    np.testing.assert_array_equal(found["starts_open"], known["start"])
    np.testing.assert_array_equal(found["horizon_test"], known["horizon"])
    np.testing.assert_array_equal(found["counts_and_start"], known["count"] & known["start"])
    share = found["share_open"]
    np.testing.assert_array_equal(share == 0.5, known["count"])
    np.testing.assert_array_equal(found["share_if_open"], np.where(known["start"], share, -1))
    assert (found["starts_open"] != known["count"]).any()
    found, known = values("handmade-induced-feature")
    np.testing.assert_array_equal(found["induced_token"], known["induced"])
    found, known = values("handmade-cue-feature")
    np.testing.assert_array_equal(found["cue_token"], known["cue"])
    assert (found["cue_token"] != known["induced"]).any()


def test_presets_are_found_by_model() -> None:
    names = [one.name for one in presets("paren-balancer@seed-2")]
    assert names == [f"paren-{n}" for n in ("0a", "0b", "1a", "1b", "2a", "2b")]
    assert presets("paren-balancer:folded") == presets("paren-balancer")
    assert len(presets("induction-handmade")) == 12
    assert [one.name for one in presets("induction-2l")] == [
        f"induction-2l-{name}" for name in ("naive", "v", "q", "k", "k-prev", "l0h1")
    ]
    assert presets("max-of-4") == ()
    with pytest.raises(UnknownName, match="no preset called 'paren-1c'"):
        preset("paren-1c")


def test_published_numbers() -> None:
    losses = {
        name: [(p.loss, p.se, p.recovered) for p in one.published] for name, one in PRESETS.items()
    }
    assert losses["paren-0a"] == [(0.0003, None, 1.0)]
    assert losses["paren-0b"] == [(4.30, 0.12, 0.0)]
    assert losses["paren-1a"] == [(0.52, 0.04, 0.88)]
    assert losses["paren-1b"] == [(0.30, 0.04, 0.93)]
    assert losses["paren-2a"] == [(0.55, 0.04, 0.87)]
    assert losses["paren-2b"] == [(0.53, 0.04, 0.88)]
    for start in ("induction", "induction-2l"):
        shares = {
            name: [share for _, _, share in losses[f"{start}-{name}"]]
            for name in ("naive", "v", "q", "k", "k-prev")
        }
        assert shares == {
            "naive": [0.37, 0.35], "v": [0.90], "q": [0.51], "k": [0.83], "k-prev": [0.82],
        }  # fmt: skip
    # What is published in nats and as a share says the same of the same floor and model.
    for name, ((loss, _, share), *_) in (item for item in losses.items() if "paren" in item[0]):
        assert loss is not None
        assert share == pytest.approx((4.30 - loss) / (4.30 - 0.0003), abs=0.006), name
    assert not any(losses[name] for name in losses if name.startswith("handmade"))


def test_nothing_here_needs_torch() -> None:
    code = (
        "import sys; from interp.explanations.presets import presets; presets('paren-balancer');"
        "print([m for m in ('torch', 'transformers', 'streamlit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ids_stay_where_a_branch_is_replaced() -> None:
    before: Hypothesis = preset("paren-2a").hypothesis
    after = before.replaced("a1.h0/resid@1", None)
    kept = {node.id for node, _ in after.nodes()}
    assert kept == {node.id for node, _ in before.nodes() if "a1.h0/resid@1" not in node.id}
    assert read(write(after))[0] == after
