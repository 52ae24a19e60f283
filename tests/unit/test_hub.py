"""Checkpoints of the hub: fetched once, only what is needed, and usable without a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.errors import BadInput, CannotLoad, UnknownName
from interp.models import catalogue, hub, registry, tokens
from interp.models.add import add, describe
from tests.unit import _hub
from tests.unit._checkpoints import PROMPT, WEIGHTS, change, checkpoint, refused, written
from tests.unit._hub import CLOSED, Hub, point_at

ROOT = Path(__file__).resolve().parents[2]
LLAMA, GPT2 = "maker/tiny-llama", "openai-community/gpt2"
NEEDED = {"config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS}
CHECK = "Check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), or give a folder of this machine."
NOBODY = "The hub could not be reached, or broke off: ConnectError: [Errno 111] Connection refused."


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub(cache=tmp_path / "cache")
    with _hub.served(made):
        point_at(made.endpoint, made.cache, monkeypatch)
        yield made
        from huggingface_hub.utils import close_session

        close_session()


@pytest.fixture
def offline(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Pull the plug."""
    return lambda: point_at(CLOSED, server.cache, monkeypatch)


def publish(server: Hub, *revisions: str, seed: int = 0) -> str:
    """Publish a small Llama beside files that nobody should ask for."""
    return server.put(
        LLAMA,
        written("llama", seed),
        *revisions,
        pytorch_model__bin=b"a pickle",
        modeling_llama__py=b"raise SystemExit",
        README__md=b"# Tiny",
        tokenizer__model=b"binary",
        training_args__bin=b"a pickle",
    )


def logits(name: str) -> torch.Tensor:
    loaded = interp.load_model(name)
    ids = tokens.encode(loaded.info, PROMPT).ids
    with torch.inference_mode():
        return loaded.hooked(torch.tensor([ids]))[0]


def test_a_model_is_fetched_once_and_only_what_it_needs(server: Hub, home: Path) -> None:
    commit = publish(server)
    told: list[tuple[str, int, int]] = []
    info = add(LLAMA, progress=lambda *now: told.append(now))
    assert (info.name, info.source, info.revision) == (LLAMA, "hub", commit)
    assert server.downloaded() == NEEDED
    size = (written("llama") / WEIGHTS).stat().st_size
    loading = [now for now in told if now[0] == f"Downloading {LLAMA}"]
    assert loading[-1] == (f"Downloading {LLAMA}", size, size)
    assert [n for _, n, _ in loading] == sorted(n for _, n, _ in loading)
    assert [n for what, n, of in told if "know them again" in what][-1] == size
    # Again: no byte is fetched, and the table says the same.
    server.log.clear()
    assert describe(LLAMA).download_bytes == 0
    again = add(LLAMA)
    assert again == info
    assert not [path for method, path in server.log if method == "GET" and "/resolve/" in path]
    # What specs name is asked of the table: no request at all.
    server.log.clear()
    assert catalogue.info(LLAMA).weights == info.weights
    loaded = interp.load_model(LLAMA)
    assert loaded.info.weights == info.weights
    assert server.log == []


def test_it_computes_what_the_folder_computes(server: Hub, tmp_path: Path) -> None:
    publish(server)
    assert torch.equal(logits(LLAMA), logits(str(checkpoint(tmp_path / "here"))))
    assert catalogue.info(LLAMA).weights == catalogue.info("local/here").weights


def test_branch_tag_and_commit(server: Hub) -> None:
    first = publish(server, "main", "v1")
    second = publish(server, "refs/pr/1", "late", seed=1)
    infos = {r: add(LLAMA, revision=r) for r in ("v1", "late", "refs/pr/1", first)}
    assert add(f"{LLAMA}@late").name == f"{LLAMA}@late"
    assert {r: i.revision for r, i in infos.items()} == {
        "v1": first,
        "late": second,
        "refs/pr/1": second,
        first: first,
    }
    assert infos["v1"].name == f"{LLAMA}@v1"
    assert infos["v1"].weights == infos[first].weights != infos["late"].weights
    assert not torch.equal(logits(f"{LLAMA}@v1"), logits(f"{LLAMA}@late"))
    # A branch that has moved is another commit when it is added again, not before.
    publish(server, "v1", seed=1)
    assert catalogue.info(f"{LLAMA}@v1").revision == first
    assert add(LLAMA, revision="v1").revision == second


def test_names_of_transformer_lens(server: Hub) -> None:
    server.put(GPT2, written("gpt2"))
    for name in ("gpt2", "gpt2-small", GPT2):
        assert interp.load_model(name).info.name == GPT2
    assert interp.load_model("gpt2-small:bfloat16").dtype == torch.bfloat16
    assert list(registry.entries()) == [GPT2]
    assert add("gpt2-small").name == GPT2


def test_a_repository_that_has_moved(server: Hub) -> None:
    publish(server)
    server.moved["old/llama"] = LLAMA
    assert add("old/llama").weights == add(LLAMA).weights


def test_without_a_network_the_cache_is_used(server: Hub, offline: Callable[[], None]) -> None:
    commit = publish(server, "main", "v1")
    server.put(GPT2, written("gpt2"))
    add(LLAMA)
    add(LLAMA, revision="v1")
    add("gpt2")
    online = logits(LLAMA)
    offline()
    registry.forget(LLAMA)
    assert describe(LLAMA).download_bytes == 0
    assert add(LLAMA).revision == commit
    assert add(LLAMA, revision="v1").revision == commit
    assert add(LLAMA, revision=commit).revision == commit
    assert add("gpt2-small").name == GPT2
    assert torch.equal(logits(LLAMA), online)


def test_what_other_tools_have_fetched_is_used(server: Hub, offline: Callable[[], None]) -> None:
    from huggingface_hub import hf_hub_download

    server.put("gpt2", written("gpt2"))
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        hf_hub_download("gpt2", name)
    offline()
    assert add("gpt2").name == GPT2


def test_without_a_network_and_cache(
    server: Hub, offline: Callable[[], None], tmp_path: Path
) -> None:
    publish(server)
    # Only half of it is there.
    describe(LLAMA)
    offline()
    start = time.monotonic()
    assert refused(CannotLoad, lambda: add(LLAMA)) == (
        f"{LLAMA} was asked of the hub.",
        NOBODY,
        CHECK,
    )
    assert time.monotonic() - start < 10
    assert registry.entries() == {}
    # A folder needs no network.
    assert add(str(checkpoint(tmp_path / "here"))).name == "local/here"


def test_a_hub_that_never_answers(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", server.cache, monkeypatch)
        monkeypatch.setattr(hub, "_TIMEOUT_S", 0.1)
        found = refused(CannotLoad, lambda: add(LLAMA))[1]
    assert found == "The hub could not be reached, or broke off: ReadTimeout: timed out."


def test_switched_off(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    publish(server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _, found, works = refused(CannotLoad, lambda: add(LLAMA))
    assert found.startswith("The hub could not be reached, or broke off: OfflineModeIsEnabled: ")
    assert "HF_HUB_OFFLINE" in works
    assert server.log == []


REFUSALS: dict[str, tuple[tuple[int, str], str, str]] = {
    "gated": (
        (403, "GatedRepo"),
        "Its owner gives access on request only, and this machine has shown no token that has it.",
        "Accept the conditions on its page, then `hf auth login` or set HF_TOKEN, and restart.",
    ),
    "gated, not logged in": (
        (401, "GatedRepo"),
        "Its owner gives access on request only, and this machine has shown no token that has it.",
        "Accept the conditions on its page, then `hf auth login` or set HF_TOKEN, and restart.",
    ),
    "private": (
        (401, "RepoNotFound"),
        "The hub has no such model, or it is private.",
        "Check the spelling org/name on its page; for a private one set HF_TOKEN.",
    ),
    "unknown": (
        (404, "RepoNotFound"),
        "The hub has no such model, or it is private.",
        "Check the spelling org/name on its page; for a private one set HF_TOKEN.",
    ),
    "token that is none": (
        (401, ""),
        "The hub does not accept this machine's token.",
        "Log in again with `hf auth login`, or unset HF_TOKEN, and restart.",
    ),
    "forbidden": (
        (403, ""),
        "The hub refused it: ",
        "See its page, or ask for another model.",
    ),
    "broken": ((503, ""), "The hub could not be reached, or broke off: HfHubHTTPError: ", CHECK),
    "busy": ((429, ""), "The hub could not be reached, or broke off: HfHubHTTPError: ", CHECK),
}


@pytest.mark.parametrize(("answer", "found", "works"), REFUSALS.values(), ids=REFUSALS)
def test_what_the_hub_refuses(server: Hub, answer: tuple[int, str], found: str, works: str) -> None:
    server.answers[LLAMA] = answer
    said = refused(CannotLoad, lambda: add(LLAMA))
    assert (said[0], said[2]) == (f"{LLAMA} was asked of the hub.", works)
    assert said[1] == found or (found.endswith(": ") and said[1].startswith(found))
    assert len(server.log) == 1


def test_a_refusal_is_not_overruled_by_the_cache_but_a_failure_is(server: Hub) -> None:
    publish(server)
    add(LLAMA)
    server.answers[LLAMA] = (503, "")
    assert add(LLAMA).name == LLAMA
    server.answers[LLAMA] = (403, "GatedRepo")
    assert refused(CannotLoad, lambda: add(LLAMA))[1].startswith("Its owner gives access")
    # What was added stays: its weights are here.
    assert interp.load_model(LLAMA).info.name == LLAMA


def test_a_name_that_is_nearly_one(server: Hub) -> None:
    assert refused(CannotLoad, lambda: add("gpt2-smal")) == (
        "gpt2-smal was asked of the hub.",
        "The hub has no such model, or it is private.",
        "Did you mean 'gpt2-small'? Check the spelling org/name on its page; for a private one "
        "set HF_TOKEN.",
    )


@pytest.mark.parametrize("revision", ["none", "v9", "0" * 40])
def test_an_unknown_revision(server: Hub, revision: str) -> None:
    publish(server)
    assert refused(CannotLoad, lambda: add(LLAMA, revision=revision)) == (
        f"{LLAMA}@{revision} was asked of the hub.",
        "The repository has no such revision.",
        "Give a branch, a tag or a commit.",
    )


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a b", "ü", "-x", "x" * 200, "a\nb"])
def test_a_revision_that_is_none(server: Hub, revision: str) -> None:
    assert refused(BadInput, lambda: add(LLAMA, revision=revision)) == (
        f"The revision {revision!r} was given.",
        "No branch, tag or commit can be called that.",
        "Leave it empty for the main one.",
    )
    assert server.log == []


@pytest.mark.parametrize(
    "name",
    ["a:b", "a b", "a/b/c", "a//b", "ünïcode", "-x", "a\0b", "\ud800", "x" * 5000, "a/b.git"],
)
def test_a_name_that_the_hub_cannot_have(server: Hub, name: str) -> None:
    said = refused(UnknownName, lambda: describe(name))
    assert said[:2] == (
        f"There is no model called {name[:200]!r}.",
        "It is neither a name of TransformerLens nor one that the hub can have.",
    )
    assert said[2].endswith("Type org/model as its page has it, or the path of a folder.")
    assert server.log == []


def test_a_repository_without_safetensors(server: Hub, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "made")
    (folder / WEIGHTS).unlink()
    server.put(LLAMA, folder, pytorch_model__bin=b"a pickle")
    assert refused(CannotLoad, lambda: add(LLAMA)) == (
        f"{LLAMA} was asked of the hub.",
        "It has no safetensors files, only pickles, which can run code when they are opened; none "
        "was downloaded.",
        "Many such models have a converted copy under the revision refs/pr/1 or another one.",
    )
    assert server.downloaded() == set()


def test_a_repository_without_a_configuration(server: Hub, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "made")
    (folder / "config.json").unlink()
    server.put(LLAMA, folder)
    assert refused(CannotLoad, lambda: add(LLAMA)) == (
        f"{LLAMA} was asked of the hub.",
        "It has no config.json: it is an adapter, a data set or a model of another library.",
        "Ask for the model that it was made from.",
    )


def test_code_is_not_even_downloaded(server: Hub, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "made")
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.Tiny"})
    server.put(LLAMA, folder, modeling_x__py=b"raise SystemExit")
    assert refused(CannotLoad, lambda: add(LLAMA)) == (
        "A checkpoint of type llama was to be read by its config.json.",
        "It asks to run code of its own (auto_map), which is never done.",
        "Models whose code is part of transformers can be read.",
    )
    assert server.downloaded() == NEEDED - {WEIGHTS}
    assert registry.entries() == {}


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("modeling_x.py", "model.safetensors.index.json does not say which safetensors files"),
        ("pytorch_model.bin", "model.safetensors.index.json does not say which safetensors files"),
        ("../up.safetensors", "Its index names the file '../up.safetensors', which is not beside"),
        ("gone.safetensors", "1 of its 1 weight files are missing: 'gone.safetensors'."),
    ],
)
def test_an_index_fetches_nothing_else(server: Hub, tmp_path: Path, named: str, found: str) -> None:
    folder = checkpoint(tmp_path / "made")
    (folder / WEIGHTS).rename(folder / "part.safetensors")
    index = {"weight_map": {"model.norm.weight": named}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    server.put(LLAMA, folder, modeling_x__py=b"raise SystemExit", pytorch_model__bin=b"a pickle")
    assert refused(CannotLoad, lambda: add(LLAMA))[1].startswith(found)
    assert server.downloaded() == NEEDED - {WEIGHTS} | {"model.safetensors.index.json"}


def test_several_files_without_an_index_are_not_downloaded(server: Hub, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "made")
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    server.put(LLAMA, folder, a__safetensors=data, b__safetensors=data)
    assert refused(CannotLoad, lambda: add(LLAMA)) == (
        f"{LLAMA} was to be read.",
        "It has 2 safetensors files and no model.safetensors.index.json.",
        "Save the model with save_pretrained, which writes the index.",
    )
    assert server.downloaded() == NEEDED - {WEIGHTS}


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)


@pytest.mark.usefixtures("no_pause")
def test_a_download_that_breaks_off_leaves_no_entry(server: Hub) -> None:
    publish(server)
    server.cut[WEIGHTS] = 1000
    told: list[int] = []
    said = refused(CannotLoad, lambda: add(LLAMA, progress=lambda _, done, __: told.append(done)))
    assert said[0] == f"{WEIGHTS} of {LLAMA} was to be downloaded."
    assert said[1].startswith("The hub could not be reached, or broke off: HfHubHTTPError: ")
    assert said[2] == CHECK
    assert registry.entries() == {}
    assert not list(server.cache.rglob("*.incomplete"))
    # Later it is fetched whole.
    server.cut.clear()
    assert add(LLAMA).name == LLAMA
    assert len(logits(LLAMA))


def test_a_file_that_is_shorter_than_the_hub_says(server: Hub, tmp_path: Path) -> None:
    """A proxy's page in place of the weights, say: it is not taken for them."""
    folder = checkpoint(tmp_path / "made")
    (folder / WEIGHTS).write_bytes(b"<html>Please log in to this network</html>")
    server.put(LLAMA, folder)
    assert refused(CannotLoad, lambda: add(LLAMA))[1].endswith(
        "it is truncated or no safetensors file."
    )
    assert registry.entries() == {}


def test_a_full_disk(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from huggingface_hub import file_download

    publish(server)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file_download, "http_get", full)
    said = refused(CannotLoad, lambda: add(LLAMA))
    assert said[1:] == (
        f"It cannot be written to {server.cache}: No space left on device.",
        "Free some space, or set HF_HUB_CACHE to a folder that has it, and restart.",
    )


def test_bytes_of_the_hubs_other_transport_are_counted_once() -> None:
    """It draws one bar for what comes and one for what is written, unless it is told not to."""
    from types import SimpleNamespace

    from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter

    counted: list[float] = []
    bar = hub._bar(counted.append)
    with XetDownloadProgressReporter(
        reconstruction_desc="", total=100, log_level=0, tqdm_class=bar
    ) as reporter:
        for n in (40, 100):
            report: Any = SimpleNamespace(
                total_bytes_completed=n,
                total_transfer_bytes_completed=n,
                total_bytes=100,
                total_bytes_completion_rate=None,
                total_transfer_bytes_completion_rate=None,
            )
            reporter.update_progress(report)
    assert sum(counted) == 100


def test_files_in_the_cache_may_not_lead_out_of_it(server: Hub, tmp_path: Path) -> None:
    publish(server)
    add(LLAMA)
    folder = catalogue.info(LLAMA).folder
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(outside)
    said = refused(CannotLoad, lambda: add(LLAMA))
    assert said[0] == f"The path {str(folder / WEIGHTS)!r} was given."
    assert said[1].startswith("A link in it leads out of the folders that models may be read from")


def test_the_settings_of_the_environment_count(server: Hub, tmp_path: Path) -> None:
    """As a person sets them; and nothing of it needs torch."""
    publish(server)
    code = (
        "import sys, interp.models.hub, interp.models.tokens\n"
        "from interp.models.add import add\n"
        f"info = add({LLAMA!r})\n"
        f"print(info.name, len(interp.models.tokens.encode(info, {PROMPT!r})))\n"
        "print([m for m in ('torch', 'transformers', 'transformer_lens') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "HF_ENDPOINT": server.endpoint,
            "HF_HUB_CACHE": str(tmp_path / "elsewhere"),
            "BECAUSE_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{LLAMA} 15", "[]"]
    assert list((tmp_path / "elsewhere").glob("models--*"))
