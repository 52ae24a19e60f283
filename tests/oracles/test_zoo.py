"""The shipped models, loaded from their files and checked, also by independent arithmetic."""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from tokenizers import Tokenizer
from transformer_lens import HookedTransformer

from interp.behaviors import BUILT_IN, built_in, for_model, parens
from interp.models import catalogue, facts, tokens
from interp.models.load import load
from tests.oracles.zoo._fact import Fact, loaded, shuffled, stored, with_weights
from zoo import _save, induction_handmade

MODELS = Path(__file__).resolve().parents[2] / "zoo" / "models"
TOLERANCE = 1e-5  # of the logits' standard deviation

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name: str) -> tuple[HookedTransformer, Tokenizer]:
    """Load a shipped model that a test may change."""
    found = with_weights(name, stored(name))
    return found.model, found.tokenizer


def card_of(name: str) -> tuple[dict[str, Any], str]:
    """Front matter and prose of a card."""
    text = (MODELS / name / "card.md").read_text(encoding="utf-8")
    _, front, prose = text.split("---\n", 2)
    return yaml.safe_load(front), prose


# --- every model -----------------------------------------------------------------------------

WITH_FACTS = {
    name: importlib.import_module(f"tests.oracles.zoo.{name.replace('-', '_')}")
    for name in (
        "enumerable-lm",
        "induction-2l",
        "max-of-4",
        "mod-add",
        "paren-balancer",
        "sensor-tamper",
        "stdlib-lm",
        "superposition",
        "two-mechanisms-induction",
        "two-mechanisms-paren",
    )
}
FACTS = [(name, fact) for name, module in WITH_FACTS.items() for fact in module.FACTS]


def test_every_model_has_facts_that_are_measured() -> None:
    assert set(catalogue.bundled()) == {*WITH_FACTS, "induction-handmade"}
    assert all(module.FACTS for module in WITH_FACTS.values())


@pytest.mark.parametrize(("name", "fact"), FACTS, ids=[f"{n}: {f.name}" for n, f in FACTS])
def test_a_model_does_what_its_card_says(
    name: str, fact: Fact, ledger: Callable[..., None]
) -> None:
    value = fact.measure(loaded(name, fact.snapshot))
    spoilt = (fact.control or shuffled)(stored(name, fact.snapshot))
    control = fact.measure(with_weights(name, spoilt))
    ledger(
        kind="zoo",
        oracle=f"{name}: {fact.name}",
        model=f"{name}@{fact.snapshot}" if fact.snapshot else name,
        fact=fact.name,
        control=fact.control.__name__.replace("_", " ") if fact.control else "shuffled weights",
        value=value,
        spoilt=control,
        promised=fact.promised,
        unit=fact.unit,
    )
    assert fact.holds(value), value
    assert not fact.holds(control), control


@pytest.mark.parametrize("name", catalogue.bundled())
def test_a_card_is_whole_and_its_promises_hold(name: str) -> None:
    front, prose = card_of(name)
    info = catalogue.info(name)
    assert front["parameters"] <= sum(w.numel() for w in stored(name).values())
    assert front["licence"]
    assert len(prose.strip().splitlines()) <= 80
    for fact in front["facts"]:
        assert set(fact) - {"at_least", "at_most"} == {"claim", "value", "unit", "n"}
        assert facts.holds(fact), fact
    for plot in front.get("plots", ()):
        columns = {column for row in front["curve"] for column in row}
        assert set(plot["series"].values()) <= columns, plot
    assert len(front["examples"]) == 3
    for example in front["examples"]:
        clean, corrupted = (tokens.encode(info, example[k]).ids for k in ("clean", "corrupted"))
        assert len(clean) == len(corrupted)
        assert clean != corrupted
        assert tokens.answer_id(info, example["answer"]) != tokens.answer_id(info, example["foil"])


@pytest.mark.parametrize("name", catalogue.bundled())
def test_a_behavior_of_a_model_is_answered_right(name: str) -> None:
    """Nine in ten of the clean prompts of each behavior, read by TransformerLens alone."""
    model = loaded(name).model
    for one in for_model(name):
        if BUILT_IN[one].model != name:
            continue
        behavior = built_in(one, 40, name)
        right = 0
        for row in range(len(behavior)):
            with torch.no_grad():
                logits = model(torch.tensor([behavior.clean[row]]))[0, behavior.read]
            right += int(logits[behavior.answers[row]] > logits[behavior.foils[row]])
        assert right >= 36, f"{one}: {right} of 40"
        assert behavior.features, one
        assert all(len(values) == 40 for _, values in behavior.features)


@pytest.mark.parametrize("name", catalogue.bundled())
def test_every_checkpoint_loads_and_differs(name: str) -> None:
    for one in catalogue.snapshots(name):
        info = catalogue.info(f"{name}@{one}")
        assert info.weights != catalogue.info(name).weights
        assert info.base == name
        here = stored(name, one)
        assert any(not torch.equal(w, here[key]) for key, w in stored(name).items()), one
        assert load(info.name).hooked.cfg.n_layers == info.n_layers


def test_the_models_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 40e6


# --- the two oldest --------------------------------------------------------------------------


def test_tokenizers_drop_unknown_characters_and_keep_offsets() -> None:
    _, balancer = build("paren-balancer")
    assert balancer.encode("(())").ids == [0, 3, 3, 4, 4, 2]
    strange = balancer.encode("( x[END])")
    assert strange.ids == [0, 3, 4, 2]  # the name of a special token is only text
    assert strange.offsets[1:-1] == [(0, 1), (8, 9)]
    assert strange.special_tokens_mask == [1, 0, 0, 1]
    _, induction = build("induction-handmade")
    assert induction.encode("aZz a\n").ids == [0, 1, 26, 1]


# --- the hand-made induction model -------------------------------------------------------------


def induction_prompts(count: int) -> list[tuple[str, str, int]]:
    """Prompts of 12 distinct letters and a repeat, the right answer and the cue's position."""
    rng = np.random.default_rng(2024)
    prompts: list[tuple[str, str, int]] = []
    for _ in range(count):
        letters = "".join(rng.permutation(list("abcdefghijklmnopqrstuvwxyz"))[:12])
        cue = int(rng.integers(0, 11))
        prompts.append((letters + letters[cue], letters[cue + 1], cue))
    return prompts


@torch.no_grad()
def induction_accuracy(model: HookedTransformer, tokenizer: Tokenizer) -> float:
    """Share of right answers on random prompts."""
    prompts = induction_prompts(500)
    tokens = torch.tensor([tokenizer.encode(text).ids for text, _, _ in prompts])
    answers = torch.tensor([tokenizer.token_to_id(answer) for _, answer, _ in prompts])
    return float((model(tokens)[:, -1].argmax(-1) == answers).float().mean())


def test_induction_is_always_right_and_rests_on_the_key_of_its_head() -> None:
    model, tokenizer = build("induction-handmade")
    assert induction_accuracy(model, tokenizer) == 1.0
    key = model.blocks[1].attn.W_K
    order = torch.randperm(key[0].numel(), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        key[0] = key[0].flatten()[order].view_as(key[0])
    assert induction_accuracy(model, tokenizer) < 0.3


def test_induction_heads_attend_where_the_card_says() -> None:
    model, tokenizer = build("induction-handmade")
    prompts = induction_prompts(50)
    tokens = torch.tensor([tokenizer.encode(text).ids for text, _, _ in prompts])
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        logits: torch.Tensor = model(tokens)
    previous = cache["pattern", 0][:, 0].diagonal(offset=-1, dim1=1, dim2=2)
    assert float(previous.min()) > 1 - 1e-6
    for row, (_, answer, cue) in enumerate(prompts):
        assert float(cache["pattern", 1][row, 0, -1, cue + 2]) > 1 - 1e-6
        right = float(logits[row, -1, tokenizer.encode(answer).ids[-1]])
        assert right == pytest.approx(10, abs=1e-4)


def test_induction_distractors_write_noise_that_never_reaches_a_logit() -> None:
    model, tokenizer = build("induction-handmade")
    tokens = torch.tensor([tokenizer.encode("kmabcda").ids])
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        before: torch.Tensor = model(tokens)
        for layer in range(2):
            noise = cache["z", layer][0, :, 1] @ model.blocks[layer].attn.W_O[1]
            assert float(noise.std()) > 1e-3
            model.blocks[layer].attn.W_O[1] *= -100
        assert torch.equal(model(tokens), before)


def test_rebuilding_induction_gives_the_shipped_bytes(tmp_path: Path) -> None:
    folder = _save.write_model(induction_handmade.blueprint(), tmp_path)
    for name in ("weights.safetensors", "config.json", "tokenizer.json"):
        shipped = MODELS / "induction-handmade" / name
        assert (folder / name).read_bytes() == shipped.read_bytes(), name


# --- the paren balancer ------------------------------------------------------------------------


@torch.no_grad()
def paren_logits(model: HookedTransformer, tokenizer: Tokenizer, strings: list[str]) -> Array:
    """Class logits at the first position, each length on its own and without padding."""
    logits = np.empty((len(strings), 2))
    lengths = np.array([len(text) for text in strings])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        tokens = torch.tensor([tokenizer.encode(strings[row]).ids for row in rows])
        logits[rows] = model(tokens)[:, 0].numpy()
    return logits


def by_formula(weights: dict[str, Array], tokens: NDArray[np.int64], epsilon: float) -> Array:
    """The network written out in float64 for one batch of equally long token rows."""

    def norm(stream: Array, name: str) -> Array:
        centred = stream - stream.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return centred / scale * weights[f"{name}.w"] + weights[f"{name}.b"]

    stream: Array = weights["embed.W_E"][tokens] + weights["pos_embed.W_pos"][: tokens.shape[1]]
    for layer in range(3):
        at = f"blocks.{layer}"
        normed = norm(stream, f"{at}.ln1")
        written = np.zeros_like(stream)
        for head in range(2):
            query, key, value = (
                normed @ weights[f"{at}.attn.W_{part}"][head] + weights[f"{at}.attn.b_{part}"][head]
                for part in "QKV"
            )
            scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            pattern = powers / powers.sum(-1, keepdims=True)
            written += pattern @ value @ weights[f"{at}.attn.W_O"][head]
        stream = stream + written + weights[f"{at}.attn.b_O"]
        hidden = norm(stream, f"{at}.ln2") @ weights[f"{at}.mlp.W_in"] + weights[f"{at}.mlp.b_in"]
        stream = stream + np.maximum(hidden, 0) @ weights[f"{at}.mlp.W_out"]
        stream = stream + weights[f"{at}.mlp.b_out"]
    return norm(stream, "ln_final")[:, 0] @ weights["unembed.W_U"] + weights["unembed.b_U"]


def test_parens_agree_with_the_formulas() -> None:
    model, tokenizer = build("paren-balancer")
    arrays = load_arrays(MODELS / "paren-balancer" / "weights.safetensors")
    weights = {name: array.astype(np.float64) for name, array in arrays.items()}
    strings = parens.to_strings(parens.near_miss_words(np.random.default_rng(3), 24, 200))
    tokens = np.array([tokenizer.encode(text).ids for text in strings])
    theirs = paren_logits(model, tokenizer, strings)

    def off(changed: dict[str, Array], epsilon: float = 1e-5) -> float:
        ours = by_formula(weights | changed, tokens, epsilon)
        return float(np.abs(ours - theirs).max() / theirs.std())

    assert off({}) < TOLERANCE
    # Negative controls: small mistakes in the formulas must show.
    assert off({}, epsilon=1e-4) > TOLERANCE
    dropped = "blocks.1.attn.b_V"
    assert off({dropped: np.zeros_like(weights[dropped])}) > TOLERANCE


def test_parens_examples_are_judged_rightly() -> None:
    model, tokenizer = build("paren-balancer")
    front, _ = card_of("paren-balancer")
    for example in front["examples"]:
        logits = paren_logits(model, tokenizer, [example["clean"], example["corrupted"]])
        assert logits.argmax(-1).tolist() == [1, 0]
        assert parens.is_balanced(example["clean"])
        assert not parens.is_balanced(example["corrupted"])


# --- the paren data ----------------------------------------------------------------------------


def stack_balanced(text: str) -> bool:
    """Balance by taking out innermost pairs until nothing changes."""
    while "()" in text:
        text = text.replace("()", "")
    return not text


def test_balance_is_equal_counts_and_horizon() -> None:
    rng = np.random.default_rng(11)
    strings = ["", *parens.hard_mix(rng, 4_000).strings]
    for length in (1, 2, 3, 4, 5, 6, 9):
        strings += parens.to_strings(parens.iid_words(rng, length, 300))
    verdicts = Counter[tuple[bool, bool]]()
    for text in strings:
        counts, horizon = parens.equal_counts(text), parens.horizon(text)
        assert parens.is_balanced(text) == stack_balanced(text) == (counts and horizon), text
        assert parens.starts_open(text) == text.startswith("(")
        verdicts[counts, horizon] += 1
    assert min(verdicts[key] for key in ((a, b) for a in (True, False) for b in (True, False))) > 9


def test_horizon_is_about_proportions_from_the_right() -> None:
    for text in parens.hard_mix(np.random.default_rng(12), 500).strings:
        shares = [text[start:].count("(") / len(text[start:]) for start in range(len(text))]
        assert parens.horizon(text) == (max(shares) <= 0.5)


def test_dyck_words_are_balanced_and_uniform() -> None:
    rng = np.random.default_rng(13)
    words = Counter(parens.to_strings(parens.dyck_words(rng, 6, 20_000)))
    assert set(words) == {"((()))", "(()())", "(())()", "()(())", "()()()"}
    # Chi-square with 4 degrees of freedom exceeds 18.5 once in a thousand.
    assert sum((count - 4_000) ** 2 / 4_000 for count in words.values()) < 18.5
    assert all(map(stack_balanced, parens.to_strings(parens.dyck_words(rng, 40, 200))))


def test_hard_mix_has_the_promised_shares_and_repeats() -> None:
    sample = parens.hard_mix(np.random.default_rng(14), 4_000)
    assert set(Counter(map(len, sample.strings)).values()) == {200}
    assert Counter(sample.categories) == {
        "dyck": 1_400,
        "iid": 1_200,
        "equal_count": 800,
        "near_miss": 600,
    }
    assert parens.hard_mix(np.random.default_rng(14), 4_000) == sample
    for text, category in zip(sample.strings, sample.categories, strict=True):
        if category in ("dyck", "equal_count"):
            assert parens.equal_counts(text)


@pytest.mark.parametrize("feature", [parens.is_balanced, parens.horizon, parens.starts_open])
def test_features_refuse_other_characters(feature: Callable[[str], bool]) -> None:
    with pytest.raises(ValueError, match="only"):
        feature("( )")
