"""What the package offers, what importing it costs, and that its two model libraries fit."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import interp
from tests.contract._checks import ROOT, imported, python

HEAVY = ("torch", "transformer_lens", "sae_lens", "transformers")


def modules(*folders: str) -> list[str]:
    """The modules of some folders, by full name."""
    found = [path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in found
    ]


# What a page, a form, a queue or a reader of records needs.
LIGHT = [
    "interp",
    *modules("interp/analyses", "interp/behaviors", "interp/figures", "interp/store"),
    *(f"interp.{n}" for n in ("answers", "worked", "axes", "config", "errors", "scores")),
    *(
        f"interp.models.{n}"
        for n in (
            "add",
            "batches",
            "catalogue",
            "checkpoint",
            "deviation",
            "families",
            "fit",
            "hub",
            "offer",
            "paths",
            "registry",
            "sites",
            "tokens",
            "vocabulary",
        )
    ),
    *(f"interp.methods.{n}" for n in ("effects", "grids", "head_scores")),
    *(f"interp.jobs.{n}" for n in ("submit", "supervisor", "locks")),
    "interp.__main__",
]
WEB = modules("ui")
IMPORT = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    heavy = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
    assert not heavy, f"{name} imports {heavy}"
print(len(sys.argv) - 2)
"""


def test_the_surface_is_sorted_and_there() -> None:
    assert list(interp.__all__) == sorted(interp.__all__)
    assert len(set(interp.__all__)) == len(interp.__all__)
    for name in interp.__all__:
        assert getattr(interp, name).__doc__, name
    described = (ROOT / "interp" / "__init__.py").read_text()
    public = set(re.findall(r"^(?:def|class) ([a-z]\w*)", described, flags=re.MULTILINE))
    assert public <= set(interp.__all__)


def test_light_modules_import_no_torch() -> None:
    heavy = ",".join((*HEAVY, "streamlit"))
    assert python(IMPORT, heavy, *LIGHT).strip() == str(len(LIGHT))
    with pytest.raises(AssertionError, match=r"interp\.models\.load imports"):
        python(IMPORT, heavy, "interp", "interp.models.load")  # the control


def test_the_web_process_imports_no_torch() -> None:
    assert len(WEB) > 5
    assert python(IMPORT, ",".join(HEAVY), *WEB, "interp.jobs.supervisor").strip() == str(
        len(WEB) + 1
    )


@pytest.mark.parametrize("folder", ["analyses", "behaviors", "figures", "store"])
def test_torch_is_not_imported_inside_functions_either(folder: str) -> None:
    """A page draws with these: an import inside a function would load torch at the first click.

    A kind may import torch and its method in ``run``, which only workers call.
    """
    for path in sorted((ROOT / "interp" / folder).rglob("*.py")):
        names = imported(path) & set(HEAVY)
        assert names <= ({"torch"} if folder == "analyses" else set()), path.name


def test_the_model_libraries_are_the_pinned_pair_and_import_together() -> None:
    pinned = dict(
        re.findall(
            r"^(torch|transformer-lens|sae-lens)==([\d.]+)",
            (ROOT / "requirements.txt").read_text(),
            flags=re.MULTILINE,
        )
    )
    assert set(pinned) == {"torch", "transformer-lens", "sae-lens"}
    for name, wanted in pinned.items():
        assert version(name).split("+")[0] == wanted
    code = (
        "import sae_lens, transformer_lens; from sae_lens import SAE; "
        "from transformer_lens import HookedTransformer; print('both')"
    )
    assert python(code).split()[-1] == "both"


def test_paths_of_modules_are_real() -> None:
    """The lists above would be empty if a folder were renamed."""
    for name in (*LIGHT, *WEB):
        base = Path(ROOT, *name.split("."))
        assert base.with_suffix(".py").exists() or (base / "__init__.py").exists(), name
    assert len(LIGHT) > 25
