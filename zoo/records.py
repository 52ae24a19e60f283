"""Compute the worked records that ship with the app: ``python -m zoo.records``."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from interp import analyses
from interp.jobs.inline import run
from interp.store import Store
from interp.worked import FOLDER

# Fixed, so that a rebuilt record differs from the old one only where its numbers do.
CREATED = 1_795_000_000.0

HOME: dict[str, tuple[str, str, dict[str, Any]]] = {
    "1-induction-head": (
        "An induction head, found by patching",
        "Two heads of a model with explicit weights bring the answer back, each at one position; "
        "nothing else does.",
        {
            "kind": "activation_patching",
            "model": "induction-handmade",
            "behavior": "induction-first-cue",
            "n_pairs": 20,
            "site": "z_pos",
        },
    ),
    "2-balancing": (
        "Where a paren balancer decides",
        "One parenthesis is turned over. Before the first layer the difference is at that "
        "parenthesis, elsewhere in every pair; after the second layer nearly all of it sits where "
        "the answer is read.",
        {
            "kind": "activation_patching",
            "model": "paren-balancer",
            "behavior": "paren-near-misses",
            "n_pairs": 40,
            "site": "resid_pre",
        },
    ),
    "3-what-gradients-miss": (
        "What attribution patching misses",
        "One backward pass estimates every patch of the induction head's model. It finds the head "
        "that writes the answer and sees nothing of the head that tells it where to look, since "
        "attention there is saturated. Patching exactly shows both.",
        {
            "kind": "attribution_patching",
            "model": "induction-handmade",
            "behavior": "induction-first-cue",
            "n_pairs": 20,
            "site": "z_pos",
            "direction": "noising",
        },
    ),
}


def main() -> None:
    """Write every worked record anew."""
    wanted = dict(HOME)
    for kind in analyses.kinds():
        example = json.loads(analyses.get(kind).example.canonical)
        wanted[f"example-{kind.replace('_', '-')}"] = ("", "", example)
    with tempfile.TemporaryDirectory() as home:
        store = Store(f"sqlite:///{home}/store.sqlite", Path(home))
        for name, (headline, lead, spec) in wanted.items():
            record = run(store, spec)
            packed = store.records.result(record)
            if record.state != "done" or packed is None or record.provenance is None:
                raise RuntimeError(f"{name}: {record.state} {record.error}")
            # Wall time and memory are this machine's of today; they would change at every build.
            stamp = {
                k: v
                for k, v in record.provenance.items()
                if k not in ("wall_s", "process_peak_memory_mb")
            }
            about = {
                "id": hashlib.sha256(f"worked {name}".encode()).hexdigest()[:32],
                "headline": headline,
                "lead": lead,
                "spec": json.loads(record.spec),
                "created": CREATED,
                "provenance": {**stamp, "worked_example": name},
            }
            folder = FOLDER / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "record.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
            (folder / "result.safetensors").write_bytes(packed)
            print(f"{name}: {record.state}, {len(packed)} bytes")
        store.close()


if __name__ == "__main__":
    main()
