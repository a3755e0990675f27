"""Vector memory that a tiled product takes as a Pallas kernel, and whether the compiler takes it.

A grid over tiles of M, N and, innermost, K; blocks of X (t_m, t_k), W (t_k, t_n) and Y (t_m, t_n) are there twice, so that copies
overlap with the arrays, and sums of 32 bits once::

    blocks = 2 e (t_m t_k + t_k t_n + t_m t_n) + 4 t_m t_n          e bytes an element

Where W has more columns than an array, X is used again for each further column of arrays, and the compiler keeps what its
registers cannot hold on a stack in the same memory. How much is not documented. For bfloat16 on a v5e it is about::

    stack = max(0, 1.15 e t_m t_k - 0.17 MiB)

the least squares over 55 tilings that libtpu 0.0.52 was made to refuse (it then says what it needs), up to 0.66 MiB off.
"""

from __future__ import annotations

__all__ = ["V5E_LIMIT", "block_bytes", "pallas_bytes"]

V5E_LIMIT = 16 << 20
"""Bytes that a kernel may take on a v5e unless it asks for more."""
_COLUMNS = 128
_AGAIN, _REGISTERS = 1.15, 0.17 * (1 << 20)


def block_bytes(m: int, n: int, k: int, element: int = 2) -> int:
    """Bytes of the blocks and sums of a tile of (m, k) by (k, n)."""
    return 2 * element * (m * k + k * n + m * n) + 4 * m * n


def pallas_bytes(m: int, n: int, k: int, element: int = 2) -> float:
    """Bytes of blocks, sums and stack on a v5e; see the module's docstring."""
    stack = _AGAIN * element * m * k - _REGISTERS if n > _COLUMNS else 0.0
    return block_bytes(m, n, k, element) + max(0.0, stack)
