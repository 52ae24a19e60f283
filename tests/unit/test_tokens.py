"""Text to tokens and back: nothing of a prompt is lost, and a preview says what the model reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from interp.errors import BadInput, PromptTooLong, UnknownToken
from interp.models import catalogue, tokens
from interp.models.add import add, describe
from interp.models.info import ModelInfo
from interp.models.vocabulary import vocabulary
from tests.unit._checkpoints import (
    END,
    PROMPT,
    SENTENCES,
    byte_level,
    change,
    checkpoint,
    refused,
    written,
)

ROOT = Path(__file__).resolve().parents[2]


@lru_cache(maxsize=1)
def gpt2() -> ModelInfo:
    """A byte-level model that puts nothing in front of a prompt, with room for long ones."""
    return replace(add(str(written("gpt2"))), bos=None, n_ctx=4096)


def saved(folder: Path, tokenizer: Tokenizer, **changed: Any) -> ModelInfo:
    """Describe a model that has this tokenizer."""
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    size = max(tokenizer.get_vocab().values()) + 1
    fields = {"folder": folder, "tokenizer_file": None, "d_vocab": size, "d_out": size, **changed}
    return replace(gpt2(), **fields)


def encode(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(tokenizer.encode(text).tokens)


# --- byte-level vocabularies ----------------------------------------------------------------------


@lru_cache(maxsize=1)
def byte_of_letter() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def raw(tokenizer: Tokenizer, ids: tuple[int, ...]) -> list[bytes]:
    """The bytes of each token, by the table of another library."""
    table = byte_of_letter()
    return [bytes(table[c] for c in str(tokenizer.id_to_token(i))) for i in ids]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80))
def test_no_byte_of_a_prompt_is_lost(text: str) -> None:
    found = tokens.encode(gpt2(), text)
    parts = raw(Tokenizer.from_file(str(gpt2().tokenizer)), found.ids)
    assert b"".join(parts) == text.encode()
    whole = [part.decode("utf-8", "replace").encode() == part for part in parts]
    # A token that ends inside a character shows its bytes as \xf0; all others show their text.
    assert list(found.texts) == [part.decode("utf-8", "backslashreplace") for part in parts]
    if all(whole):
        assert "".join(found.texts) == text
    assert tokens.text_of(gpt2(), found.ids) == found.texts


def test_a_character_that_is_cut() -> None:
    found = tokens.encode(gpt2(), "a\U0001f600é")
    assert found.texts == ("a", "\\xf0", "\\x9f", "\\x98", "\\x80", "\\xc3", "\\xa9")
    # Each can be asked for as an answer, and stays apart from the others.
    assert [tokens.answer_id(gpt2(), text) for text in found.texts] == list(found.ids)


@pytest.mark.parametrize(
    "text",
    [
        PROMPT,
        *SENTENCES,
        '<b>bold</b> & "quoted"',
        "a\tb\r\n\n  c   ",
        "\x00\x01\x7f",
        " ",
        "\n",
        "\u200b\u00a0\u3000\ufeff",
        "e\u0301 é \u0130 ß",
        "\u202eright to left",
        "\\xf0 typed",
        "Ġ and ▁ are letters too",
    ],
)
def test_texts_join_to_the_prompt(text: str) -> None:
    found = tokens.encode(gpt2(), text)
    shown = "".join(found.texts)
    if text.isascii():
        assert shown == text
    parts = raw(Tokenizer.from_file(str(gpt2().tokenizer)), found.ids)
    assert b"".join(parts).decode() == text


def test_every_id_has_a_text() -> None:
    model, known = gpt2(), tokens.vocabulary_of(gpt2())
    texts = tokens.text_of(model, tuple(range(model.d_vocab + 5)))
    assert all(texts)
    assert texts[-1] == f"[{model.d_vocab + 4}]"
    assert len(set(texts)) == len(texts)
    assert [known.ids[text] for text in texts[: model.d_vocab]] == list(range(model.d_vocab))
    assert tokens.answer_names(model) == texts[: model.d_vocab]
    assert tokens.special_ids(model) == {texts.index(END)}


def test_a_token_of_200_characters(tmp_path: Path) -> None:
    tokenizer = byte_level()
    long = "a" * 200
    tokenizer.add_tokens([AddedToken(long, normalized=False)])
    model = saved(tmp_path / "m", tokenizer)
    found = tokens.encode(model, f"b{long} c")
    assert found.texts == ("b", long, " ", "c")
    assert tokens.answer_id(model, long) == found.ids[1]


# --- the first token ------------------------------------------------------------------------------


def test_the_first_token_stands_there_once(tmp_path: Path) -> None:
    model = add(str(checkpoint(tmp_path / "plain", "gpt2")))
    end = model.d_vocab - 1
    plain = tokens.encode(model, "When Mary")
    assert plain.texts == (END, "When", " Mary")
    assert tokens.encode(model, END + "When Mary") == plain
    assert tokens.encode(model, END + END + "When").texts == (END, END, "When")
    assert tokens.encode(model, "").ids == (end,)
    # A tokenizer that puts it there itself is left to do so.
    folder = checkpoint(tmp_path / "own", "gpt2")
    tokenizer = byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    own = add(str(folder))
    assert own.bos is None
    assert tokens.encode(own, "When Mary") == plain
    # pieces() is what an answer is cut into: without it.
    assert tokens.pieces(own, "When Mary") == ("When", " Mary")


@pytest.mark.parametrize(
    ("family", "settings_said", "config_said", "expected"),
    [
        ("gpt2", {"bos_token": END}, None, True),
        ("gpt2", {"bos_token": {"content": END}}, None, True),
        ("gpt2", {"bos_token": None}, "last", True),  # the field puts it there all the same
        ("gpt2", {"bos_token": None}, None, False),
        ("gpt2", {"bos_token": None}, 10**9, False),
        ("gpt2", {"bos_token": None}, -1, False),
        ("gpt2", {"bos_token": None}, "word", False),
        ("llama", {"bos_token": END}, None, True),
        ("llama", {"bos_token": None}, "last", False),  # as Qwen has it: trained without
        ("llama", {"bos_token": "<gone>"}, None, False),
        ("llama", {"bos_token": 5}, None, False),
        ("llama", {"bos_token": {"content": ["x"]}}, None, False),
    ],
)
def test_which_token_is_first(
    tmp_path: Path, family: str, settings_said: dict[str, Any], config_said: Any, expected: bool
) -> None:
    folder = checkpoint(tmp_path / "model", family)
    last = json.loads((folder / "config.json").read_text())["vocab_size"] - 1
    change(folder / "tokenizer_config.json", **settings_said)
    change(folder / "config.json", bos_token_id=last if config_said == "last" else config_said)
    assert describe(str(folder)).info.bos == (last if expected else None)


# --- answers --------------------------------------------------------------------------------------


def test_the_space_of_an_answer() -> None:
    model = gpt2()
    assert tokens.text_of(model, (tokens.answer_id(model, " Mary"),)) == (" Mary",)
    assert refused(UnknownToken, lambda: tokens.answer_id(model, "Mary")) == (
        "The answer 'Mary' was asked for.",
        f"It is not one token of {model.name}, which cuts it into 'Mar', 'y'.",
        "' Mary', with a space before it, is one token. Choose a text that is one token.",
    )
    assert refused(UnknownToken, lambda: tokens.answer_id(model, " When"))[2] == (
        "'When', without the space, is one token. Choose a text that is one token."
    )
    assert refused(UnknownToken, lambda: tokens.answer_id(model, "Margaret"))[2] == (
        "Choose a text that is one token."
    )
    assert refused(UnknownToken, lambda: tokens.answer_id(model, ""))[2] == (
        "Choose a text that is one token."
    )
    long = refused(UnknownToken, lambda: tokens.answer_id(model, "x" * 10_000_000))
    assert long[0] == f"The answer {'x' * 200!r} was asked for."


# --- vocabularies with ▁ --------------------------------------------------------------------------


def metaspace(*, prefix: str, fallback: bool = True) -> Tokenizer:
    """A vocabulary as Llama 2 ("normalizer"), Mistral ("pre") or Gemma ("none") has it."""
    words = ["▁Mary", "▁When", "When", "▁a", "ary"]
    letters = sorted({c for text in (*words, *SENTENCES, "▁") for c in text} - {" "})
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    merges = {
        (word[:n], word[n]): None for word in words for n in range(1, len(word))
    }  # fmt: skip
    joined = [a + b for a, b in merges]
    listed = dict.fromkeys(["<unk>", "<s>", "</s>", *bytes_, *letters, *joined])
    vocab = {token: i for i, token in enumerate(listed)}
    tokenizer = Tokenizer(
        models.BPE(vocab, list(merges), unk_token="<unk>", byte_fallback=fallback, fuse_unk=True)
    )
    if prefix == "pre":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        steps = [normalizers.Prepend("▁")] if prefix == "normalizer" else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("prefix", "first"), [("normalizer", " When"), ("pre", " When"), ("none", "When")]
)
def test_a_vocabulary_with_underscores(tmp_path: Path, prefix: str, first: str) -> None:
    model = saved(tmp_path / "m", metaspace(prefix=prefix))
    found = tokens.encode(model, "When Mary\n\U0001f600")
    assert found.texts == (
        "<s>", first, " Mary", "\n", "\\xf0", "\\x9f", "\\x98", "\\x80",
    )  # fmt: skip
    assert tokens.text_of(model, (tokens.answer_id(model, " Mary"),)) == (" Mary",)
    hint = refused(UnknownToken, lambda: tokens.answer_id(model, "Mary"))[2]
    assert hint.startswith("' Mary', with a space before it, is one token.")
    # The letter is meant, not the byte, which no text is cut into.
    letter = Tokenizer.from_file(str(model.tokenizer)).token_to_id("a")
    assert tokens.answer_id(model, "a") == letter
    assert tokens.text_of(model, (letter,)) == ("a",)
    assert all(tokens.text_of(model, tuple(range(model.d_vocab))))
    assert tokens.special_ids(model) == {0, 1, 2}


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="▁")))
def test_underscores_lose_no_character(text: str) -> None:
    model = _underscored()
    shown = tokens.encode(model, text).texts[1:]
    joined = b"".join(
        bytes([int(t[2:], 16)]) if len(t) == 4 and t.startswith("\\x") else t.encode()
        for t in shown
    )
    assert joined.decode() == text


@lru_cache(maxsize=1)
def _underscored() -> ModelInfo:
    import tempfile

    return saved(Path(tempfile.mkdtemp()) / "m", metaspace(prefix="none"))


def test_what_has_no_token_is_not_replaced_by_another(tmp_path: Path) -> None:
    """<unk> would stand for it, and the question would be another one."""
    model = saved(tmp_path / "m", metaspace(prefix="none", fallback=False), name="m")
    assert tokens.encode(model, "When Mary").texts == ("<s>", "When", " Mary")
    assert refused(UnknownToken, lambda: tokens.encode(model, "When \U0001f600"))[:2] == (
        "The prompt has '\U0001f600' at character 5.",
        "m has no token for it.",
    )
    assert tokens.encode(model, "When<unk>").texts == ("<s>", "When", "<unk>")
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    other = saved(tmp_path / "w", words, name="w")
    assert tokens.encode(other, "one two").texts == ("one", "two")
    assert refused(UnknownToken, lambda: tokens.encode(other, "ten"))[:2] == (
        "The prompt has 't' at character 0.",
        "w has no token for it.",
    )


def test_bundled_vocabularies() -> None:
    for name in catalogue.bundled():
        model = catalogue.info(name)
        texts = tokens.text_of(model, tuple(range(model.d_vocab)))
        assert len(set(texts)) == len(texts)
        plain = [t for i, t in enumerate(texts) if i not in tokens.special_ids(model)]
        if name == "stdlib-lm":
            continue  # merged anew, its tokens give others: test_tokens_of_source looks at it
        between = " " if tokens.vocabulary_of(model).worded else ""
        typed = between.join(plain[: max(1, model.n_ctx - 2)])
        found = tokens.encode(model, typed).texts
        specials = {texts[i] for i in tokens.special_ids(model) if i < len(texts)}
        assert between.join(t for t in found if t not in specials) == typed


def test_tokens_of_source() -> None:
    model = catalogue.info("stdlib-lm")
    source = "def f(self, x):\n    if x[0]:\n        return self.name  # ünïcode\n"
    found = tokens.encode(model, source).texts
    assert found[0] == "[BOS]"
    assert found[1:11] == ("def", " f", "(", "self", ",", " x", ")", ":", "\n", "    ")
    known = tokens.vocabulary_of(model)
    assert known.joined(tokens.encode(model, source).ids) == f"[BOS]{source}"


def test_a_word_without_a_token_is_named_whole() -> None:
    model = catalogue.info("max-of-4")
    assert tokens.encode(model, "3 17  60 5").texts == ("3", "17", "60", "5")
    for typed, word in (("3 17 99 5", "99"), ("3,17", "3,17"), ("1 2 x", "x")):
        said = refused(UnknownToken, lambda typed=typed: tokens.encode(model, typed))
        assert said[0].startswith(f"The prompt has {word!r} at character")
        assert "with spaces between them" in said[2]


# --- hostile prompts and tokenizers ---------------------------------------------------------------


def test_ten_megabytes_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(gpt2(), n_ctx=64)
    monkeypatch.setattr(tokens, "vocabulary_of", None)  # nothing is cut, nothing is searched

    class Text(str):
        def __iter__(self) -> Any:
            raise AssertionError("read")

    assert refused(PromptTooLong, lambda: tokens.encode(model, Text("x" * 10_000_000))) == (
        "The prompt has 10,000,000 characters.",
        f"{model.name} has 64 positions.",
        "Shorten it: a token is about four characters of English.",
    )


def test_a_prompt_longer_than_the_model() -> None:
    model = replace(gpt2(), n_ctx=4)
    assert len(tokens.encode(model, "When Mary and John")) == 4
    assert refused(PromptTooLong, lambda: tokens.encode(model, "When Mary and John went to")) == (
        "The prompt has 6 tokens.",
        f"{model.name} has 4 positions.",
        "Shorten it by 2 or more.",
    )
    # The token in front takes a position.
    with pytest.raises(PromptTooLong):
        tokens.encode(replace(model, bos=0), "When Mary and John")


@pytest.mark.parametrize("half", ["\ud800", "a\ud83d", "\ude00\ud83d"])
def test_half_a_character(half: str) -> None:
    asked, found, works = refused(UnknownToken, lambda: tokens.encode(gpt2(), half))
    at = next(i for i, c in enumerate(half) if c > "\ud7ff")
    assert asked == f"The prompt has half a surrogate pair at character {at}."
    assert found == "That is no character."
    assert works == f"{gpt2().name} reads: any text, by a vocabulary of 345 tokens."


def test_a_special_token_that_a_person_types_is_that_token() -> None:
    found = tokens.encode(gpt2(), f"When{END}Mary")
    assert found.texts == ("When", END, "Mar", "y")
    assert tokens.encode(gpt2(), "<|endoftext |>").texts[0] != END


def test_a_tokenizer_that_cuts_and_fills(tmp_path: Path) -> None:
    tokenizer = byte_level()
    plain = tokens.encode(saved(tmp_path / "plain", tokenizer), PROMPT)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50, pad_id=0, pad_token="!")
    assert len(encode(tokenizer, PROMPT)) == 50  # so the file does say it
    assert tokens.encode(saved(tmp_path / "m", tokenizer), PROMPT) == plain
    assert len(plain) == 14


def test_a_tokenizer_that_cuts_at_random(tmp_path: Path) -> None:
    tokenizer = byte_level()
    plain = tokens.encode(saved(tmp_path / "plain", tokenizer), PROMPT)
    tokenizer.model.dropout = 0.9
    assert len({tuple(encode(tokenizer, PROMPT)) for _ in range(20)}) > 1
    model = saved(tmp_path / "m", tokenizer)
    assert {tokens.encode(model, PROMPT) for _ in range(20)} == {plain}


def test_a_tokenizer_of_a_larger_model(tmp_path: Path) -> None:
    """Its ids are beyond the embedding: refused where they are used, not where they are not."""
    folder = checkpoint(tmp_path / "model", "gpt2")
    tokenizer = byte_level()
    tokenizer.add_tokens([f"extra{i}" for i in range(5)])
    tokenizer.save(str(folder / "tokenizer.json"))
    model = add(str(folder))
    assert tokens.encode(model, "When Mary").texts == (END, "When", " Mary")
    assert refused(UnknownToken, lambda: tokens.encode(model, "When extra3")) == (
        "The prompt has the token 'extra3'.",
        f"The tokenizer gives it the id 349; {model.name} has 346 ids.",
        "Leave it out.",
    )
    with pytest.raises(UnknownToken):
        tokens.answer_id(model, "extra3")
    assert len(tokens.answer_names(model)) == 346


def test_a_tokenizer_of_a_smaller_model(tmp_path: Path) -> None:
    """Rows of the embedding beyond the vocabulary, as many models have, are shown by number."""
    model = saved(tmp_path / "m", byte_level(), d_vocab=400, d_out=400)
    assert tokens.text_of(model, (399,)) == ("[399]",)
    assert tokens.answer_names(model)[399] == "[399]"


def test_another_tokenizer_in_its_place_is_read_anew(tmp_path: Path) -> None:
    model = saved(tmp_path / "m", byte_level())
    assert tokens.encode(model, "When Mary").texts == ("When", " Mary")
    other = Tokenizer(models.WordLevel({"When": 0, "Mary": 1}, unk_token=None))
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    other.save(str(model.tokenizer))
    assert tokens.encode(model, "When Mary").texts == ("When", "Mary")


def test_many_threads_share_a_tokenizer() -> None:
    wrong: list[object] = []
    expected = tokens.encode(gpt2(), PROMPT)

    def work() -> None:
        for _ in range(50):
            try:
                if tokens.encode(gpt2(), PROMPT) != expected:
                    wrong.append("other tokens")
                tokens.pieces(gpt2(), " Mary")
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_vocabulary_is_read_once(tmp_path: Path) -> None:
    model = saved(tmp_path / "m", byte_level())
    assert vocabulary(str(model.tokenizer)) is vocabulary(str(model.tokenizer))


def test_previews_need_no_torch(tmp_path: Path) -> None:
    """The server's process describes models and cuts prompts; torch would make it slow."""
    folder = checkpoint(tmp_path / "model")
    code = (
        "import sys\n"
        "import interp.models.add, interp.models.hub, interp.models.tokens, interp.models.fit\n"
        f"found = interp.models.add.describe({str(folder)!r}).info\n"
        f"print(interp.models.tokens.encode(found, {PROMPT!r}).ids[:2])\n"
        "print(interp.models.fit.stored_values(found), len(interp.models.hub.aliases()) > 100)\n"
        "print([m for m in ('torch', 'transformers', 'transformer_lens') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "BECAUSE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "(345, 299)"
    assert done.stdout.splitlines()[1].endswith(" True")
    assert done.stdout.splitlines()[2] == "[]"


def test_a_pattern_that_never_ends_is_a_sentence(tmp_path: Path) -> None:
    """The tokenizer's library panics, which is no ``Exception``; nobody may see that."""
    inner = byte_level()
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    model = saved(tmp_path / "never", inner)
    assert tokens.encode(model, "ab").ids  # the control: other prompts are read
    prompt = "x" * 24 + "zy"
    asked, found, works = refused(BadInput, lambda: tokens.encode(model, prompt))
    assert asked == f"The prompt {prompt!r} was to be cut into tokens."
    assert found.startswith("The model's tokenizer fails on it: ")
    assert works == "Change the prompt, or save the model's tokenizer again."
