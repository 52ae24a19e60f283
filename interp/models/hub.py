"""Checkpoints of the Hugging Face hub: which commit a name means, and its files (torch-free).

Only configuration, tokenizer and safetensors files are fetched, into the hub's own cache, so that
what other tools have fetched is used. What is in the cache can be asked without a network.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from interp.errors import CannotLoad, UnknownName

SMALL = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Remote:
    """A repository at a commit. ``folder`` holds its small files; ``weights`` are named, unread."""

    repo: str
    commit: str
    folder: Path
    weights: tuple[str, ...]
    download_bytes: int


@lru_cache(maxsize=1)
def aliases() -> dict[str, str]:
    """Return the hub's name for each short name that TransformerLens knows, e.g. "gpt2-small".

    The table is read from the library's file: importing the library would import torch.
    """
    found = importlib.util.find_spec("transformer_lens")
    if found is None or found.origin is None:
        return {}
    path = Path(found.origin).with_name("supported_models.py")
    spec = importlib.util.spec_from_file_location("_supported_models", path)
    if spec is None or spec.loader is None:
        return {}
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: dict[str, list[str]] = module.MODEL_ALIASES
    return {alias: official for official, short in table.items() for alias in short}


def cache() -> Path:
    """Return the folder in which the hub's library keeps what it fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().resolve()


def look(name: str, revision: str = "") -> Remote:
    """Find the repository that ``name`` means and fetch its small files.

    Args:
        name: ``org/model``, or a short name that TransformerLens knows.
        revision: Branch, tag or commit; empty for the main one.

    Raises:
        UnknownName: It is no name of a repository.
        CannotLoad: There is none, it is gated or private, or the hub cannot be reached.

    Cost: one question to the hub and some megabytes; from the cache where there is no network.
    """
    from huggingface_hub import HfApi

    repo = aliases().get(name, name)
    if not _REPO.fullmatch(repo):
        raise UnknownName.of("model", name, aliases())
    asked = f"{repo}{'@' + revision if revision else ''} was asked of the hub."
    try:
        with _said(asked):
            found = HfApi().model_info(
                repo, revision=revision or None, files_metadata=True, timeout=_TIMEOUT_S
            )
    except CannotLoad as error:
        # Offline, what is in the cache is as good; a refusal of the hub is not overruled by it.
        kept = _from_cache(repo, revision) if error.found.startswith(_NO_ANSWER) else None
        if kept is None:
            raise
        return kept
    files = {s.rfilename: int(s.size or 0) for s in found.siblings or ()}
    _check_files(asked, files)
    commit = str(found.sha)
    small = [name for name in SMALL if name in files]
    folder = Path(_fetch(repo, commit, small[0])).parent
    for file in small[1:]:
        _fetch(repo, commit, file)
    weights = _weights(folder, files)
    return Remote(repo, commit, folder, weights, sum(files.get(w, 0) for w in weights))


def fetch(remote: Remote, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Fetch the weight files of a repository into its folder.

    Raises:
        CannotLoad: The hub refused or broke off.
    """
    done = 0

    def moved(n: float) -> None:
        nonlocal done
        done += int(n)
        if progress is not None:
            progress(f"Downloading {remote.repo}", done, remote.download_bytes)

    for name in remote.weights:
        _fetch(remote.repo, remote.commit, name, moved)


def _fetch(repo: str, commit: str, name: str, moved: Callable[[float], None] | None = None) -> str:
    from huggingface_hub import hf_hub_download

    if (Path(name).name) != name:
        raise CannotLoad(f"{repo} was asked of the hub.", f"Its index names the file {name!r}.")
    with _said(f"{name} of {repo} was to be downloaded."):
        return str(hf_hub_download(repo, name, revision=commit, tqdm_class=_bar(moved)))


def _bar(moved: Callable[[float], None] | None) -> Any:
    """Make a progress bar's class that draws nothing and tells how much has come."""
    from tqdm.std import tqdm

    class Silent(tqdm):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if moved is not None and n:
                moved(n)
            return None

    return Silent


def _check_files(asked: str, files: dict[str, int]) -> None:
    if "config.json" not in files:
        raise CannotLoad(
            asked,
            "It has no config.json: it is an adapter, a data set or a model of another library.",
            "Ask for the model that it was made from.",
        )
    if not any(name.endswith(".safetensors") for name in files):
        raise CannotLoad(
            asked,
            "It has no safetensors files, only pickles, which can run code when they are opened; "
            "none was downloaded.",
            "Many such models have a converted copy under the revision refs/pr/1 or another one.",
        )


def _weights(folder: Path, files: dict[str, int]) -> tuple[str, ...]:
    from interp.models.checkpoint import read_json

    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = read_json(index).get("weight_map")
        return tuple(sorted(set(named.values()))) if isinstance(named, dict) else ()
    if not files or "model.safetensors" in files:
        return ("model.safetensors",)
    return tuple(sorted(n for n in files if n.endswith(".safetensors") and "/" not in n))


def _from_cache(repo: str, revision: str) -> Remote | None:
    """Return a repository as far as it is in the cache, or None if it is not there whole."""
    from huggingface_hub import hf_hub_download

    def kept(name: str) -> Path:
        return Path(hf_hub_download(repo, name, revision=revision or None, local_files_only=True))

    try:
        folder = kept("config.json").parent
        weights = _weights(folder, {})
        for name in weights:
            kept(name)
    except Exception:
        return None
    return Remote(repo, folder.name, folder, weights, 0)


_NO_ANSWER = "The hub could not be reached"


@contextmanager
def _said(asked: str) -> Generator[None]:
    """Turn what the hub's library raises into a sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise CannotLoad(
            asked,
            "Its owner gives access on request only, and this machine has shown no token that has "
            "it.",
            "Accept the conditions on its page, then `hf auth login` or set HF_TOKEN, and restart.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CannotLoad(
            asked, "The repository has no such revision.", "Give a branch, a tag or a commit."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CannotLoad(
            asked,
            "The hub has no such model, or it is private.",
            "Check the spelling org/name on its page; for a private one set HF_TOKEN.",
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise CannotLoad(asked, "The file is not there.", "Ask for another revision.") from error
    except Exception as error:
        raise CannotLoad(
            asked,
            f"{_NO_ANSWER}: {type(error).__name__}: {str(error)[:160]}.",
            "Check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), or give a folder of this "
            "machine.",
        ) from error
