"""From a graph, float or lowered, to an ONNX model, with a record of what became of each operation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from lepton_dse.emit.onnx import integers, storage
from lepton_dse.emit.onnx.reals import write_real
from lepton_dse.emit.onnx.types import activation_type, is_stored_wider, type_name, weight_type
from lepton_dse.emit.onnx.writer import ModelWriter
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import BOOL, FLOAT32

__all__ = ["Applied", "Exported", "export", "export_graph"]

_MOVES = ops.MaxPool | ops.Reshape | ops.Transpose | ops.Concat | ops.Pad | ops.Clip | ops.ArgMax | ops.Expand | ops.Slice
# Kinds that also read or give indices and truth values, in types of their own.
_MIXED = ops.Compare | ops.Where | ops.Cast | ops.Gather | ops.Binary | ops.Reduce
_WEIGHTED = ops.Conv | ops.MatMul | ops.Affine


@dataclass(frozen=True)
class Applied:
    """What became of one operation.

    Parameters
    ----------
    op : str
        Name of the operation; a rounding step belongs to the accumulation before it.
    kind : str
        Its kind, or kinds.
    onnx : tuple of str
        Operators that it is written as, in order.
    weights : str
        Format of its weights, empty where it has none.
    weights_stored : str
        ONNX type that holds them.
    activations : str
        Format of its result.
    activations_stored : str
        ONNX type that holds it.
    sparsity : float or None
        Share of its weights that are 0.
    notes : tuple of str
        What a person should know: why it stays real, which range is narrower than its type.
    """

    op: str
    kind: str
    onnx: tuple[str, ...]
    weights: str
    weights_stored: str
    activations: str
    activations_stored: str
    sparsity: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """A model and the record of its operations, in order."""

    model: ModelProto
    applied: tuple[Applied, ...]

    def to_bytes(self) -> bytes:
        """The file, the same every time."""
        return bytes(self.model.SerializeToString(deterministic=True))


def export(graph: Graph) -> bytes:
    """An ONNX file of a graph: float operators of a float graph, QDQ form of a lowered one.

    Parameters
    ----------
    graph : Graph
        Any graph; pruned weights stay where they are.

    Returns
    -------
    bytes
        The same for the same graph.

    Raises
    ------
    LeptonError
        If a format or an operation has no ONNX form, or the constants outgrow one file.
    """
    return export_graph(graph).to_bytes()


def export_graph(graph: Graph) -> Exported:
    """The model of a graph and what became of each operation; see :func:`export`."""
    return _Export(graph).run()


class _Export:
    """State of one export: which weights an operation reads, and which accumulations wait for their rounding step."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = ModelWriter(graph)
        self.waiting: dict[str, Op] = {}
        self.applied: list[Applied] = []
        self.whole = isinstance(graph, LoweredGraph) and any(
            isinstance(op.attributes, ops.Requantize | ops.AddRequantize) for op in graph.ops
        )

    def run(self) -> Exported:
        for op in self.graph.ops:
            self.writer.begin(op)
            try:
                self.write(op)
            except LeptonError as error:
                raise type(error)(error.what, where=error.where or op.name, fix=error.fix) from None
        self.ends()
        return Exported(self.writer.model(), tuple(self.applied))

    def write(self, op: Op) -> None:
        """One operation; accumulations are written with the rounding step that reads them."""
        tensors, output = [self.graph.tensors[name] for name in op.inputs], self.graph.tensors[op.output]
        integer = output.format.is_integer and all(tensor.format.is_integer for tensor in tensors)
        match op.attributes:
            case ops.Quantize():
                storage.quantized(self.writer, self.read(tensors[0]), output)
                self.record(op, op.kind, output)
            case ops.Dequantize():
                note = storage.dequantized(self.writer, tensors[0], output)
                self.record(op, op.kind, output, notes=(note,), weights=tensors[0])
            case ops.Requantize():
                self.round(op, op.attributes, output)
            case ops.AddRequantize():
                integers.add_requantize(self.writer, op, op.attributes, output)
                self.record(op, op.kind, output)
            case ops.Lookup():
                integers.lookup(self.writer, op, op.attributes, output)
                self.record(op, op.kind, output, notes=("an exact table, read by Gather",))
            case ops.Conv() | ops.MatMul() | ops.SumPool() if integer:
                self.wait(op)
                return
            case attributes if isinstance(attributes, _MOVES) and all(tensor.format.is_integer for tensor in tensors):
                self.move(op, tensors, output)
            case _:
                self.real(op, tensors, output)
        self.writer.describe(output)

    def read(self, tensor: Tensor) -> str:
        """Name of a tensor that a node reads as it is: a constant is stored when the first one does."""
        value = self.graph.constants.get(tensor.name)
        return tensor.name if value is None else self.writer.constant(tensor.name, value, activation_type(tensor.format))

    def wait(self, op: Op) -> None:
        """An accumulator has no ONNX type of its own: it may only go to one rounding step."""
        readers = self.graph.consumers(op.output)
        if len(readers) != 1 or op.output in self.graph.outputs or not isinstance(readers[0].attributes, ops.Requantize):
            raise LeptonError("an integer accumulator that no single rounding step reads", where=op.name)
        self.waiting[op.output] = op

    def round(self, op: Op, step: ops.Requantize, output: Tensor) -> None:
        source = self.waiting.pop(op.inputs[0], None)
        if source is None or op.inputs[1] not in self.graph.constants:
            raise LeptonError("a rounding step without an accumulation or a constant multiplier", where=op.name)
        multiplier = self.graph.constants[op.inputs[1]].astype(np.int64)
        note = integers.rounded(self.writer, integers.Rounding(source, step, multiplier, output))
        weights = self.graph.tensors[source.inputs[1]] if len(source.inputs) > 1 else None
        self.record(source, f"{source.kind}, {op.kind}", output, notes=(note,), weights=weights)

    def move(self, op: Op, tensors: list[Tensor], output: Tensor) -> None:
        if all(tensor.format.bits <= 16 and tensor.format != BOOL for tensor in tensors):
            integers.moved(self.writer, op, tensors, output)
            self.record(op, op.kind, output)
            return
        if isinstance(op.attributes, ops.Clip | ops.MaxPool | ops.ArgMax):
            raise LeptonError(f"no runtime computes {op.kind} on {tensors[0].format}", where=op.name)
        write_real(self.writer, op, [self.read(tensor) for tensor in tensors], tensors, output, op.output)
        self.record(op, op.kind, output, notes=("moves indices",))

    def real(self, op: Op, tensors: list[Tensor], output: Tensor) -> None:
        """An operation on reals, which ONNX and the reference both compute in float32."""
        results = () if isinstance(op.attributes, ops.ArgMax) else (output,)
        mixed = isinstance(op.attributes, _MIXED)
        for tensor in (*tensors, *results):
            if tensor.format != FLOAT32 and not (mixed and tensor.format.is_integer and tensor.quant is None):
                raise LeptonError(
                    f"computes on {tensor.format}; the operation is exported in float32 alone",
                    where=op.name,
                    fix="store it through Quantize and Dequantize",
                )
        write_real(self.writer, op, [self.read(tensor) for tensor in tensors], tensors, output, op.output)
        weights = None
        if isinstance(op.attributes, _WEIGHTED):
            weights = self.stored(tensors[1])
        self.record(op, op.kind, output, notes=(self.reason(weights),), weights=weights)

    def stored(self, tensor: Tensor) -> Tensor | None:
        """The constant that a weight is made from; None for operands that are no weights."""
        if tensor.name in self.graph.constants:
            return tensor
        producer = self.graph.producer(tensor.name)
        if producer is not None and isinstance(producer.attributes, ops.Dequantize):
            source = self.graph.tensors[producer.inputs[0]]
            return source if source.name in self.graph.constants else None
        return None

    def reason(self, weights: Tensor | None) -> str:
        """Why an operation stays real."""
        if self.whole:
            return "real: it has no integer meaning, so it stands between DequantizeLinear and QuantizeLinear"
        if weights is not None and weights.format.is_integer:
            return "real: the format keeps activations real, weights alone are integers"
        return "real: the format is a float one"

    def record(self, op: Op, kind: str, output: Tensor, *, notes: tuple[str, ...] = (), weights: Tensor | None = None) -> None:
        sparsity, held = None, 0
        if weights is not None and weights.name not in self.graph.constants:
            weights = None
        remarks = [note for note in notes if note]
        if weights is not None:
            value = self.graph.constants[weights.name]
            sparsity = float(1 - np.count_nonzero(value) / value.size)
            held = weight_type(weights.format)
            if is_stored_wider(weights.format, held):
                remarks.append(f"{weights.format} weights in {type_name(held)}, their range kept")
        kept = activation_type(output.format)
        if output.format.is_integer and output.quant is not None and is_stored_wider(output.format, kept):
            remarks.append(f"{output.format} activations in {type_name(kept)}, clamped to their range")
        self.applied.append(
            Applied(
                op=op.name,
                kind=kind,
                onnx=tuple(self.writer.kinds),
                weights=str(weights.format) if weights is not None else "",
                weights_stored=type_name(held) if weights is not None else "",
                activations=str(output.format),
                activations_stored=type_name(kept),
                sparsity=sparsity,
                notes=tuple(remarks),
            )
        )

    def ends(self) -> None:
        """Outputs that no operation produces: inputs and constants handed through under their own name."""
        for name in self.graph.outputs:
            if self.graph.producer(name) is None and name in self.graph.constants:
                tensor = self.graph.tensors[name]
                self.writer.begin(Op(name, ops.Reshape(tensor.shape), (name,), name))
                source = self.writer.constant(f"{name}/value", self.graph.constants[name], activation_type(tensor.format))
                self.writer.add("Identity", [source], name)
