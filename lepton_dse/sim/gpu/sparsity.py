"""Sparse weights on a GPU. Zeros are not free time: only two forms of them save any, and both cost something.

**2 of 4.** In every four weights along the summed axis at most two are non-zero. The tensor cores then multiply at up to
twice the dense rate and read half the weights, with 2 bits of position for each weight kept (A. Mishra et al., "Accelerating
Sparse Deep Neural Networks", arXiv:2104.08378). Their measured products are 1.0 to 1.9 times as fast as dense ones, depending
on shape; the share of the doubled rate that is reached is therefore an argument, not a constant.

**Unstructured.** A compressed-row product runs on the CUDA cores: each non-zero weight costs one multiply-accumulate at
:data:`GATHER_COST` times its time, since operands are gathered, and 4 bytes of column number beside its value. T. Gale et
al., "Sparse GPU Kernels for Deep Learning", SC 2020, measure the crossing with dense CUDA-core products at 50 to 71% zeros;
against tensor cores it lies far higher, which the formula shows of itself.
"""

from __future__ import annotations

from lepton_dse.errors import LeptonError
from lepton_dse.sim.gpu.gemm import Constants, Machine, Product

__all__ = ["GATHER_COST", "POSITION_BITS", "two_of_four", "unstructured_time"]

POSITION_BITS = 2.0
"""Bits of position for each weight that a 2-of-4 pattern keeps."""
GATHER_COST = 2.0
"""Time of a gathered multiply-accumulate over that of a dense one on the CUDA cores; 50% zeros then break even (Gale et al.)."""
_COLUMN_BYTES = 4.0


def two_of_four(problem: Product, machine: Machine, rate: float, reached: float) -> tuple[Product, Machine]:
    """The product and the machine as 2-of-4 sparse tensor cores see them; price them like any other.

    Parameters
    ----------
    problem : Product
        With dense weights.
    machine : Machine
    rate : float
        Sparse peak over dense peak, from the data sheet.
    reached : float
        Share of the gain ``rate - 1`` that kernels reach, 0 to 1.

    Raises
    ------
    LeptonError
        If the device has no such mode (a rate of at most 1) or the share lies outside 0 to 1.
    """
    if rate <= 1 or not 0 <= reached <= 1:
        raise LeptonError(f"a sparse rate of {rate:g} reached by {reached:g}", fix="a rate above 1 and a share from 0 to 1")
    kept = 0.5 * (1 + POSITION_BITS / problem.b_bits)
    gain = 1 + (rate - 1) * reached
    return problem._replace(b_bytes=problem.b_bytes * kept), machine._replace(mac_per_s=machine.mac_per_s * gain)


def unstructured_time(problem: Product, density: float, machine: Machine, constants: Constants) -> float:
    """Time of a compressed-row product with a share `density` of the weights non-zero.

    Raises
    ------
    LeptonError
        If the density lies outside 0 to 1.
    """
    if not 0 <= density <= 1:
        raise LeptonError(f"a density of {density:g}", fix="a share from 0 to 1")
    weights = problem.n * problem.k * problem.products * density
    products = problem.m * weights * GATHER_COST / machine.fma_per_s
    moved = problem.a_bytes + problem.c_bytes + weights * (problem.b_bits / 8 + _COLUMN_BYTES)
    memory = moved / (constants.memory_share * machine.memory_byte_per_s)
    return machine.launch_s + constants.overhead_s + constants.cta_s + max(products, memory)
