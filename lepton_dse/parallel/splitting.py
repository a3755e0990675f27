"""Which loops of an operation may be shared by the devices of an axis, and how its operands then lie on the mesh.

An operation is a loop nest, and a strategy gives each axis of the mesh at most one of its loops. A loop that indexes a dimension
of an operand cuts it; an operand that the loop does not index is whole on every device. A loop that is summed over leaves
addends of the result on every device. So ``y = f(x W + b)`` is shared by batch (the loop of samples), by columns (that of
outputs) or by rows (the summed one), and each reproduces the whole product by definition.

A loop that a window slides along (rows of an image) also needs what lies next to the cut: a :class:`Border`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import Access, Loop, LoopNest, loop_nest
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.parallel.layout import Layout, Mesh, replicated

__all__ = ["Border", "OpLayouts", "SplitLoop", "layouts_of", "local_attributes", "splittable"]


@dataclass(frozen=True)
class SplitLoop:
    """A loop that devices may share.

    Parameters
    ----------
    name : str
        As in the loop nest; of a view, ``v`` and the dimension of its operand.
    extent : int
    reduction : bool
        Whether the devices then hold addends of the result.
    window : int
        Dimension of the first operand that a window slides along with it; -1 for none.
    """

    name: str
    extent: int
    reduction: bool = False
    window: int = -1


@dataclass(frozen=True)
class Border:
    """Rows of neighbours that an operation needs of its first operand.

    Parameters
    ----------
    axis : str
    dimension, before, after : int
    fill : float
        What stands beyond the ends of the whole tensor.
    """

    axis: str
    dimension: int
    before: int
    after: int
    fill: float


@dataclass(frozen=True)
class OpLayouts:
    """How operands and result of one operation lie on a mesh.

    Parameters
    ----------
    inputs : tuple of Layout
    output : Layout
    border : Border or None
        What the first operand needs besides.
    """

    inputs: tuple[Layout, ...]
    output: Layout
    border: Border | None = None


def splittable(graph: Graph, op: Op) -> tuple[SplitLoop, ...]:
    """The loops of an operation that devices may share, in the order of its nest."""
    inputs = [graph.tensors[name] for name in op.inputs]
    output = graph.tensors[op.output]
    if isinstance(op.attributes, ops.Reshape):
        return tuple(SplitLoop(f"v{source}", extent) for source, _, extent in _view(inputs[0].shape, output.shape))
    nest = loop_nest(op, inputs, output)
    banned = _banned(op, inputs, output)
    found = (_splittable(op, nest, loop, inputs, output) for loop in nest.loops if loop.extent > 1 and loop.name not in banned)
    return tuple(loop for loop in found if loop is not None)


def layouts_of(graph: Graph, op: Op, shared: Mapping[str, tuple[str, ...]], mesh: Mesh) -> OpLayouts | None:
    """Layouts under a strategy.

    Parameters
    ----------
    graph : Graph
    op : Op
    shared : mapping of str to tuple of str
        The axes that share each loop, the first one outermost; loops that it leaves out are whole.
    mesh : Mesh

    Returns
    -------
    OpLayouts or None
        None where a loop may not be shared, or does not come out even.
    """
    inputs = [graph.tensors[name] for name in op.inputs]
    output = graph.tensors[op.output]
    known = {loop.name: loop for loop in splittable(graph, op)}
    for name, axes in shared.items():
        if name not in known or known[name].extent % mesh.size(axes):
            return None
    if isinstance(op.attributes, ops.Reshape):
        view = {f"v{source}": (source, result) for source, result, _ in _view(inputs[0].shape, output.shape)}
        cuts_in: list[tuple[str, ...]] = [()] * len(inputs[0].shape)
        cuts_out: list[tuple[str, ...]] = [()] * len(output.shape)
        for name, axes in shared.items():
            cuts_in[view[name][0]] = cuts_out[view[name][1]] = axes
        return OpLayouts((Layout(tuple(cuts_in)),), Layout(tuple(cuts_out)))
    nest = loop_nest(op, inputs, output)
    border = _border(op, inputs[0], output, shared, known, mesh)
    if isinstance(border, bool):
        return None
    reads = _reads(op, nest)
    layouts = tuple(
        _cut(reads[position], tensor.shape, shared, known, nest) if position in reads else replicated(len(tensor.shape))
        for position, tensor in enumerate(inputs)
    )
    assert nest.write is not None  # views are above
    partial = {axis for name, axes in shared.items() if known[name].reduction for axis in axes}
    cuts = _cut(nest.write, output.shape, shared, known, nest).cuts
    return OpLayouts(layouts, Layout(cuts, tuple(axis for axis in mesh.names if axis in partial)), border)


def local_attributes(
    op: Op, layouts: OpLayouts, output_shape: tuple[int, ...], shared: Mapping[str, tuple[str, ...]], mesh: Mesh
) -> ops.Attributes:
    """Attributes of an operation on one device, whose result has `output_shape` there."""
    match op.attributes:
        case ops.Reshape():
            return ops.Reshape(output_shape)
        case ops.Expand():
            return ops.Expand(output_shape)
        case ops.Slice(begin, _, step):
            return ops.Slice(begin, output_shape, step)
        case ops.Conv(window, groups, pad_value):
            return ops.Conv(_inside(window, layouts.border), groups // mesh.size(shared.get("g", ())), pad_value)
        case ops.MaxPool(window):
            return ops.MaxPool(_inside(window, layouts.border))
        case _:
            return op.attributes


def _inside(window: ops.Window, border: Border | None) -> ops.Window:
    """The window on an operand that has its border, which stands for padding along that axis."""
    if border is None:
        return window
    at = border.dimension - 2
    begin = tuple(0 if axis == at else pad for axis, pad in enumerate(window.pads_begin))
    end = tuple(0 if axis == at else pad for axis, pad in enumerate(window.pads_end))
    return ops.Window(window.kernel, window.strides, window.dilations, begin, end)


# --- which loops ----------------------------------------------------------------------------------------------------


def _banned(op: Op, inputs: list[Tensor], output: Tensor) -> set[str]:
    """Loops along which elements depend on one another, or on a number of their own that no tensor holds."""
    match op.attributes:
        case ops.Softmax(axes) | ops.LayerNorm(axes):
            return {f"d{axis}" for axis in axes}
        case ops.ArgMax(axis):
            return {f"d{axis}"}
        case ops.Reduce(function, axes):
            return set() if function is ops.ReduceFunction.SUM else {f"d{axis}" for axis in axes}
        case ops.Quantize() | ops.Dequantize():
            quant = output.quant if isinstance(op.attributes, ops.Quantize) else inputs[0].quant
            several = quant is not None and quant.axis is not None
            return {f"d{axis}" for axis in range(len(output.shape))} if several else set()
        case ops.AveragePool() | ops.SumPool():
            return {f"o{axis}" for axis in range(len(output.shape) - 2)}
        case ops.Gather(axis):  # which slices a device reads is known only when it runs: it holds all of them
            return set()
        case _:
            return set()


def _splittable(op: Op, nest: LoopNest, loop: Loop, inputs: list[Tensor], output: Tensor) -> SplitLoop | None:
    window = -1
    for position, access in [*_reads(op, nest).items(), (-1, nest.write)]:
        assert access is not None
        shape = output.shape if position < 0 else inputs[position].shape
        found = [dimension for dimension, index in enumerate(access.indices) if any(name == loop.name for name, _ in index.terms)]
        for dimension in found:
            if _cuts(access, dimension, loop, nest, shape[dimension]):
                continue
            if position == 0 and loop.name.startswith("o") and isinstance(op.attributes, ops.Conv | ops.MaxPool):
                window = dimension
                continue
            if isinstance(op.attributes, ops.Gather) and position == 0:
                continue
            return None
        if len(found) > 1 or (position < 0 and not loop.reduction and not found):
            return None
    if loop.reduction and not (nest.multiplies or isinstance(op.attributes, ops.Reduce)):
        return None
    return SplitLoop(loop.name, loop.extent, loop.reduction, window)


def _cuts(access: Access, dimension: int, loop: Loop, nest: LoopNest, extent: int) -> bool:
    """Whether equal parts of the loop are equal, consecutive parts of a dimension."""
    index = access.indices[dimension]
    extents = {entry.name: entry.extent for entry in nest.loops}
    coefficient = dict(index.terms)[loop.name]
    if index.offset or coefficient * loop.extent != extent:
        return False
    others = [(factor, extents[name]) for name, factor in index.terms if name != loop.name and extents[name] > 1]
    return math.prod(size for _, size in others) == coefficient


def _reads(op: Op, nest: LoopNest) -> dict[int, Access]:
    """Accesses by the position of the operand; operands that the nest does not index, such as tables, are whole."""
    return dict(enumerate(nest.reads))


def _cut(
    access: Access, shape: tuple[int, ...], shared: Mapping[str, tuple[str, ...]], known: Mapping[str, SplitLoop], nest: LoopNest
) -> Layout:
    loops = {loop.name: loop for loop in nest.loops}
    cuts = []
    for dimension, index in enumerate(access.indices):
        names = [
            name
            for name, _ in index.terms
            if name in shared
            and (known[name].window == dimension or _cuts(access, dimension, loops[name], nest, shape[dimension]))
        ]
        cuts.append(shared[names[0]] if names else ())
    return Layout(tuple(cuts))


# --- windows and views ----------------------------------------------------------------------------------------------


def _border(
    op: Op, x: Tensor, output: Tensor, shared: Mapping[str, tuple[str, ...]], known: Mapping[str, SplitLoop], mesh: Mesh
) -> Border | bool | None:
    """What the window needs of neighbours; True where it cannot be had."""
    sliding = [name for name in shared if known[name].window >= 0]
    if not sliding:
        return None
    if len(sliding) > 1 or len(shared[sliding[0]]) > 1 or not isinstance(op.attributes, ops.Conv | ops.MaxPool):
        return True
    window, dimension = op.attributes.window, known[sliding[0]].window
    axis, at = shared[sliding[0]][0], dimension - 2
    size = mesh.sizes[axis]
    rows, results = x.shape[dimension] // size, output.shape[dimension] // size
    stride, reach, pad = window.strides[at], (window.kernel[at] - 1) * window.dilations[at], window.pads_begin[at]
    if x.shape[dimension] % size or rows != results * stride:
        return True
    before, after = pad, max(reach - pad - stride + 1, 0)
    if max(before, after) > rows:
        return True
    if (rows + before + after - reach - 1) // stride + 1 != results:
        return True
    if isinstance(op.attributes, ops.Conv):
        return Border(axis, dimension, before, after, float(op.attributes.pad_value))
    fill = float("-inf") if x.format.is_float else float(x.format.minimum)
    return Border(axis, dimension, before, after, fill)


def _view(source: tuple[int, ...], result: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Dimensions of a reshaped tensor that equal parts cut alike: of the operand, of the result, and how often at most.

    Elements in row-major order fall into runs of dimensions with equal products; parts of a run's first dimension are parts of
    it, so that both firsts may be cut by a common factor.
    """
    found: list[tuple[int, int, int]] = []
    a = b = 0
    while a < len(source) and b < len(result):
        first_a, first_b = a, b
        left, right = source[a], result[b]
        a, b = a + 1, b + 1
        while left != right:
            if left < right and a < len(source):
                left, a = left * source[a], a + 1
            elif right < left and b < len(result):
                right, b = right * result[b], b + 1
            else:
                return found
        while first_a < a - 1 and source[first_a] == 1:
            first_a += 1
        while first_b < b - 1 and result[first_b] == 1:
            first_b += 1
        common = math.gcd(source[first_a], result[first_b])
        if common > 1:
            found.append((first_a, first_b, common))
    return found
