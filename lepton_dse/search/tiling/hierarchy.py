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
    operand_energy_j_per_byte : tuple of (str, float)
        By role, where operands have memories of their own in the level; `energy_j_per_byte` for the others.
    operand_capacity_bytes : tuple of (str, float)
        The most that an operand may fill of level 0, by role, besides what all share.
    """

    name: str
    capacity_bytes: float
    bandwidth_byte_per_cycle: float
    energy_j_per_byte: float
    keeps: tuple[str, ...] = ROLES
    bypass: bool = True
    operand_energy_j_per_byte: tuple[tuple[str, float], ...] = ()
    operand_capacity_bytes: tuple[tuple[str, float], ...] = ()

    def energy_of(self, role: str) -> float:
        """Joules a byte of one operand."""
        return dict(self.operand_energy_j_per_byte).get(role, self.energy_j_per_byte)

    def capacity_of(self, role: str) -> float:
        """The most bytes of one operand."""
        return min(self.capacity_bytes, dict(self.operand_capacity_bytes).get(role, self.capacity_bytes))

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
            own = [figure for _, figure in (*level.operand_energy_j_per_byte, *level.operand_capacity_bytes)]
            figures = (level.capacity_bytes, level.energy_j_per_byte, self.energy_j_per_mac, *own)
            if any(math.isnan(figure) or figure < 0 for figure in figures):
                fix = "capacities and energies are 0 or more"
                raise LeptonError(f"level '{level.name}' has a negative or undefined figure", fix=fix)
            if level.operand_capacity_bytes and level is not self.levels[0]:
                fix = "only registers may be parted among operands"
                raise LeptonError(f"level '{level.name}' has capacities by operand", fix=fix)
            named = {role for role, _ in (*level.operand_energy_j_per_byte, *level.operand_capacity_bytes)}
            if unknown := (set(level.keeps) | named) - set(ROLES):
                raise LeptonError(f"level '{level.name}' names '{min(unknown)}'", fix=f"operands are {', '.join(ROLES)}")
