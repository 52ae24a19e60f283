"""Places in a model that can be read or patched, by the field's names.

A site prints and parses as ``L4.resid_post``, ``L2.mlp_out``, ``L5H3.z``, with ``@7`` for one
position. Hook names of the model class appear here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interp.errors import UnknownName
from interp.models.info import ModelInfo

RESIDUAL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
KEYS = ("k", "v")
"""Components of heads of which a model may have fewer than heads: queries can share them."""
HEAD = ("q", *KEYS, "pattern", "z", "result")
INPUTS = ("q_in", "k_in", "v_in", "mlp_in")
"""What one reader alone takes from the stream, before its norm: the end of a path."""
COMPONENTS = RESIDUAL + HEAD + INPUTS

_HOOK = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "z": "attn.hook_z",
    "result": "attn.hook_result",
    "q_in": "hook_q_input",
    "k_in": "hook_k_input",
    "v_in": "hook_v_input",
    "mlp_in": "hook_mlp_in",
    # Read or hidden, never patched: these are no sites of their own.
    "attn_scores": "attn.hook_attn_scores",
    "ln1_scale": "ln1.hook_scale",
    "ln1_post_scale": "ln1_post.hook_scale",
}
_HOOK_OF_NO_LAYER = {
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "ln_final_scale": "ln_final.hook_scale",
    "logits_before_cap": "unembed.hook_out",
}
_PATTERN = re.compile(r"L(\d+)(?:H(\d+))?\.(\w+)(?:@(-?\d+))?")


@dataclass(frozen=True)
class Site:
    """A component at a layer, of one head or of all, at one position or at all."""

    component: str
    layer: int
    head: int | None = None
    pos: int | None = None

    def __str__(self) -> str:
        head = "" if self.head is None else f"H{self.head}"
        pos = "" if self.pos is None else f"@{self.pos}"
        return f"L{self.layer}{head}.{self.component}{pos}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read a site as it prints.

        Raises:
            UnknownName: The text is not a site.
        """
        match = _PATTERN.fullmatch(text)
        headless = match is not None and match[2] is not None and not has_heads(match[3])
        if match is None or match[3] not in COMPONENTS or headless:
            raise UnknownName(
                f"The site {text!r} was asked for.",
                "A site is a layer, a component and optionally a head and a position.",
                "Examples: L4.resid_post, L2.mlp_out, L5H3.z, L0.resid_pre@7.",
            )
        layer, head, component, pos = match.groups()
        return cls(
            component,
            int(layer),
            None if head is None else int(head),
            None if pos is None else int(pos),
        )


def has_heads(component: str) -> bool:
    """Whether a component is one of each head."""
    return component in HEAD or component in INPUTS[:3]


def heads_of(model: ModelInfo, component: str) -> int:
    """Return how many heads a component has: keys and values may be shared by queries."""
    shared = component.removesuffix("_in") in KEYS
    return (model.n_key_value_heads or model.n_heads) if shared else model.n_heads


def parse_sites(model: ModelInfo, text: str) -> tuple[Site, ...]:
    """Read sites between commas and check that ``model`` has each; empty text gives none.

    Raises:
        UnknownName: A part is no site, or the model has no such component, layer or head.
    """
    sites = tuple(Site.parse(part.strip()) for part in text.split(",") if part.strip())
    for site in sites:
        check_component(model, site.component)
        heads = heads_of(model, site.component)
        wants = has_heads(site.component)
        there = site.layer < model.n_layers and wants == (site.head is not None)
        if there and (site.head or 0) < heads:
            continue
        raise UnknownName(
            f"The site {site} of {model.name} was asked for.",
            f"It has layers 0 to {model.n_layers - 1}"
            + (f" and heads 0 to {heads - 1} of {site.component}." if wants else "."),
            f"Example: L0{'H0' if wants else ''}.{site.component}.",
        )
    return sites


def hook_name(component: str, layer: int) -> str:
    """Return the name of the hook point of ``component`` in ``layer``.

    What belongs to no layer, as the embeddings, is found under any.
    """
    if component in _HOOK_OF_NO_LAYER:
        return _HOOK_OF_NO_LAYER[component]
    return f"blocks.{layer}.{_HOOK[component]}"


def components(model: ModelInfo) -> tuple[str, ...]:
    """List the components that ``model`` has."""
    no_mlp = not model.has_mlp
    lacking = {"mlp_out": no_mlp, "mlp_in": no_mlp, "resid_mid": not model.has_mid}
    return tuple(c for c in COMPONENTS if not lacking.get(c))


def check_component(model: ModelInfo, component: str) -> None:
    """Refuse a component that the model lacks.

    Raises:
        UnknownName: The model has no such component.
    """
    if component not in components(model):
        raise UnknownName.of(f"site in {model.name}", component, components(model))
