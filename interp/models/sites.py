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
HEAD = ("z",)
COMPONENTS = RESIDUAL + HEAD

_HOOK = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
    # Read, never patched: these are no sites of their own.
    "pattern": "attn.hook_pattern",
    "v": "attn.hook_v",
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
        headless = match is not None and match[2] is not None and match[3] not in HEAD
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


def hook_name(component: str, layer: int) -> str:
    """Return the name of the hook point of ``component`` in ``layer``.

    What belongs to no layer, as the embeddings, is found under any.
    """
    if component in _HOOK_OF_NO_LAYER:
        return _HOOK_OF_NO_LAYER[component]
    return f"blocks.{layer}.{_HOOK[component]}"


def components(model: ModelInfo) -> tuple[str, ...]:
    """List the components that ``model`` has."""
    lacking = {"mlp_out": not model.has_mlp, "resid_mid": not model.has_mid}
    return tuple(c for c in COMPONENTS if not lacking.get(c))


def check_component(model: ModelInfo, component: str) -> None:
    """Refuse a component that the model lacks.

    Raises:
        UnknownName: The model has no such component.
    """
    if component not in components(model):
        raise UnknownName.of(f"site in {model.name}", component, components(model))
