"""Energy of arithmetic in an FPGA's fabric.

Symbols
-------
=========  ======================================================================================
n          multiply-accumulates of an operation
w, a, c    bits of a weight, of an activation, of the accumulator
e_mul      joules of a product of 8 by 8 bits, from the hardware model
e_add      joules of a sum of 32 bits, from the hardware model
e_mem      joules of a byte read from or written to a block RAM, from the hardware model
q          bytes of the activations that enter and that leave
=========  ======================================================================================

``E = n (e_mul w a / 64 + e_add c / 32 + e_mem w / 8) + e_mem q``: the partial products of a multiplier are as many as pairs of
operand bits, an adder has a cell a bit, and a streaming design reads a weight for every product, and each activation once on
its way in and once on its way out. A roofline, which holds every weight in a register after it was read once, has no term of
weights a product. Static power, clocks, and the shift registers of sliding windows are in no term.
"""

from __future__ import annotations

from lepton_dse.numerics.formats import Precision
from lepton_dse.targets.fpga import FabricEnergy

__all__ = ["mac_energy", "precision_energy", "stage_energy"]

_MULTIPLIER_PAIRS, _ADDER_BITS, _BYTE = 64, 32, 8


def mac_energy(energy: FabricEnergy, weight_bits: int, input_bits: int, accumulator_bits: int) -> float:
    """Joules of one multiply-accumulate.

    Parameters
    ----------
    energy : FabricEnergy
    weight_bits, input_bits, accumulator_bits : int
    """
    product = energy.multiply_j.value * weight_bits * input_bits / _MULTIPLIER_PAIRS
    return product + energy.add_j.value * accumulator_bits / _ADDER_BITS


def precision_energy(energy: FabricEnergy | None, precision: Precision) -> float | None:
    """Joules of a multiply-accumulate into 32 bits; None without figures, or for formats that are not integers."""
    if energy is None or not precision.is_integer:
        return None
    return mac_energy(energy, precision.weights.bits, precision.activations.bits, _ADDER_BITS)


def stage_energy(energy: FabricEnergy, macs: int, widths: tuple[int, int, int] | None, activation_bytes: float) -> float:
    """E above.

    Parameters
    ----------
    energy : FabricEnergy
    macs : int
    widths : (int, int, int), optional
        Bits of weights, activations and accumulator; None for a stage without weights.
    activation_bytes : float
        That enter and that leave.
    """
    moved = energy.memory_j_per_byte.value * activation_bytes
    if widths is None:
        return moved
    weight = energy.memory_j_per_byte.value * widths[0] / _BYTE
    return macs * (mac_energy(energy, *widths) + weight) + moved
