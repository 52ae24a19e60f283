"""Explain why a neural network behaves as it does, and find out whether the explanation is good.

    import interp
    interp.kinds()
    record = interp.run({"kind": "logit_lens", "model": "induction-handmade", "prompt": "kmabcda"})
    interp.get(record.id).result.answer_p

Importing this package imports neither torch nor a model library; ``load_model`` and ``run`` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interp.errors import InterpError

if TYPE_CHECKING:
    import torch

    from interp.analyses._record import Spec
    from interp.answers import Answer
    from interp.models.load import LoadedModel

__all__ = ["InterpError", "get", "kinds", "load_model", "parse", "push", "run", "submit"]


def kinds() -> tuple[str, ...]:
    """List the kinds of analysis."""
    from interp import analyses

    return analyses.kinds()


def load_model(
    name: str, device: str | None = None, dtype: str | torch.dtype | None = None
) -> LoadedModel:
    """Load a model; one that is not known yet is added first.

    Args:
        name: A bundled or added model, ``org/model`` of the hub, a short name that
            TransformerLens knows, or a folder in the hub's format.
        device: Where to; by default CUDA, then MPS, then the CPU.
        dtype: "float32" (the default), "bfloat16", "float16" or "float64".

    Raises:
        InterpError: There is no such model, it cannot be read, or it does not fit.
    """
    from interp.jobs.residents import check_room
    from interp.models.add import known
    from interp.models.load import device_named, in_precision, load

    info, where = in_precision(known(name), dtype), device_named(device)
    check_room(info, where)
    return load(info.name, where)


def push(name: str, model: Any, tokenizer: Any = None) -> str:
    """Make a model of this notebook available to the app; return the name that specs call it by.

    Args:
        name: What to call it, e.g. "local/after-step-300".
        model: A HookedTransformer, a model of transformers, or a folder in the hub's format.
        tokenizer: Its tokenizer, where the model brings none.

    Raises:
        InterpError: The name or the model cannot be used.
    """
    from interp.models.push import push as take

    return take(name, model, tokenizer).name


def parse(spec: str | dict[str, Any]) -> Spec:
    """Read a spec from JSON or a dict; see ``interp.analyses.parse``."""
    from interp import analyses

    return analyses.parse(spec)


def run(spec: Spec | dict[str, Any] | str, *, again: bool = False) -> Answer:
    """Ask a question here, wait for the answer and keep its record.

    Args:
        spec: A spec, or its fields, or JSON.
        again: Compute it anew though it was answered before.

    Raises:
        InterpError: It cannot be asked.
    """
    from interp.answers import get as answer
    from interp.jobs.inline import run as inline
    from interp.store import open_store

    store = open_store()
    return answer(store, inline(store, spec, again=again).id)


def submit(spec: Spec | dict[str, Any] | str) -> str:
    """Queue a question for the app's worker and return its record's id.

    It waits until a server runs on the same data folder.
    """
    from interp.jobs.submit import submit as enqueue
    from interp.store import open_store

    return enqueue(open_store(), spec)


def get(record: str) -> Answer:
    """Read a record: what was asked, what became of it, and the result's arrays.

    Raises:
        NotFound: There is no such record.
    """
    from interp.answers import get as answer
    from interp.store import open_store

    return answer(open_store(), record)
