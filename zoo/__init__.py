"""Builders of the models that ship with the workbench.

Each module makes one model from nothing (by hand or by training) and writes its folder below
``zoo/models`` when run, for example ``python -m zoo.paren_balancer``.
"""
