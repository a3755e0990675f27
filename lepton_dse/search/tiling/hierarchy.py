"""The machine that tiles are searched for: an array of units over a buffer over main memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from lepton_dse.errors import LeptonError

__all__ = ["ROLES", "Hierarchy", "Level"]

ROLES = ("x", "w", "y")
"""Operands of a contraction: activations, weights, result."""


@dataclass(frozen=True)
class Level:
    """One level of memory.

    Parameters
    ----------
    name : str
    capacity_bytes : float
        Usable bytes, of each unit at level 0; half of the memory where tiles are loaded while others are used.
    bandwidth_byte_per_cycle : float
        In and out together; level 0 is never a bottleneck, its fetches are part of a step.
    energy_j_per_byte : float
    keeps : tuple of str
        Operands that may be resident, by role: ``x``, ``w``, ``y``.
    bypass : bool
        Whether each of them may be left out; otherwise all of `keeps` are resident.
    """

    name: str
    capacity_bytes: float
    bandwidth_byte_per_cycle: float
    energy_j_per_byte: float
    keeps: tuple[str, ...] = ROLES
    bypass: bool = True

    def residencies(self) -> tuple[tuple[bool, ...], ...]:
        """Every choice of what is resident, by role; everything first."""
        options = [(False,) if role not in self.keeps else (True, False) if self.bypass else (True,) for role in ROLES]
        return tuple(product(*options))


@dataclass(frozen=True)
class Hierarchy:
    """Units in rows and columns over three levels.

    Parameters
    ----------
    rows, columns : int
        Units that compute one iteration each in a step; each axis unrolls one loop.
    levels : (Level, Level, Level)
        Registers of a unit, the buffer that all units share, and main memory, which holds everything.
    energy_j_per_mac : float
    """

    rows: int
    columns: int
    levels: tuple[Level, Level, Level]
    energy_j_per_mac: float

    def check(self) -> None:
        """Raise a LeptonError unless the machine can run something.

        Raises
        ------
        LeptonError
            For no units, a bandwidth that is not positive, a negative or undefined figure, or an unknown operand.
        """
        if self.rows < 1 or self.columns < 1:
            raise LeptonError(f"an array of {self.rows} x {self.columns} units", fix="use at least one row and one column")
        if len(self.levels) != 3:
            raise LeptonError(f"{len(self.levels)} levels of memory", fix="give registers, a buffer and main memory")
        for level in self.levels:
            if not level.bandwidth_byte_per_cycle > 0:
                raise LeptonError(f"level '{level.name}' moves nothing", fix="give it a bandwidth above 0")
            figures = (level.capacity_bytes, level.energy_j_per_byte, self.energy_j_per_mac)
            if any(math.isnan(figure) or figure < 0 for figure in figures):
                raise LeptonError(
                    f"level '{level.name}' has a negative or undefined figure", fix="capacities and energies are 0 or more"
                )
            if unknown := set(level.keeps) - set(ROLES):
                raise LeptonError(f"level '{level.name}' keeps '{min(unknown)}'", fix=f"operands are {', '.join(ROLES)}")
