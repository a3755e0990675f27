"""A contraction as a matrix product: which loops are M, N, K and groups, and what its operands weigh.

A loop that is summed over belongs to K. Of the others, one that indexes only the first operand belongs to M, one that
indexes only the second to N, and one that indexes both is a group: a product of its own. A convolution is the product
that im2col would make explicit (M = samples and output positions, N = output channels, K = input channels and window), but its
input is read as it lies in memory, whole rows of the image at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import Access, LoopNest
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.report import compulsory_bytes, stored_format

__all__ = ["Product", "matrix_product", "product_of"]


class Product(NamedTuple):
    """G products Y[M, N] = X[M, K] W[K, N] and the bytes of their operands."""

    groups: int
    m: int
    n: int
    k: int
    x_element: float
    """Bytes of an element of X; W and Y alike."""
    w_element: float
    y_element: float
    x_bytes: float
    """Of the whole first operand as it lies in memory."""
    other_bytes: float
    """Of a bias and the like, read once."""
    rows: int
    """Output rows of an image; 1 where X has no window."""
    positions: int
    """Values of M in one output row."""
    in_rows: int
    """Input rows of an image."""
    stride: int
    """Input rows from one output row to the next."""
    extent: int
    """Input rows that an output row looks at."""
    row_bytes: float
    """Of one input row with all channels of a group."""


def matrix_product(m: int, n: int, k: int, *, x_bits: int = 8, w_bits: int = 8, y_bits: int = 8, groups: int = 1) -> Product:
    """A plain product with every operand dense in memory."""
    x_element = x_bits / 8
    return Product(
        groups, m, n, k, x_element, w_bits / 8, y_bits / 8, groups * m * k * x_element, 0.0, 1, 1, 1, 1, 1, k * x_element
    )


def product_of(graph: Graph, op: Op, nest: LoopNest, precision: Precision) -> Product:
    """The product that a contraction's loop nest computes.

    Parameters
    ----------
    graph : Graph
    op : Op
    nest : LoopNest
        Of `op`; it multiplies.
    precision : Precision
    """
    x, w = nest.reads[0], nest.reads[1]
    in_x, in_w = _loops_of(x), _loops_of(w)
    groups = m = n = k = 1
    for loop in nest.loops:
        if loop.reduction:
            k *= loop.extent
        elif loop.name in in_x and loop.name in in_w:
            groups *= loop.extent
        elif loop.name in in_w:
            n *= loop.extent
        else:
            m *= loop.extent
    bits = [stored_format(graph, name, precision).bits for name in (x.tensor, w.tensor, op.output)]
    x_bytes = graph.tensors[x.tensor].elements * bits[0] / 8
    operands = x_bytes + graph.tensors[w.tensor].elements * bits[1] / 8 + graph.tensors[op.output].elements * bits[2] / 8
    plain = matrix_product(m, n, k, x_bits=bits[0], w_bits=bits[1], y_bits=bits[2], groups=groups)
    found = plain._replace(x_bytes=x_bytes, other_bytes=max(0.0, compulsory_bytes(graph, op, precision) - operands))
    window = _window(x, nest)
    if window is None:
        return found
    axis, out_loop, stride, extent = window
    names = [loop.name for loop in nest.loops if not loop.reduction and loop.name in in_x and loop.name not in in_w]
    extents = {loop.name: loop.extent for loop in nest.loops}
    positions = math.prod(extents[name] for name in names[names.index(out_loop) + 1 :])
    in_rows = graph.tensors[x.tensor].shape[axis]
    images = m // (extents[out_loop] * positions)
    return found._replace(
        rows=extents[out_loop],
        positions=positions,
        in_rows=in_rows,
        stride=stride,
        extent=extent,
        row_bytes=x_bytes / (in_rows * images * groups),
    )


def _loops_of(access: Access) -> frozenset[str]:
    return frozenset(name for index in access.indices for name, _ in index.terms)


def _window(x: Access, nest: LoopNest) -> tuple[int, str, int, int] | None:
    """Axis of X that the first window slides along, the loop of its output rows, its stride and its extent."""
    loops = {loop.name: loop for loop in nest.loops}
    for axis, index in enumerate(x.indices):
        outer = [(name, step) for name, step in index.terms if not loops[name].reduction]
        inner = [(name, step) for name, step in index.terms if loops[name].reduction]
        if axis > 1 and len(outer) == len(inner) == 1:
            return axis, outer[0][0], outer[0][1], (loops[inner[0][0]].extent - 1) * inner[0][1] + 1
    return None
