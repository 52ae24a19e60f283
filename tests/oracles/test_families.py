"""Checkpoints of every family against transformers, which wrote them.

transformers computes in the precision of the checkpoint, and once more with everything in float64
(``_families.logits_in_float64``). Every mistake that a mapping can make is made on purpose and must
be far off. Then: what config.json leaves out, what is refused, and folded weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.weight_processing import ProcessWeights
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from interp.errors import CannotLoad
from interp.models._families_defaults import DEFAULTS
from interp.models.convert import _rotary, convert, used
from interp.models.families import Architecture, architecture, families, why_not_foldable
from interp.models.folding import fold
from interp.models.load import build, load
from interp.models.tokens import encode
from tests.oracles import _families
from tests.oracles._families import CASES, D_VOCAB, LENGTH

KIND = "models"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the standard deviation of transformers' logits
FAR = 1e3

Note = Callable[..., None]
State = dict[str, Tensor]
Shape = dict[str, Any]
Mistake = Callable[[Shape, State], tuple[Shape, State]]


# --- what is compared -----------------------------------------------------------------------------


@dataclasses.dataclass
class Case:
    """A checkpoint as it was read, and what transformers makes of some tokens with it."""

    made: Architecture
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    ids: Tensor
    theirs: dict[torch.dtype, Tensor]

    @property
    def std(self) -> float:
        return float(self.theirs[torch.float64].std())

    def state(self, dtype: torch.dtype) -> State:
        """Convert it in a precision, as the loader does."""
        return convert(self.made, self.shapes, lambda n: self.read(n).to(dtype))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Case]:
    """Write a checkpoint in several files, read it back, and run transformers."""

    @lru_cache
    def make(family: str, name: str) -> Case:
        folder = tmp_path_factory.mktemp(family)
        model = _families.write_checkpoint(folder, family, name, max_shard_size="30KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
        made = architecture(json.loads((folder / "config.json").read_text()))
        draw = torch.Generator().manual_seed(1)
        ids = torch.randint(0, D_VOCAB, (2, LENGTH), generator=draw)
        theirs = {
            torch.float32: _families.logits_of(model, ids),
            torch.float64: _families.logits_in_float64(model, ids),
        }
        return Case(made, *_families.tensors_in(folder), ids, theirs)

    return make


def hooked_of(shape: Shape, state: State, dtype: torch.dtype) -> Any:
    """The model class with these weights, filled as the loader does it."""
    hooked = build({**shape, "dtype": dtype, "init_weights": False})
    missing, unexpected = hooked.load_state_dict(state, strict=False, assign=True)
    assert not unexpected
    assert all(name.endswith((".mask", ".IGNORE")) for name in missing), missing
    hooked.to(dtype, print_details=False)
    return hooked.eval().requires_grad_(False)


def deviation(ours: Tensor, theirs: Tensor, std: float) -> float:
    """The largest difference of any logit, in standard deviations."""
    return float((ours.double() - theirs.double()).abs().max() / std)


def assert_close(off: float, tolerance: float) -> None:
    assert off <= tolerance, f"off by {off:.2g}, allowed {tolerance:.2g}"


# --- mistakes -------------------------------------------------------------------------------------


def shape_with(**changed: Any) -> Mistake:
    """The configuration is misread; rotary tables follow it."""

    def mistake(shape: Shape, state: State) -> tuple[Shape, State]:
        shape = {**shape, **changed}
        return shape, {**state, **_rotary(shape)}

    return mistake


def state_with(part: str, change: Callable[[Tensor], Tensor]) -> Mistake:
    """All tensors whose name has ``part`` are misread."""

    def mistake(shape: Shape, state: State) -> tuple[Shape, State]:
        assert any(part in name for name in state)
        return shape, {n: change(w) if part in n else w for n, w in state.items()}

    return mistake


def wrong_order_of_keys(shape: Shape, state: State) -> tuple[Shape, State]:
    """Heads 0, 1, 2, 3 read keys 0, 1, 0, 1 instead of 0, 0, 1, 1."""
    times = shape["n_heads"] // shape["n_key_value_heads"]
    ungrouped = {
        name.replace("attn._", "attn."): w.repeat(times, *[1] * (w.dim() - 1))
        if "attn._" in name
        else w
        for name, w in state.items()
    }
    return {**shape, "n_key_value_heads": None}, ungrouped


def no_query_norm(shape: Shape, state: State) -> tuple[Shape, State]:
    kept = {name: w for name, w in state.items() if "q_norm" not in name and "k_norm" not in name}
    return {**shape, "use_qk_norm": False}, kept


def no_norm_after(shape: Shape, state: State) -> tuple[Shape, State]:
    kept = {name: w for name, w in state.items() if "_post." not in name}
    return {**shape, "use_normalization_before_and_after": False}, kept


def exchanged(one: str, other: str) -> Mistake:
    """Two kinds of tensors take each other's places."""

    def mistake(shape: Shape, state: State) -> tuple[Shape, State]:
        swap = {one: other, other: one}
        names = {n: ".".join(swap.get(part, part) for part in n.split(".")) for n in state}
        return shape, {n: state[names[n]] for n in state}

    return mistake


def unembed_with_the_embedding(shape: Shape, state: State) -> tuple[Shape, State]:
    return shape, {**state, "unembed.W_U": state["embed.W_E"].T}


def heads_outermost(shape: Shape, state: State) -> tuple[Shape, State]:
    """NeoX's fused matrix split as GPT-2's is: all queries, all keys, all values."""
    wrong = dict(state)
    for layer in range(shape["n_layers"]):
        at = f"blocks.{layer}.attn"
        stored = torch.stack([state[f"{at}.W_{name}"].mT for name in "QKV"], 1)  # as in the file
        parts = stored.reshape(3, shape["n_heads"], shape["d_head"], -1)
        wrong |= {f"{at}.W_{name}": part.mT for name, part in zip("QKV", parts, strict=True)}
    return shape, wrong


def mistakes(made: Architecture) -> dict[str, Mistake]:
    """All mistakes that can be made with this checkpoint."""
    shape, gemma = made.transformer, made.family.startswith("gemma")
    rotary = shape["positional_embedding_type"] == "rotary"
    scaled = {"use_NTK_by_parts_rope": False, "rotary_scaling_factor": 1.0}
    d_head, base = shape["d_head"], shape.get("rotary_base", 0)
    local = shape.get("use_local_attn")
    possible: dict[str, tuple[Any, Mistake]] = {
        "rotary base": (rotary, shape_with(rotary_base=base * 3)),
        "adjacent pairs rotated": (rotary, shape_with(rotary_adjacent_pairs=True)),
        "whole heads rotated": (
            rotary and shape["rotary_dim"] < d_head,
            shape_with(rotary_dim=d_head),
        ),
        "one rotary base": ("rotary_base_local" in shape, shape_with(rotary_base_local=base)),
        "positions not scaled": (scaled.keys() & shape.keys(), shape_with(**scaled)),
        "no window": (local, shape_with(use_local_attn=False)),
        "scores capped though not": (made.family == "gemma3", shape_with(attn_scores_soft_cap=1.5)),
        "original length that is overruled": (
            shape.get("NTK_original_ctx_len") == 16,
            shape_with(NTK_original_ctx_len=32.0),
        ),
        "window one longer": (local, shape_with(window_size=shape.get("window_size", 0) + 1)),
        "no cap on scores": ("attn_scores_soft_cap" in shape, shape_with(attn_scores_soft_cap=-1)),
        "no cap on logits": (
            "output_logits_soft_cap" in shape,
            shape_with(output_logits_soft_cap=-1),
        ),
        "scores scaled by the head's size": (
            "attn_scale" in shape,
            shape_with(attn_scale=math.sqrt(d_head)),
        ),
        "scores scaled though not": (
            not shape.get("use_attn_scale", True),
            shape_with(use_attn_scale=True),
        ),
        "layers scaled alike": (
            shape.get("scale_attn_by_inverse_layer_idx"),
            shape_with(scale_attn_by_inverse_layer_idx=False),
        ),
        "parallel and sequential": (
            "parallel_attn_mlp" in shape,
            shape_with(parallel_attn_mlp=not shape.get("parallel_attn_mlp")),
        ),
        "keys repeated in the wrong order": (
            shape.get("n_key_value_heads", 1) > 1,
            wrong_order_of_keys,
        ),
        "fused matrix split as GPT-2's": (made.family == "gpt_neox", heads_outermost),
        "no norm of queries": (shape.get("use_qk_norm"), no_query_norm),
        "no norm behind": (shape.get("use_normalization_before_and_after"), no_norm_after),
        "norms without their one": (gemma, state_with("ln", lambda w: w - 1)),
        "embedding not scaled": (
            gemma,
            state_with("W_E", lambda w: w / math.sqrt(shape["d_model"])),
        ),
        "unembedded by the embedding": (
            gemma or not shape["tie_word_embeddings"],
            unembed_with_the_embedding,
        ),
        "other activation": (True, shape_with(act_fn="relu" if gemma else "gelu_new")),
        "no value bias": (made.family in ("gpt2", "qwen2"), state_with("b_V", torch.zeros_like)),
        "queries and keys exchanged": (
            not shape.get("n_key_value_heads"),
            exchanged("W_Q", "W_K"),
        ),
        "gate and input exchanged": (shape.get("gated_mlp"), exchanged("W_gate", "W_in")),
        "norms exchanged": (True, exchanged("ln1", "ln2")),
        "norms without bias": (
            shape["normalization_type"] == "LN",
            state_with("ln1.b", torch.zeros_like),
        ),
        "positions from one": (not rotary, state_with("W_pos", lambda w: w.roll(1, 0))),
        "epsilon": (shape["eps"] > 1e-4, shape_with(eps=1e-6)),
        "matrices transposed": (True, state_with("W_O", lambda w: w.mT.reshape(w.shape))),
    }
    same = "other activation" if "gelu" in shape["act_fn"] and not gemma else ""
    return {name: m for name, (applies, m) in possible.items() if applies and name != same}


# --- logits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "name"), CASES)
@torch.no_grad()
def test_logits_are_those_of_transformers(
    case: Callable[[str, str], Case], family: str, name: str, ledger: Note
) -> None:
    given = case(family, name)
    shape, off = given.made.transformer, {}
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.float64, FLOAT64)):
        state = given.state(dtype)
        ours = hooked_of(shape, state, dtype)(given.ids)
        off[dtype] = deviation(ours, given.theirs[dtype], given.std)
        assert_close(off[dtype], tolerance)
    wrong = {}
    for what, mistake in mistakes(given.made).items():
        ours = hooked_of(*mistake(shape, state), torch.float64)(given.ids)
        wrong[what] = deviation(ours, given.theirs[torch.float64], given.std)
        assert wrong[what] > FAR * FLOAT32, f"{what}: off by {wrong[what]:.2g} only"
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.float64, FLOAT64)):
        ledger(
            kind=KIND,
            oracle=f"{family}, {name}: all logits of transformers 5, {dtype}",
            control=f"{len(wrong)} mistakes, off by {min(wrong.values()):.1g} or more: "
            + ", ".join(wrong),
            deviation=off[dtype],
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )


@pytest.mark.parametrize(
    ("family", "name", "other"),
    [
        ("gemma", "one key for all", "llama"),
        ("gemma3", "final cap", "qwen3"),
        ("mistral", "window", "llama"),
        ("qwen3", "full heads, biases, windows", "gemma3"),
    ],
)
@torch.no_grad()
def test_another_familys_mapping_is_far_off(
    case: Callable[[str, str], Case], family: str, name: str, other: str
) -> None:
    """The files fit, as these families give their tensors the same names."""
    given = case(family, name)
    shape = dict(given.made.transformer)
    if family == "mistral":
        shape = {k: v for k, v in shape.items() if "local" not in k}
    made = dataclasses.replace(given.made, family=other, transformer=shape)
    state = convert(made, given.shapes, lambda n: given.read(n).double())
    off = deviation(
        hooked_of(shape, state, torch.float64)(given.ids), given.theirs[torch.float64], given.std
    )
    assert off > FAR * FLOAT32


@torch.no_grad()
def test_the_class_alone_has_llama3_positions_in_float32_only(
    case: Callable[[str, str], Case],
) -> None:
    """Why ``convert`` brings the tables: elsewhere the class's own are the same to rounding."""
    for family, name in CASES:
        given = case(family, name)
        state = given.state(torch.float64)
        if "blocks.0.attn.rotary_sin" not in state:
            continue
        own = build({**given.made.transformer, "dtype": torch.float64, "init_weights": False})
        tables = {n: w for n, w in own.state_dict().items() if "rotary" in n}
        off = max(float((w - state[n]).abs().max()) for n, w in tables.items())
        assert tables.keys() == {n for n in state if "rotary" in n}
        if "use_NTK_by_parts_rope" in given.made.transformer:
            assert FAR * FLOAT64 < off < FLOAT32
        else:
            assert off < FLOAT64


# --- config.json ----------------------------------------------------------------------------------

TYPES = {family: "gemma3_text" if family == "gemma3" else family for family in families()}
# Fields of transformers' configuration classes that do not change what a model computes.
WITHOUT_EFFECT = {
    "transformers_version", "architectures", "output_hidden_states", "return_dict", "dtype",
    "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "initializer_range",
    "use_cache", "bos_token_id", "eos_token_id", "pad_token_id", "pretraining_tp",
    "attention_dropout", "hidden_dropout", "classifier_dropout", "resid_pdrop", "embd_pdrop",
    "attn_pdrop", "is_decoder", "summary_type", "summary_use_proj", "summary_activation",
    "summary_proj_to_labels", "summary_first_dropout", "reorder_and_upcast_attn",
    "attn_logit_softcapping",  # of Gemma 3; that of Gemma 2 is read
}  # fmt: skip
REFUSED_IF_SET = {"is_encoder_decoder", "add_cross_attention", "use_bidirectional_attention"}


@pytest.mark.parametrize("family", families())
def test_defaults_are_those_of_transformers(family: str) -> None:
    kind, usual = TYPES[family], _families.default_config(family)
    assert architecture({"model_type": kind}) == architecture(usual)
    fields = {f.name for f in dataclasses.fields(_families._CLASSES[family][0])}
    assert fields <= DEFAULTS[kind].keys() | WITHOUT_EFFECT | REFUSED_IF_SET
    for name in fields & DEFAULTS[kind].keys() - {"layer_types", "rope_parameters", "head_dim"}:
        default = DEFAULTS[kind][name]
        if name == "sliding_window" and "use_sliding_window" in fields:
            continue  # transformers writes null where it is not used
        assert usual[name] == (usual["num_attention_heads"] if default is None and "key" in name
                               else default), name  # fmt: skip


def another(value: Any) -> Any:
    """A value that differs, of the same type where it has one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2
    return "gelu_fast" if isinstance(value, str) else "nonsense"


def outcome(config: dict[str, Any]) -> Architecture | str:
    """What is read, or why it is not."""
    try:
        return architecture(config)
    except CannotLoad as error:
        return str(error)


@pytest.mark.parametrize("family", families())
def test_every_field_that_is_read_matters(family: str) -> None:
    """Changed, each changes the architecture or is refused by its name."""
    defaults, base = DEFAULTS[TYPES[family]], {"model_type": TYPES[family]}
    if "use_sliding_window" in defaults:
        base |= {"use_sliding_window": True}
    usual = architecture(base)
    for name, default in defaults.items():
        found = outcome({**base, name: another(base.get(name, default))})
        assert found != usual, name
        assert name in found if isinstance(found, str) else True


OLD_AND_NEW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": (
        {
            "rope_theta": 500000.0,
            "torch_dtype": "bfloat16",
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        {
            "dtype": "bfloat16",
            "rope_parameters": {
                "rope_theta": 500000.0,
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    "gpt_neox": (
        {"rotary_pct": 0.5, "rotary_emb_base": 500},
        {"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 500}},
    ),
    "qwen2": (
        {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}},
    ),
    "gemma3": (
        {
            "rope_theta": 1e5,
            "rope_local_base_freq": 50,
            "sliding_window_pattern": 2,
            "num_hidden_layers": 3,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        {
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
    "gpt2": (
        {"n_embd": 64, "n_head": 2, "n_layer": 1, "n_positions": 10, "n_ctx": 10},
        {
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "max_position_embeddings": 10,
        },
    ),
    "gemma": (
        {"hidden_act": "gelu", "hidden_activation": None, "head_dim": 64},
        {"hidden_act": "gelu_pytorch_tanh", "head_dim": 64},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", OLD_AND_NEW)
def test_old_and_new_spellings_mean_the_same(family: str) -> None:
    """And both mean to us what transformers, which reads both, writes down for them."""
    kind = TYPES[family]
    old, new = ({"model_type": kind, **given} for given in OLD_AND_NEW[family])
    assert architecture(old) == architecture(new) != architecture({"model_type": kind})
    for given in OLD_AND_NEW[family]:
        written = _families._CLASSES[family][0](**given).to_dict()
        assert architecture(written) == architecture(old)


@pytest.mark.parametrize("at", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_the_original_length_of_llama3_is_the_one_that_transformers_takes(
    at: str, inside: bool, beside: bool
) -> None:
    rope = {k: v for k, v in _families._LLAMA3.items() if not k.startswith("original")}
    name = "original_max_position_embeddings"
    told = {"rope_theta": 5000.0, "max_position_embeddings": 64, "head_dim": 8, "hidden_size": 32,
            at: {**rope, **({name: 32} if inside else {})},
            **({name: 16} if beside else {})}  # fmt: skip
    found = architecture({"model_type": "llama", "num_attention_heads": 4, **told}).transformer
    config = _families._CLASSES["llama"][0].from_dict({**told, "num_attention_heads": 4})
    theirs = LlamaRotaryEmbedding(config)(torch.zeros(1, 64, 8), torch.arange(64)[None])[0][0]

    def off(length: float) -> float:
        cos = _rotary({**found, "n_layers": 1, "NTK_original_ctx_len": length})
        return deviation(cos["blocks.0.attn.rotary_cos"], theirs, float(theirs.std()))

    taken = found["NTK_original_ctx_len"]
    assert taken == (16 if beside else 32 if inside else 64)
    assert_close(off(taken), FLOAT32)
    assert min(off(length) for length in {16.0, 32.0, 64.0} - {taken}) > FAR * FLOAT32


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({}, "no model_type"),
    "type of another kind": ({"model_type": ["llama"]}, "model_type"),
    "other family": ({"model_type": "mixtral"}, "gpt2, gpt_neox, llama"),
    "near": ({"model_type": "qwen3_moe"}, "nearest is qwen3"),
    "code": ({"model_type": "llama", "auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
    "quantised": ({"model_type": "llama", "quantization_config": {"bits": 4}}, "quantised"),
    "experts": ({"model_type": "llama", "num_local_experts": 8}, "experts"),
    "layers differ": ({"model_type": "llama", "per_layer_config": {"0": {}}}, "per_layer_config"),
    "biased MLP": ({"model_type": "llama", "mlp_bias": True}, "mlp_bias"),
    "yarn": ({"model_type": "qwen2", "rope_scaling": {"type": "yarn", "factor": 4}}, "yarn"),
    "dynamic": ({"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 4}}, "dyn"),
    "two types": (
        {"model_type": "llama", "rope_scaling": {"type": "linear", "rope_type": "default"}},
        "linear",
    ),
    "half of llama3": ({"model_type": "llama", "rope_scaling": {"type": "llama3"}}, "numbers"),
    "rope is text": ({"model_type": "llama", "rope_scaling": "linear"}, "rope_scaling"),
    "rope by layer": (
        {"model_type": "gemma2", "rope_parameters": {"full_attention": {}}},
        "rope_parameters",
    ),
    "rope not by layer": (
        {"model_type": "gemma3_text", "rope_parameters": {"rope_theta": 1.0}},
        "rope_parameters",
    ),
    "scaled windows": (
        {"model_type": "mistral", "rope_scaling": {"type": "linear", "factor": 2}},
        "sliding",
    ),
    "partial": ({"model_type": "llama", "partial_rotary_factor": 0.5}, "part 0.5"),
    "odd": ({"model_type": "gpt_neox", "rotary_pct": 0.01}, "no even number"),
    "activation": ({"model_type": "gpt2", "activation_function": "quick_gelu"}, "quick_gelu"),
    "cross": ({"model_type": "gpt2", "add_cross_attention": True}, "another model"),
    "both ways": ({"model_type": "gemma", "use_bidirectional_attention": True}, "after them"),
    **{
        f"two of {name}": ({"model_type": "gpt2", **said, name: 2}, name)
        for said, name in (
            ({"n_head": 4}, "num_attention_heads"),
            ({"n_layer": 4}, "num_hidden_layers"),
            ({"n_embd": 48}, "hidden_size"),
            ({"n_positions": 64}, "max_position_embeddings"),
        )
    },
    "original length is null": (
        {"model_type": "llama", "original_max_position_embeddings": None,
         "rope_scaling": OLD_AND_NEW["llama"][0]["rope_scaling"]}, "numbers"),
    "gemma3 text": ({"model_type": "gemma3", "text_config": {"model_type": "llama"}}, "text_con"),
    "kinds of layers": ({"model_type": "qwen2", "layer_types": ["chunked_attention"] * 32}, "chun"),
    "too few kinds": ({"model_type": "qwen2", "layer_types": ["full_attention"]}, "32 entries"),
    "no window": ({"model_type": "gemma2", "sliding_window": None}, "sliding_window is null"),
    "ministral": ({"model_type": "mistral", "layer_types": ["full_attention"] * 32}, "layer_types"),
    "negative": ({"model_type": "llama", "num_hidden_layers": -1}, "num_hidden_layers is -1"),
    "absurd": ({"model_type": "llama", "num_hidden_layers": 10**9}, "10,000"),
    "zero": ({"model_type": "llama", "vocab_size": 0}, "vocab_size is 0"),
    "true": ({"model_type": "llama", "num_attention_heads": True}, "is True"),
    "text": ({"model_type": "llama", "hidden_size": "4096"}, "'4096'"),
    "null": ({"model_type": "llama", "hidden_size": None}, "hidden_size is null"),
    "infinite": ({"model_type": "llama", "rms_norm_eps": math.inf}, "rms_norm_eps"),
    "heads": ({"model_type": "llama", "num_attention_heads": 7}, "divided by 7"),
    "groups": ({"model_type": "llama", "num_key_value_heads": 5}, "divided by 5"),
    "flag": ({"model_type": "llama", "tie_word_embeddings": "no"}, "true or false"),
    "theta": ({"model_type": "llama", "rope_theta": 0}, "base"),
    "neox head": ({"model_type": "gpt_neox", "head_dim": 8}, "head_dim"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_represented_is_refused(what: str) -> None:
    config, said = REFUSED[what]
    with pytest.raises(CannotLoad) as raised:
        architecture(config)
    assert said in str(raised.value)
    assert raised.value.asked
    assert raised.value.found
    assert raised.value.works


ODD: list[Any] = [
    None, True, False, -1, 0, 1, 7, 1.5, 10**400, math.nan, math.inf, "", "x", [], [None], [[]], {},
    {"rope_type": []}, {"full_attention": 1}, {"factor": {}}, {"type": "llama3", "factor": "8"},
    {"rope_type": "linear", "factor": math.nan}, ["full_attention"], ["sliding_attention"] * 32,
]  # fmt: skip


@pytest.mark.parametrize("family", [*families(), "gemma3 with images"])
def test_odd_values_are_read_or_refused_and_nothing_else(family: str) -> None:
    images = family.endswith("images")
    kind = "gemma3_text" if images else TYPES[family]
    for name in (*DEFAULTS[kind], "auto_map", "num_experts", "hidden_activation", "text_config"):
        for value in ODD:
            text = {"model_type": kind, name: value}
            config = {"model_type": "gemma3", "text_config": text, name: value} if images else text
            found = outcome(config)
            if isinstance(found, Architecture):
                json.dumps(found.transformer, allow_nan=False)
                assert 1 <= found.transformer["n_ctx"] <= 2048


def test_positions_are_capped_and_a_long_table_is_cut(case: Callable[[str, str], Case]) -> None:
    given = case("gpt2", "unscaled scores")
    assert given.made.n_ctx_trained == 2100
    assert given.made.transformer["n_ctx"] == 2048
    assert given.state(torch.float32)["pos_embed.W_pos"].shape[0] == 2048
    json.dumps(given.made.transformer)


def test_the_folders_name_means_nothing(tmp_path: Path) -> None:
    folders = ("plain", "gemma-2-gpt2", "llama", "mistral/x", "pythia-70m")
    read: list[tuple[Architecture, State]] = []
    for name in folders:
        folder = tmp_path / name
        _families.write_checkpoint(folder, "llama", "full heads")
        made = architecture(json.loads((folder / "config.json").read_text()))
        found = convert(made, *_families.tensors_in(folder))
        read.append((made, found))
    first, weights = read[0]
    assert first.family == "llama"
    for made, other in read[1:]:
        assert made == first
        assert other.keys() == weights.keys()
        assert all(torch.equal(other[n], w) for n, w in weights.items())


# --- names of tensors -----------------------------------------------------------------------------


def stored(given: Case) -> State:
    return {name: given.read(name) for name in given.shapes}


def converted(given: Case, tensors: State) -> State:
    """Convert from a dictionary; each tensor must be read once at most."""
    left = dict(tensors)
    return convert(given.made, {n: tuple(w.shape) for n, w in tensors.items()}, left.pop)


@pytest.mark.parametrize(
    ("family", "name", "old", "new"),
    [
        ("gpt2", "tied", "transformer.", ""),
        ("gpt_neox", "tied, half rotated", "gpt_neox.", ""),
        ("gpt_neox", "sequential, all rotated", "lm_head.", "embed_out."),
        ("gpt_neox", "sequential, all rotated", "embed_out.", "lm_head."),
        ("llama", "one key for all, tied, biases", "model.", ""),
        ("gemma3", "with images", "language_model.model.", "model.language_model."),
        ("gemma3", "with images", "model.language_model.", "language_model.model."),
        ("gemma3", "final cap", "model.", "language_model.model."),
    ],
)
def test_known_prefixes_are_read(
    case: Callable[[str, str], Case], family: str, name: str, old: str, new: str
) -> None:
    given = case(family, name)
    tensors = {
        n.replace(old, new, 1) if n.startswith(old) else n: w for n, w in stored(given).items()
    }
    expected, found = converted(given, stored(given)), converted(given, tensors)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[n], w) for n, w in expected.items())


DERIVED = {
    "gpt2": ["transformer.h.0.attn.bias", "transformer.h.2.attn.masked_bias"],
    "gpt_neox": [
        "gpt_neox.layers.0.attention.bias",
        "gpt_neox.layers.1.attention.masked_bias",
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq",
    ],
    "llama": ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"],
}


@pytest.mark.parametrize("family", DERIVED)
def test_what_is_derived_is_passed_over(case: Callable[[str, str], Case], family: str) -> None:
    given = case(family, next(iter(_families.SHAPES[family])))
    extra = dict.fromkeys(DERIVED[family], torch.zeros(3))
    assert converted(given, stored(given) | extra).keys() == converted(given, stored(given)).keys()


@pytest.mark.parametrize("family", families())
def test_missing_unexpected_and_misshapen_tensors_are_named(
    case: Callable[[str, str], Case], family: str
) -> None:
    given = case(family, next(iter(_families.SHAPES[family])))
    tensors = stored(given)
    for name in tensors:
        fewer = {n: w for n, w in tensors.items() if n != name}
        if "lm_head" not in name or not given.made.transformer["tie_word_embeddings"]:
            with pytest.raises(CannotLoad, match="missing") as raised:
                converted(given, fewer)
            assert name in str(raised.value)
        with pytest.raises(CannotLoad, match="shape") as raised:
            converted(given, tensors | {name: tensors[name][None]})
        assert name in str(raised.value)
    for name in ("model.layers.0.self_attn.q_proj.lora_A", "h.0.attn.c_attn.g_idx", "score.weight"):
        with pytest.raises(CannotLoad, match="unexpected") as raised:
            converted(given, tensors | {name: torch.zeros(1)})
        assert name in str(raised.value)


def test_nothing_is_read_before_the_names_are_right(case: Callable[[str, str], Case]) -> None:
    given = case("llama", "full heads")
    name = "model.norm.weight"
    for shapes in (
        {n: shape for n, shape in given.shapes.items() if n != name},
        {**given.shapes, name: (31,)},
        {**given.shapes, "model.layers.0.self_attn.q_proj.lora_A": (4, 32)},
    ):
        with pytest.raises(CannotLoad, match=r"model\.(norm\.weight|layers\.0.*lora_A)"):
            convert(given.made, shapes, lambda name: pytest.fail(name))


ABSURD = (
    {"vocab_size": 2**31}, {"num_hidden_layers": 10_000}, {"intermediate_size": 2**31},
    {"hidden_size": 2**31}, {"num_attention_heads": 2**31, "head_dim": 2**31 - 2},
)  # fmt: skip


@pytest.mark.parametrize("said", ABSURD, ids=str)
def test_absurd_sizes_are_refused_by_the_shapes_alone(
    case: Callable[[str, str], Case], said: Shape
) -> None:
    given = case("llama", "grouped queries, llama3 positions")
    config = {"model_type": "llama", "vocab_size": D_VOCAB, **_families.SHAPES["llama"][
        "grouped queries, llama3 positions"]}  # fmt: skip
    assert used(architecture(config), given.shapes) == given.shapes.keys()
    without = {n: s for n, s in given.shapes.items() if "q_proj" not in n and "up_proj" not in n}
    for shapes in (given.shapes, without):
        with pytest.raises(CannotLoad, match=r"missing|shape"):
            used(architecture({**config, **said}), shapes)


BIASED = {
    "llama": "one key for all, tied, biases",
    "qwen3": "full heads, biases, windows",
    "gemma": "full heads, untied",
    "gpt_neox": "parallel, a quarter rotated",
}


@pytest.mark.parametrize("family", BIASED)
def test_biases_are_there_by_the_field_and_not_by_the_names(
    case: Callable[[str, str], Case], family: str
) -> None:
    given = case(family, BIASED[family])
    assert given.made.attention_bias is True
    maps = ("dense", "query_key_value") if family == "gpt_neox" else ("k_proj", "o_proj")
    at = "attention" if family == "gpt_neox" else "self_attn"
    every = [n for n in given.shapes if f".{at}." in n and n.endswith(".bias")]
    some = [n for n in every if maps[0] in n]
    one = next(n for n in some if ".1." in n)
    for gone in (every, some, [one]):
        fewer = {n: w for n, w in stored(given).items() if n not in gone}
        with pytest.raises(CannotLoad, match="attention_bias is true, and there is no") as raised:
            converted(given, fewer)
        assert sorted(gone)[0] in str(raised.value)
    config = {**_families.SHAPES[family][BIASED[family]], "vocab_size": D_VOCAB}
    config = {"model_type": TYPES[family], **config}
    config.pop("attention_bias", None)
    # What is left out is false, but for GPT-NeoX.
    for said in ({"attention_bias": False}, *([] if family == "gpt_neox" else [{}])):
        made = architecture({**config, **said})
        with pytest.raises(CannotLoad, match="attention_bias is false, and there is a") as raised:
            converted(dataclasses.replace(given, made=made), stored(given))
        assert sorted(every)[0] in str(raised.value)
        # Without biases in the file, the same configuration is read.
        none = {n: w for n, w in stored(given).items() if n not in every}
        found = converted(dataclasses.replace(given, made=made), none)
        assert float(found["blocks.0.attn.b_O"].abs().max()) == 0


@pytest.mark.parametrize(
    ("family", "some", "never"), [("mistral", "", "q_proj"), ("qwen2", "k_proj", "o_proj")]
)
def test_families_without_the_field_settle_their_biases_themselves(
    case: Callable[[str, str], Case], family: str, some: str, never: str
) -> None:
    given = case(family, next(iter(_families.SHAPES[family])))
    assert given.made.attention_bias is None
    for said in (True, False):
        assert architecture({"model_type": family, "attention_bias": said}).attention_bias is None
    assert used(given.made, given.shapes) == given.shapes.keys()
    name = f"model.layers.0.self_attn.{never}.bias"
    with pytest.raises(CannotLoad, match="unexpected") as raised:
        used(given.made, {**given.shapes, name: (32,)})
    assert name in str(raised.value)
    if some:
        name = f"model.layers.0.self_attn.{some}.bias"
        with pytest.raises(CannotLoad, match="missing") as raised:
            used(given.made, {n: shape for n, shape in given.shapes.items() if n != name})
        assert name in str(raised.value)


@pytest.mark.parametrize("family", BIASED)
@torch.no_grad()
def test_biases_against_the_field_would_be_far_off(tmp_path: Path, family: str) -> None:
    """Why it is refused: transformers leaves them out, and the logits are others."""
    model = _families.write_checkpoint(tmp_path, family, BIASED[family])
    shapes, read = _families.tensors_in(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    made = architecture(told)
    ids = torch.arange(LENGTH)[None]
    theirs = _families.logits_of(model, ids)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**told, "attention_bias": False}))
    ignoring = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert deviation(_families.logits_of(ignoring, ids), theirs, float(theirs.std())) > 0.1
    ours = hooked_of(made.transformer, convert(made, shapes, read), torch.float32)(ids)
    assert_close(deviation(ours, theirs, float(theirs.std())), FLOAT32)
    with pytest.raises(CannotLoad, match="attention_bias"):
        used(architecture(json.loads(path.read_text())), shapes)


def test_an_unembedding_in_the_file_is_used_though_tied(case: Callable[[str, str], Case]) -> None:
    """As transformers does: it ties only what is equal or absent."""
    given = case("llama", "one key for all, tied, biases")
    tensors = stored(given)
    assert "lm_head.weight" not in tensors
    other = torch.randn(D_VOCAB, given.made.transformer["d_model"])
    found = converted(given, tensors | {"lm_head.weight": other})
    assert torch.equal(found["unembed.W_U"], other.T)


def test_gemmas_arithmetic_on_bfloat16_does_not_round_to_it(
    case: Callable[[str, str], Case],
) -> None:
    given = case("gemma", "one key for all")
    half = {name: w.bfloat16() for name, w in stored(given).items()}
    found = converted(given, half)
    gain = half["model.norm.weight"].float() + 1
    assert torch.equal(found["ln_final.w"], gain)
    assert not torch.equal(gain.bfloat16().float(), gain)  # the control: it would have
    assert found["embed.W_E"].dtype == torch.float32
    assert found["blocks.0.attn.W_O"].dtype == torch.bfloat16


# --- folding --------------------------------------------------------------------------------------


def log_probabilities(hooked: Any, ids: Tensor) -> Tensor:
    return hooked(ids).log_softmax(-1)


@pytest.mark.parametrize(("family", "name"), CASES)
@torch.no_grad()
def test_folded_weights_give_the_same_log_probabilities(
    case: Callable[[str, str], Case], family: str, name: str, ledger: Note
) -> None:
    given = case(family, name)
    shape, off = given.made.transformer, {}
    assert why_not_foldable(shape) is None
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.float64, FLOAT64)):
        hooked = hooked_of(shape, given.state(dtype), dtype)
        raw = log_probabilities(hooked, given.ids)
        fold(hooked)
        off[dtype] = deviation(log_probabilities(hooked, given.ids), raw, given.std)
        assert_close(off[dtype], tolerance)
    norms = {n for n in hooked.state_dict() if n.endswith((".ln1.w", ".ln2.w", "ln_final.w"))}
    assert not norms
    assert {*hooked.hook_dict} >= {"blocks.0.ln1.hook_normalized", "ln_final.hook_scale"}
    assert float(max(block.attn.b_V.abs().max() for block in hooked.blocks)) == 0
    wrong = {what: unfold(hooked, given, raw) for what, unfold in bad_foldings(shape).items()}
    assert min(wrong.values()) > FAR * FLOAT32, wrong
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.float64, FLOAT64)):
        ledger(
            kind=KIND,
            oracle=f"{family}, {name}: folded weights against raw ones, {dtype}",
            control=", ".join(f"{what}: off by {by:.1g}" for what, by in wrong.items()),
            deviation=off[dtype],
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )


def bad_foldings(shape: Shape) -> dict[str, Callable[[Any, Case, Tensor], float]]:
    """What would be wrong here: each changes folded weights and says how far that is off."""

    def far(change: Callable[[Any], None]) -> Callable[[Any, Case, Tensor], float]:
        def off(hooked: Any, given: Case, raw: Tensor) -> float:
            kept = {name: w.clone() for name, w in hooked.state_dict().items()}
            change(hooked)
            found = deviation(log_probabilities(hooked, given.ids), raw, given.std)
            hooked.load_state_dict(kept)
            return found

        return off

    def center_unembedding(hooked: Any) -> None:
        hooked.unembed.W_U.data -= hooked.unembed.W_U.mean(-1, keepdim=True)

    def center_writers(hooked: Any) -> None:
        hooked.embed.W_E.data -= hooked.embed.W_E.mean(-1, keepdim=True)
        for block in hooked.blocks:
            block.mlp.W_out.data -= block.mlp.W_out.mean(-1, keepdim=True)

    def gain_twice(hooked: Any) -> None:
        hooked.unembed.W_U.data *= torch.linspace(0.7, 1.3, shape["d_model"])[:, None]

    found = {"a gain that is not the norm's": far(gain_twice)}
    if "output_logits_soft_cap" in shape:
        found["unembedding centred under a cap"] = far(center_unembedding)
    if shape["normalization_type"] == "RMS":
        found["writing weights centred under RMS norms"] = far(center_writers)
    return found


def in_float64_by_transformer_lens(cfg: Any, state: State) -> State:
    """Its four steps one by one: all together they go through float32 whatever the precision."""
    layer_norm = cfg.normalization_type == "LN"
    found = ProcessWeights.fold_layer_norm(
        {n: w.contiguous() for n, w in state.items()}, cfg, layer_norm, layer_norm
    )
    if layer_norm:
        found = ProcessWeights.center_writing_weights(found, cfg)
    found = ProcessWeights.center_unembed(found, cfg=cfg)
    return ProcessWeights.fold_value_biases(found, cfg)


@pytest.mark.parametrize(
    ("family", "name"),
    [("gpt2", "tied"), ("gpt_neox", "parallel, a quarter rotated"), ("qwen2", "grouped queries"),
     ("gemma3", "two rotary bases, linear positions")],
)  # fmt: skip
@torch.no_grad()
def test_folded_weights_are_those_of_transformer_lens(
    case: Callable[[str, str], Case], family: str, name: str, ledger: Note
) -> None:
    """Where there is no cap its own processing is right, and users know weights in that form."""
    given = case(family, name)
    shape, state = given.made.transformer, given.state(torch.float64)
    hooked = hooked_of(shape, state, torch.float64)
    theirs = in_float64_by_transformer_lens(hooked.cfg, state)
    fold(hooked)
    off = 0.0
    for weight, value in hooked.named_parameters():
        off = max(off, deviation(value, theirs[weight].reshape(value.shape), 1.0))
    assert_close(off, FLOAT64)
    raw = max(deviation(w, theirs[n].reshape(w.shape), 1.0) for n, w in state.items())
    assert raw > FAR * FLOAT64  # the control: without folding
    ledger(
        kind=KIND,
        oracle=f"{family}, {name}: folded weights against TransformerLens's processing",
        control=f"raw weights: off by {raw:.1g}",
        deviation=off,
        tolerance=FLOAT64,
        unit="weight",
    )


@pytest.mark.parametrize(
    ("name", "prompt"), [("paren-balancer", "(()())(()))()"), ("induction-handmade", "kmabcdefgha")]
)
@torch.no_grad()
def test_bundled_models_fold_too(name: str, prompt: str) -> None:
    """Classes as outputs and both directions of attention; no norms and attention only."""
    model = load(name, "cpu", "float64")
    ids = torch.tensor(encode(model.info, prompt).ids)[None]
    raw = model.hooked(ids)
    fold(model.hooked)
    folded = model.hooked(ids)
    assert_close(deviation(folded.log_softmax(-1), raw.log_softmax(-1), float(raw.std())), FLOAT64)
    assert float(folded.mean(-1).abs().max()) < FLOAT64  # the unembedding is centred
    assert float(raw.mean(-1).abs().max()) > FAR * FLOAT64


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"positional_embedding_type": "shortformer"}, "positions"),
        ({"normalization_type": "LN", "gated_mlp": True}, "gates"),
        ({"normalization_type": "RMS", "num_experts": 4}, "router"),
    ],
)
def test_what_cannot_be_folded_says_why(shape: Shape, said: str) -> None:
    reason = why_not_foldable(shape)
    assert reason is not None
    assert said in reason
    sizes = {"n_layers": 1, "d_model": 8, "d_head": 4, "n_heads": 2, "n_ctx": 4, "d_vocab": 5}
    if "num_experts" not in shape:
        with pytest.raises(CannotLoad, match=said):
            fold(build({**sizes, "act_fn": "relu", **shape}))
