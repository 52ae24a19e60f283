"""Small random checkpoints of every family, written by transformers, and its logits in float64.

``write_checkpoint`` draws weights so large that every component matters: biases and norms too, for
a zero would hide a mistake. A checkpoint takes some milliseconds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors import safe_open
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Shape = dict[str, Any]

D_VOCAB = 97
LENGTH = 24
"""Tokens of a prompt: longer than every window below."""
WINDOW = 5

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 6.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_GEMMA = {**_SMALL, "head_dim": 12, "num_key_value_heads": 2}
_GEMMA3: Shape = {
    **_GEMMA,
    "num_hidden_layers": 4,
    "sliding_window": WINDOW,
    "query_pre_attn_scalar": 20,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}
_GEMMA3["layer_types"] = _GEMMA3["layer_types"][:4]
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

SHAPES: dict[str, dict[str, Shape]] = {
    "gpt2": {
        "tied": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
        "untied, scaled by layer": {
            "n_embd": 48,
            "n_layer": 4,
            "n_head": 3,
            "n_positions": 64,
            "n_inner": 56,
            "tie_word_embeddings": False,
            "scale_attn_by_inverse_layer_idx": True,
            "activation_function": "relu",
        },
        "unscaled scores": {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 8,
            "n_positions": 2100,
            "scale_attn_weights": False,
            "reorder_and_upcast_attn": True,
        },
    },
    "gpt_neox": {
        "parallel, a quarter rotated": {**_SMALL, "num_attention_heads": 2},
        "sequential, all rotated": {
            **_SMALL,
            "use_parallel_residual": False,
            "attention_bias": False,
            "hidden_act": "gelu_new",
            "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 1.0},
        },
        "tied, half rotated": {
            **_SMALL,
            "tie_word_embeddings": True,
            "hidden_act": "gelu_fast",
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 3.0,
                "rope_theta": 50.0,
                "partial_rotary_factor": 0.5,
            },
        },
    },
    "llama": {
        "full heads": {**_SMALL},
        "grouped queries, llama3 positions": {
            **_SMALL,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "rope_parameters": _LLAMA3,
            "rms_norm_eps": 1e-3,
        },
        "llama3 positions, original length beside them": {
            **_SMALL,
            "rope_parameters": _LLAMA3,  # at the top of config.json it wins over the one here
            "original_max_position_embeddings": 16,
        },
        "one key for all, tied, biases": {
            **_SMALL,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0},
        },
    },
    "mistral": {
        "window": {**_SMALL, "num_key_value_heads": 2, "sliding_window": WINDOW},
        "no window, wide heads": {
            **_SMALL,
            "num_key_value_heads": 4,
            "head_dim": 20,
            "sliding_window": None,
        },
    },
    "qwen2": {
        "grouped queries": {**_SMALL, "num_key_value_heads": 2},
        "late layers in a window, tied": {
            **_SMALL,
            "num_key_value_heads": 4,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    },
    "qwen3": {
        "grouped queries, wide heads": {**_SMALL, "num_key_value_heads": 2, "head_dim": 12},
        "full heads, biases, windows": {
            **_SMALL,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    },
    "gemma": {
        "one key for all": {**_GEMMA, "num_key_value_heads": 1},
        "full heads, untied": {
            **_GEMMA,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
            "attention_bias": True,
        },
    },
    "gemma2": {
        "caps and windows": {
            **_GEMMA,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 2.0,
        },
        "no caps, untied": {
            **_GEMMA,
            "num_key_value_heads": 4,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 9,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "tie_word_embeddings": False,
        },
    },
    "gemma3": {
        "two rotary bases, linear positions": {
            **_GEMMA3,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
        "final cap": {
            **_GEMMA3,
            "num_key_value_heads": 1,
            "final_logit_softcapping": 2.0,
            "attn_logit_softcapping": 1.5,  # which transformers reads and does not use
        },
        "with images": {"text_config": _GEMMA3, "vision_config": _VISION},
    },
}
CASES = [(family, name) for family, shapes in SHAPES.items() for name in shapes]

_CLASSES: dict[str, tuple[Any, Any]] = {
    "gpt2": (hf.GPT2Config, hf.GPT2LMHeadModel),
    "gpt_neox": (hf.GPTNeoXConfig, hf.GPTNeoXForCausalLM),
    "llama": (hf.LlamaConfig, hf.LlamaForCausalLM),
    "mistral": (hf.MistralConfig, hf.MistralForCausalLM),
    "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM),
    "qwen3": (hf.Qwen3Config, hf.Qwen3ForCausalLM),
    "gemma": (hf.GemmaConfig, hf.GemmaForCausalLM),
    "gemma2": (hf.Gemma2Config, hf.Gemma2ForCausalLM),
    "gemma3": (hf.Gemma3TextConfig, hf.Gemma3ForCausalLM),
}
_WITH_IMAGES = (hf.Gemma3Config, hf.Gemma3ForConditionalGeneration)


def default_config(family: str) -> dict[str, Any]:
    """What transformers' configuration class writes if it is told nothing."""
    return _CLASSES[family][0]().to_dict()


def write_checkpoint(
    folder: Path,
    family: str,
    shape_name: str,
    *,
    seed: int = 0,
    d_vocab: int = D_VOCAB,
    max_shard_size: str = "5GB",
) -> Any:
    """Write config.json and safetensors of a random model to ``folder``; return the model.

    Args:
        folder: Where to; it is made.
        family: A key of ``SHAPES``.
        shape_name: A key of ``SHAPES[family]``.
        seed: Of the weights.
        d_vocab: Size of the vocabulary, so that it can go with a given tokenizer.
        max_shard_size: Files larger than this are split, e.g. "20KB".
    """
    model = make_model(family, shape_name, seed=seed, d_vocab=d_vocab)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return model


def make_model(family: str, shape_name: str, *, seed: int = 0, d_vocab: int = D_VOCAB) -> Any:
    """Make a random model of transformers, with attention computed step by step."""
    given = copy.deepcopy(SHAPES[family][shape_name])
    images = "text_config" in given
    config_class, model_class = _WITH_IMAGES if images else _CLASSES[family]
    special = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    if images:
        given["text_config"] |= {"vocab_size": d_vocab, **special}
        given |= {"image_token_index": d_vocab - 1, "mm_tokens_per_image": 4}
    else:
        given |= {"vocab_size": d_vocab, **special}
    config = config_class(**given)
    config._attn_implementation = "eager"
    model = model_class(config).eval().requires_grad_(False)
    randomize(model, family, seed)
    return model


def randomize(model: Any, family: str, seed: int) -> None:
    """Draw every parameter anew, at a scale at which its component matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.copy_(_drawn(name, noise, family))


def _drawn(name: str, noise: Tensor, family: str) -> Tensor:
    is_norm = "norm" in name or "ln_" in name
    if noise.dim() == 1:
        middle = 1.0 if is_norm and name.endswith("weight") and "gemma" not in family else 0.0
        return middle + 0.3 * noise
    if "wpe" in name:
        return 0.5 * noise
    if any(part in name for part in ("wte", "embed_in", "embed_tokens")):
        return noise * (noise.shape[1] ** -0.5 if "gemma" in family else 0.5)
    into = noise.shape[0] if family == "gpt2" and "lm_head" not in name else noise.shape[1]
    return noise / math.sqrt(into)


# --- the other side of the comparison -------------------------------------------------------------


@torch.no_grad()
def logits_of(model: Any, ids: Tensor) -> Tensor:
    """Logits of transformers as it is, in the model's own precision ``[batch, pos, output]``."""
    return model(input_ids=ids, use_cache=False).logits


@torch.no_grad()
def logits_in_float64(model: Any, ids: Tensor) -> Tensor:
    """Logits of transformers with everything that it computes in float32 raised to float64.

    Left to itself it computes norms, softmaxes and rotary tables in float32 whatever the precision
    of the model. Here every creation of, or conversion to, float32 gives float64 instead, from the
    constructor on; a float32 tensor that appears nevertheless is an error.
    """
    config = copy.deepcopy(model.config)
    if getattr(config, "reorder_and_upcast_attn", False):
        config.reorder_and_upcast_attn = False  # it insists on float32; the function is the same
    config._attn_implementation = "eager"
    weights = {name: weight.double() for name, weight in model.state_dict().items()}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64():
            exact = type(model)(config).eval()
            exact.load_state_dict(weights)
            return logits_of(exact, ids)
    finally:
        torch.set_default_dtype(before)


class _Float64(TorchDispatchMode):
    """Turns float32 into float64 wherever an operation asks for it."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        raised = [torch.float64 if a is torch.float32 else a for a in args]
        named = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        found = func(*raised, **named)
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                raise AssertionError(f"{func} gave float32")
        return found


# --- this side ------------------------------------------------------------------------------------


def tensors_in(folder: Path) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]:
    """Shapes of the tensors in a checkpoint's files, and a function that reads one."""
    where, shapes = {}, {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            where |= dict.fromkeys(file.keys(), path)
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def read(name: str) -> Tensor:
        with safe_open(where[name], "pt") as file:
            return file.get_tensor(name)

    return shapes, read
