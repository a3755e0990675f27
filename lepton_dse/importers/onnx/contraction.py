"""Conv, Gemm, MatMul and the pools: operators with a window or a reduction."""

from __future__ import annotations

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, NotSupported, as_float32, spread
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Window

__all__ = ["average_pool", "conv", "gemm", "global_average_pool", "global_max_pool", "matmul", "max_pool"]


def conv(node: Node, sketch: Sketch) -> str:
    """Conv: the weights may be a constant or a tensor."""
    spatial, weights = _spatial(node, sketch), sketch.shape(node.input(1))
    kernel = node.integers("kernel_shape", weights[2:])
    if kernel != weights[2:]:
        raise InvalidModelError(f"kernel_shape {list(kernel)} over weights {list(weights)}", where=node.where)
    window, _ = _window(node, spatial, kernel)
    inputs = [sketch.operand(name) for name in node.inputs if name]
    return sketch.emit(node, ops.Conv(window, node.integer("group", 1)), inputs)


def matmul(node: Node, sketch: Sketch) -> str:
    """MatMul: a vector on the right becomes a matrix of one column."""
    x, w = sketch.operand(node.input(0)), sketch.operand(node.input(1))
    if len(sketch.tensors[w].shape) != 1:
        return sketch.emit(node, ops.MatMul(), [x, w])
    column = sketch.emit(node, ops.Reshape((*sketch.tensors[w].shape, 1)), [w], last=False)
    product = sketch.emit(node, ops.MatMul(), [x, column], last=False)
    return sketch.emit(node, ops.Reshape(sketch.tensors[product].shape[:-1]), [product])


def gemm(node: Node, sketch: Sketch) -> str:
    """Gemm: alpha and beta go into constants; a bias that is no row vector becomes an Add."""
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    a = _matrix(node, sketch, node.input(0), node.integer("transA", 0), 1.0)
    b = _matrix(node, sketch, node.input(1), node.integer("transB", 0), alpha)
    c = node.input(2)
    if not c or beta == 0:
        return sketch.emit(node, ops.MatMul(), [a, b])
    columns = sketch.tensors[b].shape[-1]
    value = sketch.constant(c)
    if value is None:
        if beta != 1:
            raise NotSupported("scales by beta an addend that is not a constant")
        addend = sketch.operand(c)
    else:
        value = _scaled(as_float32(value), beta)
        if value.size == 1 or value.shape in ((columns,), (1, columns)):
            value = np.broadcast_to(value.reshape(-1), (columns,))
        addend = sketch.operand(c) if beta == 1 and value.shape == sketch.shape(c) else sketch.add_constant(c, value)
    if sketch.tensors[addend].shape == (columns,):
        return sketch.emit(node, ops.MatMul(), [a, b, addend])
    product = sketch.emit(node, ops.MatMul(), [a, b], last=False)
    return sketch.emit(node, ops.Add(), [product, addend])


def _matrix(node: Node, sketch: Sketch, name: str, transposed: int, factor: float) -> str:
    """An operand of Gemm, transposed and scaled in place if it is a constant."""
    if len(sketch.shape(name)) != 2:
        raise InvalidModelError(f"multiplies a tensor of shape {list(sketch.shape(name))}", where=node.where)
    value = sketch.constant(name)
    if value is None:
        if factor != 1:
            raise NotSupported("scales by alpha weights that are not a constant")
        tensor = sketch.operand(name)
        return sketch.emit(node, ops.Transpose((1, 0)), [tensor], last=False) if transposed else tensor
    if not transposed and factor == 1:
        return sketch.operand(name)
    value = _scaled(as_float32(value), factor)
    return sketch.add_constant(name, as_float32(value.T if transposed else value))


def _scaled(value: Array, factor: float) -> Array:
    return value if factor == 1 else spread(lambda part: part * np.float32(factor), value)


def max_pool(node: Node, sketch: Sketch) -> str:
    """MaxPool; storage_order concerns only the indices, which are refused where something reads them."""
    node.ignore("storage_order")
    window, _ = _pool_window(node, sketch)
    return sketch.emit(node, ops.MaxPool(window), [sketch.operand(node.input(0))])


def average_pool(node: Node, sketch: Sketch) -> str:
    """AveragePool."""
    window, overhang = _pool_window(node, sketch)
    counted = bool(node.integer("count_include_pad", 0))
    attributes = ops.AveragePool(window, counted, overhang if any(overhang) else ())
    return sketch.emit(node, attributes, [sketch.operand(node.input(0))])


def global_average_pool(node: Node, sketch: Sketch) -> str:
    """GlobalAveragePool: one window over everything."""
    return sketch.emit(node, ops.AveragePool(Window.full(_spatial(node, sketch))), [sketch.operand(node.input(0))])


def global_max_pool(node: Node, sketch: Sketch) -> str:
    """GlobalMaxPool: one window over everything."""
    return sketch.emit(node, ops.MaxPool(Window.full(_spatial(node, sketch))), [sketch.operand(node.input(0))])


def _spatial(node: Node, sketch: Sketch) -> tuple[int, ...]:
    shape = sketch.shape(node.input(0))
    if len(shape) < 3:
        raise InvalidModelError(f"needs spatial axes, its input has shape {list(shape)}", where=node.where)
    return shape[2:]


def _pool_window(node: Node, sketch: Sketch) -> tuple[Window, tuple[int, ...]]:
    spatial = _spatial(node, sketch)
    if not node.has("kernel_shape"):
        raise InvalidModelError("has no kernel_shape", where=node.where)
    return _window(node, spatial, node.integers("kernel_shape", ()), ceiling=bool(node.integer("ceil_mode", 0)))


def _window(
    node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...], *, ceiling: bool = False
) -> tuple[Window, tuple[int, ...]]:
    """The sliding window that the attributes describe, and how far ceiling mode overhangs the padded tensor."""
    rank = len(spatial)
    strides, dilations = node.integers("strides", (1,) * rank), node.integers("dilations", (1,) * rank)
    pads, automatic = node.integers("pads", (0,) * (2 * rank)), node.text("auto_pad", "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        raise InvalidModelError(f"its window does not have the {rank} axes of its input", where=node.where)
    if min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise InvalidModelError("kernel, strides and dilations must be at least 1 and pads at least 0", where=node.where)
    begins, ends, overhangs = [], [], []
    for axis, (size, stride) in enumerate(zip(spatial, strides, strict=True)):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        begin, end, overhang = pads[axis], pads[rank + axis], 0
        if automatic == "VALID":
            begin = end = 0
        elif automatic in ("SAME_UPPER", "SAME_LOWER"):
            missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
            begin = missing // 2 if automatic == "SAME_UPPER" else missing - missing // 2
            end = missing - begin
        elif automatic != "NOTSET":
            raise InvalidModelError(f"auto_pad is '{automatic}'", where=node.where)
        if ceiling and automatic != "SAME_UPPER" and automatic != "SAME_LOWER":
            last = -(-(size + begin + end - reach) // stride) * stride
            if last >= size + begin:  # a window that would start in the end padding is left out
                last -= stride
            overhang = max(last + reach - (size + begin + end), 0)
        begins.append(begin)
        ends.append(end + overhang)
        overhangs.append(overhang)
    return Window(kernel, strides, dilations, tuple(begins), tuple(ends)), tuple(overhangs)
