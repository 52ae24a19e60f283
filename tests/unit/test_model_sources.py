"""Models from folders: what is refused and how, names, variants, and what stays equal."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251
import shutil
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import interp
from interp.errors import BadInput, CannotLoad, InterpError, UnknownName
from interp.models import catalogue, paths, registry, tokens
from interp.models.add import add, describe, known
from interp.models.load import load
from tests.oracles import _families
from tests.unit._checkpoints import (
    FAMILIES,
    PROMPT,
    WEIGHTS,
    byte_level,
    change,
    checkpoint,
    fast,
    reference,
    refused,
    written,
)
from tests.unit._hub import CLOSED, point_at

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
COPY = "Copy or download the whole folder again."
COPY_FOLDER = "Copy or download the folder again."
COPY_FILE = "Copy or download it again."
SAVE_FIELD = "Choose another checkpoint, or save this one again with the field corrected."
SAVE_TRUSTED = (
    "Save the model again where you trust it: model.save_pretrained(folder), which writes "
    "safetensors."
)
SAVE_TOKENIZER = (
    "Save the tokenizer of its base model into the folder: "
    "AutoTokenizer.from_pretrained(base).save_pretrained(folder)."
)
TOKENIZER_AGAIN = "Save it again: AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
LLAMA_CONFIG = "A checkpoint of type llama was to be read by its config.json."
FILE = f"The weights in {WEIGHTS} were to be read."
MODEL = "model was to be read."
TRUNCATED = "it is truncated or no safetensors file."

_OPENED: list[str] | None = None


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _OPENED is not None:
        _OPENED.append(str(args[0]))


sys.addaudithook(_note)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that this process opens."""
    global _OPENED
    _OPENED = []
    yield _OPENED
    _OPENED = None


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(CLOSED, tmp_path / "cache", monkeypatch)


def logits(loaded: Any, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.hooked(torch.tensor([ids]))[0]


def deviation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.std())


# --- what is in the folder ------------------------------------------------------------------------

Spoil = Callable[[Path], Any]


def put(name: str, data: bytes | str) -> Spoil:
    raw = data if isinstance(data, bytes) else data.encode()
    return lambda folder: (folder / name).write_bytes(raw)


def without(name: str, then: Spoil | None = None) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        if then is not None:
            then(folder)

    return spoil


def config(**values: Any) -> Spoil:
    return lambda folder: change(folder / "config.json", **values)


def weights(header: Any, data: bytes = b"", n: int | None = None) -> Spoil:
    """A safetensors file of this header, which says that it has ``n`` bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return put(WEIGHTS, struct.pack("<Q", len(raw) if n is None else n) + raw + data)


def tensor(shape: list[Any], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def shards(index: Callable[[dict[str, Any]], Any] = dict, twice: bool = False) -> Spoil:
    """Two files with an index, which ``index`` may change."""

    def spoil(folder: Path) -> None:
        whole = load_file(folder / WEIGHTS)
        names = sorted(whole)
        parts = ({n: whole[n] for n in names[:9]}, {n: whole[n] for n in names[9:]})
        if twice:
            parts[1][names[0]] = whole[names[0]]
        for part, file in zip(parts, SHARDS, strict=True):
            save_file(part, folder / file)
        (folder / WEIGHTS).unlink()
        named = {n: f for part, f in zip(parts, SHARDS, strict=True) for n in part}
        (folder / INDEX).write_text(json.dumps({"weight_map": index(named)}))

    return spoil


def naming(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda named: {**named, "model.norm.weight": value}


def tokenizer(change_it: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "tokenizer.json").read_text())
        change_it(told)
        (folder / "tokenizer.json").write_text(json.dumps(told))

    return spoil


def instead(name: str, make: Callable[[Path], Any]) -> Spoil:
    return without(name, lambda folder: make(folder / name))


def entry(header: dict[str, Any]) -> str:
    return f"Its header cannot be read: an entry is {str(header)[:100]}."


BLOWS_UP = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}] * 3,
}
SPOILED: dict[str, tuple[Spoil, tuple[str, str, str]]] = {
    "no config": (
        without("config.json"),
        (
            "config.json was to be read.",
            "There is no such file in model.",
            "Save the model with save_pretrained, which writes it.",
        ),
    ),
    "config that is no JSON": (
        put("config.json", "{nope"),
        (
            "config.json was to be read.",
            "It is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 "
            "(char 1).",
            COPY_FOLDER,
        ),
    ),
    "config that is a list": (
        put("config.json", "[1]"),
        ("config.json was to be read.", "It is no JSON object.", COPY_FOLDER),
    ),
    "config in another encoding": (
        put("config.json", b'{"a": "\xe9"}'),
        (
            "config.json was to be read.",
            "It is no JSON: 'utf-8' codec can't decode byte 0xe9 in position 7: invalid "
            "continuation byte.",
            COPY_FOLDER,
        ),
    ),
    "config of brackets": (
        put("config.json", "[" * 100_000),
        (
            "config.json was to be read.",
            "It is no JSON: maximum recursion depth exceeded while decoding a JSON array from a "
            "unicode string.",
            COPY_FOLDER,
        ),
    ),
    "config of 100 MB": (
        lambda folder: os.truncate(folder / "config.json", 100 * 2**20),
        ("config.json was to be read.", "It has more than 64 MB.", COPY_FOLDER),
    ),
    "config with NaN": (
        config(rms_norm_eps=float("nan")),
        (LLAMA_CONFIG, "rms_norm_eps is nan, which is not a number above zero.", SAVE_FIELD),
    ),
    "config with infinity": (
        config(hidden_size=float("inf")),
        (
            LLAMA_CONFIG,
            "hidden_size is inf, which is not a whole number from 1 to 2,147,483,648.",
            SAVE_FIELD,
        ),
    ),
    "config that asks for code": (
        config(auto_map={"AutoModelForCausalLM": "modeling_x.Model"}),
        (
            LLAMA_CONFIG,
            "It asks to run code of its own (auto_map), which is never done.",
            "Models whose code is part of transformers can be read.",
        ),
    ),
    "no tokenizer": (
        without("tokenizer.json"),
        (
            MODEL,
            "It has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt.",
            SAVE_TOKENIZER,
        ),
    ),
    "only tokenizer.model": (
        without("tokenizer.json", put("tokenizer.model", b"\x00")),
        (
            MODEL,
            "Of its tokenizer only tokenizer.model is there, which is not read.",
            SAVE_TOKENIZER,
        ),
    ),
    "broken tokenizer": (
        put("tokenizer.json", "{nope"),
        (
            "The tokenizer model/tokenizer.json was to be read.",
            "It cannot be: key must be a string at line 1 column 2.",
            TOKENIZER_AGAIN,
        ),
    ),
    "tokenizer that is a list": (
        put("tokenizer.json", "[]"),
        (
            "The tokenizer model/tokenizer.json was to be read.",
            "It cannot be: invalid type: sequence, expected struct Tokenizer at line 1 column 2.",
            TOKENIZER_AGAIN,
        ),
    ),
    "tokenizer with ids beyond all sense": (
        tokenizer(lambda told: told["model"]["vocab"].update(zz=2**32 - 1)),
        (
            "The tokenizer model/tokenizer.json was to be read.",
            "It cannot be: it has the id 4,294,967,295, beyond 4,194,304.",
            TOKENIZER_AGAIN,
        ),
    ),
    "tokenizer of 300 MB": (
        lambda folder: os.truncate(folder / "tokenizer.json", 300 * 2**20),
        (
            "The tokenizer model/tokenizer.json was to be read.",
            "It cannot be: it is no file of at most 256 MB.",
            TOKENIZER_AGAIN,
        ),
    ),
    "broken settings of the tokenizer": (
        put("tokenizer_config.json", "{nope"),
        (
            "tokenizer_config.json was to be read.",
            "It is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 "
            "(char 1).",
            COPY_FOLDER,
        ),
    ),
    "a tokenizer of two files for another family": (
        without("tokenizer.json", lambda f: (put("vocab.json", "{")(f), put("merges.txt", "a")(f))),
        (
            MODEL,
            "Its tokenizer is vocab.json and merges.txt, which do not say how text is split, or "
            "which tokens were added.",
            "Save it whole: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes "
            "tokenizer.json.",
        ),
    ),
    "a tokenizer that blows text up": (
        tokenizer(lambda told: told.update(normalizer=BLOWS_UP)),
        (
            "The tokenizer model/tokenizer.json was to be read.",
            "It cannot be: a step of it writes 200 letters for one.",
            TOKENIZER_AGAIN,
        ),
    ),
    "no weights": (without(WEIGHTS), (MODEL, "It has no safetensors file.", SAVE_TRUSTED)),
    "two files without an index": (
        lambda folder: (
            shutil.copy(folder / WEIGHTS, folder / "a.safetensors")
            and (folder / WEIGHTS).rename(folder / "b.safetensors")
        ),
        (
            MODEL,
            f"It has 2 safetensors files and no {INDEX}.",
            "Save the model with save_pretrained, which writes the index.",
        ),
    ),
    "truncated": (
        lambda folder: os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 100),
        (FILE, "Its header declares 150,656 bytes of tensors; the file holds 150,556.", COPY_FILE),
    ),
    "truncated in the header": (
        lambda folder: os.truncate(folder / WEIGHTS, 300),
        (
            FILE,
            f"The file has 300 bytes and says that its header alone has 2,128: {TRUNCATED}",
            COPY_FILE,
        ),
    ),
    "empty": (
        put(WEIGHTS, b""),
        (
            FILE,
            f"The file has 0 bytes and says that its header alone has 0: {TRUNCATED}",
            COPY_FILE,
        ),
    ),
    "a header of 2**60 bytes": (
        weights(b"{}", n=2**60),
        (
            FILE,
            "The file has 10 bytes and says that its header alone has 1,152,921,504,606,846,976: "
            f"{TRUNCATED}",
            COPY_FILE,
        ),
    ),
    "a header that declares more": (
        weights({"a": tensor([1000], 0, 4000)}, b"1234"),
        (FILE, "Its header declares 4,000 bytes of tensors; the file holds 4.", COPY_FILE),
    ),
    "a header that declares less": (
        weights({"a": tensor([1], 0, 4)}, b"12345678"),
        (FILE, "Its header declares 4 bytes of tensors; the file holds 8.", COPY_FILE),
    ),
    "a header that is no JSON": (
        weights(b"{nope"),
        (
            FILE,
            "Its header cannot be read: Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1).",
            COPY_FILE,
        ),
    ),
    "a header of brackets": (
        weights(b"[" * 100_000),
        (
            FILE,
            "Its header cannot be read: maximum recursion depth exceeded while decoding a JSON "
            "array from a unicode string.",
            COPY_FILE,
        ),
    ),
    "a header that is a list": (
        weights([1]),
        (FILE, "Its header cannot be read: it is no JSON object.", COPY_FILE),
    ),
    "overlapping tensors": (
        weights({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
        (FILE, "The header's entry for 'b' contradicts itself or another.", COPY_FILE),
    ),
    "a gap between tensors": (
        weights({"a": tensor([1], 4, 8)}, bytes(8)),
        (FILE, "The header's entry for 'a' contradicts itself or another.", COPY_FILE),
    ),
    "another shape than bytes": (
        weights({"a": tensor([3], 0, 8)}, bytes(8)),
        (FILE, "The header's entry for 'a' contradicts itself or another.", COPY_FILE),
    ),
    "a shape beyond all sense": (
        weights({"a": tensor([2**62, 2**62], 0, 8)}, bytes(8)),
        (FILE, entry(tensor([2**62, 2**62], 0, 8)), COPY_FILE),
    ),
    "shapes of thousands of digits": (
        weights({"a": tensor([10**3999] * 300, 0, 8)}, bytes(8)),
        (FILE, entry(tensor([10**3999] * 300, 0, 8)), COPY_FILE),
    ),
    "a shape of many axes": (
        weights({"a": tensor([1] * 9, 0, 4)}, bytes(4)),
        (FILE, entry(tensor([1] * 9, 0, 4)), COPY_FILE),
    ),
    "negative offsets": (
        weights({"a": tensor([1], -4, 0)}),
        (FILE, entry(tensor([1], -4, 0)), COPY_FILE),
    ),
    "offsets that are words": (
        weights({"a": {**tensor([1], 0, 4), "data_offsets": "ab"}}, bytes(4)),
        (FILE, entry({**tensor([1], 0, 4), "data_offsets": "ab"}), COPY_FILE),
    ),
    "a precision that is none": (
        weights({"a": tensor([1], 0, 4, "X9")}, bytes(4)),
        (FILE, entry(tensor([1], 0, 4, "X9")), COPY_FILE),
    ),
    "an entry that is none": (
        weights({"a": None}),
        (FILE, "Its header cannot be read: an entry is None.", COPY_FILE),
    ),
    "a tensor in two files": (
        shards(twice=True),
        (
            MODEL,
            f"The tensor 'lm_head.weight' is in {SHARDS[0]} and in {SHARDS[1]}.",
            "Save the model again.",
        ),
    ),
    "a missing file": (
        lambda folder: (shards()(folder), (folder / SHARDS[1]).unlink()),
        (MODEL, f"1 of its 2 weight files are missing: {SHARDS[1]!r}.", COPY),
    ),
    "an index that leads elsewhere": (
        shards(naming("../../x.safetensors")),
        (
            MODEL,
            "Its index names the file '../../x.safetensors', which is not in the folder.",
            "Save the model again with save_pretrained.",
        ),
    ),
    "an index that leads anywhere": (
        shards(naming("/etc/x.safetensors")),
        (
            MODEL,
            "Its index names the file '/etc/x.safetensors', which is not in the folder.",
            "Save the model again with save_pretrained.",
        ),
    ),
    "an index of something else": (
        shards(naming("pytorch_model.bin")),
        (MODEL, f"{INDEX} does not say which safetensors files there are.", COPY),
    ),
    "an index of lists": (
        shards(naming(["a"])),
        (MODEL, f"{INDEX} does not say which safetensors files there are.", COPY),
    ),
    "an index that is a list": (
        shards(list),
        (MODEL, f"{INDEX} does not say which safetensors files there are.", COPY),
    ),
    "an index with a null character": (
        shards(naming("a\0.safetensors")),
        (MODEL, "1 of its 3 weight files are missing: 'a\\x00.safetensors'.", COPY),
    ),
    # A pipe would keep its reader waiting for ever.
    **{
        f"{what} for {name}": (
            instead(name, make),
            (MODEL, f"{name} is not a file.", COPY),
        )
        for what, make in (("a pipe", os.mkfifo), ("a folder", os.mkdir))
        for name in ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json")
    },
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_folder(tmp_path: Path, spoil: Spoil, said: tuple[str, str, str]) -> None:
    folder = checkpoint(tmp_path / "model")
    spoil(folder)
    assert refused(CannotLoad, lambda: add(str(folder))) == said
    assert registry.entries() == {}


@pytest.mark.parametrize("name", ["nothing", "model/config.json", "x" * 5000])
def test_no_folder(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path / "model")
    _, found, works = refused(CannotLoad, lambda: add(str(tmp_path / name)))
    assert found in {
        "There is no such folder.",
        "That is a file.",
        "It cannot be: File name too long.",
    }
    assert works


def test_a_pickle_is_neither_run_nor_read(tmp_path: Path, opened: list[str]) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "marker"), "w"))

    assert pickle.loads(pickle.dumps(Payload())).close() is None
    assert (tmp_path / "marker").exists()  # the payload is live
    (tmp_path / "marker").unlink()
    folder = checkpoint(tmp_path / "model")
    (folder / WEIGHTS).unlink()
    for name in ("pytorch_model.bin", "consolidated.00.pth"):
        (folder / name).write_bytes(pickle.dumps(Payload()))
    opened.clear()
    assert refused(CannotLoad, lambda: interp.load_model(str(folder))) == (
        MODEL,
        "Its weights are in consolidated.00.pth, a pickle, which can run code when it is opened; "
        "it was not opened.",
        SAVE_TRUSTED,
    )
    assert str(folder / "config.json") in opened  # so what is opened is seen
    assert not [path for path in opened if path.endswith((".bin", ".pth"))]
    assert not (tmp_path / "marker").exists()


def test_code_in_the_folder_is_neither_run_nor_read(tmp_path: Path, opened: list[str]) -> None:
    folder = checkpoint(tmp_path / "model")
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w')\n"
    for name in ("modeling_x.py", "configuration_x.py", "tokenization_x.py", "__init__.py"):
        (folder / name).write_text(code)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.T", None]})
    opened.clear()
    # Without a field that asks for it in config.json, the rest of the folder can be read.
    assert interp.load_model(str(folder)).info.name == "local/model"
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.Model"})
    assert refused(CannotLoad, lambda: interp.load_model(str(folder)))[1] == (
        "It asks to run code of its own (auto_map), which is never done."
    )
    assert not marker.exists()
    assert not [path for path in opened if path.startswith(str(folder)) and path.endswith(".py")]


# --- where the folder is --------------------------------------------------------------------------


@pytest.fixture
def roots(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, str]:
    """A folder that may be read, one that may not, and how the former are listed."""
    inside, outside = tmp_path / "models", tmp_path / "private"
    inside.mkdir()
    outside.mkdir()
    monkeypatch.setenv("BECAUSE_MODEL_ROOTS", str(inside))
    return inside, outside, f"{inside}, {home}."


MOVE = "Move the model there, or start the app with BECAUSE_MODEL_ROOTS naming its folder."


def test_paths_outside_the_roots(roots: tuple[Path, Path, str], opened: list[str]) -> None:
    inside, outside, listed = roots
    secret = checkpoint(outside / "secret")
    assert add(str(checkpoint(inside / "mine"))).name == "local/mine"
    opened.clear()
    for path in (
        str(secret),
        str(outside / "nothing"),
        f"{inside}/../private/secret",
        f"{inside}/mine/../../private/secret",
        os.path.relpath(secret, inside).replace("..", str(inside / ".."), 1),
        "/",
        "/etc",
        "~",
        "..",
        "../../etc",
    ):
        for call in (describe, add, known, interp.load_model):
            assert refused(CannotLoad, lambda c=call, p=path: c(p)) == (
                f"The path {path!r} was given.",
                f"It is not under a folder that models may be read from: {listed}",
                MOVE,
            )
    assert not [path for path in opened if path.startswith(str(outside))]


def test_a_folder_that_is_a_link_out(roots: tuple[Path, Path, str], opened: list[str]) -> None:
    inside, outside, listed = roots
    link = inside / "link"
    link.symlink_to(checkpoint(outside / "secret"))
    opened.clear()
    for path in (str(link), f"{link}/", f"{link}/../secret"):
        said = refused(CannotLoad, lambda p=path: add(p))
        assert said[0] == f"The path {path!r} was given."
        assert "secret" not in said[1]  # where it leads to is nobody's business
        assert said[2] == MOVE
    assert refused(CannotLoad, lambda: add(str(link)))[1] == (
        f"A link in it leads out of the folders that models may be read from: {listed}"
    )
    assert not [path for path in opened if path.startswith(str(outside))]
    # A link that stays inside is as good as the folder.
    (inside / "other").symlink_to(checkpoint(inside / "mine"))
    assert add(str(inside / "other")).folder == inside / "mine"


@pytest.mark.parametrize(
    "name",
    ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"],
)
def test_a_file_that_is_a_link_out(
    roots: tuple[Path, Path, str], name: str, opened: list[str]
) -> None:
    inside, outside, listed = roots
    folder = checkpoint(inside / "mine", "gpt2")
    secret = checkpoint(outside / "secret", "gpt2")
    if name in ("vocab.json", "merges.txt"):
        _split_tokenizer(folder)
        _split_tokenizer(secret)
    assert add(str(folder)).d_vocab
    (folder / name).unlink()
    (folder / name).symlink_to(secret / name)
    opened.clear()
    assert refused(CannotLoad, lambda: add(str(folder))) == (
        f"The path {str(folder / name)!r} was given.",
        f"A link in it leads out of the folders that models may be read from: {listed}",
        MOVE,
    )
    assert not [path for path in opened if path.startswith(str(outside))]


def _split_tokenizer(folder: Path) -> None:
    """Write the tokenizer as GPT-2 has it: vocab.json and merges.txt."""
    told = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocab = {**told["vocab"], "<|endoftext|>": len(told["vocab"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    merges = "\n".join(m if isinstance(m, str) else " ".join(m) for m in told["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges)
    (folder / "tokenizer.json").unlink()


def test_a_tokenizer_of_two_files(tmp_path: Path) -> None:
    whole = add(str(checkpoint(tmp_path / "whole", "gpt2")))
    folder = checkpoint(tmp_path / "split", "gpt2")
    _split_tokenizer(folder)
    split = add(str(folder))
    assert tokens.encode(split, PROMPT) == tokens.encode(whole, PROMPT)
    assert split.tokenizer.is_relative_to(registry.folder())
    # Another model of that name elsewhere does not take its place.
    other = checkpoint(tmp_path / "elsewhere" / "split", "gpt2")
    _split_tokenizer(other)
    told = json.loads((other / "vocab.json").read_text())
    (other / "vocab.json").write_text(json.dumps(told | {"ĠMaryx": len(told)}))
    assert add(str(other)).tokenizer != split.tokenizer


@pytest.mark.parametrize("path", ["/a\0b", "~nobody-has-this-name/x", "./\ud800"])
def test_a_path_that_is_none(path: str) -> None:
    asked, found, works = refused(CannotLoad, lambda: describe(path))
    assert asked in (f"The path {path!r} was given.", f"A model was to be read from {path!r}.")
    assert found
    assert works


def test_a_link_to_itself(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(CannotLoad, lambda: add(str(loop))) == (
        f"The path {str(loop)!r} was given.",
        f"It cannot be followed: Symlink loop from {str(loop)!r}.",
        "Type the path of a folder.",
    )


def test_a_snapshot_of_the_hubs_cache_is_called_by_its_repository() -> None:
    snapshot = Path("/x/hub/models--org--name/snapshots/0123456789abcdef")
    assert paths.shown(snapshot) == "org/name"
    assert paths.shown(Path("/x/y")) == "y"


# --- what it is called ----------------------------------------------------------------------------

NAME = "A model's name is letters, digits and . _ + - /, and may end in @ and a revision."
EXAMPLE = "Example: local/my-fine-tune."


@pytest.mark.parametrize(
    ("name", "found", "works"),
    [
        (" ", NAME, EXAMPLE),
        ("a:b", NAME, EXAMPLE),
        ("../../etc", NAME, EXAMPLE),
        ("/etc", NAME, EXAMPLE),
        ("a/../b", NAME, EXAMPLE),
        ("ünïcode", NAME, EXAMPLE),
        ("a b", NAME, EXAMPLE),
        ("a\n", NAME, EXAMPLE),
        ("a\0", NAME, EXAMPLE),
        ("\ud800", NAME, EXAMPLE),
        ("<b>", NAME, EXAMPLE),
        ("x" * 5000, "It has 5,000 characters, which is too many.", EXAMPLE),
        ("a/" * 70 + "a", "It is too long for a file's name, where / takes three.", EXAMPLE),
        ("induction-handmade", "A bundled model has it.", "Choose another."),
    ],
)
def test_a_name_that_none_can_have(tmp_path: Path, name: str, found: str, works: str) -> None:
    folder = checkpoint(tmp_path / "model")
    said = (f"The name {name[:200]!r} was given.", found, works)
    assert refused(BadInput, lambda: add(str(folder), called=name)) == said
    assert refused(BadInput, lambda: interp.push(name, str(folder))) == said
    assert registry.entries() == {}


@pytest.mark.parametrize("name", ["", " ", "\n"])
def test_no_name(name: str) -> None:
    assert refused(BadInput, lambda: describe(name)) == (
        "No model was named.",
        "",
        "Type a folder or a name of the hub: org/model.",
    )


def test_a_bundled_name_is_not_added() -> None:
    assert refused(BadInput, lambda: add("induction-handmade")) == (
        "induction-handmade was to be added.",
        "It comes with the app.",
        "Choose it in a list of models.",
    )
    assert interp.load_model("induction-handmade").info.source == "bundled"


def test_a_variant_that_is_none(tmp_path: Path) -> None:
    folder = str(checkpoint(tmp_path / "model"))
    for call in (
        lambda: interp.load_model(f"{folder}:half"),
        lambda: interp.load_model("local/model:half"),
        lambda: add(folder, variant=("raw", "half")),
    ):
        said = refused(BadInput, call)
        assert said[1:] == (
            "'half' is neither a weight processing nor a precision.",
            "After a colon: raw, folded, float32, bfloat16, float16, float64.",
        )
    assert registry.entries() == {}
    assert refused(BadInput, lambda: interp.load_model(folder, dtype="half")) == (
        "local/model was asked for in half.",
        "",
        "Choose one of float32, bfloat16, float16, float64.",
    )


def test_the_same_name_in_another_folder(tmp_path: Path) -> None:
    first, second = (checkpoint(tmp_path / n / "model", seed=i) for i, n in enumerate("ab"))
    assert add(str(first)).name == "local/model"
    assert add(str(second)).name == "local/model-2"
    # Each keeps its name when it is added again.
    assert add(str(second)).name == "local/model-2"
    assert add(str(first)).name == "local/model"
    assert [e.info.folder for e in registry.entries().values()] == [first, second]


def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    for name in ("ünïcode", "mistral qwen", "<b>", "a:b", "x" * 200, "日本", "-", "v1.0+dev"):
        info = add(str(checkpoint(tmp_path / name)))
        registry.check_name(info.name)
        assert info.folder == tmp_path / name


# --- what stays equal -----------------------------------------------------------------------------


def test_the_folders_name_changes_nothing(tmp_path: Path, ledger: Callable[..., None]) -> None:
    """TransformerLens tells the architecture by the path; here config.json alone counts."""
    ids = tuple(range(5, 25))
    theirs, off = reference(written("llama"), ids), 0.0
    for name in ("gemma-2", "gpt2", "mistral qwen", "ünïcode", "pythia-70m/checkpoint"):
        folder = checkpoint(tmp_path / name)
        ours = logits(interp.load_model(str(folder)), ids)
        off = max(off, deviation(ours, theirs))
    assert off < 1e-5
    # Negative control: what config.json says does change it.
    folder = checkpoint(tmp_path / "llama")
    change(folder / "config.json", rope_parameters={"rope_theta": 10.0, "rope_type": "default"})
    control = deviation(logits(interp.load_model(str(folder)), ids), theirs)
    assert control > 1e-2
    ledger(
        kind="models",
        oracle="transformers: logits of a Llama in folders named after other families",
        control=f"another rope_theta in config.json: off by {control:.1g}",
        deviation=off,
        tolerance=1e-5,
        unit="standard deviations of the logits",
    )
    for kind in ("gpt2", "gemma", "gemma2", "qwen2", "qwen3", "gpt_neox"):
        change(folder / "config.json", model_type=kind)
        try:
            ours = logits(interp.load_model(str(folder)), ids)
        except CannotLoad:
            continue
        assert deviation(ours, theirs) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_to_load(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "model", family)
    monkeypatch.chdir(tmp_path)
    whole = interp.load_model(str(folder))
    ids = tokens.encode(whole.info, PROMPT).ids
    assert whole.dtype == torch.float32
    assert str(whole.device) == "cpu"
    assert deviation(logits(whole, ids), reference(folder, ids)) < 1e-5
    same = {"./model": whole, "model": whole, "local/model": whole, f"{folder}:raw": whole}
    for name in same:
        assert torch.equal(logits(interp.load_model(name), ids), logits(whole, ids))
    for name in ("local/model:bfloat16", f"{folder}:bfloat16", "./model:bfloat16"):
        rough = interp.load_model(name, device="cpu")
        assert rough.dtype == torch.bfloat16
        assert rough.info.name == "local/model:bfloat16"
        assert {p.dtype for p in rough.hooked.parameters()} == {torch.bfloat16}
    for dtype in ("float64", torch.float64):
        assert interp.load_model("local/model", dtype=dtype).dtype == torch.float64
    assert interp.load_model("local/model:bfloat16", None, torch.float16).dtype == torch.float16


def test_two_variants_of_one_model(tmp_path: Path) -> None:
    folder = str(checkpoint(tmp_path / "model"))
    plain = add(folder)
    both = add(folder, variant=("folded", "bfloat16"))
    assert both.name == "local/model:folded:bfloat16"
    assert both.weights == plain.weights
    mine = [name for name in catalogue.names() if name.startswith("local/")]
    assert mine == ["local/model", "local/model:folded:bfloat16"]
    assert catalogue.info(both.name) == both
    assert registry.split(both.name) == ("local/model", "folded", "bfloat16")
    registry.forget(both.name)  # one variant goes, the other stays
    assert [name for name in catalogue.names() if name.startswith("local/")] == ["local/model"]
    registry.forget("local/model")
    assert registry.entries() == {}
    assert (tmp_path / "model" / WEIGHTS).exists()


def test_changed_weights_are_another_model(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    before = add(str(folder), variant=("raw", "bfloat16"))
    shutil.copy(written("llama", 1) / WEIGHTS, folder / WEIGHTS)
    after = add(str(folder))
    assert after.name == "local/model"
    assert after.weights != before.weights
    # The variants of the old weights are not offered any more.
    assert registry.entries()["local/model"].variants == (("raw", "float32"),)
    # A field that changes what is computed is part of the identity too; one that does not, is not.
    change(folder / "config.json", rms_norm_eps=1e-3)
    assert add(str(folder)).weights != after.weights
    change(folder / "config.json", rms_norm_eps=1e-6, use_cache=False)
    assert add(str(folder)).weights == after.weights


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights gone": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is gone."),
    "weights of the same size": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[::-1]),
        f"{WEIGHTS} has changed since it was added.",
    ),
    "weights touched": (
        lambda f: os.utime(f / WEIGHTS, ns=(1, 1)),
        f"{WEIGHTS} has changed since it was added.",
    ),
    "config": (
        lambda f: change(f / "config.json", rope_parameters={"rope_theta": 10.0}),
        "config.json has changed since it was added.",
    ),
    "tokenizer": (
        lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text() + " "),
        "tokenizer.json has changed since it was added.",
    ),
    "folder gone": (shutil.rmtree, f"{WEIGHTS} is gone."),
}


@pytest.mark.parametrize(("spoil", "found"), CHANGES.values(), ids=CHANGES)
def test_files_changed_after_they_were_added(
    tmp_path: Path, spoil: Callable[[Path], Any], found: str
) -> None:
    folder = checkpoint(tmp_path / "model")
    add(str(folder))
    assert load("local/model").info.name == "local/model"
    spoil(folder)
    assert refused(CannotLoad, lambda: load("local/model")) == (
        f"local/model was to be loaded from {folder}.",
        found,
        "Add the model again: records name the weights that they were computed with.",
    )


def test_tensors_that_do_not_belong_to_the_configuration(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    whole = load_file(folder / WEIGHTS)
    for part in (
        {n: t for n, t in whole.items() if "layers.1.mlp.up" not in n},
        {**whole, "model.layers.1.extra.weight": torch.zeros(2)},
        {**whole, "model.norm.weight": torch.zeros(31)},
        {**whole, "model.norm.weight": torch.zeros(32, dtype=torch.int8)},
    ):
        save_file(part, folder / WEIGHTS)
        with pytest.raises(CannotLoad) as caught:
            interp.load_model(str(folder))
        assert "norm.weight" in str(caught.value) or "layers.1" in str(caught.value)


LATER: dict[str, Callable[[Path], Any]] = {
    "an adapter's tensor": lambda f: _with(
        f, {"model.layers.0.self_attn.q_proj.lora_A": torch.zeros(4, 32)}
    ),
    "a bias that config.json denies": lambda f: _with(
        f, {"model.layers.1.self_attn.o_proj.bias": torch.zeros(32)}
    ),
    "biases that are not there": config(attention_bias=True),
    "another shape": lambda f: _with(f, {"model.norm.weight": torch.zeros(31)}),
    "whole numbers": lambda f: _with(f, {"model.norm.weight": torch.zeros(32, dtype=torch.int8)}),
    "a vocabulary beyond all sense": config(vocab_size=2**31),
    "10,000 layers": config(num_hidden_layers=10_000),
    "an MLP beyond all sense": config(intermediate_size=2**31),
}
NAMED = ("lora_A", "attention_bias", "norm.weight", "embed_tokens", "layers.10.", "gate_proj")


def _with(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({**load_file(folder / WEIGHTS), **tensors}, folder / WEIGHTS)


@pytest.mark.parametrize("spoil", LATER.values(), ids=LATER)
def test_what_cannot_be_loaded_is_not_added(
    tmp_path: Path, spoil: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "model")
    assert load(add(str(folder)).name).info.name == "local/model"  # the control
    registry.forget("local/model")
    spoil(folder)
    for module in ("interp.models.add.weights_hash", "interp.models.load.build"):
        monkeypatch.setattr(module, lambda *_: pytest.fail("the check comes first"))
    said = "".join(refused(CannotLoad, lambda: add(str(folder))))
    assert any(name in said for name in NAMED), said
    assert registry.entries() == {}
    assert not list(registry.folder().glob("*.json"))


def test_a_model_is_not_made_before_its_shapes_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "model")
    add(str(folder))
    made: list[Any] = []
    monkeypatch.setattr("interp.models.load.build", made.append)
    monkeypatch.setattr(registry, "check_unchanged", lambda _: None)  # as if it were not noticed
    change(folder / "config.json", vocab_size=2**31)
    refused(CannotLoad, lambda: load("local/model"))
    assert made == []


def test_parameters_are_those_of_the_language_model(tmp_path: Path) -> None:
    """Not those that read images, nor masks that old files hold."""
    vocab = byte_level()
    model = _families.write_checkpoint(
        tmp_path / "images", "gemma3", "with images", d_vocab=vocab.get_vocab_size()
    )
    fast(vocab).save_pretrained(tmp_path / "images")
    info = add(str(tmp_path / "images"))
    language = sum(p.numel() for p in model.model.language_model.parameters())
    assert info.n_parameters == language < sum(p.numel() for p in model.parameters())
    assert load(info.name).info.family == "gemma3"
    folder = checkpoint(tmp_path / "masks", "gpt2")
    before = add(str(folder)).n_parameters
    _with(folder, {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64)})
    assert add(str(folder)).n_parameters == before


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"info": 3}', b"\xff", b"[" * 100_000, b'{"info": {"name": 1}}'],
)
def test_an_entry_that_cannot_be_read(tmp_path: Path, data: bytes) -> None:
    add(str(checkpoint(tmp_path / "model")))
    (registry.folder() / "broken.json").write_bytes(data)
    (registry.folder() / "link.json").symlink_to(tmp_path / "nothing")
    (registry.folder() / "folder.json").mkdir()
    copied = (registry.folder() / "local%2Fmodel.json").read_text()
    (registry.folder() / "copy.json").write_text(copied)
    assert list(registry.entries()) == ["local/model"]
    assert catalogue.info("local/model").family == "llama"
    with pytest.raises(UnknownName, match="no model called 'broken'"):
        catalogue.info("broken")


def test_an_entry_of_an_older_version(tmp_path: Path) -> None:
    """A field that came later has its default; the model is not lost."""
    info = add(str(checkpoint(tmp_path / "model")))
    path = registry.folder() / "local%2Fmodel.json"
    told = json.loads(path.read_text())
    del told["info"]["softcap"]
    told["info"]["of a later version"] = 1
    path.write_text(json.dumps(told))
    assert registry.entries()["local/model"].info == info


def test_an_entry_that_is_replaced_at_once_is_read_anew(tmp_path: Path) -> None:
    """The clock of files is coarse: what was read just before must not stand for what is there."""
    made = registry.Entry(add(str(checkpoint(tmp_path / "model"))), (), (("raw", "float32"),))
    path = registry.folder() / "local%2Fmodel.json"
    stamp = path.stat().st_mtime_ns
    registry.entries()
    for dtype in ("float16", "float64", "bfloat16"):
        path.unlink()
        registry.keep(registry.Entry(made.info, (), (("raw", dtype),)))
        os.utime(path, ns=(stamp, stamp))
        assert registry.entries()["local/model"].variants == (("raw", dtype),)


def test_many_at_once(tmp_path: Path) -> None:
    """No entry is lost, torn or given a name that another one has."""
    folders = [checkpoint(tmp_path / str(i) / "model", seed=i % 2) for i in range(4)]
    one = checkpoint(tmp_path / "one")
    variants = [(p, d) for p in ("raw", "folded") for d in ("float32", "bfloat16", "float64")]
    work: list[Callable[[], object]] = [
        *(lambda f=f: add(str(f)) for f in folders),
        *(lambda v=v: add(str(one), called="local/one", variant=v) for v in variants),
    ]
    failed: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in work]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for file in registry.folder().glob("*.json"):
            json.loads(file.read_text())
        registry.entries()
    assert failed == []
    found = registry.entries()
    assert {e.info.folder for e in found.values()} == {*folders, one}
    assert set(found["local/one"].variants) == set(variants)
    assert not list(registry.folder().glob("*.tmp"))


def test_every_refusal_is_advice() -> None:
    """Whatever a person types for a model, it is answered by a sentence, never by a fault."""
    for name in (
        "",
        "a:b",
        "../../etc",
        "x" * 5000,
        "\ud800",
        "a\0b",
        "no/such:bfloat16",
        "@",
        ":",
    ):
        with pytest.raises(InterpError) as caught:
            interp.load_model(name)
        assert len(str(caught.value)) < 1500
