"""Models: catalogue, tokens, sites, loading.

What is there (``catalogue``), how text becomes tokens (``tokens``), what can be read or patched
(``sites``), and loading (``load``, the only module here that imports torch).
"""
