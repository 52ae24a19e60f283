"""Whether a model fits: what it takes is counted exactly, and a refusal says what would fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.fit import SMALL, forward, peak, write_random
from interp.errors import DoesNotFit
from interp.jobs import residents as jobs
from interp.jobs.residents import Residents
from interp.models import catalogue, fit, registry
from interp.models import memory as there
from interp.models.add import add
from interp.models.families import architecture
from interp.models.folding import fold
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build, load
from interp.models.memory import container_limits
from tests.oracles._families import CASES, make_model
from tests.unit._checkpoints import checkpoint, refused

GB = 10**9


@lru_cache(maxsize=64)
def described(family: str, shape: str) -> ModelInfo:
    found = architecture(make_model(family, shape).config.to_dict())
    info = catalogue.of_shape(
        "m", found.transformer, answers=Answers("tokens", (), -1), weights="", folder=Path()
    )
    return replace(info, source="local", family=found.family)


def counted(hooked: Any) -> tuple[int, int]:
    """Parameters, and bytes of what is kept beside them."""
    return (
        sum(p.numel() for p in hooked.parameters()),
        sum(b.numel() * b.element_size() for b in hooked.buffers()),
    )


# --- what a model takes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_weights_and_tables_are_counted_from_the_shape(family: str, shape: str) -> None:
    info = described(family, shape)
    for dtype in ("float32", "bfloat16"):
        precision = getattr(torch, dtype)
        hooked = build({**info.transformer, "dtype": precision, "init_weights": False})
        hooked.to(precision, print_details=False)  # as the loader does
        found = replace(info, dtype=dtype)
        assert (fit.stored_values(found), fit.buffer_bytes(found)) == counted(hooked)
    hooked = build({**info.transformer, "init_weights": False})
    fold(hooked)
    assert fit.stored_values(replace(info, processing="folded")) == counted(hooked)[0]
    # Negative control: another shape is another count.
    assert fit.stored_values(replace(info, gated=not info.gated)) != fit.stored_values(info)
    assert fit.stored_values(replace(info, n_layers=info.n_layers + 1)) != fit.stored_values(info)


def test_bundled_models_are_counted() -> None:
    for name in catalogue.bundled():
        loaded = load(name)
        info = loaded.info
        assert (fit.stored_values(info), fit.buffer_bytes(info)) == counted(loaded.hooked)


def test_the_counter_of_live_bytes() -> None:
    """On a program whose largest moment is known."""

    def work() -> torch.Tensor:
        a = torch.zeros(1000)
        b = torch.ones(1000).add_(a).view(10, 100)  # in place and a view: nothing new
        del a
        return b[:, :50].contiguous() * 2

    assert peak(work) == 4 * (1000 + 500 + 500)


def loaded(folder: Path, family: str, dtype: str) -> LoadedModel:
    if not (folder / family).exists():
        add(str(write_random(folder / family, SMALL[family])))
    return load(f"local/{family}", "cpu", dtype)


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_forward_pass_takes_what_is_said(
    tmp_path: Path, family: str, dtype: str, ledger: Callable[..., None]
) -> None:
    model, off = loaded(tmp_path, family, dtype), 0.0
    for rows, n_tokens in ((1, 64), (1, 128), (1, 256), (1, 512), (4, 64)):
        taken = peak(lambda r=rows, n=n_tokens: forward(model, n, r))
        off = max(off, abs(fit.forward_bytes(model.info, n_tokens, rows) / taken - 1))
    assert off < 0.02
    # Negative control: neither heads nor precision nor length can be left out.
    taken = peak(lambda: forward(model, 512))
    wrong = [
        abs(said / taken - 1)
        for said in (
            fit.forward_bytes(model.info, 256),
            fit.forward_bytes(replace(model.info, n_heads=4), 512),
            fit.forward_bytes(replace(model.info, dtype="float64"), 512),
        )
    ]
    assert min(wrong) > 0.15
    ledger(
        kind="models",
        oracle=f"live tensor bytes counted at every operation of a forward pass; {family}, {dtype}",
        control=f"half the tokens, half the heads, another precision: off by {min(wrong):.1g}",
        deviation=off,
        tolerance=0.02,
        unit="share of the bytes",
    )


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("llama", {"vocab_size": 20_000}),  # the logits are the largest
        ("llama", {"intermediate_size": 4096}),  # the MLP is
        ("gpt2", {"n_inner": 4096, "n_head": 2}),
        ("gpt2", {"n_inner": 4096, "n_head": 2, "activation_function": "relu"}),
        ("gpt2", {"n_inner": 4096, "n_head": 2, "activation_function": "gelu_fast"}),
    ],
)
def test_whichever_moment_is_the_largest(
    tmp_path: Path, family: str, changed: dict[str, Any]
) -> None:
    config = type(SMALL[family])(**{**SMALL[family].to_dict(), **changed})
    add(str(write_random(tmp_path / "m", config)))
    for name in ("local/m", "local/m:folded"):
        model = load(name)
        for n_tokens in (32, 128):
            taken = peak(lambda m=model, n=n_tokens: forward(m, n))
            assert fit.forward_bytes(model.info, n_tokens) == pytest.approx(taken, rel=0.05)


def test_loading_takes_more_only_where_it_is_folded_in_float32() -> None:
    info = described("llama", "full heads")
    n = fit.stored_values(info)
    variants = {
        ("raw", "float32"): 4, ("raw", "bfloat16"): 2, ("folded", "bfloat16"): 4,
        ("folded", "float32"): 4, ("raw", "float64"): 8, ("folded", "float64"): 8,
    }  # fmt: skip
    for (processing, dtype), each in variants.items():
        found = replace(info, processing=processing, dtype=dtype)
        assert fit.loading_bytes(found) == each * fit.stored_values(found)
    rough = replace(info, processing="folded", dtype="bfloat16")
    here = fit.check(rough, fit.Device("cpu", GB, GB), 1)
    assert here.loading == 2 * fit.stored_values(rough) < 2 * n
    assert here.bytes == int(1.05 * (here.weights + here.buffers + here.loading))
    assert fit.check(rough, fit.Device("cuda:0", GB, GB), 1).loading == 0


# --- what is said ---------------------------------------------------------------------------------


def large(**changed: Any) -> ModelInfo:
    """A model of Llama 3.2 1B's shape."""
    shape = {
        "n_layers": 16, "d_model": 2048, "n_heads": 32, "n_key_value_heads": 8, "d_head": 64,
        "d_mlp": 8192, "d_vocab": 128_256, "n_ctx": 2048, "gated_mlp": True, "act_fn": "silu",
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "rotary_dim": 64,
    }  # fmt: skip
    info = catalogue.of_shape(
        "org/large", shape, answers=Answers("tokens", (), -1), weights="", folder=Path()
    )
    return replace(info, **{"source": "hub", "family": "llama", **changed})


def device(free: float, name: str = "cuda:0", total: float = 24.0) -> fit.Device:
    return fit.Device(name, int(free * GB), int(total * GB))


def test_a_refusal_lists_what_fits() -> None:
    info = large()
    others = [device(10, "cuda:1"), device(4, "cuda:2"), device(6.4, "cuda:0")]
    found = fit.check(info, device(6.4), 2048)
    assert not found.fits
    error = fit.refuse(info, found, others)
    assert isinstance(error, DoesNotFit)
    assert (error.asked, error.found, error.works) == (
        "org/large was to be loaded on cuda:0 for prompts of 2048 tokens.",
        "That takes 6.0 GB of weights and 2.4 GB for a prompt, 8.8 GB with margin; 6.4 GB of 24.0 "
        "GB are free or can be freed.",
        "This would fit: prompts of up to 128 tokens; bfloat16 (half the memory; its deviation is "
        "measured when it is loaded); the device cuda:1.",
    )
    # What is listed does fit, and one token more of it would not say otherwise.
    assert fit.check(info, device(6.4), 128).fits
    assert not fit.check(info, device(6.4), 512).fits
    assert fit.check(replace(info, dtype="bfloat16"), device(6.4), 2048).fits
    assert fit.check(info, others[0], 2048).fits
    assert not fit.check(info, others[1], 2048).fits


def test_precision_and_length_together() -> None:
    info = large()
    assert fit.what_fits(info, fit.check(info, device(3.5), 2048)) == (
        "This would fit: bfloat16 and prompts of up to 1024 tokens (half the memory; its deviation "
        "is measured when it is loaded)."
    )
    info = large(dtype="float64")
    assert fit.what_fits(info, fit.check(info, device(4.6), 2048)).startswith(
        "This would fit: bfloat16 (a quarter of the memory;"
    )


def test_nothing_fits() -> None:
    info = large()
    assert fit.what_fits(info, fit.check(info, device(1), 128), [device(2, "cuda:1")]) == (
        "Nothing of it fits here. A model of up to about 476 million parameters in bfloat16 would."
    )


def test_folding_that_does_not_fit() -> None:
    info = large(processing="folded", dtype="bfloat16")
    found = fit.check(info, device(5, "cpu"))
    assert not found.fits
    error = fit.refuse(info, found)
    assert ", 3.0 GB more while it is loaded" in error.found
    assert error.works == (
        "This would fit: raw weights, which take no more memory to load than to keep."
    )


def test_a_prompt_is_never_longer_than_the_model() -> None:
    assert fit.check(large(n_ctx=64), device(10), 100_000).prompt == 64


@pytest.mark.parametrize(
    ("n", "said"),
    [(0, "0 kB"), (900, "1 kB"), (2_000_000, "2 MB"), (1_500_000_000, "1.5 GB")],
)
def test_sizes_as_people_read_them(n: int, said: str) -> None:
    assert fit.gigabytes(n) == said


def test_what_can_be_freed_counts() -> None:
    info = large(dtype="bfloat16")
    needed = fit.check(info, device(10)).bytes
    for resident, fits, unloads in ((0, False, False), (needed, True, True)):
        found = fit.check(info, fit.Device("cuda:0", GB, 24 * GB, resident))
        assert (found.fits, found.unloads) == (fits, unloads)
    assert not fit.check(info, device(10)).unloads


# --- making room ----------------------------------------------------------------------------------


@pytest.fixture
def budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Residents, list[int], int]:
    """A worker's models, the bytes it has for them, and what one takes with its prompt."""
    for name in "abcd":
        add(str(checkpoint(tmp_path / name)))
    held = Residents("cpu")
    one = fit.check(catalogue.info("local/a"), fit.Device("cpu", GB, GB)).bytes
    most = [one]
    monkeypatch.setattr(
        jobs, "memory", lambda where: (most[0] - sum(held.sizes().values()), most[0])
    )
    return held, most, one


def test_the_least_recently_used_makes_room(budget: tuple[Residents, list[int], int]) -> None:
    held, most, one = budget
    size = held.get("local/a").bytes
    most[0] = one + 2 * size  # three fit
    first = held.get("local/a")
    for name in ("local/b", "local/c"):
        held.get(name)
    assert held.get("local/a") is first  # used again, and not loaded again
    held.get("local/d")
    assert list(held.sizes()) == ["local/c", "local/a", "local/d"]
    most[0] = one
    held.get("local/b")
    assert list(held.sizes()) == ["local/b"]
    held.drop("local/b")
    held.drop("local/b")
    assert held.sizes() == {}


def test_what_never_fits_unloads_nothing(budget: tuple[Residents, list[int], int]) -> None:
    held, most, one = budget
    held.get("local/a")
    most[0] = one + 1
    assert refused(DoesNotFit, lambda: held.get("local/b:float64"))[0] == (
        "local/b:float64 was to be loaded on cpu for prompts of 64 tokens."
    )
    assert list(held.sizes()) == ["local/a"]
    most[0] = one // 2
    works = refused(DoesNotFit, lambda: held.get("local/b"))[2]
    assert works.startswith("This would fit: ")
    assert list(held.sizes()) == ["local/a"]


def test_changed_weights_take_the_place_of_the_old(
    budget: tuple[Residents, list[int], int], tmp_path: Path
) -> None:
    held, _, _ = budget
    before = held.get("local/a")
    (tmp_path / "a").rename(tmp_path / "old")
    add(str(checkpoint(tmp_path / "a", seed=1)))
    after = held.get("local/a")
    assert after.info.weights != before.info.weights
    assert list(held.sizes()) == ["local/a"]


def test_an_unknown_model_unloads_nothing(budget: tuple[Residents, list[int], int]) -> None:
    held, _, _ = budget
    held.get("local/a")
    registry.forget("local/b")
    with pytest.raises(Exception, match="no model called 'local/b'"):
        held.get("local/b")
    assert list(held.sizes()) == ["local/a"]


def test_weights_pass_through_the_main_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(str(checkpoint(tmp_path / "a")))
    held = Residents("cpu")
    held.device = torch.device("cuda:0")
    free = {"cuda": (GB, GB), "cpu": (1000, GB)}
    monkeypatch.setattr(jobs, "memory", lambda where: free[where.type])
    info = catalogue.info("local/a")
    for call in (lambda: held.get("local/a"), lambda: jobs.check_room(info, held.device)):
        assert refused(DoesNotFit, call) == (
            "local/a was to be loaded on cuda:0.",
            "Its weights pass through the main memory, of which they take 153 kB on the way; 1 kB "
            "are free.",
            "End other programs, or load it raw or in bfloat16.",
        )


# --- a container's limit --------------------------------------------------------------------------


def group(folder: Path, most: str, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nfile 9\ninactive_file {cached}\nslab 1\n")


def test_limits_of_a_container(tmp_path: Path) -> None:
    root, own = tmp_path / "fs", tmp_path / "own"
    own.write_text("0::/\n")
    root.mkdir()
    assert container_limits(own, root) == []
    group(root, "8000", 3000, 500)
    assert container_limits(own, root) == [(5500, 8000)]
    # A service in a slice: every group above counts.
    own.write_text("12:memory:/old\n0::/user.slice/app\n")
    group(root / "user.slice" / "app", "max", 100)
    group(root / "user.slice", "4000", 3900)
    group(root.parent, "1", 0)  # outside
    assert container_limits(own, root) == [(100, 4000), (5500, 8000)]
    group(root / "user.slice", "4000", 5000)
    assert container_limits(own, root)[0] == (0, 4000)
    (root / "user.slice" / "memory.max").write_text("nonsense")
    (root / "memory.stat").unlink()
    assert container_limits(own, root) == [(5000, 8000)]
    assert container_limits(tmp_path / "none", root) == []


def test_a_lower_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    free, total = there.memory(cpu)
    assert 0 < free <= total
    monkeypatch.setattr(there, "container_limits", lambda: [(1000, 5000), (2000, 4000)])
    assert there.memory(cpu) == (1000, 4000)
    monkeypatch.setattr(there, "container_limits", lambda: [(2**60, 2**60)])
    assert there.memory(cpu)[1] == total
