"""Sparse weights on a GPU. Zeros are not free time: only two forms of them save any, and both cost something.

**2 of 4.** In every four weights along the summed axis at most two are non-zero. The tensor cores then multiply at up to
twice the dense rate, and main memory is read for half the weights and 2 bits of position for each one kept (A. Mishra et al.,
"Accelerating Sparse Deep Neural Networks", arXiv:2104.08378). Kernels reach part of the gain, which the hardware model states.
L2 and shared memory are counted as with dense weights: nothing published says what sparse kernels of a library hold there. The
kernel without tensor cores has no such form.

**Unstructured.** A product of compressed rows runs on the CUDA cores. T. Gale et al., "Sparse GPU Kernels for Deep Learning",
SC 2020, reach 27% of the single-precision peak of a V100 with it; that share of the CUDA cores' rate is what the non-zero
products take here. A weight kept is its value and a column number of 4 bytes, and each row of the matrix has one pointer of 4.
Against dense products on the same cores at nine tenths of their peak 70% zeros break even, against tensor cores far more.

Where neither form pays, the dense kernel runs, for which a zero is a weight like others.
"""

from __future__ import annotations

from lepton_dse.errors import LeptonError
from lepton_dse.sim.gpu.gemm import Constants, Machine, Product

__all__ = ["POSITION_BITS", "UNSTRUCTURED_SHARE", "two_of_four", "unstructured_time"]

POSITION_BITS = 2.0
"""Bits of position for each weight that a 2-of-4 pattern keeps."""
UNSTRUCTURED_SHARE = 0.27
"""Share of the CUDA cores' peak that products of compressed rows reach (Gale et al., abstract)."""
_INDEX_BYTES = 4.0


def two_of_four(problem: Product, machine: Machine, rate: float, reached: float) -> tuple[Product, Machine]:
    """The product and the machine as 2-of-4 sparse tensor cores see them; price them like any other tiled product.

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
    kept = problem.n * problem.k * problem.products / 2
    gain = 1 + (rate - 1) * reached
    moved = min(problem.b_bytes, problem.b_bytes / 2 + kept * POSITION_BITS / 8)
    return problem._replace(b_bytes=moved), machine._replace(mac_per_s=machine.mac_per_s * gain)


def unstructured_time(
    problem: Product, density: float, machine: Machine, constants: Constants
) -> tuple[float, float, float, float]:
    """Time of a product of compressed rows with a share `density` of the weights non-zero.

    Returns
    -------
    tuple of float
        Seconds: total, arithmetic, memory. Then bytes from main memory.

    Raises
    ------
    LeptonError
        If the density lies outside 0 to 1.
    """
    if not 0 <= density <= 1:
        raise LeptonError(f"a density of {density:g}", fix="a share from 0 to 1")
    weights = problem.n * problem.k * problem.products * density
    arithmetic = problem.m * weights / (UNSTRUCTURED_SHARE * machine.fma_per_s)
    rows = problem.n * problem.products + 1
    moved = problem.a_bytes + problem.c_bytes + problem.b_bytes * density + (weights + rows) * _INDEX_BYTES
    memory = moved / (constants.memory_share * machine.memory_byte_per_s)
    fixed = machine.launch_s + constants.overhead_s + constants.cta_s
    return fixed + max(arithmetic, memory), arithmetic, memory, moved
