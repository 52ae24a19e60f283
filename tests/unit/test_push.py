"""Models of a notebook: pushed, asked, pushed again; what was found before stays readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

import interp
from interp.errors import BadInput, CannotLoad
from interp.models import catalogue, registry, tokens
from interp.models.add import add
from interp.models.load import build, load
from tests.unit._checkpoints import (
    END,
    PROMPT,
    byte_level,
    checkpoint,
    fast,
    model,
    reference,
    refused,
    written,
)
from tests.unit._hub import CLOSED, point_at

NAME = "local/after-step-300"
LENS = {"kind": "logit_lens", "model": NAME, "prompt": PROMPT}
NO_TOKENIZER = (
    "A model was pushed.",
    "It comes without a tokenizer that can be written as tokenizer.json.",
    "Give one: interp.push(name, model, tokenizer=AutoTokenizer.from_pretrained(base)).",
)


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(CLOSED, tmp_path / "cache", monkeypatch)


def logits(hooked: Any, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return hooked(torch.tensor([ids]))[0]


def deviation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.std())


def pushed_files() -> list[str]:
    return [p.name for p in (registry.folder() / "pushed").glob("*")]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("variant", ["", ":folded", ":bfloat16"])
def test_a_hooked_transformer(tmp_path: Path, family: str, variant: str) -> None:
    folder = checkpoint(tmp_path / "model", family)
    own = interp.load_model(f"{folder}{variant}")
    assert interp.push(NAME, own.hooked, fast(byte_level())) == NAME
    back = interp.load_model(NAME)
    ids = tokens.encode(back.info, PROMPT).ids
    assert ids == tokens.encode(own.info, PROMPT).ids[1:]  # it brings no tokenizer to ask for one
    assert (back.info.source, back.info.processing) == ("notebook", "raw")
    exact = own.hooked.to(torch.float32, print_details=False)
    # Weights keep their rounding; tables of positions are computed anew, without it.
    tables = dict(back.hooked.named_buffers())
    for name, table in exact.named_buffers():
        if "rotary" in name:
            assert deviation(table, tables[name]) < (1e-2 if variant == ":bfloat16" else 1e-6)
            table.copy_(tables[name])
    assert deviation(logits(back.hooked, ids), logits(exact, ids)) < 1e-5
    assert back.info.n_parameters == sum(p.numel() for p in own.hooked.parameters())
    # Folding what is folded changes nothing that is asked.
    twice = logits(load(f"{NAME}:folded").hooked, ids).log_softmax(-1)
    assert deviation(twice, logits(exact, ids).log_softmax(-1)) < 1e-5
    # Negative control: other weights are seen.
    with torch.no_grad():
        own.hooked.unembed.W_U[:, ::2] *= 1.5
    assert deviation(logits(back.hooked, ids), logits(own.hooked, ids)) > 1e-2


def test_a_hooked_transformer_with_its_own_tokenizer(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "gpt2")
    own = interp.load_model(str(folder)).hooked
    own.set_tokenizer(hf.AutoTokenizer.from_pretrained(folder))
    interp.push(NAME, own)
    info = catalogue.info(NAME)
    found = tokens.encode(info, "When Mary")
    assert found.texts == (END, "When", " Mary")
    assert list(found.ids) == own.to_tokens("When Mary")[0].tolist()
    own.cfg.default_prepend_bos = False
    interp.push(NAME, own)
    found = tokens.encode(catalogue.info(NAME), "When Mary")
    assert list(found.ids)[-2:] == own.to_tokens("When Mary")[0].tolist()[-2:]


def test_a_tokenizer_of_the_other_library(tmp_path: Path) -> None:
    own = interp.load_model(str(checkpoint(tmp_path / "model", "gpt2"))).hooked
    interp.push(NAME, own, byte_level())
    assert tokens.encode(catalogue.info(NAME), "When Mary").texts == ("When", " Mary")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_of_transformers(tmp_path: Path, family: str) -> None:
    tokenizer = byte_level()
    own = model(family, tokenizer.get_vocab_size())
    assert interp.push(NAME, own, fast(tokenizer)) == NAME
    back = interp.load_model(NAME)
    found = tokens.encode(back.info, PROMPT)
    with torch.no_grad():
        theirs = own(torch.tensor([found.ids])).logits[0]
    assert deviation(logits(back.hooked, found.ids), theirs) < 1e-5
    # It is what its folder is.
    folder = add(str(checkpoint(tmp_path / "model", family)))
    assert (back.info.weights, back.info.bos) == (folder.weights, folder.bos)
    assert tokens.encode(folder, PROMPT) == found


def test_a_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    assert interp.push(NAME, folder) == NAME
    assert interp.push("local/again", str(folder)) == "local/again"
    back = interp.load_model(NAME)
    assert (back.info.folder, back.info.source) == (folder, "local")
    ids = tokens.encode(back.info, PROMPT).ids
    assert deviation(logits(back.hooked, ids), reference(folder, ids)) < 1e-5
    assert pushed_files() == []


def test_without_a_tokenizer(tmp_path: Path) -> None:
    own = interp.load_model(str(checkpoint(tmp_path / "model"))).hooked
    assert refused(CannotLoad, lambda: interp.push(NAME, own)) == NO_TOKENIZER
    assert refused(CannotLoad, lambda: interp.push(NAME, model("gpt2", 300))) == NO_TOKENIZER
    assert refused(CannotLoad, lambda: interp.push(NAME, own, tokenizer=5)) == NO_TOKENIZER
    assert NAME not in registry.entries()
    assert pushed_files() == []


def test_what_is_no_model() -> None:
    class Bridge(torch.nn.Linear):
        original_model = None
        hook_dict = None
        cfg = None

    for thing, what in ((5, "int"), (torch.nn.Linear(2, 2), "Linear"), (None, "NoneType")):
        assert refused(BadInput, lambda t=thing: interp.push(NAME, t)) == (
            f"A {what} was pushed.",
            "It is neither a HookedTransformer nor a model of transformers nor a folder.",
            "Save it with save_pretrained and push the folder.",
        )
    assert refused(BadInput, lambda: interp.push(NAME, Bridge(2, 2))) == (
        "A Bridge was pushed.",
        "Its weights may have been processed since it was made of a model of transformers.",
        "Push that one: interp.push(name, model.original_model, model.tokenizer).",
    )


def test_an_architecture_that_is_not_read_leaves_nothing() -> None:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    other = hf.OPTForCausalLM(
        hf.OPTConfig(vocab_size=50, word_embed_proj_dim=16, **shape, **special)
    )
    said = refused(CannotLoad, lambda: interp.push(NAME, other, fast(byte_level())))
    assert said[1] == "Its model_type is 'opt'."
    assert registry.entries() == {}
    assert pushed_files() == []


def test_a_bundled_name(tmp_path: Path) -> None:
    own = checkpoint(tmp_path / "model")
    for thing in (own, model("gpt2", 300), build({**_TINY})):
        assert refused(BadInput, lambda t=thing: interp.push("paren-balancer", t)) == (
            "The name 'paren-balancer' was given.",
            "A bundled model has it.",
            "Choose another.",
        )


_TINY: dict[str, Any] = {
    "n_layers": 1, "d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 8, "n_ctx": 16,
    "d_vocab": 346, "act_fn": "relu", "normalization_type": None, "seed": 0,
}  # fmt: skip


def test_a_model_of_ones_own_making() -> None:
    """No norms, no tokenizer of its own, another shape than any checkpoint."""
    for extra in ({}, {"attn_only": True}, {"n_key_value_heads": 1}, {"gated_mlp": True}):
        own = build({**_TINY, **extra})
        interp.push(NAME, own, byte_level())
        assert torch.equal(logits(load(NAME).hooked, (1, 2, 3)), logits(own, (1, 2, 3)))


def test_a_name_of_transformer_lens_may_be_taken(tmp_path: Path) -> None:
    interp.push("gpt2-small", checkpoint(tmp_path / "model"))
    assert interp.load_model("gpt2-small").info.family == "llama"


def test_a_pushed_model_is_asked_and_pushed_again(tmp_path: Path) -> None:
    first_model, second_model = (
        interp.load_model(str(checkpoint(tmp_path / str(i), seed=i))).hooked for i in range(2)
    )
    tokenizer = fast(byte_level())
    interp.push(NAME, first_model, tokenizer)
    first = interp.run(LENS)
    assert first.state == "done"
    kept = first.result.answer_p.copy()
    # The same question is the same record; pushing the same weights again changes nothing.
    interp.push(NAME, first_model, tokenizer)
    assert interp.run(LENS).id == first.id
    # Other weights under the name: another question, and the former record stays as it was.
    interp.push(NAME, second_model, tokenizer)
    second = interp.run(LENS)
    assert second.state == "done"
    assert second.id != first.id
    assert second.record.key != first.record.key
    assert not np.allclose(second.result.answer_p, kept)
    assert second.record.provenance["weights_sha256"] == catalogue.info(NAME).weights
    old = interp.get(first.id)
    assert np.array_equal(old.result.answer_p, kept)
    # Also when the model is gone.
    registry.forget(NAME)
    assert np.array_equal(interp.get(first.id).result.answer_p, kept)
    assert old.verdict


def test_a_half_written_push_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.models import push

    own = interp.load_model(str(checkpoint(tmp_path / "model"))).hooked
    tokenizer = fast(byte_level())
    interp.push(NAME, own, tokenizer)
    before = catalogue.info(NAME)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(push, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        interp.push(NAME, own, tokenizer)
    assert catalogue.info(NAME) == before
    assert len(pushed_files()) == 1


def test_a_pushed_file_that_has_changed(tmp_path: Path) -> None:
    interp.push(NAME, interp.load_model(str(written("llama"))).hooked, byte_level())
    path = catalogue.info(NAME).folder / "weights.safetensors"
    assert load_file(path)
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")
    assert refused(CannotLoad, lambda: load(NAME))[1] == (
        "weights.safetensors has changed since it was added."
    )
