"""Models: what is there (``catalogue``), how text becomes tokens (``tokens``), what can be
read or patched (``sites``), and loading (``load``, the only module here that imports torch).
"""
