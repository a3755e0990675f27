"""Kernels that memory bounds: elementwise, reductions along rows (softmax, layer normalisation), pools, copies; fused attention.

Symbols
-------
=========  ===================================================================================================
n          operations, each at the rate F of the CUDA cores; x special functions, at the rate X
q          bytes moved, at the share mu of main memory's bandwidth D
e          elements of the result; a CTA makes ``E = 1024`` of them, so that ``c = ceil(e / E)`` CTAs run
r          bytes of a row that is reduced; a row is kept on chip up to ``r_on``, else read once more
=========  ===================================================================================================

``t = t_launch + t_over + t_cta + max(q / (mu D), n / F, x / X, ceil(c / S) q min(1, E / e) / (port f))``: the last term is what
one multiprocessor takes in, and is what small kernels see. A row reduction of R rows of N elements reads its input once where a
row stays in registers and shared memory, else twice (once to reduce, once to write), after the structure of PyTorch's
kernels.

Attention of H heads, S_q queries, S_k keys and width d in one fused kernel (T. Dao, "FlashAttention-2", arXiv:2307.08691):
two matrix products of ``H S_q S_k d`` multiply-accumulates on the tensor cores at the sustained share, ``H S_q S_k``
exponentials, and the queries, keys, values and result moved once; the keys and values once more for each block of 128
queries, through L2. Exponentials overlap with the products of another warp group, so the longest part counts.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.jit import kernel
from lepton_dse.sim.gpu.gemm import Constants, Machine

__all__ = [
    "ELEMENTS_PER_CTA",
    "QUERY_BLOCK",
    "SOFTMAX_ROW",
    "attention_time",
    "quantize_time",
    "quantize_time_of_each",
    "row_passes",
    "streaming_time",
]

ELEMENTS_PER_CTA = 1024.0
QUERY_BLOCK = 128.0
SOFTMAX_ROW = 1024.0
"""Elements of a row that a compiled softmax keeps in registers (the limit of TorchInductor's persistent reductions)."""
_BYTES_OF_THREE_PASSES = 5.0  # 16 bits read for the maximum, read again, 8 bits written


@kernel
def streaming_time(
    operations: float, special: float, moved: float, elements: float, machine: Machine, constants: Constants
) -> tuple[float, float, float, float]:
    """Time of a streaming kernel.

    Parameters
    ----------
    operations, special : float
        Operations of the CUDA cores and of the special-function units.
    moved : float
        Bytes.
    elements : float
        Elements of the result.
    machine : Machine
    constants : Constants

    Returns
    -------
    tuple of float
        Seconds: total, arithmetic, what the busiest multiprocessor takes in, memory.
    """
    arithmetic = max(operations / machine.fma_per_s, special / machine.special_per_s)
    ctas = max(1.0, np.ceil(elements / ELEMENTS_PER_CTA))
    busiest = np.ceil(ctas / machine.sm_count)
    of_cta = moved * min(1.0, ELEMENTS_PER_CTA / elements)
    port = busiest * of_cta / (machine.port_bytes_per_clock * machine.clock_hz)
    memory = moved / (constants.memory_share * machine.memory_byte_per_s)
    fixed = machine.launch_s + constants.overhead_s + constants.cta_s
    return fixed + max(arithmetic, port, memory), arithmetic, port, memory


@kernel
def row_passes(row: float, kept: float) -> float:
    """How often a row reduction reads its input: once while a row is no larger than what it keeps, else twice; any unit."""
    return 1.0 if row <= kept else 2.0


@kernel
def attention_time(
    heads: float,
    queries: float,
    keys: float,
    width: float,
    bits: float,
    machine: Machine,
    constants: Constants,
) -> tuple[float, float, float, float]:
    """Time of fused attention.

    Parameters
    ----------
    heads : float
        Heads of all samples together.
    queries, keys, width : float
        Queries and keys of a head, and elements of each.
    bits : float
        Of each element of queries, keys, values and the result.
    machine : Machine
    constants : Constants

    Returns
    -------
    tuple of float
        Seconds: total, arithmetic, L2, memory.
    """
    blocks = np.ceil(queries / QUERY_BLOCK)
    pairs = np.ceil(heads * blocks / machine.sm_count) * machine.sm_count * QUERY_BLOCK * keys
    products = 2.0 * pairs * width / (constants.sustained_share * machine.mac_per_s)
    exponentials = heads * queries * keys / machine.special_per_s
    arithmetic = max(products, exponentials)
    once = heads * 2.0 * (queries + keys) * width * bits / 8.0
    l2 = (once + heads * 2.0 * (blocks - 1.0) * keys * width * bits / 8.0) / (constants.l2_share * machine.l2_byte_per_s)
    memory = once / (constants.memory_share * machine.memory_byte_per_s)
    fixed = machine.launch_s + constants.overhead_s + constants.cta_s
    return fixed + max(arithmetic, l2, memory), arithmetic, l2, memory


@kernel
def quantize_time(elements: float, held: float, machine: Machine, constants: Constants) -> float:
    """Time of a separate pass that finds the range of 16-bit activations and writes them in 8 bits.

    Parameters
    ----------
    elements : float
    held : float
        Share of the activations that stays in L2 between the two readings, 0 to 1.
    machine : Machine
    constants : Constants

    Returns
    -------
    float
        Seconds: a fixed time, and the longer of the elements at the pass's own rate and its bytes at main memory's.
    """
    moved = _BYTES_OF_THREE_PASSES * elements * (1.0 - held)
    memory = moved / (constants.memory_share * machine.memory_byte_per_s)
    return constants.quantize_s + max(elements / constants.quantize_per_s, memory)


@kernel
def quantize_time_of_each(
    elements: np.ndarray[tuple[int], np.dtype[np.float64]],
    held: np.ndarray[tuple[int], np.dtype[np.float64]],
    machine: Machine,
    constants: Constants,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Times of :func:`quantize_time` for many passes, shape (N,)."""
    times = np.empty(elements.size)
    for index in range(elements.size):
        times[index] = quantize_time(elements[index], held[index], machine, constants)
    return times
