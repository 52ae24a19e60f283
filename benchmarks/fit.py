"""What the fit check says a model takes, beside what it takes: ``python -m benchmarks.fit``.

On a CUDA device a random checkpoint of Llama 3.2 1B's shape is written, added and loaded as a
person's would be, in bfloat16 and in float32, and the device's own count is read. On the processor
small shapes are loaded, and the bytes of live tensors are counted during a forward pass.

row              name of the row          work            what is measured
estimate_bytes   what the check says      measured_bytes  what it takes at its largest moment
ratio            estimate over measured   device          where
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from interp.models import fit
from interp.models.add import add
from interp.models.load import LoadedModel, load

_SMALL: dict[str, Any] = {
    "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "gpt2": hf.GPT2Config(
        vocab_size=1000,
        n_embd=256,
        n_layer=4,
        n_head=8,
        n_positions=512,
        bos_token_id=None,
        eos_token_id=None,
    ),
    "llama": hf.LlamaConfig(**_SMALL),
}
"""Shapes for the processor."""


class _Live(TorchDispatchMode):
    """Counts the bytes of tensors that operations made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        given = {_storage(t)._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = _storage(tensor)
                # A view has the storage of what it is a view of.
                if storage._cdata not in given and storage._cdata not in self._held:
                    self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.most = max(self.most, sum(size for _, size in self._held.values()))
        return out


def _storage(tensor: Tensor) -> Any:
    return tensor.untyped_storage()


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes of tensors made by ``work`` that were there at the same time."""
    with _Live() as live:
        work()
    return live.most


def write_random(folder: Path, config: Any, dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint of this configuration with random weights and a tokenizer of bytes."""
    folder.mkdir(parents=True)
    with torch.device("meta"):
        shapes = hf.AutoModelForCausalLM.from_config(config).state_dict()
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    save_file(
        {name: torch.randn(t.shape, dtype=dtype) * 0.02 for name, t in shapes.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(config.to_json_string())
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def forward(model: LoadedModel, n_tokens: int, rows: int = 1) -> None:
    """Run prompts through all layers and the unembedding, as the engine does."""
    n_layers = model.info.n_layers
    ids = (torch.arange(n_tokens, device=model.device) % model.info.d_vocab).expand(rows, n_tokens)
    with model.lock, torch.inference_mode():
        resid = model.hooked(ids, stop_at_layer=n_layers)
        model.hooked(resid, start_at_layer=n_layers, return_type="logits")


def main() -> None:
    """Print a row for the weights and one for each length of prompt."""
    with tempfile.TemporaryDirectory(prefix="fit-") as name:
        os.environ["BECAUSE_HOME"] = f"{name}/home"
        if torch.cuda.is_available():
            _on_cuda(Path(name))
        else:
            _on_processor(Path(name))


def _on_cuda(folder: Path) -> None:
    config = hf.LlamaConfig(
        vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, head_dim=64, tie_word_embeddings=True,
        max_position_embeddings=131_072,
    )  # fmt: skip
    name = add(str(write_random(folder / "llama-1b", config, torch.bfloat16))).name
    where, count = torch.device("cuda:0"), torch.cuda.memory_allocated
    for dtype in ("bfloat16", "float32"):
        before = count(where)
        model = load(name, where, dtype)
        _row("weights", model, count(where) - before, _kept(model))
        for n_tokens in (128, 512, 1024, 2048):
            forward(model, n_tokens)
            torch.cuda.reset_peak_memory_stats(where)
            before = count(where)
            forward(model, n_tokens)
            taken = torch.cuda.max_memory_allocated(where) - before
            _row(f"{n_tokens} tokens", model, taken, fit.forward_bytes(model.info, n_tokens))
        del model
        torch.cuda.empty_cache()


def _on_processor(folder: Path) -> None:
    for family, config in SMALL.items():
        name = add(str(write_random(folder / family, config))).name
        for dtype in ("bfloat16", "float32"):
            model = load(name, "cpu", dtype)
            _row("weights", model, model.bytes, _kept(model))
            for n_tokens in (64, 128, 256, 512):
                taken = peak(lambda model=model, n=n_tokens: forward(model, n))
                _row(f"{n_tokens} tokens", model, taken, fit.forward_bytes(model.info, n_tokens))


def _kept(model: LoadedModel) -> int:
    found = fit.check(model.info, fit.Device(str(model.device), 0, 0))
    return found.weights + found.buffers


def _row(work: str, model: LoadedModel, measured: int, estimate: int) -> None:
    print(
        json.dumps(
            {
                "row": f"{model.info.name.removeprefix('local/')} {work}",
                "work": "loading" if work == "weights" else "one forward pass",
                "estimate_bytes": estimate,
                "measured_bytes": measured,
                "ratio": round(estimate / measured, 3),
                "device": str(model.device),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
