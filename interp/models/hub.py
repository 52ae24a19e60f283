"""Checkpoints of the Hugging Face hub: which commit a name means, and its files (torch-free).

Only configuration, tokenizer and safetensors files are fetched, into the hub's own cache, so that
what other tools have fetched is used. What is in the cache can be asked without a network.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import re
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from interp.errors import BadInput, CannotLoad, UnknownName
from interp.models.checkpoint import INDEX, read_json, weight_names

SMALL = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    INDEX,
)
# The names that TransformerLens has of models that have an owner on the hub today.
_MOVED = {
    "distilgpt2": "distilbert/distilgpt2",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
}
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,79}")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
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


def roots(source: str) -> tuple[Path, ...] | None:
    """Return the folders that files of a source must lie under; None for the settings' own."""
    return (cache(),) if source == "hub" else None


def official(name: str) -> str:
    """Return the hub's name for a name of TransformerLens; any other is left as it is."""
    found = aliases().get(name, name)
    return _MOVED.get(found, found)


def look(name: str, revision: str = "") -> Remote:
    """Find the repository that ``name`` means and fetch its small files.

    Args:
        name: ``org/model``, or a short name that TransformerLens knows.
        revision: Branch, tag or commit; empty for the main one.

    Raises:
        UnknownName: It is no name of a repository.
        BadInput: The revision cannot be one.
        CannotLoad: There is none, it is gated or private, or the hub cannot be reached.

    Cost: one question to the hub and some megabytes; from the cache where there is no network.
    """
    repo = official(name)
    near = difflib.get_close_matches(name, {*aliases(), *aliases().values()}, n=1)
    hint = f"Did you mean {near[0]!r}? " if near and near[0] != name else ""
    _check_names(name, repo, revision, hint)
    asked = f"{repo}{'@' + revision if revision else ''} was asked of the hub."
    try:
        return _ask(repo, revision, asked, hint)
    except CannotLoad as error:
        # Offline, what is in the cache is as good; a refusal of the hub is not overruled by it.
        kept = _from_cache(repo, revision) if error.found.startswith(_NO_ANSWER) else None
        if kept is None:
            raise
        return kept


def _check_names(name: str, repo: str, revision: str, hint: str) -> None:
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except errors.HFValidationError as error:
        raise UnknownName(
            f"There is no model called {name[:200]!r}.",
            "It is neither a name of TransformerLens nor one that the hub can have.",
            f"{hint}Type org/model as its page has it, or the path of a folder.",
        ) from error
    # It becomes a path in the cache.
    if revision and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise BadInput(
            f"The revision {revision[:200]!r} was given.",
            "No branch, tag or commit can be called that.",
            "Leave it empty for the main one.",
        )


def _ask(repo: str, revision: str, asked: str, hint: str) -> Remote:
    from huggingface_hub import HfApi

    with _said(asked, hint):
        found = HfApi().model_info(
            repo, revision=revision or None, files_metadata=True, timeout=_TIMEOUT_S
        )
    files = {s.rfilename: int(s.size or 0) for s in found.siblings or ()}
    _check_files(asked, files)
    small = [name for name in SMALL if name in files]
    # Asked for by its revision, so that the cache knows the commit by it when there is no network.
    folder = Path(_fetch(repo, revision or "main", small[0])).parent
    for file in small[1:]:
        _fetch(repo, folder.name, file)
    weights = _weights(repo, folder, files)
    missing = [w for w in weights if not (folder / w).exists()]
    return Remote(repo, folder.name, folder, weights, sum(files.get(w, 0) for w in missing))


def fetch(remote: Remote, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Fetch the weight files of a repository into its folder; those that are there are not.

    Raises:
        CannotLoad: The hub refused or broke off, or the disk is full.
    """
    done = whole = 0

    def moved(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(f"Downloading {remote.repo}", done, remote.download_bytes)

    for name in remote.weights:
        if not (remote.folder / name).exists():
            whole += Path(_fetch(remote.repo, remote.commit, name, moved)).stat().st_size
            moved(whole - done)


def _fetch(repo: str, commit: str, name: str, moved: Callable[[int], None] | None = None) -> str:
    from huggingface_hub import hf_hub_download

    if Path(name).name != name:
        raise CannotLoad(
            f"{repo} was asked of the hub.",
            f"Its index names the file {name[:200]!r}, which is not beside it.",
            "Ask for another revision.",
        )
    with _said(f"{name} of {repo} was to be downloaded."):
        return str(hf_hub_download(repo, name, revision=commit, tqdm_class=_bar(moved)))


def _bar(moved: Callable[[int], None] | None) -> Any:
    """Make a progress bar's class that draws nothing and tells how much has come."""
    from tqdm.std import tqdm

    class Silent(tqdm):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: int | float | None = 1) -> bool | None:
            if moved is not None and n:
                moved(int(n))
            return None

        # With these, one bar is made for both what comes and what is written, not one for each.
        def update_transfer(self, n: int | float | None = 1) -> None:
            del n

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None:
            del args, kwargs

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


def _weights(repo: str, folder: Path, listed: Collection[str]) -> tuple[str, ...]:
    index = read_json(folder / INDEX) if INDEX in listed else None
    return weight_names(repo, listed, index)


def _from_cache(repo: str, revision: str) -> Remote | None:
    """Return a repository as far as it is in the cache, or None if it is not there whole."""
    from huggingface_hub import try_to_load_from_cache

    for name in (repo, *(old for old, new in _MOVED.items() if new == repo)):
        config = try_to_load_from_cache(name, "config.json", revision=revision or None)
        if not isinstance(config, str):
            continue
        folder = Path(config).parent
        with suppress(CannotLoad):
            listed = [path.name for path in folder.iterdir() if path.exists()]
            return Remote(repo, folder.name, folder, _weights(repo, folder, listed), 0)
    return None


_NO_ANSWER = "The hub could not be reached"
_BUSY = (408, 429)


@contextmanager
def _said(asked: str, hint: str = "") -> Generator[None]:
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
            f"{hint}Check the spelling org/name on its page; for a private one set HF_TOKEN.",
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise CannotLoad(asked, "The file is not there.", "Ask for another revision.") from error
    except errors.HfHubHTTPError as error:
        raise _answered(asked, error.response.status_code, error) from error
    except OSError as error:
        if error.errno in _DISK:
            raise CannotLoad(
                asked,
                f"It cannot be written to {cache()}: {error.strerror}.",
                "Free some space, or set HF_HUB_CACHE to a folder that has it, and restart.",
            ) from error
        raise _unreachable(asked, error) from error
    except Exception as error:
        raise _unreachable(asked, error) from error


def _answered(asked: str, status: int, error: Exception) -> CannotLoad:
    """Say what an answer of the hub means that is none of the usual refusals."""
    if status >= 500 or status in _BUSY:
        return _unreachable(asked, error)
    if status == 401:
        return CannotLoad(
            asked,
            "The hub does not accept this machine's token.",
            "Log in again with `hf auth login`, or unset HF_TOKEN, and restart.",
        )
    return CannotLoad(
        asked, f"The hub refused it: {_one_line(error)}.", "See its page, or ask for another model."
    )


def _unreachable(asked: str, error: Exception) -> CannotLoad:
    return CannotLoad(
        asked,
        f"{_NO_ANSWER}, or broke off: {type(error).__name__}: {_one_line(error)}.",
        "Check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), or give a folder of this machine.",
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(" .")
