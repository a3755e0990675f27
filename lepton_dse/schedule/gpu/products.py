"""From a convolution or a matrix product, and the operations behind it, to a contraction kernel; where it cannot be one, None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.schedule.gpu.contraction import Engine, Touch
from lepton_dse.schedule.gpu.kernels import Buffer, Source
from lepton_dse.schedule.gpu.operands import Blocks, Columns, Matrix, Operand, Packed4, Windows
from lepton_dse.schedule.gpu.tile import Tile

__all__ = ["Problem", "blocked", "packed", "problem_of", "skipping", "touch_of"]

_CHUNK = 16
_LEAST_ZERO_BLOCKS = 1 / 4  # of all; fewer do not make up for looking up which are stored
_SEGMENT = 32  # elements of half precision that one product of tensor cores with zeros left out takes
_LEAST_COLUMNS = 4  # narrower groups (depthwise convolutions) leave most of a tile empty: a thread for each result instead


@dataclass(frozen=True)
class Problem:
    """A contraction without its tile.

    Parameters
    ----------
    a, b : Operand
    products : int
    engine : Engine
        On tensor cores where the formats have them.
    row_axes, column_axis, product_axes : tuple of int, int, tuple of int
        Axes of the result that rows, columns and products run over, slowest first. A convolution's groups share the column's
        axis with its filters.
    per_product : int
        Columns of one product where groups share the column's axis; 0 otherwise.
    swapped : bool
        Whether `a` is the weights and `b` the activations; the axes remain those of activations' rows and weights' columns.
    """

    a: Operand
    b: Operand
    products: int
    engine: Engine
    row_axes: tuple[int, ...]
    column_axis: int
    product_axes: tuple[int, ...]
    per_product: int
    swapped: bool = False


def problem_of(graph: Graph, op: Op, operands: Mapping[str, Source], *, constant: bool) -> Problem | None:
    """The contraction that an operation is; None where a thread for each result computes it.

    Parameters
    ----------
    graph : Graph
    op : Op
    operands : mapping of str to Source
    constant : bool
        Whether the weights are constants, which are stored as the kernel wants them.
    """
    x, w = operands[op.inputs[0]], operands[op.inputs[1]]
    engine = _engine(x, w, graph.tensors[op.output])
    if engine is None:
        return None
    if isinstance(op.attributes, ops.Conv):
        return _convolution(graph, op, op.attributes, x, w, engine) if constant else None
    return _product(graph, op, x, w, engine, constant=constant)


def _engine(x: Source, w: Source, output: Tensor) -> Engine | None:
    """What multiplies two formats; integers need sums of at most 32 bits."""
    names = (str(x.buffer.tensor.format), str(w.buffer.tensor.format))
    if x.scaled is None and w.scaled is None:
        if names[0] == "int8" and w.buffer.tensor.format.is_integer and w.buffer.tensor.format.signed:
            narrow = w.buffer.tensor.format.bits <= 8
            return Engine.INT8 if narrow and output.format.bits <= 32 else None
        return Engine.FLOAT32 if names == ("float32", "float32") else None
    if x.scaled is None or w.scaled is None or not all(_plain(source) for source in (x, w)):
        return None
    return {("float16", "float16"): Engine.HALF, ("bfloat16", "bfloat16"): Engine.BFLOAT16}.get(names)


def _plain(source: Source) -> bool:
    quant = None if source.scaled is None else source.scaled.quant
    return quant is not None and quant.beta == (1.0,)


def _weights(w: Buffer, engine: Engine, rows: int, depth: int, products: int) -> Operand:
    """Weights as they are stored for a kernel: rows of whole chunks, zeros behind the last element."""
    in_chunk = _CHUNK // engine.element_bytes
    stride = -(-depth // in_chunk) * in_chunk
    batch = rows * stride if products > 1 else 0
    if engine is Engine.INT8 and w.tensor.format.bits <= 4:
        return Packed4(rows, depth, stride, batch)
    return Matrix(rows, stride, stride, batch, engine.element_bytes)


def packed(problem: Problem, op: Op, weights: NDArray[np.generic]) -> NDArray[np.generic]:
    """Weights in the order and padding that a problem's second operand says."""
    b = problem.b
    if isinstance(op.attributes, ops.Conv):
        rows = np.moveaxis(weights, 1, -1).reshape(problem.products, b.rows, -1)
    else:
        rows = np.swapaxes(weights, -1, -2).reshape(problem.products, b.rows, -1)
    stride = b.stride if isinstance(b, Matrix | Packed4) else rows.shape[-1]
    padded = np.zeros((*rows.shape[:2], stride), rows.dtype)
    padded[:, :, : rows.shape[-1]] = rows
    if not isinstance(b, Packed4):
        return padded
    nibbles = padded.astype(np.int8).view(np.uint8) & 15
    return np.asarray(nibbles[..., ::2] | nibbles[..., 1::2] << 4, np.uint8)


def skipping(problem: Problem, rows: NDArray[np.generic]) -> tuple[Problem, NDArray[np.generic], NDArray[np.uint32]] | None:
    """The problem with two of every four weights left out, the rest, and their positions; None where zeros do not allow it.

    Parameters
    ----------
    problem : Problem
    rows : ndarray, shape (P, N, K)
        Weights as :func:`packed` gives them.

    Returns
    -------
    tuple of Problem, ndarray of shape (P, N, K / 2), ndarray of uint32
        Positions are words for each product, 16 rows and 32 elements, in the order that tensor cores read them.
    """
    engine = problem.engine.skipping
    if engine is None or not isinstance(problem.b, Matrix):
        return None
    products, count, depth = rows.shape
    whole = -(-depth // _SEGMENT) * _SEGMENT
    padded = np.zeros((products, -(-count // 16) * 16, whole), rows.dtype)
    padded[:, :count, :depth] = rows
    fours = padded.reshape(products, -1, whole // 4, 4)
    used = fours.astype(np.float32) != 0
    if (used.sum(axis=-1) > 2).any():
        return None
    # The first two places by "not zero, then by place", in ascending order of place.
    places = np.sort(np.argsort(~used, axis=-1, kind="stable")[..., :2], axis=-1)
    kept = np.take_along_axis(fours, places, axis=-1).reshape(products, -1, whole // 2)[:, :count]
    nibbles = (places[..., 0] | places[..., 1] << 2).astype(np.uint32)  # (P, R, K / 4)
    quarters = nibbles.reshape(products, -1, 2, 8, whole // _SEGMENT, 2, 4)  # 16 rows as 2 x 8, a segment as 2 x 4 fours
    halves = (quarters << (4 * np.arange(4, dtype=np.uint32))).sum(axis=-1, dtype=np.uint32)  # (P, B, 2, 8, S, 2)
    words = halves[:, :, 0] | halves[:, :, 1] << np.uint32(16)  # (P, B, 8, S, 2)
    positions = np.ascontiguousarray(words.transpose(0, 1, 3, 2, 4))
    stored = whole // 2
    a = Matrix(count, stored, stored, count * stored if products > 1 else 0, problem.engine.element_bytes)
    found = replace(problem, a=a, b=problem.a, engine=engine, swapped=True)
    return found, np.ascontiguousarray(kept), positions


def blocked(problem: Problem, rows: NDArray[np.generic], tile: Tile) -> tuple[Blocks, NDArray[np.generic]] | None:
    """Weights without the blocks that are all zero; None where fewer than a quarter are.

    Parameters
    ----------
    problem : Problem
    rows : ndarray, shape (P, N, K)
        Weights as :func:`packed` gives them.
    tile : Tile

    Returns
    -------
    tuple of Blocks and ndarray, shape (stored blocks, columns of the tile, elements of a step)
    """
    b = problem.b
    if not isinstance(b, Matrix):
        return None
    in_step = tile.pitch // b.element_bytes
    products, count, depth = rows.shape
    across, steps = -(-count // tile.columns), -(-depth // in_step)
    padded = np.zeros((products, across * tile.columns, steps * in_step), rows.dtype)
    padded[:, :count, :depth] = rows
    blocks = padded.reshape(products, across, tile.columns, steps, in_step).transpose(0, 1, 3, 2, 4)
    used = (blocks.astype(np.float32) != 0).any(axis=(3, 4))  # (P, tiles, steps)
    if used.mean() > 1 - _LEAST_ZERO_BLOCKS:
        return None
    lists = tuple(tuple(int(step) for step in np.flatnonzero(entry)) for entry in used.reshape(-1, steps))
    return Blocks(count, b.depth, tile.columns, tile.pitch, b.element_bytes, lists), np.ascontiguousarray(blocks[used])


def _convolution(graph: Graph, op: Op, attributes: ops.Conv, x: Source, w: Source, engine: Engine) -> Problem | None:
    window, image, output = attributes.window, x.buffer.tensor.shape, graph.tensors[op.output].shape
    rank = len(window.kernel)
    if rank > 2:
        return None
    filters = output[1] // attributes.groups
    if attributes.groups > 1 and filters < _LEAST_COLUMNS:
        return None

    def both(values: Sequence[int], first: int) -> tuple[int, int]:
        return (first, values[0]) if rank == 1 else (values[0], values[1])

    height, width = both(image[2:], 1)
    out_height, out_width = both(output[2:], 1)
    padding = 0
    if engine is Engine.INT8 and any((*window.pads_begin, *window.pads_end)):
        padding = (attributes.pad_value & 0xFF) * 0x01010101
    a = Windows(
        image[0],
        height,
        width,
        image[1],
        image[1] // attributes.groups,
        out_height,
        out_width,
        both(window.kernel, 1),
        both(window.strides, 1),
        both(window.pads_begin, 0),
        both(window.dilations, 1),
        padding,
        engine.element_bytes,
    )
    b = _weights(w.buffer, engine, filters, a.depth, attributes.groups)
    axes = (0, *range(2, 2 + rank))
    return Problem(a, b, attributes.groups, engine, axes, 1, (), filters if attributes.groups > 1 else 0)


def _product(graph: Graph, op: Op, x: Source, w: Source, engine: Engine, *, constant: bool) -> Problem | None:
    left, right, output = x.buffer.tensor.shape, w.buffer.tensor.shape, graph.tensors[op.output].shape
    if len(left) < 2 or not x.buffer.layout.same(x.buffer.layout.row_major(len(left)), left):
        return None
    depth, columns = right[-2:]
    shared = math.prod(right[:-2]) == 1
    if not shared and left[:-2] != right[:-2]:
        return None
    products = 1 if shared else math.prod(left[:-2])
    rows = math.prod(left[:-1]) if shared else left[-2]
    a = Matrix(rows, depth, depth, 0 if shared else rows * depth, engine.element_bytes)
    b: Operand
    if constant:
        b = _weights(w.buffer, engine, columns, depth, products)
    elif w.buffer.layout.same(w.buffer.layout.row_major(len(right)), right) and w.buffer.tensor.format.bits >= 8:
        b = Columns(columns, depth, columns, 0 if shared else depth * columns, engine.element_bytes)
    else:
        return None
    last = len(output) - 1
    row_axes = tuple(range(last)) if shared else (last - 1,)
    return Problem(a, b, products, engine, row_axes, last, () if shared else tuple(range(last - 1)), 0)


def touch_of(
    problem: Problem, shape: tuple[int, ...], buffer: Buffer, *, store: bool = False, channel: bool = False
) -> Touch | None:
    """How the epilogue reaches an operand or the result; None where that is not linear in product, row and column.

    Parameters
    ----------
    problem : Problem
    shape : tuple of int
        Of the result.
    buffer : Buffer
        Broadcast against the result.
    store : bool
    channel : bool
        Whether a vector runs along the columns' axis, as a bias does, instead of being broadcast.
    """
    if channel:
        steps = {problem.column_axis: 1}
    else:
        offset = len(shape) - len(buffer.tensor.shape)
        steps = {axis + offset: stride for axis, stride in enumerate(buffer.strides) if buffer.tensor.shape[axis] != 1}
    row = _linear(shape, problem.row_axes, steps)
    product = _linear(shape, problem.product_axes, steps)
    if row is None or product is None:
        return None
    column = steps.get(problem.column_axis, 0)
    return Touch(buffer.element_bytes, problem.per_product * column or product, row, column, store)


def _linear(shape: tuple[int, ...], axes: tuple[int, ...], steps: Mapping[int, int]) -> int | None:
    """The step of one number that runs over several axes, if there is one."""
    found, inner = None, 1
    for axis in reversed(axes):
        if shape[axis] == 1:
            continue
        step = steps.get(axis, 0)
        if found is None:
            found = step
        elif step != found * inner:
            return None
        inner *= shape[axis]
    return found or 0
