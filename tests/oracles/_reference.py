"""Patched forward passes in float64 that share no code with the engine or with TransformerLens.

``Reference`` runs a model of transformers as it is, with torch hooks on its modules and a wrapped
attention function. ``WrittenOut`` is a transformer in plain torch: bidirectional with padding, or
with positions as in a shortformer. Both run every prompt whole, from its embedding to its last
position, and patch by plain assignment.

Places mean what hook points of the same name mean: queries, keys and values are those before norms
and rotary positions, ``z`` is what heads read, ``result`` what each writes; ``attn_out`` and
``mlp_out`` are behind a norm where the family has one there. Inputs of one reader (``q_in``,
``k_in``, ``v_in`` of a head, ``mlp_in``) are the stream before the reader's norm.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles._families import _Float64

HEADS = ("q", "k", "v", "pattern", "z", "result", "q_in", "k_in", "v_in")
WHOLE = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_in")

Acts = dict[tuple[str, int], Tensor]
"""``[row, pos, ...]`` by component and layer; what heads have is ``[row, pos, head, width]``."""


@dataclass(frozen=True)
class Patch:
    """One change in one run.

    Attributes:
        run: Which run.
        component: Where.
        layer: Where.
        head: Where, None for what has no heads.
        pos: Where, None for all positions.
        kind: "take", "put", "add", "scale", "keep" (what lies in a subspace) or "remove".
        value: The row that is taken, else the constant, vector, factor or basis.
    """

    run: int
    component: str
    layer: int
    head: int | None
    pos: int | None
    kind: str
    value: Any

    @property
    def where(self) -> tuple[Any, ...]:
        pos = slice(None) if self.pos is None else self.pos
        return (pos,) if self.head is None else (pos, self.head)

    def changed(self, now: Tensor, sources: Acts) -> Tensor:
        """Return what stands there afterwards."""
        match self.kind:
            case "take":
                return sources[self.component, self.layer][(self.value, *self.where)]
            case "put":
                return self.value.expand_as(now)
            case "add":
                return now + self.value
            case "scale":
                return now * self.value
            case "keep":
                return (now @ self.value.T) @ self.value
            case "remove":
                return now - (now @ self.value.T) @ self.value
            case _:
                raise ValueError(self.kind)


class Taps:
    """What happens at the places of one pass: changes, records, leaves to differentiate by."""

    def __init__(
        self, patches: Sequence[Patch] = (), sources: Acts | None = None, *, record: str = ""
    ) -> None:
        """``record`` is "" for nothing, "acts", or "grads" for zeros that are added everywhere."""
        self._patches: dict[tuple[str, int], list[Patch]] = {}
        for patch in patches:
            self._patches.setdefault((patch.component, patch.layer), []).append(patch)
        self._sources = sources or {}
        self._record = record
        self.acts: Acts = {}
        self.leaves: Acts = {}

    def wants(self, component: str, layer: int) -> bool:
        inside = component == "result" or component.endswith("_in")
        recorded = self._record == "acts" or (self._record == "grads" and not inside)
        return recorded or (component, layer) in self._patches

    def __call__(self, component: str, layer: int, act: Tensor) -> Tensor:
        mine = self._patches.get((component, layer), [])
        if mine:
            act = act.clone()
        for patch in mine:
            where = (patch.run, *patch.where)
            act[where] = patch.changed(act[where].clone(), self._sources)
        if self._record == "acts":
            self.acts[component, layer] = act.clone()
        elif self._record == "grads" and self.wants(component, layer):
            leaf = torch.zeros_like(act).requires_grad_(True)
            self.leaves[component, layer] = leaf
            act = act + leaf
        return act


# --- models of transformers -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Modules of one layer by what they do; ``joined`` is one product for queries, keys, values."""

    whole: Any
    norm: Any
    after_attn: Any
    joined: Any
    slots: dict[str, Any]
    out: Any
    norm_mlp: Any
    after_mlp: Any
    parallel: bool


def _block(family: str, block: Any) -> _Block:
    if family == "gpt2":
        a = block.attn
        return _Block(block, block.ln_1, a, a.c_attn, {}, a.c_proj, block.ln_2, block.mlp, False)
    if family == "gpt_neox":
        a = block.attention
        norms = block.input_layernorm, block.post_attention_layernorm
        beside = block.use_parallel_residual
        return _Block(
            block, norms[0], a, a.query_key_value, {}, a.dense, norms[1], block.mlp, beside
        )
    a = block.self_attn
    slots = {"q": a.q_proj, "k": a.k_proj, "v": a.v_proj}
    sandwich = family in ("gemma2", "gemma3")
    behind = block.post_attention_layernorm
    return _Block(
        whole=block,
        norm=block.input_layernorm,
        after_attn=behind if sandwich else a,
        joined=None,
        slots=slots,
        out=a.o_proj,
        norm_mlp=block.pre_feedforward_layernorm if sandwich else behind,
        after_mlp=block.post_feedforward_layernorm if sandwich else block.mlp,
        parallel=False,
    )


class Reference:
    """A model of transformers, raised to float64 in everything that it computes."""

    def __init__(self, family: str, model: Any) -> None:
        config = copy.deepcopy(model.config)
        config._attn_implementation = "eager"
        weights = {name: weight.double() for name, weight in model.state_dict().items()}
        with _raised():
            self.model = type(model)(config).eval().requires_grad_(False)
            self.model.load_state_dict(weights)
        self.family = family
        body = self.model.base_model
        self._blocks = [_block(family, block) for block in getattr(body, "h", None) or body.layers]
        self.n_heads = config.num_attention_heads
        self.n_keys = getattr(config, "num_key_value_heads", None) or self.n_heads
        self.n_layers = len(self._blocks)
        self.components = tuple(
            c for c in HEADS + WHOLE if not (c == "resid_mid" and self._blocks[0].parallel)
        )

    def heads(self, component: str) -> int:
        """How many heads a component has, 0 for none."""
        if component in WHOLE:
            return 0
        return self.n_keys if component.removesuffix("_in") in ("k", "v") else self.n_heads

    @torch.no_grad()
    def acts(self, ids: Tensor) -> Acts:
        """Every activation of bare runs."""
        taps = Taps(record="acts")
        self._run(ids, taps)
        return taps.acts

    @torch.no_grad()
    def logits(
        self, ids: Tensor, patches: Sequence[Patch] = (), sources: Acts | None = None
    ) -> Tensor:
        """Logits ``[run, pos, output]`` of whole prompts with changes."""
        return self._run(ids, Taps(patches, sources))

    def grads(self, ids: Tensor, read: Callable[[Tensor], Tensor]) -> Acts:
        """Gradients of what is read off all logits of each row, by component and layer."""
        taps = Taps(record="grads")
        with torch.enable_grad(), _raised():
            number = read(self._run(ids, taps)).sum()
            found = torch.autograd.grad(number, list(taps.leaves.values()), materialize_grads=True)
        return dict(zip(taps.leaves, found, strict=True))

    def _run(self, ids: Tensor, taps: Taps) -> Tensor:
        with ExitStack() as stack:
            stack.enter_context(_raised())
            stack.enter_context(self._attention(taps))
            for layer, block in enumerate(self._blocks):
                for handle in self._hooks(layer, block, taps):
                    stack.callback(handle.remove)
            logits: Tensor = self.model(input_ids=ids, use_cache=False).logits
            return logits

    @contextmanager
    def _attention(self, taps: Taps) -> Generator[None]:
        """Wrap the function that computes attention, which alone has the pattern."""
        source = sys.modules[type(self.model).__module__]
        bare = source.eager_attention_forward

        def wrapped(
            module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any
        ) -> Any:
            out, weights = bare(module, query, key, value, *args, **kw)
            if taps.wants("pattern", module.layer_idx):
                moved = taps("pattern", module.layer_idx, weights.transpose(1, 2)).transpose(1, 2)
                every = value.repeat_interleave(weights.shape[1] // value.shape[1], 1)
                out = (moved @ every).transpose(1, 2).contiguous()
            return out, weights

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source, "eager_attention_forward", wrapped)
            yield

    def _hooks(self, layer: int, block: _Block, taps: Taps) -> Iterator[Any]:
        """Install torch's hooks on the modules of a layer."""
        stream: list[Tensor] = []

        def before(_: Any, args: Any, kwargs: Any) -> Any:
            if args:
                return (taps("resid_pre", layer, args[0]), *args[1:]), kwargs
            return args, {
                **kwargs,
                "hidden_states": taps("resid_pre", layer, kwargs["hidden_states"]),
            }

        def mid(_: Any, args: Any) -> Any:
            if not block.parallel:
                # The tensor that this norm is given is also the one that goes on beside it.
                args[0].copy_(taps("resid_mid", layer, args[0]))
            return (taps("mlp_in", layer, args[0]),)

        def output(name: str) -> Callable[..., Any]:
            def see(_: Any, args: Any, out: Any) -> Any:
                if isinstance(out, tuple):
                    return (taps(name, layer, out[0]), *out[1:])
                return taps(name, layer, out)

            return see

        yield block.whole.register_forward_pre_hook(before, with_kwargs=True)
        yield block.norm.register_forward_pre_hook(lambda _, args: stream.append(args[0]))
        parts = (
            {block.joined: "qkv"}
            if block.joined is not None
            else {module: slot for slot, module in block.slots.items()}
        )
        for module, slots in parts.items():
            yield module.register_forward_hook(self._projection(layer, block, taps, slots, stream))
        yield block.out.register_forward_pre_hook(
            lambda _, args: (taps("z", layer, self._by_head(args[0])).flatten(2),)
        )
        yield block.out.register_forward_hook(
            lambda module, args, out: self._written(layer, taps, module, args[0], out)
        )
        yield block.after_attn.register_forward_hook(output("attn_out"))
        yield block.norm_mlp.register_forward_pre_hook(mid)
        yield block.after_mlp.register_forward_hook(output("mlp_out"))
        yield block.whole.register_forward_hook(output("resid_post"))

    def _by_head(self, act: Tensor) -> Tensor:
        return act.unflatten(-1, (self.n_heads, -1))

    def _projection(
        self, layer: int, block: _Block, taps: Taps, slots: str, stream: list[Tensor]
    ) -> Callable[..., Tensor]:
        """Make the hook on a product that gives queries, keys, values, or all three of them."""

        def see(module: Any, args: Any, out: Tensor) -> Tensor:
            parts = self._split(out, slots)
            for slot in slots:
                if taps.wants(f"{slot}_in", layer):
                    heads = range(parts[slot].shape[2])
                    own = stream[-1][:, :, None].expand(-1, -1, len(heads), -1)
                    own = taps(f"{slot}_in", layer, own)
                    each = [module.forward(block.norm.forward(own[:, :, h])) for h in heads]
                    parts[slot] = torch.stack(
                        [self._split(one, slots)[slot][:, :, h] for h, one in enumerate(each)], 2
                    )
                parts[slot] = taps(slot, layer, parts[slot])
            if len(slots) == 1:
                return parts[slots].flatten(2)
            joined = [parts[slot] for slot in slots]
            if self.family == "gpt2":  # all queries, all keys, all values
                return torch.cat([part.flatten(2) for part in joined], -1)
            return torch.cat(joined, -1).flatten(2)  # query, key and value of each head

        return see

    def _split(self, out: Tensor, slots: str) -> dict[str, Tensor]:
        if len(slots) == 1:
            return {slots: out.unflatten(-1, (self.heads(slots), -1))}
        if self.family == "gpt2":
            parts = [self._by_head(part) for part in out.chunk(3, -1)]
        else:
            parts = list(self._by_head(out).chunk(3, -1))
        return dict(zip(slots, parts, strict=True))

    def _written(self, layer: int, taps: Taps, module: Any, z: Tensor, out: Tensor) -> Tensor:
        if not taps.wants("result", layer):
            return out
        weight = module.weight if self.family == "gpt2" else module.weight.T  # [in, out]
        by_head = weight.unflatten(0, (self.n_heads, -1))
        result = torch.stack([self._by_head(z)[:, :, h] @ w for h, w in enumerate(by_head)], 2)
        written = taps("result", layer, result).sum(2)
        return written if module.bias is None else written + module.bias


@contextmanager
def _raised() -> Generator[None]:
    """Compute in float64 whatever transformers computes in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64():
            yield
    finally:
        torch.set_default_dtype(before)


# --- a transformer in plain torch -----------------------------------------------------------------


class WrittenOut:
    """The paren balancer's architecture: norms before, ReLU, all positions see all but padding."""

    components = HEADS + WHOLE

    def __init__(
        self, weights: dict[str, Tensor], *, heads: int, shortformer: bool = False
    ) -> None:
        """``weights`` have TransformerLens names, ``[head, in, out]``; they are made float64.

        ``shortformer`` makes it causal, with positions that are added to what queries and keys
        read, behind the norm, and not to the stream.
        """
        self.w = {name: weight.double() for name, weight in weights.items()}
        self.n_heads = heads
        self.n_layers = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks"))
        self.shortformer = shortformer

    def heads(self, component: str) -> int:
        return 0 if component in WHOLE else self.n_heads

    @torch.no_grad()
    def acts(self, ids: Tensor, seen: Tensor | None = None) -> Acts:
        taps = Taps(record="acts")
        self._run(ids, taps, seen)
        return taps.acts

    @torch.no_grad()
    def logits(
        self,
        ids: Tensor,
        patches: Sequence[Patch] = (),
        sources: Acts | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        return self._run(ids, Taps(patches, sources), seen)

    def grads(self, ids: Tensor, read: Callable[[Tensor], Tensor]) -> Acts:
        taps = Taps(record="grads")
        with torch.enable_grad():
            number = read(self._run(ids, taps, None)).sum()
            found = torch.autograd.grad(number, list(taps.leaves.values()), materialize_grads=True)
        return dict(zip(taps.leaves, found, strict=True))

    def _run(self, ids: Tensor, taps: Taps, seen: Tensor | None) -> Tensor:
        w = self.w
        n = ids.shape[1]
        x = w["embed.W_E"][ids] + (0 if self.shortformer else w["pos_embed.W_pos"][:n])
        for layer in range(self.n_layers):
            at = f"blocks.{layer}"
            x = taps("resid_pre", layer, x)
            q, k, v = (self._read(layer, slot, x, taps) for slot in "qkv")
            scores = torch.einsum("bqhd,bkhd->bqhk", q, k) / q.shape[-1] ** 0.5
            if self.shortformer:
                scores = scores.masked_fill(~torch.ones(n, n).tril().bool()[:, None], -torch.inf)
            if seen is not None:
                scores = scores.masked_fill(~seen[:, None, None, :], -torch.inf)
            pattern = taps("pattern", layer, scores.softmax(-1).nan_to_num(0.0))
            z = taps("z", layer, torch.einsum("bqhk,bkhd->bqhd", pattern, v))
            result = torch.einsum("bqhd,hdm->bqhm", z, w[f"{at}.attn.W_O"])
            written = taps("result", layer, result).sum(2) + w[f"{at}.attn.b_O"]
            x = taps("resid_mid", layer, x + taps("attn_out", layer, written))
            inner = self._normed(taps("mlp_in", layer, x), f"{at}.ln2") @ w[f"{at}.mlp.W_in"]
            hidden = (inner + w[f"{at}.mlp.b_in"]).relu()
            out = hidden @ w[f"{at}.mlp.W_out"] + w[f"{at}.mlp.b_out"]
            x = taps("resid_post", layer, x + taps("mlp_out", layer, out))
        return self._normed(x, "ln_final") @ w["unembed.W_U"] + w["unembed.b_U"]

    def _read(self, layer: int, slot: str, x: Tensor, taps: Taps) -> Tensor:
        at = f"blocks.{layer}"
        own = x[:, :, None].expand(-1, -1, self.n_heads, -1)
        if taps.wants(f"{slot}_in", layer):
            own = taps(f"{slot}_in", layer, own)
        normed = self._normed(own, f"{at}.ln1")
        if self.shortformer and slot != "v":
            normed = normed + self.w["pos_embed.W_pos"][: x.shape[1], None]
        weight, bias = (self.w[f"{at}.attn.{kind}_{slot.upper()}"] for kind in "Wb")
        return taps(slot, layer, torch.einsum("bphm,hmd->bphd", normed, weight) + bias)

    def _normed(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * self.w[f"{name}.w"] + self.w[f"{name}.b"]
