"""The rest taken out otherwise: what a hypothesis does not name at zero, or at its mean."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from interp.engine.terms import READ, Terms
from interp.explanations.hypothesis import EXACT, Hypothesis
from interp.explanations.terms import Term, parse_terms, terms_of
from interp.methods.scrubbing.measure import Measured, References, measured


def ablated(
    hypothesis: Hypothesis, cache: Terms, refs: References
) -> Mapping[str, Measured] | None:
    """Measure the model with everything zero, or at its mean, that the hypothesis does not name.

    What is named directly below the logits stays as it is; None where the hypothesis says that the
    rest is not under test, or names no whole terms on the direct path.

    Cost: gathers of all terms at the position read; one unembedding each.
    """
    graph, info = hypothesis.graph, cache.model.info
    partly = any(child.attn_term or "#" in child.site for child in graph.children)
    if graph.other == EXACT or partly or any(child.via != "direct" for child in graph.children):
        return None
    named = {term.whole for child in graph.children for term in parse_terms(child.site)}
    rest = [term for term in terms_of(info) if term not in named]
    read = cache.normal(READ)
    whole = cache.get(("stream", cache.last), torch.from_numpy(refs.rows), read)[:, 0]
    outs: dict[str, Measured] = {}
    everyone = torch.arange(cache.n)
    without = whole
    means = torch.zeros_like(whole[:1])
    for term in rest:
        without = without - cache.get(("term", term), torch.from_numpy(refs.rows), read)[:, 0]
        means = means + cache.get(("term", term), everyone, read).mean(0)
    for name, stream in (("zero", without), ("mean", without + means)):
        logits = cache.lean.outputs(stream, None).double().cpu().numpy()
        outs[name] = measured(refs, [logits])
    return outs


def want_ablated(hypothesis: Hypothesis, cache: Terms) -> None:
    """Note in the cache what ``ablated`` will gather."""
    nobody, read = torch.empty(0, dtype=torch.long), cache.normal(READ)
    cache.get(("stream", cache.last), nobody, read)
    for term in terms_of(cache.model.info):
        cache.get(("term", Term(term.kind, term.layer, term.head)), nobody, read)
