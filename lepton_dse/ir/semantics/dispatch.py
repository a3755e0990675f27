"""Evaluation of one operation and of a whole graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidDataError, InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import arithmetic, contraction, elementwise, movement, pooling, quantised, reduction
from lepton_dse.ir.tensors import Tensor

__all__ = ["evaluate", "run"]

Array = NDArray[Any]
Plain = Callable[[Any, Sequence[Array]], Array]
Typed = Callable[[Any, Sequence[Array], Sequence[Tensor], Tensor], Array]

_PLAIN: dict[type, Plain] = {
    ops.Conv: contraction.conv,
    ops.MatMul: contraction.matmul,
    ops.Affine: elementwise.affine,
    ops.Add: elementwise.add,
    ops.Binary: arithmetic.binary,
    ops.Compare: arithmetic.compare,
    ops.Where: arithmetic.where,
    ops.Unary: arithmetic.unary,
    ops.Gelu: arithmetic.gelu,
    ops.Cast: arithmetic.cast,
    ops.Clip: elementwise.clip,
    ops.LeakyRelu: elementwise.leaky_relu,
    ops.Sigmoid: elementwise.sigmoid,
    ops.Tanh: elementwise.tanh,
    ops.Softmax: elementwise.softmax,
    ops.LayerNorm: reduction.layer_norm,
    ops.Reduce: reduction.reduce,
    ops.ArgMax: elementwise.argmax,
    ops.LocalResponseNorm: elementwise.local_response_norm,
    ops.MaxPool: pooling.max_pool,
    ops.AveragePool: pooling.average_pool,
    ops.SumPool: pooling.sum_pool,
    ops.Pad: movement.pad,
    ops.Concat: movement.concat,
    ops.Reshape: movement.reshape,
    ops.Transpose: movement.transpose,
    ops.Expand: movement.expand,
    ops.Slice: movement.take,
    ops.Gather: movement.gather,
    ops.Requantize: quantised.requantize,
    ops.AddRequantize: quantised.add_requantize,
    ops.Lookup: quantised.lookup,
}
# Kinds whose meaning depends on how the tensors' integers stand for reals.
_TYPED: dict[type, Typed] = {
    ops.Quantize: quantised.quantize,
    ops.Dequantize: quantised.dequantize,
}


def evaluate(op: Op, inputs: Sequence[Array], output: Tensor, input_tensors: Sequence[Tensor]) -> Array:
    """The result of one operation.

    Parameters
    ----------
    op : Op
        The operation.
    inputs : sequence of ndarray
        Values in the order of ``op.inputs``.
    output : Tensor
        Description of the result; its format is how the result is stored.
    input_tensors : sequence of Tensor
        Descriptions of the inputs.

    Returns
    -------
    ndarray of type ``output.format.numpy``

    Raises
    ------
    InvalidModelError
        If an integer result leaves its format, or the operation has no meaning on integers.
    """
    kind = type(op.attributes)
    operands = [_computable(value) for value in inputs]
    try:
        if kind in _TYPED:
            return _stored(_TYPED[kind](op.attributes, operands, input_tensors, output), output)
        return _stored(_PLAIN[kind](op.attributes, operands), output)
    except InvalidModelError as error:
        raise InvalidModelError(error.what, where=f"{op.kind} '{op.name}'", fix=error.fix) from None


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a graph, lowered or not, by name.

    A tensor is let go when its last reader has run, so memory is bounded by what is alive.

    Parameters
    ----------
    graph : Graph
        The graph.
    feeds : mapping of str to ndarray
        A value for every graph input; converted to the input's format.

    Returns
    -------
    dict of str to ndarray
        In the order of ``graph.outputs``.

    Raises
    ------
    InvalidDataError
        If a feed is missing, unknown, of another shape or outside its format.
    """
    alive: dict[str, Array] = {**graph.constants, **_checked(graph, feeds)}
    readers = Counter([*(name for op in graph.ops for name in op.inputs), *graph.outputs])
    for op in graph.ops:
        values = [alive[name] for name in op.inputs]
        alive[op.output] = evaluate(op, values, graph.tensors[op.output], [graph.tensors[name] for name in op.inputs])
        del values
        readers.subtract(op.inputs)
        for name in (*op.inputs, op.output):
            if not readers[name]:
                alive.pop(name, None)
    return {name: alive[name] for name in graph.outputs}


def _checked(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    known = ", ".join(graph.inputs)
    for name in feeds:
        if name not in graph.inputs:
            raise InvalidDataError("no such graph input", where=name, fix=f"the inputs are {known}")
    values = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in feeds:
            raise InvalidDataError("no value for this graph input", where=name, fix=f"feed {known}")
        value = np.asarray(feeds[name])
        if value.shape != tensor.shape:
            raise InvalidDataError(f"a value of shape {list(value.shape)} for {list(tensor.shape)}", where=name)
        try:
            values[name] = _stored(value, tensor)
        except InvalidModelError as error:
            raise InvalidDataError(error.what, where=name) from None
    return values


def _computable(value: Array) -> Array:
    """Integers as they are, float64 as it is, narrower floats as float32."""
    if value.dtype.kind in "iub" or value.dtype == np.float64:
        return value
    return value.astype(np.float32, copy=False)


def _stored(value: Array, tensor: Tensor) -> Array:
    form = tensor.format
    if form.is_float:
        return value.astype(form.numpy, copy=False)
    if value.dtype.kind not in "iub":
        raise InvalidModelError(
            f"gives real values for '{tensor.name}', which holds {form}", fix="lower it to integer operations"
        )
    low, high = int(value.min(initial=0)), int(value.max(initial=0))
    if low < form.minimum or high > form.maximum:
        raise InvalidModelError(f"gives {low} to {high} for '{tensor.name}', outside {form}")
    return value.astype(form.numpy, copy=False)
