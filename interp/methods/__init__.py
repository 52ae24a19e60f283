"""The mathematics: tensors in, small frozen dataclasses out. Usable from a notebook."""
