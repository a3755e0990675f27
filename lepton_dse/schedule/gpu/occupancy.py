"""How many thread blocks (CTAs) one streaming multiprocessor holds at once.

Symbols
-------
=======  ================================================================
R        32-bit registers of one SM; r registers of a thread
S        bytes of shared memory of one SM; s bytes of a CTA
T        threads one SM holds; t threads of a CTA
C        CTAs one SM holds at most
=======  ================================================================

``occupancy = min(C, floor(W / w), floor(S / (s + s0)), floor(T / t))`` with s0 = 1,024 bytes that the system keeps of every CTA
(CUDA C++ Programming Guide, compute capability 8.0 and later), w the warps of a CTA, and W the warps whose registers fit: each
takes 32 r, rounded up to 256, of one of the four quarters of R, ``W = 4 floor(R / 4 / (32 r))`` (``cuda_occupancy.h`` of the CUDA
toolkit, allocation by warp and sub-partition). Shared memory is given out in units of 128 bytes.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["SYSTEM_SHARED_BYTES", "occupancy"]

SYSTEM_SHARED_BYTES = 1024.0
_WARP = 32.0
_QUARTERS = 4.0
_SHARED_UNIT = 128.0
_REGISTER_UNIT = 256.0  # registers of a warp are allocated in units of this many


@kernel
def occupancy(
    registers: float,
    shared: float,
    threads: float,
    most: float,
    registers_of_thread: float,
    shared_of_cta: float,
    threads_of_cta: float,
) -> float:
    """CTAs that one SM holds at once; 0 where not even one fits.

    Parameters
    ----------
    registers, shared, threads, most : float
        What one SM has: 32-bit registers, bytes of shared memory, threads, CTAs.
    registers_of_thread, shared_of_cta, threads_of_cta : float
        What one CTA asks for: registers of each thread, bytes of shared memory, threads.
    """
    warps = np.ceil(threads_of_cta / _WARP)
    of_warp = np.ceil(registers_of_thread * _WARP / _REGISTER_UNIT) * _REGISTER_UNIT
    fitting = _QUARTERS * np.floor(registers / _QUARTERS / of_warp) if registers_of_thread > 0.0 else most * warps
    by_registers = np.floor(fitting / warps)
    taken = np.ceil((shared_of_cta + SYSTEM_SHARED_BYTES) / _SHARED_UNIT) * _SHARED_UNIT
    by_shared = np.floor(shared / taken) if shared_of_cta > 0.0 else most
    by_threads = np.floor(threads / (warps * _WARP))
    return float(min(most, by_registers, by_shared, by_threads))
