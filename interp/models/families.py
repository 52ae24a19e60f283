"""Which checkpoints of the hub's format can be read, and what their config.json means (torch-free).

A family is told by ``model_type`` in config.json and by nothing else: never by a folder's name.
What a configuration leaves out takes the default that transformers gives it for that type. Fields
that would change what the model computes, and that the model class cannot represent, are refused.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from interp.errors import CannotLoad
from interp.models._families_defaults import DEFAULTS, GPT2_NAMES
from interp.models._families_fields import (
    MOST_LAYERS,
    Fields,
    Transformer,
    layer_kinds,
    rotary,
    rotary_by_layer,
    window,
)

MOST_POSITIONS = 2048
"""Positions kept of a model made for more: tables and attention grow with them."""


@dataclass(frozen=True)
class Architecture:
    """What a config.json describes.

    Attributes:
        family: One of ``families()``.
        transformer: Fields of the model class's configuration, plain JSON, without device, dtype
            and tokenizer. Fields at the class's defaults may be left out.
        n_ctx_trained: Positions that the model was made for; ``transformer["n_ctx"]`` is at most
            ``MOST_POSITIONS``.
        attention_bias: Whether the linear maps of attention have biases, by the field of that name
            or its default; None for a family without the field, which settles it itself.
    """

    family: str
    transformer: dict[str, Any]
    n_ctx_trained: int
    attention_bias: bool | None = None


def families() -> tuple[str, ...]:
    """Name the families that can be read."""
    return tuple(family for family, _ in _READERS.values())


def architecture(config: dict[str, Any]) -> Architecture:
    """Read a config.json.

    Raises:
        CannotLoad: It is of another family, asks for what cannot be represented or would run
            code, or a field is of the wrong type or size.

    **Source.** Names, meaning and defaults of the fields: the configuration classes of
    transformers 5.23.
    """
    kind: Any = config.get("model_type")
    if kind == "gemma3":
        _refuse_everywhere(kind, config)
        config = _text_part(config)
        kind = config["model_type"]
    if not isinstance(kind, str) or kind not in _READERS:
        _unknown(kind)
    _refuse_everywhere(kind, config)
    family, read = _READERS[kind]
    if kind == "gpt2":
        _refuse_two_spellings(config)
        config = {GPT2_NAMES.get(name, name): value for name, value in config.items()}
    fields = Fields(kind, config, DEFAULTS[kind])
    transformer = read(fields)
    n_ctx = transformer["n_ctx"]
    biases = fields.flag("attention_bias") if "attention_bias" in DEFAULTS[kind] else None
    return Architecture(family, {**transformer, "n_ctx": min(n_ctx, MOST_POSITIONS)}, n_ctx, biases)


def why_not_foldable(transformer: dict[str, Any]) -> str | None:
    """Say why folding the weights would change what the model computes, or None if it would not.

    Folding moves each norm's gain and bias into the matrices that read its output, so nothing
    else may read it, and every reader must have a place for the bias.
    """
    norm = transformer.get("normalization_type", "LN")
    if transformer.get("positional_embedding_type") == "shortformer":
        return "Its positions are added behind the norms, so a norm's gain cannot be folded."
    if transformer.get("num_experts"):
        return "A router reads the norm beside the experts, so a norm's gain cannot be folded."
    if norm == "LN" and transformer.get("gated_mlp"):
        return "Its gates have no bias that a norm's bias could be folded into."
    return None


# --- what is refused in every family --------------------------------------------------------------


def _unknown(kind: Any) -> NoReturn:
    readable = [*_READERS, "gemma3"]
    near = difflib.get_close_matches(str(kind), readable, n=1)
    hint = f" The nearest is {near[0]}." if near else ""
    raise CannotLoad(
        "A checkpoint was to be read by its config.json.",
        f"Its model_type is {kind!r:.60}."
        if kind is not None
        else "It has no model_type, so it does not say what kind of model this is.",
        f"Those that can be read: {', '.join(readable)}.{hint}",
    )


def _refuse_everywhere(kind: str, config: dict[str, Any]) -> None:
    """Refuse what no family has: code, quantised weights, experts, layers of different shapes."""
    reasons = {
        "auto_map": (
            "It asks to run code of its own (auto_map), which is never done.",
            "Models whose code is part of transformers can be read.",
        ),
        "quantization_config": (
            "Its weights are quantised (quantization_config).",
            "Choose the checkpoint that it was made from, in float32, float16 or bfloat16.",
        ),
        "per_layer_config": ("Its layers have different shapes (per_layer_config).", ""),
        "is_encoder_decoder": ("It is an encoder with a decoder.", ""),
        "add_cross_attention": ("Its layers also attend to another model's output.", ""),
        "use_bidirectional_attention": ("Its positions also see those after them.", ""),
        "num_experts": ("Its MLPs are mixtures of experts.", ""),
        "num_local_experts": ("Its MLPs are mixtures of experts.", ""),
    }
    for name, (found, works) in reasons.items():
        if config.get(name):
            Fields(kind, config, {}).refuse(found, works)


def _refuse_two_spellings(config: dict[str, Any]) -> None:
    """Refuse a GPT-2 that says two things under two names of one field."""
    for other, name in GPT2_NAMES.items():
        if name in config and other in config and config[name] != config[other]:
            Fields("gpt2", config, {}).refuse(
                f"{name} is {config[name]!r:.60} and {other}, another name of the same field, is "
                f"{config[other]!r:.60}."
            )


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the language model in one that also reads images."""
    text = config.get("text_config")
    text = {} if text is None else text
    if not isinstance(text, dict) or text.get("model_type", "gemma3_text") != "gemma3_text":
        Fields("gemma3", config, {}).refuse("Its text_config is not one of type gemma3_text.")
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", True))
    return {**text, "model_type": "gemma3_text", "tie_word_embeddings": tied}


# --- one reader a family --------------------------------------------------------------------------


def _sizes(fields: Fields) -> Transformer:
    """Read what all families but GPT-2 call by the same names."""
    d_model, n_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return {
        "d_model": d_model,
        "n_heads": n_heads,
        "d_head": fields.count_or_none("head_dim")
        or fields.part(d_model, n_heads, "hidden_size over num_attention_heads"),
        "n_layers": fields.count("num_hidden_layers", MOST_LAYERS),
        "d_mlp": fields.count("intermediate_size"),
        "d_vocab": fields.count("vocab_size"),
        "n_ctx": fields.count("max_position_embeddings"),
        "tie_word_embeddings": fields.flag("tie_word_embeddings"),
    }


def _gpt2(fields: Fields) -> Transformer:
    d_model, n_heads = fields.count("n_embd"), fields.count("n_head")
    return {
        "d_model": d_model,
        "n_heads": n_heads,
        "d_head": fields.part(d_model, n_heads, "n_embd over n_head"),
        "n_layers": fields.count("n_layer", MOST_LAYERS),
        "d_mlp": fields.count_or_none("n_inner") or 4 * d_model,
        "d_vocab": fields.count("vocab_size"),
        "n_ctx": fields.count("n_positions"),
        "tie_word_embeddings": fields.flag("tie_word_embeddings"),
        "act_fn": fields.activation("activation_function"),
        "normalization_type": "LN",
        "eps": fields.positive("layer_norm_epsilon"),
        "positional_embedding_type": "standard",
        "use_attn_scale": fields.flag("scale_attn_weights"),
        "scale_attn_by_inverse_layer_idx": fields.flag("scale_attn_by_inverse_layer_idx"),
    }


def _gpt_neox(fields: Fields) -> Transformer:
    sizes = _sizes(fields)
    if sizes["d_head"] * sizes["n_heads"] != sizes["d_model"]:
        fields.wrong("head_dim", "hidden_size over num_attention_heads")
    return {
        **sizes,
        "act_fn": fields.activation("hidden_act"),
        "normalization_type": "LN",
        "eps": fields.positive("layer_norm_eps"),
        "parallel_attn_mlp": fields.flag("use_parallel_residual"),
        **rotary(fields, sizes["d_head"], partial=True),
    }


def _gated(fields: Fields, act: str = "hidden_act", **renamed: str) -> Transformer:
    """Read what Llama and the families after it share, but for their positions."""
    sizes = _sizes(fields)
    n_heads = sizes["n_heads"]
    n_keys = fields.count_or_none("num_key_value_heads") or n_heads
    fields.part(n_heads, n_keys, "num_attention_heads over num_key_value_heads")
    return {
        **sizes,
        **({} if n_keys == n_heads else {"n_key_value_heads": n_keys}),
        "act_fn": fields.activation(act, renamed),
        "gated_mlp": True,
        "normalization_type": "RMS",
        "eps": fields.positive("rms_norm_eps"),
    }


def _llama(fields: Fields) -> Transformer:
    if fields.flag("mlp_bias"):
        fields.refuse("Its gated MLPs have biases (mlp_bias), which the model class has not.")
    found = _gated(fields)
    return {**found, **rotary(fields, found["d_head"])}


def _mistral(fields: Fields) -> Transformer:
    found = _gated(fields)
    size = fields.count_or_none("sliding_window")
    if fields.said.get("layer_types") is not None:
        fields.refuse("It has layer_types, which mistral models do not have.")
    kinds = ["local" if size else "global"] * found["n_layers"]
    return _with_window(fields, found, kinds, size)


def _qwen(fields: Fields) -> Transformer:
    found = _gated(fields)
    size = fields.count_or_none("sliding_window") if fields.flag("use_sliding_window") else None
    first = fields.whole("max_window_layers")
    usual = ["local" if size and i >= first else "global" for i in range(found["n_layers"])]
    return _with_window(fields, found, layer_kinds(fields, usual), size)


def _qwen3(fields: Fields) -> Transformer:
    return {**_qwen(fields), "use_qk_norm": True}


def _gemma(fields: Fields) -> Transformer:
    # The first files said "gelu" and meant its tanh approximation; transformers reads them so.
    found = _gated(fields, gelu="gelu_pytorch_tanh")
    other = fields.said.get("hidden_activation")
    if other is not None and other != found["act_fn"]:
        fields.refuse(f"hidden_activation is {other!r:.60} and hidden_act means another.")
    return {**found, **rotary(fields, found["d_head"])}


def _gemma2(fields: Fields) -> Transformer:
    found = _late_gemma(fields)
    usual = ["global" if i % 2 else "local" for i in range(found["n_layers"])]
    cap = fields.positive_or_none("attn_logit_softcapping")
    return {
        **_with_window(
            fields, found, layer_kinds(fields, usual), fields.count_or_none("sliding_window")
        ),
        **({} if cap is None else {"attn_scores_soft_cap": cap}),
    }


def _gemma3(fields: Fields) -> Transformer:
    found, every = _late_gemma(fields), fields.count("sliding_window_pattern")
    usual = ["local" if (i + 1) % every else "global" for i in range(found["n_layers"])]
    kinds, size = layer_kinds(fields, usual), fields.count_or_none("sliding_window")
    return {
        **found,
        "use_qk_norm": True,
        **window(fields, kinds, size),
        **rotary_by_layer(fields, found["d_head"]),
    }


def _late_gemma(fields: Fields) -> Transformer:
    """Read what Gemma 2 and 3 share, but for windows and positions."""
    cap = fields.positive_or_none("final_logit_softcapping")
    return {
        **_gated(fields, "hidden_activation"),
        "use_normalization_before_and_after": True,
        "attn_scale": math.sqrt(fields.positive("query_pre_attn_scalar")),
        **({} if cap is None else {"output_logits_soft_cap": cap}),
    }


def _with_window(
    fields: Fields, found: Transformer, kinds: list[str], size: int | None
) -> Transformer:
    """Add windows, and positions that are the same in all layers."""
    windows, rope = window(fields, kinds, size), rotary(fields, found["d_head"])
    if windows and "rotary_scaling_factor" in rope:
        fields.refuse(
            "Its rotary positions are scaled linearly, in layers with sliding attention too.",
            "The model class scales them in full attention only.",
        )
    return {**found, **windows, **rope}


_READERS: dict[str, tuple[str, Callable[[Fields], Transformer]]] = {
    "gpt2": ("gpt2", _gpt2),
    "gpt_neox": ("gpt_neox", _gpt_neox),
    "llama": ("llama", _llama),
    "mistral": ("mistral", _mistral),
    "qwen2": ("qwen2", _qwen),
    "qwen3": ("qwen3", _qwen3),
    "gemma": ("gemma", _gemma),
    "gemma2": ("gemma2", _gemma2),
    "gemma3_text": ("gemma3", _gemma3),
}
