"""Entry points: one mechanism by which built-ins and strangers register importers, targets, emitters, cost models and knobs.

A distribution declares, in its own ``pyproject.toml``::

    [project.entry-points."lepton_dse.importers"]
    caffe = "my_package.caffe:IMPORTER"

and the object becomes available under that name. Nothing is imported until it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lepton_dse.errors import LeptonError

__all__ = ["Group", "load", "names"]


class Group(StrEnum):
    """The entry-point groups; the value is the group's name in a distribution's metadata."""

    IMPORTERS = "lepton_dse.importers"
    TARGETS = "lepton_dse.targets"
    COST_MODELS = "lepton_dse.cost_models"
    EMITTERS = "lepton_dse.emitters"
    VERIFIERS = "lepton_dse.verifiers"
    PLANNERS = "lepton_dse.planners"
    SUITES = "lepton_dse.suites"
    ROUNDINGS = "lepton_dse.roundings"
    SCORES = "lepton_dse.scores"
    METRICS = "lepton_dse.metrics"


@cache
def _points(group: Group) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=group.value), key=lambda point: point.name)}


def names(group: Group) -> tuple[str, ...]:
    """Names registered in `group`, sorted."""
    return tuple(_points(group))


def load(group: Group, name: str) -> Any:
    """Import and return the object registered as `name`.

    Raises
    ------
    LeptonError
        If no such name is registered; the message lists those that are.
    """
    point = _points(group).get(name)
    if point is None:
        known = ", ".join(names(group)) or "none: is lepton_dse installed?"
        raise LeptonError(f"no '{name}' among {group.value}", fix=f"known: {known}")
    return point.load()
