"""Checkpoints of bundled models are asked by name: the right weights, and clear refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import interp
from interp.behaviors import for_model
from interp.errors import BadInput, UnknownName
from interp.models import catalogue, facts
from interp.models.load import load

STEP = "induction-2l@300"


def test_a_checkpoint_is_a_model_of_its_own() -> None:
    final, early = catalogue.info("induction-2l"), catalogue.info(STEP)
    assert early.name == STEP
    assert early.base == final.base == "induction-2l"
    assert early.weights != final.weights
    assert (early.folder, early.tokenizer) == (final.folder, final.tokenizer)
    assert for_model(STEP) == for_model("induction-2l") != ()
    assert catalogue.card(STEP) == catalogue.card("induction-2l")


def test_it_has_the_weights_of_its_file_and_no_other() -> None:
    folder = catalogue.info(STEP).folder
    file = load_file(folder / "snapshots" / "300.safetensors")
    weights = load(STEP).hooked.state_dict()
    assert all(torch.equal(weights[name], tensor.float()) for name, tensor in file.items())
    final = load_file(folder / "weights.safetensors")
    assert not torch.equal(weights["embed.W_E"], final["embed.W_E"])


@pytest.mark.parametrize("variant", [f"{STEP}:float64", f"{STEP}:bfloat16"])
def test_a_checkpoint_takes_a_precision(variant: str) -> None:
    info = catalogue.info(variant)
    assert info.base == "induction-2l"
    assert info.snapshot == "300"
    assert load(variant).dtype == getattr(torch, info.dtype)


@pytest.mark.parametrize(
    "name",
    [
        "induction-2l@",
        "induction-2l@301",
        "induction-2l@../weights",
        "induction-2l@300@300",
        "induction-handmade@300",
        "@300",
    ],
)
def test_what_is_no_checkpoint_is_refused_with_those_there_are(name: str) -> None:
    assert not catalogue.is_known(name)
    with pytest.raises(UnknownName) as refused:
        catalogue.info(name)
    assert "induction" in str(refused.value)


@pytest.mark.parametrize("name", ["mod-add@nope", "mod-add@../../x", "mod-add@500@500"])
def test_there_is_no_card_of_what_is_no_checkpoint(name: str) -> None:
    with pytest.raises(UnknownName):
        catalogue.card(name)


@pytest.mark.parametrize("name", ["induction-2l:float64", f"{STEP}:float64"])
def test_a_precision_of_a_bundled_model_is_known(name: str) -> None:
    assert catalogue.is_known(name)
    assert not catalogue.is_known(name.replace("float64", "float13"))


def test_a_model_that_is_rebuilt_while_the_app_runs_is_described_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(catalogue.ZOO / "max-of-4", tmp_path / "max-of-4")
    monkeypatch.setattr(catalogue, "ZOO", tmp_path)
    before = catalogue.info("max-of-4").weights
    shutil.copy(
        tmp_path / "max-of-4" / "snapshots" / "100.safetensors",
        tmp_path / "max-of-4" / "weights.safetensors",
    )
    assert catalogue.info("max-of-4").weights != before


def test_lists_have_models_and_no_checkpoints() -> None:
    assert not [name for name in catalogue.names() if "@" in name]
    assert catalogue.is_known(STEP)
    assert "300" in catalogue.snapshots("induction-2l")
    assert catalogue.snapshots(STEP) == catalogue.snapshots("induction-2l")
    assert catalogue.snapshots("induction-handmade") == ()
    assert catalogue.snapshots("org/model@main") == ()


def test_nobody_can_add_a_model_under_the_name_of_a_checkpoint() -> None:
    with pytest.raises(BadInput):
        catalogue.check_new_name(STEP)


def test_an_analysis_reads_the_checkpoint_and_its_record_says_so() -> None:
    spec = {"kind": "logit_lens", "prompt": "qtnwzeuxkmqtn", "answer": "w"}
    final = interp.run({**spec, "model": "induction-2l"})
    early = interp.run({**spec, "model": "induction-2l@0"})
    assert early.record.model == "induction-2l@0"
    assert early.record.provenance is not None
    assert early.record.provenance["weights_sha256"] == catalogue.info("induction-2l@0").weights
    assert final.result.answer_p[-1, -1] > 0.25
    assert np.all(early.result.answer_p[-1] < 0.1)


def test_the_command_line_lists_models_with_size_and_facts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from interp.__main__ import main

    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{said}" for name in catalogue.bundled())
    assert "promised at least" in said
    assert "does not hold" not in said
    assert STEP in said


def test_a_fact_says_whether_its_promise_holds() -> None:
    row = {"claim": "Right answers.", "value": 0.98, "unit": "share", "n": 1000}
    assert facts.in_words(row) == "Right answers: 0.98 share (n = 1,000)"
    broken = {**row, "at_least": 0.99}
    assert not facts.holds(broken)
    assert "promised at least 0.99, does not hold" in facts.in_words(broken)
    assert not facts.holds({**row, "value": float("nan"), "at_least": 0.0})
    assert facts.holds({**row, "at_least": 0.9, "at_most": 0.99})


def test_a_card_of_a_bundled_model_names_only_snapshots_that_are_there() -> None:
    for name in catalogue.bundled():
        folder: Path = catalogue.info(name).folder
        listed = json.loads((folder / "config.json").read_text()).get("snapshots", [])
        there = sorted(path.stem for path in (folder / "snapshots").glob("*.safetensors"))
        assert sorted(listed) == there
