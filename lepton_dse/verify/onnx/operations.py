"""Each operation by itself, on the reference's own operands, so that no difference is inherited from the one before.

The emitted model keeps the names of the graph's tensors. It is cut at every one of them: what reads the tensor reads a model
input in its place, what computes it hands out a model output. All nodes, constants and scales stay those of the emitted file,
and one run of the cut model runs every operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.tensors import Tensor
from lepton_dse.reference import fast
from lepton_dse.reference.engine import steps
from lepton_dse.verify.onnx.session import LEVEL, Session

__all__ = ["FLOAT_BOUND", "Cut", "Difference", "cut_model", "differences", "units"]

FLOAT_BOUND = 1e-5
"""Greatest difference of a float32 result, relative to the greatest magnitude in its tensor: sums run in another order."""
_VALUES = 1 << 28  # held at once: operands and results of every operation of a pass
_COMPUTED = "computed"
_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2)


@dataclass(frozen=True)
class Cut:
    """A model cut at the tensors of its graph.

    Parameters
    ----------
    model : ModelProto
    reads : tuple of str
        Tensors that it takes.
    results : mapping of str to str
        Tensor to the name of the model output that computes it.
    """

    model: ModelProto
    reads: tuple[str, ...]
    results: Mapping[str, str]


@dataclass
class Difference:
    """How far the results of one operation are from the reference's.

    Parameters
    ----------
    tensor : Tensor
        What the operation produces.
    values, equal, beyond : int
        All values, those that are equal, and those beyond one unit (float32: beyond the bound).
    worst : float
        Greatest difference: in units of an integer or narrow float, relative to the tensor's peak for float32.
    """

    tensor: Tensor
    values: int = 0
    equal: int = 0
    beyond: int = 0
    worst: float = 0.0

    @property
    def counts_units(self) -> bool:
        """Whether the difference is counted in units, rather than relative."""
        return not self.tensor.format.is_float or self.tensor.format.bits < 32

    def add(self, expected: NDArray[Any], found: NDArray[Any]) -> None:
        """Take in the results of some samples."""
        self.values += expected.size
        if self.counts_units:
            apart = units(expected, found)
            self.equal += int(np.count_nonzero(apart == 0))
            self.beyond += int(np.count_nonzero(apart > 1))
            self.worst = max(self.worst, float(apart.max(initial=0)))
            return
        same = expected == found
        peak = float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) or 1.0
        with np.errstate(invalid="ignore"):  # equal infinities have no difference
            relative = np.where(same, 0.0, np.abs(expected.astype(np.float64) - found) / peak)
        self.equal += int(np.count_nonzero(same))
        self.beyond += int(np.count_nonzero(~(relative <= FLOAT_BOUND)))
        self.worst = max(self.worst, float(relative.max(initial=0)))


def units(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[np.int64]:
    """How many representable numbers lie between two arrays, element by element; 0 where they are equal."""
    apart: NDArray[np.int64] = np.abs(_ordinal(expected) - _ordinal(found))
    return apart


def _ordinal(value: NDArray[Any]) -> NDArray[np.int64]:
    """Integers as they are; floats by their place among the floats of their type, zero in the middle."""
    if value.dtype.kind in "iub":
        return value.astype(np.int64)
    bits = value.dtype.itemsize * 8
    pattern = np.ascontiguousarray(value).view(f"u{bits // 8}").astype(np.int64)
    magnitude = pattern & ((1 << (bits - 1)) - 1)
    ordinal: NDArray[np.int64] = np.where(pattern >> (bits - 1), -magnitude, magnitude)
    return ordinal


def cut_model(model: ModelProto, graph: LoweredGraph) -> Cut:
    """The emitted model, cut at every tensor that depends on an input."""
    known = {info.name: info for info in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    places = {*graph.inputs, *_computed(graph)} & set(known)
    taken = {*known, *(name for node in model.graph.node for name in (*node.input, *node.output))}
    nodes: list[NodeProto] = []
    inputs: dict[str, ValueInfoProto] = {}
    outputs: list[ValueInfoProto] = []
    results: dict[str, str] = {}
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        for name in node.input:
            if name in places and name not in inputs:
                inputs[name] = _taken_in(known[name], nodes, taken)
        for position, name in enumerate(node.output):
            if name in places:
                results[name] = node.output[position] = _free(f"{name}/{_COMPUTED}", taken)
        nodes.append(node)
        for name in original.output:
            if name in places:
                outputs.append(_handed_out(known[name], results, nodes, taken))
    cut = ModelProto()
    cut.CopyFrom(model)
    for field, entries in (("node", nodes), ("input", list(inputs.values())), ("output", outputs), ("value_info", [])):
        cut.graph.ClearField(field)
        getattr(cut.graph, field).extend(entries)
    return Cut(cut, tuple(inputs), results)


def _computed(graph: LoweredGraph) -> list[str]:
    """Tensors that depend on an input, in order; what constants alone determine belongs to the operation that reads it."""
    moving = set(graph.inputs)
    found = []
    for op in graph.ops:
        if not moving.isdisjoint(op.inputs):
            moving.add(op.output)
            found.append(op.output)
    return found


def _free(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        name, count = f"{stem}_{count}", count + 1
    taken.add(name)
    return name


def _typed(info: ValueInfoProto, name: str, kind: int) -> ValueInfoProto:
    typed = ValueInfoProto()
    typed.CopyFrom(info)
    typed.name, typed.type.tensor_type.elem_type = name, kind
    return typed


def _taken_in(info: ValueInfoProto, nodes: list[NodeProto], taken: set[str]) -> ValueInfoProto:
    """A model input for a tensor; narrow floats come in as float32, which holds them exactly."""
    kind = info.type.tensor_type.elem_type
    if kind not in _NARROW:
        return _typed(info, info.name, kind)
    wide = _free(f"{info.name}/given", taken)
    nodes.append(helper.make_node("Cast", [wide], [info.name], to=kind))
    return _typed(info, wide, TensorProto.FLOAT)


def _handed_out(info: ValueInfoProto, results: dict[str, str], nodes: list[NodeProto], taken: set[str]) -> ValueInfoProto:
    """A model output for a tensor; narrow floats go out as float32."""
    kind = info.type.tensor_type.elem_type
    if kind not in _NARROW:
        return _typed(info, results[info.name], kind)
    wide = _free(f"{info.name}/wide", taken)
    nodes.append(helper.make_node("Cast", [results[info.name]], [wide], to=TensorProto.FLOAT))
    results[info.name] = wide
    return _typed(info, wide, TensorProto.FLOAT)


def differences(
    model: ModelProto, graph: LoweredGraph, x: NDArray[np.float32], level: str = LEVEL
) -> tuple[list[Difference], int]:
    """Compare every operation of an emitted model with the reference.

    Parameters
    ----------
    model : ModelProto
    graph : LoweredGraph
        With one input.
    x : ndarray of float32, shape (N, ...)
        Samples; of a large network only as many as fit in memory at once.
    level : str
        Of graph optimisation.

    Returns
    -------
    list of Difference
        One an operation whose result depends on the input, in order.
    int
        Samples that were run.
    """
    cut = cut_model(model, graph)
    session = Session(cut.model.SerializeToString(), level)
    given = dict(zip(cut.reads, (info.name for info in cut.model.graph.input), strict=True))
    kept = {*cut.reads, *cut.results}
    found = {name: Difference(graph.tensors[name]) for name in cut.results}
    each = sum(graph.tensors[name].elements for name in (*cut.reads, *cut.results)) // graph.batch
    samples = x[: max(1, _VALUES // max(each, 1))]
    for values in _passes(graph, samples, kept, max(1, min(len(samples), (_VALUES >> 3) // max(each, 1)))):
        feeds = {given[name]: _wide(values[name]) for name in cut.reads}
        for name, result in zip(cut.results, session.run(list(cut.results.values()), feeds), strict=True):
            expected = values[name]
            found[name].add(expected, result.astype(expected.dtype) if found[name].counts_units else result)
    return list(found.values()), len(samples)


def _passes(graph: LoweredGraph, samples: NDArray[np.float32], kept: set[str], each: int) -> Iterator[dict[str, NDArray[Any]]]:
    for start in range(0, len(samples), each):
        chunk = samples[start : start + each]
        batched = graph.with_batch(len(chunk))
        every = steps(batched, {graph.inputs[0]: chunk}, fast.evaluate)
        yield {name: value for name, value in every if name in kept}


def _wide(value: NDArray[Any]) -> NDArray[Any]:
    value = np.ascontiguousarray(value)
    return value if value.dtype.kind in "iub" or value.dtype.itemsize >= 4 else value.astype(np.float32)
