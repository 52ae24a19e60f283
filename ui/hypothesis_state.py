"""The editor of a hypothesis: what it is about, and one way by which everything changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from interp.behaviors.populations import for_model
from interp.errors import InterpError
from interp.explanations.checks import check
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.text import RunOptions, read, write
from interp.methods.scrubbing import preview
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.preview import Agreement
from interp.models import catalogue
from interp.models.info import ModelInfo
from interp.store import Record, State
from ui import circuits, hypothesis_text, state
from ui.resources import store

_MOST_UNDONE = 50
_MOST_ASKED = 20
TEXT, ERROR, REFUSED, UNDO, START = "yaml", "yaml_error", "refused", "undo", "start"
OPEN, WRITTEN = "open", "writing"
"""What the editor keeps of a form: the YAML text and what is wrong with it, where an edit was
refused and why, the versions before, the choice of where to start, the claim that is open, and the
feature that is being written: a claim stays open beside it."""
N_INPUTS = "n_inputs"
_OPTIONS = {"references": N_INPUTS, "replicates": "draws", "seed": "seed", "nulls": "nulls"}
"""Fields of the form for what a text says about running it."""


@dataclass(frozen=True)
class Editor:
    """A hypothesis that is being edited in the form of a kind.

    Attributes:
        kind: The kind of analysis.
        field: Field of the form that holds the hypothesis.
        hypothesis: The hypothesis as it stands.
    """

    kind: str
    field: str
    hypothesis: Hypothesis

    @classmethod
    def of(cls, kind: str, field: str) -> Editor:
        """Return the editor as the form has it."""
        return cls(kind, field, hypothesis_text.of(state.value(kind, field)))

    @property
    def model(self) -> str:
        """Name of the model that the form asks."""
        return str(state.value(self.kind, state.by_type(self.kind)["model"]))

    @property
    def population(self) -> str:
        """Name of the inputs that the form asks."""
        return str(state.value(self.kind, state.by_type(self.kind)["population"]) or "")

    @cached_property
    def info(self) -> ModelInfo:
        """The model."""
        return catalogue.info(self.model)

    @cached_property
    def inputs(self) -> Inputs | None:
        """The inputs, or None where they cannot be drawn; the check below the form says why."""
        n = state.value(self.kind, N_INPUTS)
        try:
            return preview.drawn(self.population, int(n), self.model)
        except InterpError:
            return None

    @property
    def names(self) -> set[str]:
        """Names that expressions can use beside the features."""
        return set() if self.inputs is None else {*self.inputs.names, *self.inputs.columns}

    @cached_property
    def agreements(self) -> dict[str, Agreement]:
        """Classes of the nodes; none where a feature cannot be computed."""
        if self.inputs is None:
            return {}
        try:
            return preview.agreements(self.hypothesis, self.inputs)
        except InterpError:
            return {}

    @property
    def draws(self) -> int:
        """How often each reference is scrubbed."""
        return int(state.value(self.kind, "draws") or 1)

    @property
    def open(self) -> tuple[str, Any]:
        """Which panel of a claim is open, and on what."""
        return state.value(self.kind, OPEN) or ("", None)

    @property
    def written(self) -> str | None:
        """The feature whose panel is open: empty for a new one, None for none."""
        return state.value(self.kind, WRITTEN)

    def check(self, new: Hypothesis) -> None:
        """Check a hypothesis against the model and the inputs.

        Raises:
            InterpError: It cannot be tested.
        """
        longest = None if self.inputs is None else self.inputs.ids.shape[1]
        check(new, self.info, self.names, longest)
        if self.inputs is not None:
            self.inputs.values(new)

    def refusal(self, new: Hypothesis) -> InterpError | None:
        """Return why a hypothesis cannot be tested, or None."""
        try:
            self.check(new)
        except InterpError as error:
            return error
        return None

    @property
    def now(self) -> Editor:
        """The editor as the form has it by now: callbacks may follow one another."""
        return Editor.of(self.kind, self.field)

    def commit(self, edit: Callable[[], Hypothesis], where: str = "") -> bool:
        """Take an edited hypothesis; refuse one that cannot be tested, and keep the one before.

        Where the one before cannot be tested either, any step may be one towards another.

        Args:
            edit: Makes the hypothesis.
            where: In which panel a refusal is told, as ``refuse`` has it.
        """
        try:
            new = edit()
        except InterpError as error:
            self.refuse(error, where)
            return False
        error = self.refusal(new)
        if error is not None and self.refusal(self.hypothesis) is None:
            self.refuse(error, where)
            return False
        self.take(hypothesis_text.descended(new, self.hypothesis, answered=self._answered()))
        return True

    def _answered(self) -> bool:
        """Whether the hypothesis was tested on the inputs that the form asks: an answer is shown.

        What others tested elsewhere is no version of it.
        """
        shown = (self.hypothesis.canonical, self.population, state.value(self.kind, N_INPUTS))
        names = (self.field, state.by_type(self.kind)["population"], N_INPUTS)
        answers = store().records.list(kind=self.kind, model=self.model, state=State.DONE)
        specs = (json.loads(record.spec) for record in answers)
        return any(tuple(spec.get(name) for name in names) == shown for spec in specs)

    def take(self, new: Hypothesis, text: str = "") -> None:
        """Put a hypothesis into the form, and its text beside it; for callbacks."""
        kept: dict[str, Any] = {self.field: new.canonical, REFUSED: None}
        if new.canonical != self.hypothesis.canonical:
            kept[UNDO] = [*self.undo, self.hypothesis.canonical][-_MOST_UNDONE:]
        state.put(self.kind, kept)
        if text or state.value(self.kind, ERROR) is None:
            state.put(self.kind, {TEXT: text or write(new), ERROR: None})

    def refuse(self, error: InterpError, where: str = "") -> None:
        """Say why an edit was not made, in a feature's panel or in the tree; for callbacks."""
        state.put(self.kind, {REFUSED: (where, error)})

    def show(self, what: str, on: Any = None) -> None:
        """Open the panel of a claim, or none; for callbacks."""
        state.put(self.kind, {OPEN: (what, on) if what else None, REFUSED: None})

    def write(self, name: str | None) -> None:
        """Open the panel of a feature, or none; a claim that is open stays so; for callbacks."""
        state.put(self.kind, {WRITTEN: name, REFUSED: None})

    def settle(self, new: Hypothesis) -> None:
        """Close what is open on what another hypothesis has not as this one; for callbacks.

        A new claim is kept where all that it would stand below is there as before.
        """
        what, path = self.open
        lines = [hypothesis_text.line(one, path or ()) for one in (self.hypothesis, new)]
        sites = [line and [node.site for node in line] for line in lines]
        if what != "add" or sites[0] != sites[1]:
            self.show("")
        was, now = self.hypothesis.features, new.features
        if self.written and was.get(self.written) != now.get(self.written):
            self.write(None)

    @property
    def undo(self) -> list[str]:
        """The versions before, the last one at the end."""
        return list(state.value(self.kind, UNDO) or ())

    def step_back(self) -> None:
        """Go back to the version before; for callbacks."""
        before = self.undo
        if before:
            new = hypothesis_text.of(before[-1])
            self.take(new)
            self.settle(new)
            state.put(self.kind, {UNDO: before[:-1]})

    def load(self, new: Hypothesis) -> None:
        """Start from another hypothesis, on the inputs that it is about; for callbacks."""
        if new.behavior in for_model(self.model):
            state.put(self.kind, {state.by_type(self.kind)["population"]: new.behavior})
        state.put(self.kind, {ERROR: None})
        self.take(new)
        self.show("")
        self.write(None)

    def apply(self, text: str) -> None:
        """Take what the text says, or keep it with what is wrong about it; for callbacks."""
        try:
            new, options = read(text)
            fresh = Editor(self.kind, self.field, new)
            fresh.check(new)
        except InterpError as error:
            state.put(self.kind, {ERROR: error})
            return
        self.take(new, text)
        self._set(options)
        self.settle(new)

    def _set(self, options: RunOptions) -> None:
        fields = {*state.example(self.kind)}
        told = {_OPTIONS[name]: value for name, value in options if value is not None}
        state.put(self.kind, {name: value for name, value in told.items() if name in fields})

    @cached_property
    def asked(self) -> list[tuple[Record, Hypothesis]]:
        """Hypotheses about this model that were tested, newest first, each once."""
        found: dict[str, tuple[Record, Hypothesis]] = {}
        for record in store().records.list(kind=self.kind, model=self.model):
            fields: dict[str, Any] = json.loads(record.spec)
            text = fields.get(self.field, "")
            if text not in found and len(found) < _MOST_ASKED:
                found[text] = record, hypothesis_text.of(text)
        return list(found.values())

    @cached_property
    def found(self) -> list[tuple[Record, Hypothesis]]:
        """Circuits that were found in this model, as hypotheses, newest first, each once."""
        return circuits.stored(self.model)
