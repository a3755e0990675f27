"""The allocation as numbers: for every layer a list of choices, what each costs, and what all may cost together.

Symbols
-------
=========  ===========================================================================
``x_ij``   1 if layer i takes choice j, else 0; one j for each i
``a_ij``   what choice j of layer i costs in a measure
``f``      what everything else costs in it
``B``      the budget of it: ``f + sum a_ij x_ij <= B``
=========  ===========================================================================

Choices of different layers may have to agree: each may set some decisions (the width of a group of channels), and an allocation
is one only if no two choices set one decision differently. So a cost that depends on two decisions is a number for each pair.

Every measure adds up over layers. A sum is the correctly rounded one (``math.fsum``), so that its order does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lepton_dse.errors import LeptonError

__all__ = ["UNITS", "Measure", "Problem"]


class Measure(StrEnum):
    """What may be minimised, and what a budget may bound."""

    LOSS = "loss"
    LATENCY = "latency"
    ENERGY = "energy"
    BYTES = "bytes"
    BITS = "bits"


UNITS = {Measure.LOSS: "nat", Measure.LATENCY: "s", Measure.ENERGY: "J", Measure.BYTES: "B", Measure.BITS: "bit"}
Amounts = tuple[tuple[float, ...], ...]
Settings = tuple[tuple[int, int], ...]
"""Decisions that a choice sets, and to what, ascending."""


@dataclass(frozen=True)
class Problem:
    """One choice a layer, under budgets.

    Parameters
    ----------
    layers : tuple of str
    choices : tuple of tuple of str
        Names of each layer's choices, in order of preference where all else is equal.
    amounts : mapping of Measure to amounts
        What every choice of every layer costs, at least 0.
    minimize : Measure
    budgets : mapping of Measure to float
        The most that each may come to.
    others : mapping of Measure to float
        What everything that is no layer costs; 0 where nothing is said.
    loss_unit : str
        Unit of the loss.
    settings : tuple of tuple of settings
        What each choice of each layer sets; empty where no choices need to agree. All choices of a layer set the same decisions.

    Raises
    ------
    LeptonError
        If a layer has no choice, a measure is missing, or a number is negative or not finite.
    """

    layers: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    amounts: Mapping[Measure, Amounts]
    minimize: Measure
    budgets: Mapping[Measure, float] = field(default_factory=dict)
    others: Mapping[Measure, float] = field(default_factory=dict)
    loss_unit: str = UNITS[Measure.LOSS]
    settings: tuple[tuple[Settings, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.layers or len(self.choices) != len(self.layers):
            raise LeptonError(f"{len(self.choices)} lists of choices for {len(self.layers)} layers", where="layers")
        for layer, names in zip(self.layers, self.choices, strict=True):
            if not names:
                raise LeptonError("has no choice", where=layer, fix="offer a wider format, or leave the layer out")
        if self.settings and [len(row) for row in self.settings] != [len(names) for names in self.choices]:
            raise LeptonError("not one entry a choice", where="settings", fix="say of every choice what it sets")
        for layer, made in zip(self.layers, self.settings, strict=bool(self.settings)):
            if len({tuple(decision for decision, _ in row) for row in made}) > 1:
                raise LeptonError("choices set different decisions", where=layer, fix="set the same ones in all of them")
        for measure in (self.minimize, *self.budgets):
            if measure not in self.amounts:
                raise LeptonError(f"no {measure} of the choices is known", where=measure, fix="choose another measure")
        for measure, rows in self.amounts.items():
            if [len(row) for row in rows] != [len(names) for names in self.choices]:
                raise LeptonError("not one number a choice", where=measure, fix="give every choice of every layer one")
            for layer, row in zip(self.layers, rows, strict=True):
                _check(row, f"{measure} of {layer}")
        for measure, value in self.others.items():
            _check((value,), f"{measure} of other operations")
        for measure, value in self.budgets.items():
            _check((value,), f"budget of {measure}")

    def unit(self, measure: Measure) -> str:
        """Unit of a measure."""
        return self.loss_unit if measure is Measure.LOSS else UNITS[measure]

    def total(self, measure: Measure, chosen: Sequence[int]) -> float:
        """What an allocation comes to in a measure, `chosen` being the index of each layer's choice."""
        rows = self.amounts[measure]
        return math.fsum((self.others.get(measure, 0.0), *(row[index] for row, index in zip(rows, chosen, strict=True))))

    def fits(self, chosen: Sequence[int]) -> bool:
        """Whether choices agree and keep every budget."""
        return self.agrees(chosen) and all(self.total(measure, chosen) <= budget for measure, budget in self.budgets.items())

    def agrees(self, chosen: Sequence[int]) -> bool:
        """Whether no two choices set one decision differently."""
        made: dict[int, int] = {}
        pairs = (pair for rows, index in zip(self.settings, chosen, strict=False) for pair in rows[index])
        return all(made.setdefault(decision, value) == value for decision, value in pairs)

    def least(self, measure: Measure) -> float:
        """The least that a measure can come to when nothing else counts, whether choices agree or not."""
        return math.fsum((self.others.get(measure, 0.0), *(min(row) for row in self.amounts[measure])))


def _check(values: Sequence[float], where: str) -> None:
    for value in values:
        if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
            raise LeptonError(f"is {value}", where=where, fix="use a finite number of at least 0")
