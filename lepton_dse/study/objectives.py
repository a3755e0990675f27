"""What a study minimises or maximises, and what it must keep.

A figure is known by its name. Costs come from the cost report of a candidate, ``weight_bytes`` from its network, ``accuracy`` and
``loss_points`` from the network run on labelled data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.errors import LeptonError

__all__ = ["FIGURES", "MEASURED", "RESOURCES", "SHARED", "Constraint", "Figures", "Objective", "figures_of", "needs_data"]

Figures = Mapping[str, float | None]
"""By name; None where a figure is not known."""

MEASURED = ("accuracy", "loss_points")
"""Figures that need data."""
RESOURCES = ("lut", "ff", "dsp", "bram18")
"""Of a planned FPGA design."""
SHARED = ("devices", "exchanged_bytes")
"""Of devices that share the network: how many, and the messages of their exchanges; 1 and 0 of a device by itself."""
FIGURES = ("latency_s", "throughput_per_s", "energy_j", "peak_bytes", "weight_bytes", *SHARED, *RESOURCES, *MEASURED)
_GREATER_IS_BETTER = ("throughput_per_s", "accuracy")
_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*")


@dataclass(frozen=True)
class Objective:
    """A figure to be made small, or large where that is better.

    Parameters
    ----------
    figure : str
        One of :data:`FIGURES`.
    """

    figure: str

    def __post_init__(self) -> None:
        _check(self.figure)

    @property
    def maximize(self) -> bool:
        """Whether greater is better."""
        return self.figure in _GREATER_IS_BETTER

    def value(self, figures: Figures) -> float | None:
        """What is minimised: the figure, its sign turned where greater is better; None where it is not known."""
        found = figures.get(self.figure)
        if found is None or not math.isfinite(found):
            return None
        return -found if self.maximize else found


@dataclass(frozen=True)
class Constraint:
    """A bound on a figure.

    Parameters
    ----------
    figure : str
        One of :data:`FIGURES`.
    at_most : bool
        Whether the bound is an upper one.
    bound : float
    """

    figure: str
    at_most: bool
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read ``latency_s <= 1e-3``.

        Raises
        ------
        LeptonError
            If the text is no such bound, or the figure is not known.
        """
        match = _CONSTRAINT.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise LeptonError(f"'{text}' is no constraint", fix="write a figure, <= or >=, and a number: latency_s <= 1e-3")
        _check(match[1])
        return cls(match[1], match[2] == "<=", bound)

    def excess(self, figures: Figures) -> float:
        """By how much the bound is missed, as a share of it unless it is 0; infinite where the figure is not known."""
        found = figures.get(self.figure)
        if found is None or math.isnan(found):
            return math.inf
        beyond = found - self.bound if self.at_most else self.bound - found
        return max(beyond, 0.0) / (abs(self.bound) or 1.0)

    def broken(self, figures: Figures) -> str:
        """Why the bound is not kept; an empty string where it is."""
        if self.excess(figures) == 0:
            return ""
        found = figures.get(self.figure)
        return f"{self.figure} is {'not known' if found is None else f'{found:g}'}, asked is {self}"

    def __str__(self) -> str:
        return f"{self.figure} {'<=' if self.at_most else '>='} {self.bound:g}"


def figures_of(objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> tuple[str, ...]:
    """Names of all figures that are asked for."""
    return (*(entry.figure for entry in objectives), *(entry.figure for entry in constraints))


def needs_data(objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> bool:
    """Whether any of the figures is measured."""
    return any(figure in MEASURED for figure in figures_of(objectives, constraints))


def _check(figure: str) -> None:
    if figure not in FIGURES:
        raise LeptonError(f"no figure '{figure}'", fix=f"known: {', '.join(FIGURES)}")
