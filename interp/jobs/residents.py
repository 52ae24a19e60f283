"""The models that a worker keeps loaded: one copy of each, the least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock

from interp.models.load import LoadedModel, load

MOST = 4


class Residents:
    """Loaded models by name, on one device."""

    def __init__(self, device: str = "") -> None:
        from interp.models.load import pick_device

        self.device = pick_device(device)
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = RLock()

    def get(self, name: str) -> LoadedModel:
        """Return the model ``name``, loading it if it is not there."""
        with self._lock:
            if name not in self._models:
                self._models[name] = load(name, self.device)
            self._models.move_to_end(name)
            while len(self._models) > MOST:
                self._models.popitem(last=False)
            return self._models[name]

    def names(self) -> list[str]:
        """List what is loaded, most recently used last."""
        return list(self._models)
