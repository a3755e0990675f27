"""What an ONNX file declares before any operator is read: its operator set, its inputs, and an order of its nodes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import numpy_type, text, type_name
from lepton_dse.importers.protocol import ImportOptions, Unsupported
from lepton_dse.ir.shapes import MAX_ELEMENTS
from lepton_dse.numerics.formats import NumberFormat

__all__ = ["OPSETS", "declare_inputs", "opset_of", "ordered", "unique"]

OPSETS = range(9, 29)
_REALS = (1, 10, 11, 16)  # TensorProto.DataType: float, float16, double, bfloat16
_INTEGERS = (2, 3, 4, 5, 6, 7, 9, 12)  # of 8 to 32 bits, int64 and bool
_MAX_RANK = 16
_AGAIN = "export the model again"


def opset_of(model: Any) -> int:
    """Version of the standard operator set that a model uses.

    Raises
    ------
    InvalidModelError
        If it names none, or one outside `OPSETS`.
    """
    versions = {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    if len(versions) != 1:
        raise InvalidModelError("does not say which operator set it uses", fix="is this an ONNX file?")
    version: int = versions.pop()
    if version not in OPSETS:
        raise InvalidModelError(
            f"uses operator set {version}",
            fix=f"convert it to one of {OPSETS.start} to {OPSETS.stop - 1} (onnx.version_converter)",
        )
    return version


def unique(names: Collection[str], what: str) -> frozenset[str]:
    """The names as a set.

    Raises
    ------
    InvalidModelError
        If one occurs twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidModelError(f"two {what} share a name", where=name, fix=_AGAIN)
        seen.add(name)
    return frozenset(seen)


def ordered(nodes: list[Node], given: Collection[str], outputs: Collection[str]) -> list[Node]:
    """The nodes that an output depends on, producers first and otherwise in the order of the file.

    Parameters
    ----------
    nodes : list of Node
        All nodes of the file.
    given : collection of str
        Inputs and initializers.
    outputs : collection of str
        The graph's outputs.

    Raises
    ------
    InvalidModelError
        If a tensor has two producers or none, or the nodes form a cycle.
    """
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if not node.outputs or not node.outputs[0]:
            raise InvalidModelError("has no output", where=node.where, fix=_AGAIN)
        for name in filter(None, node.outputs):
            if name in producer or name in given:
                raise InvalidModelError("two producers for one tensor", where=name, fix=_AGAIN)
            producer[name] = index
    for name in outputs:
        if name not in producer and name not in given:
            raise InvalidModelError("nothing produces this output", where=name, fix=_AGAIN)
    waiting: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    pending = [producer[name] for name in outputs if name in producer]
    while pending:
        index = pending.pop()
        if index in waiting:
            continue
        for name in filter(None, nodes[index].inputs):
            if name not in producer and name not in given:
                raise InvalidModelError(f"reads '{name}', which nothing produces", where=nodes[index].where, fix=_AGAIN)
        before = {producer[name] for name in nodes[index].inputs if name in producer}
        waiting[index] = len(before)
        for other in before:
            readers.setdefault(other, []).append(index)
        pending.extend(before)
    ready = [index for index, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers.get(order[-1], ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(waiting):
        stuck = nodes[min(set(waiting) - set(order))]
        raise InvalidModelError("the graph has a cycle", where=stuck.where, fix="a network must be acyclic")
    return [nodes[index] for index in order]


def declare_inputs(sketch: Sketch, inputs: Mapping[str, Any], options: ImportOptions) -> list[Unsupported]:
    """Add the graph inputs to `sketch`, or the constants that are bound to them; returns those that are not supported.

    Raises
    ------
    InvalidModelError
        If an extent is unknown or impossible, or an option names no input.
    """
    for name in (*options.shapes, *options.bind):
        if name not in inputs:
            raise InvalidModelError(f"has no input '{name}'", fix=f"its inputs are {', '.join(inputs) or 'none'}")
    labels = _labels(inputs)
    for name, extent in options.dims.items():
        if name not in labels:
            raise InvalidModelError(f"has no open axis '{name}'", fix=f"its open axes are {', '.join(labels) or 'none'}")
        if extent < 1:
            raise InvalidModelError(f"an extent of {extent} for the axis '{name}'", fix="use at least 1")
    unsupported = []
    for name, entry in inputs.items():
        kind = entry.type.WhichOneof("value")
        if name in options.bind:
            sketch.store(name, np.asarray(options.bind[name]))
        elif kind != "tensor_type":
            unsupported.append(Unsupported(name, "input", f"is no tensor but {kind or 'of no type'}"))
        elif entry.type.tensor_type.elem_type in _REALS:
            sketch.add_input(name, _input_shape(name, entry.type.tensor_type, options))
        elif entry.type.tensor_type.elem_type in _INTEGERS:
            form = NumberFormat.from_numpy(numpy_type(entry.type.tensor_type.elem_type))
            sketch.add_input(name, _input_shape(name, entry.type.tensor_type, options), form)
        else:
            found = type_name(entry.type.tensor_type.elem_type)
            why = f"holds {found}, only real numbers, integers of up to 32 bits, int64 and bool can be fed"
            unsupported.append(Unsupported(name, "input", why))
    return unsupported


def _input_shape(name: str, kind: Any, options: ImportOptions) -> tuple[int, ...]:
    where = f"input '{name}'"
    given = options.shapes.get(name)
    if not kind.HasField("shape"):
        if given is None:
            raise InvalidModelError("its shape is unknown", where=where, fix=f"give it: shapes={{'{name}': (...)}}")
        declared: list[int] = [-1] * len(given)
    else:
        declared = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
    if given is not None:
        if len(given) != len(declared) or any(old not in (-1, new) for old, new in zip(declared, given, strict=True)):
            raise InvalidModelError(f"the given shape {list(given)} contradicts {declared[:8]} in the file", where=where)
        shape = list(given)
    else:
        shape = [
            options.dims.get(_label(axis), (options.batch or 1) if position == 0 else -1) if extent == -1 else extent
            for position, (axis, extent) in enumerate(zip(kind.shape.dim, declared, strict=True))
        ]
    if -1 in shape:
        axis = shape.index(-1)
        label = _label(kind.shape.dim[axis])
        fix = f"give it: dims={{'{label}': ...}}" if label else f"give the whole shape: shapes={{'{name}': (...)}}"
        said = f" ('{label}')" if label else ""
        raise InvalidModelError(f"axis {axis}{said} has no extent in the file", where=where, fix=fix)
    if len(shape) > _MAX_RANK or any(extent < 1 for extent in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise InvalidModelError(
            f"has the impossible shape {shape[:8]}", where=where, fix=f"at most {MAX_ELEMENTS} elements, none empty"
        )
    return tuple(shape)


def _label(axis: Any) -> str:
    """The name of an open axis; empty where it has none."""
    return text(axis.dim_param) if axis.WhichOneof("value") == "dim_param" else ""


def _labels(inputs: Mapping[str, Any]) -> list[str]:
    tensors = [entry.type.tensor_type for entry in inputs.values() if entry.type.WhichOneof("value") == "tensor_type"]
    return sorted({label for tensor in tensors for axis in tensor.shape.dim if (label := _label(axis))})
