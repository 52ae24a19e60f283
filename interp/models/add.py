"""Make a model known to the app: from a folder in the hub's format, or from the hub (torch-free).

``describe`` reads what can be read without the weights, for the fit check; ``add`` fetches, hashes
and writes the entry by which specs name it from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.errors import BadInput, UnknownName
from interp.models import catalogue, hub, registry
from interp.models.checkpoint import (
    Checkpoint,
    Progress,
    open_checkpoint,
    read_json,
    weights_hash,
    within,
)
from interp.models.convert import used_tensors
from interp.models.families import architecture
from interp.models.fit import stored_values
from interp.models.info import DTYPES, Answers, ModelInfo
from interp.models.paths import looks_like_path
from interp.models.vocabulary import tokenizer_file, vocabulary

_SETTINGS = "tokenizer_config.json"
_ANSWERS = Answers("tokens", (), -1)
_LOCAL = "local/"
_AROUND = ("file://", "https://huggingface.co/", "http://huggingface.co/", "huggingface.co/")
# Their tokenizers add nothing of their own, and the field puts the end-of-text token in front.
_START_IS_END = ("gpt2", "gpt_neox")


@dataclass(frozen=True)
class Described:
    """A model as its small files describe it. ``info.weights`` is empty: nobody has read them.

    Attributes:
        info: Shape, source, tokenizer.
        remote: The repository, for one of the hub.
        download_bytes: What is yet to be fetched, at most.
    """

    info: ModelInfo
    remote: hub.Remote | None
    download_bytes: int


def describe(name: str, revision: str = "", called: str = "") -> Described:
    """Say what ``name`` is, reading small files only.

    Args:
        name: A folder of this machine (a path), ``org/model`` of the hub, or a short name that
            TransformerLens knows.
        revision: Branch, tag or commit, for the hub.
        called: What specs shall call it; by default the hub's name, or "local/" and the folder's.

    Raises:
        CannotLoad: It cannot be loaded, with the reason.
        BadInput: It is no name.
    """
    name = _bare(name)
    if not name:
        raise BadInput("No model was named.", "", "Type a folder or a name of the hub: org/model.")
    if name in catalogue.bundled():
        raise BadInput(
            f"{name} was to be added.", "It comes with the app.", "Choose it in a list of models."
        )
    added = registry.entries()
    if name.startswith(_LOCAL) and name not in added and not _is_folder(name):
        raise UnknownName.of("model", name, catalogue.names())
    if name in added and added[name].info.source == "local":
        name, called = str(added[name].info.folder), name
    if looks_like_path(name) or _is_folder(name):
        checkpoint = open_checkpoint(name)
        folder = checkpoint.folder
        label = called or registry.free_name(f"{_LOCAL}{_plain(folder.name)}", folder)
        info = _described(label, checkpoint.folder, checkpoint.config, source="local")
        return Described(replace(info, n_parameters=_count(checkpoint)), None, 0)
    base, _, given = name.partition("@")
    remote = hub.look(base, revision or given)
    config = read_json(within(remote.folder, "config.json", (hub.cache(),)))
    wanted = revision or given
    label = called or (f"{remote.repo}@{wanted}" if wanted else remote.repo)
    info = _described(label, remote.folder, config, source="hub")
    return Described(replace(info, revision=remote.commit), remote, remote.download_bytes)


def add(
    name: str,
    *,
    revision: str = "",
    called: str = "",
    variant: tuple[str, str] = (registry.PROCESSINGS[0], DTYPES[0]),
    progress: Progress | None = None,
) -> ModelInfo:
    """Make a model known under a name, fetching it from the hub if need be.

    Args:
        name: As for ``describe``.
        revision: As for ``describe``.
        called: As for ``describe``.
        variant: Weight processing and precision that it is to be offered in.
        progress: Told what is done, and how many bytes of how many.

    Returns:
        The model in that variant; its ``name`` is what specs call it.

    Raises:
        CannotLoad: It cannot be loaded; no entry is written then.
        BadInput: It is no name, or there is no such variant.

    Cost: reads every byte of the weights once, after downloading them.
    """
    found = describe(name, revision, called)
    # A variant that cannot be is refused before anything is fetched.
    registry.split(catalogue.variant(found.info, *variant).name)
    if found.remote is not None:
        hub.fetch(found.remote, progress)
    checkpoint = open_checkpoint(found.info.folder, hub.roots(found.info.source))
    count = _count(checkpoint)
    stamps = checkpoint.stamps  # before they are read: a change from here on is noticed
    weights = weights_hash(checkpoint, progress)
    info = replace(found.info, weights=weights, n_parameters=count)
    entry = registry.Entry(info, stamps, (variant,))
    kept = registry.keep(entry, rename=info.source == "local" and not called)
    return catalogue.variant(kept.info, *variant)


def known(name: str) -> ModelInfo:
    """Return the model ``name``, adding it first if it is a folder or of the hub and not known.

    A path may end in a variant, too: ``~/my-model:bfloat16``.
    """
    if _is_folder(name):
        return add(name)
    base, processing, dtype = registry.split(name)
    if not looks_like_path(base):
        listed = (*catalogue.bundled(), *registry.entries())
        if base not in listed:
            repo, at, revision = base.partition("@")
            base = hub.official(repo) + at + revision
        if base in listed:
            return catalogue.info(registry.join(base, processing, dtype))
    return add(base, variant=(processing, dtype))


def _count(checkpoint: Checkpoint) -> int:
    """Count the values of the tensors that are used, after checking names and shapes."""
    return sum(checkpoint.tensors[name].numel for name in used_tensors(checkpoint))


def _is_folder(name: str) -> bool:
    try:
        return Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


def _described(label: str, folder: Path, config: dict[str, Any], *, source: Any) -> ModelInfo:
    catalogue.check_new_name(label)
    shape = architecture(config)
    info = catalogue.of_shape(label, shape.transformer, answers=_ANSWERS, weights="", folder=folder)
    file = tokenizer_file(folder, registry.folder() / "tokenizers", shape.family, hub.roots(source))
    info = replace(
        info,
        source=source,
        family=shape.family,
        tokenizer_file=file,
        n_parameters=stored_values(info),
    )
    return replace(info, bos=_start_token(info, config))


def _start_token(info: ModelInfo, config: dict[str, Any]) -> int | None:
    """Return the id that must be put before every prompt, None where the tokenizer does that.

    Models that were trained with a first token need it; for GPT-2 and GPT-NeoX the field puts the
    end-of-text token there, as TransformerLens does.
    """
    known = vocabulary(str(info.tokenizer))
    first = known.cut("a").ids[:1]
    if first and int(first[0]) in known.specials:
        return None
    told: dict[str, Any] = {}
    if (info.folder / _SETTINGS).exists():
        told = read_json(within(info.folder, _SETTINGS, hub.roots(info.source)))
    text = told.get("bos_token")
    if isinstance(text, dict):
        text = text.get("content")
    given = known.tokenizer.token_to_id(text) if isinstance(text, str) else None
    if given is None and info.family in _START_IS_END:
        given = config.get("bos_token_id")
    usable = isinstance(given, int) and 0 <= given < min(info.d_vocab, len(known.texts))
    return given if usable else None


def _bare(name: str) -> str:
    """Take off what is copied along with a path or a name: quotes, a scheme, the hub's address."""
    bare = name.strip().strip("\"'")
    for prefix in _AROUND:
        bare = bare.removeprefix(prefix)
    return bare.strip()


def _plain(name: str) -> str:
    kept = "".join(c if (c.isalnum() and c.isascii()) or c in "._+-" else "-" for c in name)
    return kept.strip("-._+")[:80] or "model"
