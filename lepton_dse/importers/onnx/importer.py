"""From an ONNX file to a graph: read, order, walk node by node, merge, check."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.importers.onnx import arithmetic, contraction, indexing, movement, pointwise, reduction
from lepton_dse.importers.onnx.absorption import absorb
from lepton_dse.importers.onnx.folding import FOLDABLE, fold, shape_of
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.patterns import fuse
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.structure import declare_inputs, opset_of, ordered, unique
from lepton_dse.importers.onnx.values import NotSupported, tensor_value, text
from lepton_dse.importers.protocol import Importer, ImportOptions, Unsupported, UnsupportedError, printable
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import BinaryFunction, ReduceFunction, Relation, UnaryFunction

__all__ = ["IMPORTER", "OPERATORS", "load_onnx"]

_LIMIT_BYTES = 1 << 31  # of a protocol-buffer file; larger models keep their weights in external data
_SHAPES = ("Shape", "Size")
_SOURCES = ("Constant", "ConstantOfShape")

OPERATORS: dict[str, Callable[[Node, Sketch], str]] = {
    "Abs": arithmetic.function(UnaryFunction.ABSOLUTE),
    "Add": arithmetic.add,
    "And": arithmetic.both,
    "ArgMax": pointwise.argmax,
    "AveragePool": contraction.average_pool,
    "BatchNormalization": pointwise.batch_normalization,
    "Cast": arithmetic.cast,
    "Clip": pointwise.clip,
    "Concat": movement.concat,
    "Conv": contraction.conv,
    "Div": arithmetic.div,
    "Dropout": movement.dropout,
    "Equal": arithmetic.comparison(Relation.EQUAL),
    "Erf": arithmetic.function(UnaryFunction.ERROR_FUNCTION),
    "Exp": arithmetic.function(UnaryFunction.EXPONENTIAL),
    "Expand": indexing.expand,
    "Flatten": movement.flatten,
    "Gather": indexing.gather,
    "Gelu": arithmetic.gelu,
    "Gemm": contraction.gemm,
    "GlobalAveragePool": contraction.global_average_pool,
    "GlobalMaxPool": contraction.global_max_pool,
    "Greater": arithmetic.comparison(Relation.GREATER),
    "GreaterOrEqual": arithmetic.comparison(Relation.GREATER_OR_EQUAL),
    "Identity": movement.identity,
    "LRN": pointwise.local_response_norm,
    "LayerNormalization": reduction.layer_normalization,
    "LeakyRelu": pointwise.leaky_relu,
    "Less": arithmetic.comparison(Relation.LESS),
    "LessOrEqual": arithmetic.comparison(Relation.LESS_OR_EQUAL),
    "Log": arithmetic.function(UnaryFunction.LOGARITHM),
    "MatMul": contraction.matmul,
    "Max": arithmetic.extreme(BinaryFunction.MAXIMUM),
    "MaxPool": contraction.max_pool,
    "Min": arithmetic.extreme(BinaryFunction.MINIMUM),
    "Mul": arithmetic.mul,
    "Neg": arithmetic.function(UnaryFunction.NEGATE),
    "Not": arithmetic.inverse,
    "Or": arithmetic.either,
    "Pad": movement.pad,
    "Pow": arithmetic.power,
    "Reciprocal": arithmetic.function(UnaryFunction.RECIPROCAL),
    "ReduceMax": reduction.reduction(ReduceFunction.MAXIMUM),
    "ReduceMean": reduction.reduction(ReduceFunction.MEAN),
    "ReduceMin": reduction.reduction(ReduceFunction.MINIMUM),
    "ReduceSum": reduction.reduction(ReduceFunction.SUM),
    "Relu": pointwise.relu,
    "Reshape": movement.reshape,
    "Sigmoid": pointwise.sigmoid,
    "Slice": indexing.slice_of,
    "Softmax": pointwise.softmax,
    "Split": indexing.split,
    "Sqrt": arithmetic.function(UnaryFunction.SQUARE_ROOT),
    "Squeeze": movement.squeeze,
    "Sub": arithmetic.sub,
    "Sum": arithmetic.sum_of,
    "Tanh": pointwise.tanh,
    "Transpose": movement.transpose,
    "Unsqueeze": movement.unsqueeze,
    "Where": arithmetic.where,
}
# Operators of which no input may be left out, and the fewest inputs of others that need more than one.
_VARIADIC = ("Concat", "Max", "Min", "Sum")
_PAIRS = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Or", "Pow", "Sub")
_ARITY = {
    **dict.fromkeys((*_PAIRS, "Conv", "Expand", "Gather", "Gemm", "LayerNormalization", "MatMul"), 2),
    **{"BatchNormalization": 5, "Where": 3},
}
_SEVERAL_RESULTS = ("Split",)


def load_onnx(path: Path, options: ImportOptions) -> Graph:
    """Read an ONNX file.

    Raises
    ------
    UnsupportedError
        If operators, types or modes are not supported; it lists all of them.
    InvalidModelError
        If the file is damaged, inconsistent, or leaves a shape open.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(_read(path))
        # A division by zero or an overflow in the weights gives NaN or infinity, which the graph refuses by name.
        with np.errstate(all="ignore"):
            return _graph(model, path, options)
    except DecodeError as error:
        raise InvalidModelError("not an ONNX file, or damaged", where=str(path), fix="export the model again") from error
    except UnsupportedError as error:
        raise UnsupportedError(error.unsupported, where=str(path)) from None
    except LeptonError as error:
        where = f"{path}: {printable(error.where)}" if error.where else str(path)
        raise InvalidModelError(printable(error.what), where=where, fix=printable(error.fix)) from error


IMPORTER = Importer("ONNX", (".onnx",), load_onnx)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "is a folder, not a file" if path.is_dir() else "is not a regular file" if path.exists() else "no such file"
            raise InvalidModelError(what, fix="give the path of an .onnx file")
        if path.stat().st_size > _LIMIT_BYTES:
            raise InvalidModelError(f"larger than {_LIMIT_BYTES} bytes", fix="keep the weights in external data")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"cannot be read ({error})", fix="check the path") from error


def _graph(model: Any, path: Path, options: ImportOptions) -> Graph:
    opset = opset_of(model)
    proto = model.graph
    if not proto.output:
        raise InvalidModelError("holds no graph with an output", fix="is this the right file?")
    outputs = [text(entry.name) for entry in proto.output]
    unique(outputs, "outputs")
    initializers = unique([text(tensor.name) for tensor in proto.initializer], "initializers")
    given = initializers | unique([text(entry.name) for entry in proto.input], "inputs")
    nodes = [Node(node, opset) for node in proto.node]
    order = ordered(nodes, given, outputs)
    read = {name for node in order for name in node.inputs} | set(outputs)
    names = given.union(*(node.outputs for node in nodes))
    sketch = Sketch(text(proto.name) or path.stem, path.parent, outputs, names)
    # An initializer that is listed as an input too (as files before IR version 4 do) is a constant all the same.
    inputs = {entry.name: entry for entry in proto.input if entry.name not in initializers}
    unsupported = declare_inputs(sketch, inputs, options)
    unsupported += [Unsupported(text(entry.values.name), "initializer", "is sparse") for entry in proto.sparse_initializer]
    for tensor in proto.initializer:
        if tensor.name in read:
            _collect(unsupported, tensor.name, "initializer", partial(_define, sketch, tensor))
    for node in order:
        _collect(unsupported, node.name, node.op_type, partial(_visit, node, sketch, read))
    if unsupported:
        raise UnsupportedError(unsupported)
    fuse(sketch)
    absorb(sketch)
    return sketch.finish()


def _collect(unsupported: list[Unsupported], name: str, op_type: str, action: Callable[[], None]) -> None:
    try:
        action()
    except NotSupported as finding:
        unsupported.append(Unsupported(name, op_type, str(finding)))


def _define(sketch: Sketch, tensor: Any) -> None:
    sketch.store(tensor.name, tensor_value(tensor, sketch.folder))


def _visit(node: Node, sketch: Sketch, read: set[str]) -> None:
    operator = node.op_type
    if node.domain not in ("", "ai.onnx"):
        raise NotSupported(f"is of the domain '{node.domain}'")
    if operator not in OPERATORS and operator not in FOLDABLE and operator not in _SHAPES + _SOURCES:
        raise NotSupported("no such operator here")
    if operator not in _SEVERAL_RESULTS and any(name in read for name in node.outputs[1:] if name):
        raise NotSupported("more than its first output is used")
    if any(name and not sketch.knows(name) for name in node.inputs):
        return  # behind what is not supported: its inputs are unknown, so no more can be said of it
    needed = len(node.inputs) if operator in _VARIADIC else _ARITY.get(operator, 0 if operator == "Constant" else 1)
    if len(node.inputs) < max(needed, operator in _VARIADIC) or not all(node.inputs[:needed]):
        raise InvalidModelError("lacks an input", where=node.where, fix="export the model again")
    constant = all(sketch.constant(name) is not None for name in node.inputs if name)
    if operator in _SHAPES:
        sketch.define(node.outputs[0], shape_of(node, sketch.shape(node.inputs[0])))
    elif operator in _SOURCES or (constant and operator in FOLDABLE):
        sketch.define(node.outputs[0], fold(node, sketch))
    elif operator in OPERATORS:
        sketch.define(node.outputs[0], OPERATORS[operator](node, sketch))
    else:
        raise NotSupported("is supported on constants only")
    node.finish()
