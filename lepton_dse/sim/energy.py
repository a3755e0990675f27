"""Energy: figures of one process node from those of two others, and whether a predicted energy fits a device's power.

Symbols
-------
=======  ====================================================================================
n        multiply-accumulates of an operation
e_mac    joules of one in its formats, from the hardware model
q_l      bytes that the operation moves at level l
e_l      joules of a byte at level l, from the hardware model
E        ``n e_mac + sum over levels of q_l e_l``, joules of the operation
=======  ====================================================================================

The cost model of each family sums E as above (M. Horowitz, "Computing's Energy Problem", ISSCC 2014, for the terms). Leakage,
clocks, instructions, register files and wires between the levels are in no term, so E is a part of what a device draws. Energy is
never confirmed by a measurement here: it is ``unchecked`` whatever the evidence of the latency beside it.

Between process nodes. A figure published at two nodes a and b is taken to follow a power of the node's name in between,
``e(m) = e_a (m / a)^p`` with ``p = ln(e_b / e_a) / ln(b / a)``; the line through two points of a log-log plot, an assumption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.plan import CostReport
from lepton_dse.targets import AnyTarget
from lepton_dse.targets.schema import MemoryLevel

__all__ = ["PowerNote", "between_nodes", "operation_energy", "power_note"]


def operation_energy(macs: int, mac_j: float | None, levels: Sequence[MemoryLevel], traffic: Mapping[str, float]) -> float | None:
    """E above; None where the hardware model lacks a figure.

    Parameters
    ----------
    macs : int
    mac_j : float or None
        Joules of a multiply-accumulate in the operation's formats.
    levels : sequence of MemoryLevel
    traffic : mapping of str to float
        Bytes moved by name of the level.
    """
    if mac_j is None or any(level.energy_j_per_byte is None for level in levels):
        return None
    moved = (traffic[level.name] * level.energy_j_per_byte.value for level in levels if level.energy_j_per_byte is not None)
    return macs * mac_j + sum(moved)


def between_nodes(node_nm: float, first: tuple[float, float], second: tuple[float, float]) -> float:
    """The energy at a process node by the power law through two published ones.

    Parameters
    ----------
    node_nm : float
        Name of the node, in nanometres.
    first, second : (float, float)
        Node and energy of each; the result has the energies' unit.

    Raises
    ------
    LeptonError
        If a node or an energy is not positive, or both figures are of one node.
    """
    (a, energy_a), (b, energy_b) = first, second
    if not all(math.isfinite(value) and value > 0 for value in (node_nm, a, energy_a, b, energy_b)):
        raise LeptonError("a process node or an energy that is not positive", fix="give figures above 0")
    if a == b:
        raise LeptonError(f"two figures of {a:g} nm tell no trend", fix="give figures of two nodes")
    power = math.log(energy_b / energy_a) / math.log(b / a)
    return energy_a * math.pow(node_nm / a, power)


@dataclass(frozen=True)
class PowerNote:
    """Power that a predicted energy implies, beside what the device may draw; neither is clamped.

    Parameters
    ----------
    implied_w : float
        Predicted energy over predicted latency.
    device_w : float
        Thermal design power of the hardware model.
    """

    implied_w: float
    device_w: float

    @property
    def share(self) -> float:
        """Implied over allowed power; above 1, energy and latency cannot both be right."""
        return self.implied_w / self.device_w

    @property
    def exceeds(self) -> bool:
        """Whether the implied power is more than the device's."""
        return self.implied_w > self.device_w

    def __str__(self) -> str:
        verdict = ": energy or latency is wrong, or the device slows down" if self.exceeds else ""
        return f"energy implies {self.implied_w:.3g} W, {100 * self.share:.3g}% of the device's {self.device_w:g} W{verdict}"


def power_note(report: CostReport, target: AnyTarget) -> PowerNote | None:
    """Implied power of a report beside the power of its device.

    Returns
    -------
    PowerNote or None
        None where the report has no energy or no latency, or the hardware model no power.

    Raises
    ------
    LeptonError
        If the report is of another target.
    """
    if report.target != target.name:
        raise LeptonError(f"a report of {report.target} beside {target.name}", fix="pass the report's own target")
    if report.energy_j is None or report.latency_s == 0 or target.power_w is None or target.power_w.value == 0:
        return None
    return PowerNote(report.energy_j / report.latency_s, target.power_w.value)
