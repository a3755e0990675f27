"""The dataflow graph: tensors, operations, constants, and what always holds of them.

A :class:`Graph` is a value. It owns a private ``networkx`` digraph and hands out read-only views; to change one, build
another. What always holds: acyclic, one producer a tensor, shapes consistent, a stable topological order (ties by
insertion), and a content digest that ignores nothing that matters to execution.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Self

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.encoding import encode_op, encode_tensor
from lepton_dse.ir.loops import LoopNest, loop_nest
from lepton_dse.ir.ops import Attributes, Op
from lepton_dse.ir.shapes import infer
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import FLOAT32, NumberFormat
from lepton_dse.numerics.quantize import QuantParams

__all__ = ["Graph", "GraphBuilder", "LoweredGraph"]

_SLAB = 1 << 18  # elements hashed at once


class Graph:
    """A validated dataflow graph.

    Parameters
    ----------
    name : str
        For people; not part of the digest.
    tensors : iterable of Tensor
        Every tensor: inputs, constants and results.
    operations : iterable of Op
        In insertion order.
    inputs, outputs : sequence of str
        Names of the tensors that enter and leave.
    constants : mapping of str to ndarray
        Values of the constant tensors; kept without a copy and marked read-only.

    Raises
    ------
    InvalidModelError
        If anything that must hold does not: a cycle, two producers, an unknown tensor, a shape that does not follow.
    """

    def __init__(
        self,
        name: str,
        tensors: Iterable[Tensor],
        operations: Iterable[Op],
        inputs: Sequence[str],
        outputs: Sequence[str],
        constants: Mapping[str, NDArray[np.generic]],
    ) -> None:
        self.name = name
        self._tensors: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name in self._tensors:
                raise InvalidModelError("two tensors share this name", where=tensor.name)
            self._tensors[tensor.name] = tensor
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._constants = {key: _frozen(value) for key, value in constants.items()}
        self._digraph = _digraph(list(operations), self.inputs, self._constants)
        self._ops = _ordered(self._digraph)
        self._check()

    # --- what it is made of ---------------------------------------------------------------------------------------

    @property
    def ops(self) -> tuple[Op, ...]:
        """Operations in topological order, ties by insertion."""
        return self._ops

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors by name."""
        return MappingProxyType(self._tensors)

    @property
    def constants(self) -> Mapping[str, NDArray[np.generic]]:
        """Read-only values of constant tensors by name."""
        return MappingProxyType(self._constants)

    @cached_property
    def networkx(self) -> nx.DiGraph:
        """Read-only digraph: a node per operation (its name; data ``op``), an edge per tensor passed on (data ``tensor``)."""
        return nx.freeze(self._digraph.copy())

    def op(self, name: str) -> Op:
        """The operation called `name`.

        Raises
        ------
        InvalidModelError
            If there is none.
        """
        if name not in self._digraph:
            raise InvalidModelError("no such operation", where=name)
        operation: Op = self._digraph.nodes[name]["op"]
        return operation

    def producer(self, tensor: str) -> Op | None:
        """The operation that produces `tensor`; None for graph inputs and constants."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> tuple[Op, ...]:
        """The operations that read `tensor`, in topological order."""
        return self._consumers.get(tensor, ())

    def nest(self, op: Op) -> LoopNest:
        """The loop nest of an operation: bounds and affine accesses per operand."""
        return loop_nest(op, [self._tensors[name] for name in op.inputs], self._tensors[op.output])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operations for one pass."""
        return sum(self.nest(op).macs for op in self._ops)

    @property
    def parameters(self) -> int:
        """Elements of all constants that operations read."""
        return sum(self._tensors[name].elements for name in self._constants if self.consumers(name))

    @property
    def batch(self) -> int:
        """Extent of axis 0 of the first input."""
        shape = self._tensors[self.inputs[0]].shape
        return shape[0] if shape else 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 over structure, formats and constants, in hexadecimal; the names of graph and file do not enter."""
        hasher = hashlib.sha256()
        hasher.update(
            json.dumps(
                {
                    "kind": type(self).__name__,
                    "inputs": self.inputs,
                    "outputs": self.outputs,
                    "tensors": [encode_tensor(self._tensors[key]) for key in sorted(self._tensors)],
                    "ops": [encode_op(op) for op in self._ops],
                },
                sort_keys=True,
                separators=(",", ":"),
            ).encode()
        )
        for key in sorted(self._constants):
            value = self._constants[key]
            hasher.update(f"{key}:{value.dtype.str}:{value.shape}".encode())
            # In slabs: a constant that only repeats one value is never written out in full.
            slabs = np.nditer(value, ["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=_SLAB)
            for slab in slabs:
                hasher.update(np.ascontiguousarray(slab).view(np.uint8).data)
        return hasher.hexdigest()

    def with_batch(self, batch: int) -> Self:
        """The same graph over `batch` samples, axis 0 being the batch axis of every input and activation.

        What constants alone determine, such as a weight made real again, has no batch and stays as it is.

        Raises
        ------
        InvalidModelError
            If an operation does not keep the batch on axis 0, so that samples would mix.
        """
        if batch == self.batch:
            return self
        old = self.batch
        tensors = {key: tensor for key, tensor in self._tensors.items() if key in self._constants}
        for name in self.inputs:
            tensors[name] = _rebatched(self._tensors[name], old, batch)
        operations, fixed = [], set(self._constants)
        for op in self._ops:
            if fixed.issuperset(op.inputs):
                operations.append(op)
                fixed.add(op.output)
                tensors[op.output] = self._tensors[op.output]
                continue
            if isinstance(op.attributes, ops.Gather) and op.attributes.axis == 0 and op.inputs[0] not in fixed:
                raise InvalidModelError("picks among samples of a batch", where=op.name, fix=f"run it with batch {old}")
            rebatched = replace(op, attributes=_rebatched_attributes(op, old, batch, self._tensors))
            operations.append(rebatched)
            shape, _ = infer(rebatched.attributes, [tensors[name] for name in op.inputs])
            expected = _rebatched(self._tensors[op.output], old, batch)
            if shape != expected.shape:
                raise InvalidModelError("does not keep the batch on axis 0", where=op.name, fix=f"run it with batch {old}")
            tensors[op.output] = expected
        return type(self)(self.name, tensors.values(), operations, self.inputs, self.outputs, self._constants)

    def with_constants(self, values: Mapping[str, NDArray[np.generic]]) -> Graph:
        """The same graph with other values of some constants, of the same shapes.

        Raises
        ------
        InvalidModelError
            If a name is no constant, or a value has another shape, or holds NaN or infinity.
        """
        for name in values:
            if name not in self._constants:
                raise InvalidModelError("is no constant", where=name)
        constants = {**self._constants, **values}
        return type(self)(self.name, self._tensors.values(), self._ops, self.inputs, self.outputs, constants)

    def with_order(self, names: Sequence[str]) -> Self:
        """The same graph with its operations in another order.

        Raises
        ------
        InvalidModelError
            If these are not all of its operations, or one comes before another that it reads.
        """
        if sorted(names) != sorted(op.name for op in self._ops):
            raise InvalidModelError("an order of other operations", where=self.name, fix="name each operation once")
        operations = [self.op(name) for name in names]
        found = type(self)(self.name, self._tensors.values(), operations, self.inputs, self.outputs, self._constants)
        for wanted, op in zip(operations, found.ops, strict=True):
            if wanted is not op:
                raise InvalidModelError(
                    "stands before what it reads", where=wanted.name, fix="order operations by what they read"
                )
        return found

    # --- validation -----------------------------------------------------------------------------------------------

    @cached_property
    def _producers(self) -> dict[str, Op]:
        return {op.output: op for op in self._ops}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Op, ...]]:
        found: dict[str, list[Op]] = {}
        for op in self._ops:
            for name in dict.fromkeys(op.inputs):
                found.setdefault(name, []).append(op)
        return {name: tuple(users) for name, users in found.items()}

    def _check(self) -> None:
        if not self.inputs or not self.outputs:
            raise InvalidModelError("a graph needs an input and an output", where=self.name)
        for name in (*self.inputs, *self.outputs, *self._constants):
            if name not in self._tensors:
                raise InvalidModelError("the tensor is named but not described", where=name)
        for name, value in self._constants.items():
            if value.shape != self._tensors[name].shape:
                raise InvalidModelError(f"a value of shape {list(value.shape)} for {list(self._tensors[name].shape)}", where=name)
            if value.dtype.kind == "f" and not np.isfinite(_unique_part(value)).all():
                raise InvalidModelError("holds NaN or infinity", where=name, fix="repair the weights and export again")
        for name in self.outputs:
            if name not in self._producers and name not in self.inputs and name not in self._constants:
                raise InvalidModelError("no operation produces this output", where=name)
        for op in self._ops:
            try:
                shape, _ = infer(op.attributes, [self._tensors[name] for name in op.inputs])
            except InvalidModelError as error:
                raise InvalidModelError(error.what, where=f"{op.kind} '{op.name}'", fix=error.fix) from error
            if shape != self._tensors[op.output].shape:
                raise InvalidModelError(
                    f"gives {list(shape)} where the graph says {list(self._tensors[op.output].shape)}",
                    where=f"{op.kind} '{op.name}'",
                )


class LoweredGraph(Graph):
    """A graph whose every tensor has its final number format and whose weights are final.

    It executes without a plan, a data set or a seed: integer operations exactly, the float remainder (a trailing softmax,
    say) in float32. Same module and same guarantees as :class:`Graph`, and in addition every integer constant lies within
    its format and every integer tensor that meets a real one (Quantize, Dequantize) knows its scale.
    """

    def _check(self) -> None:
        super()._check()
        for name, value in self.constants.items():
            form = self.tensors[name].format
            if form.is_float:
                continue
            if value.dtype.kind not in "iub" or (
                value.size and not (form.minimum <= int(value.min()) <= int(value.max()) <= form.maximum)
            ):
                raise InvalidModelError(f"holds values outside {form}", where=name)
        for op in self.ops:
            end = op.output if isinstance(op.attributes, ops.Quantize) else op.inputs[0]
            if isinstance(op.attributes, ops.Quantize | ops.Dequantize) and self.tensors[end].quant is None:
                raise InvalidModelError("has no scale", where=end)


class GraphBuilder:
    """Collects tensors and operations in order and builds a :class:`Graph` once.

    Parameters
    ----------
    name : str
        Name of the graph to be.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self._ops: dict[str, Op] = {}
        self._inputs: list[str] = []
        self._constants: dict[str, NDArray[np.generic]] = {}

    def input(self, name: str, shape: tuple[int, ...], form: NumberFormat | None = None, quant: QuantParams | None = None) -> str:
        """Declare a graph input; returns its name."""
        self._declare(Tensor(name, shape, form or FLOAT32, quant))
        self._inputs.append(name)
        return name

    def constant(
        self, name: str, value: NDArray[np.generic], form: NumberFormat | None = None, quant: QuantParams | None = None
    ) -> str:
        """Declare a constant; returns its name. The format defaults to what the array's type stores."""
        self._declare(Tensor(name, value.shape, form or NumberFormat.from_numpy(value.dtype), quant))
        self._constants[name] = value
        return name

    def add(
        self,
        attributes: Attributes,
        inputs: Sequence[str],
        *,
        output: str,
        name: str = "",
        form: NumberFormat | None = None,
        quant: QuantParams | None = None,
    ) -> str:
        """Append an operation and infer its output; returns the output's name.

        Raises
        ------
        InvalidModelError
            If an input is unknown, a name is taken or the shapes do not fit.
        """
        op = Op(self._unique(name or output), attributes, tuple(inputs), output)
        for tensor in inputs:
            if tensor not in self.tensors:
                raise InvalidModelError(f"reads '{tensor}', which nothing has produced", where=f"{op.kind} '{op.name}'")
        try:
            shape, default = infer(attributes, [self.tensors[tensor] for tensor in inputs])
        except InvalidModelError as error:
            raise InvalidModelError(error.what, where=f"{op.kind} '{op.name}'", fix=error.fix) from error
        self._declare(Tensor(output, shape, form or default, quant))
        self._ops[op.name] = op
        return output

    def fresh(self, stem: str) -> str:
        """A tensor name that is not taken yet, `stem` itself when possible."""
        name, count = stem, 1
        while name in self.tensors:
            name, count = f"{stem}_{count}", count + 1
        return name

    def value(self, name: str) -> NDArray[np.generic] | None:
        """Value of a constant, or None for other tensors."""
        return self._constants.get(name)

    def build(self, outputs: Sequence[str]) -> Graph:
        """The finished graph, without constants that nothing reads."""
        return Graph(self.name, *self._parts(outputs))

    def build_lowered(self, outputs: Sequence[str]) -> LoweredGraph:
        """The finished lowered graph, without constants that nothing reads."""
        return LoweredGraph(self.name, *self._parts(outputs))

    def _parts(
        self, outputs: Sequence[str]
    ) -> tuple[list[Tensor], list[Op], list[str], list[str], dict[str, NDArray[np.generic]]]:
        operations = _reachable(list(self._ops.values()), outputs)
        read = {name for op in operations for name in op.inputs} | set(outputs)
        made = {op.output for op in operations}
        constants = {name: value for name, value in self._constants.items() if name in read}
        tensors = [tensor for name, tensor in self.tensors.items() if name in made or name in constants or name in self._inputs]
        return tensors, operations, self._inputs, list(outputs), constants

    def _declare(self, tensor: Tensor) -> None:
        if tensor.name in self.tensors:
            raise InvalidModelError("two producers for one tensor", where=tensor.name)
        self.tensors[tensor.name] = tensor

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._ops:
            candidate, count = f"{name}_{count}", count + 1
        return candidate


def _reachable(operations: list[Op], outputs: Sequence[str]) -> list[Op]:
    """Operations that an output depends on, in the given (topological) order."""
    needed = set(outputs)
    kept = []
    for op in reversed(operations):
        if op.output in needed:
            needed.update(op.inputs)
            kept.append(op)
    return kept[::-1]


def _frozen(value: NDArray[np.generic]) -> NDArray[np.generic]:
    view = np.asarray(value).view()  # some operations give a NumPy scalar, which has no flags
    view.flags.writeable = False
    return view


def _unique_part(value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Without the axes that a broadcast constant merely repeats."""
    return value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.strides)] if value.ndim else value


def _digraph(operations: list[Op], inputs: Sequence[str], constants: Mapping[str, object]) -> nx.DiGraph:
    graph = nx.DiGraph()
    producers: dict[str, str] = {}
    for index, op in enumerate(operations):
        if op.name in graph:
            raise InvalidModelError("two operations share this name", where=op.name)
        if op.output in producers or op.output in constants or op.output in inputs:
            raise InvalidModelError("two producers for one tensor", where=op.output)
        graph.add_node(op.name, op=op, order=index)
        producers[op.output] = op.name
    for op in operations:
        for name in op.inputs:
            if name in producers:
                graph.add_edge(producers[name], op.name, tensor=name)
            elif name not in constants and name not in inputs:
                raise InvalidModelError(f"reads '{name}', which nothing produces", where=f"{op.kind} '{op.name}'")
    return graph


def _ordered(graph: nx.DiGraph) -> tuple[Op, ...]:
    try:
        names = list(nx.lexicographical_topological_sort(graph, key=lambda name: graph.nodes[name]["order"]))
    except nx.NetworkXUnfeasible as error:
        cycle = " -> ".join(edge[0] for edge in nx.find_cycle(graph))
        raise InvalidModelError("the graph has a cycle", where=cycle, fix="a network must be acyclic") from error
    return tuple(graph.nodes[name]["op"] for name in names)


def _rebatched(tensor: Tensor, old: int, new: int) -> Tensor:
    if not tensor.shape or tensor.shape[0] != old:
        raise InvalidModelError(f"axis 0 is not the batch of {old}", where=tensor.name, fix=f"run it with batch {old}")
    return replace(tensor, shape=(new, *tensor.shape[1:]))


def _rebatched_attributes(op: Op, old: int, new: int, tensors: Mapping[str, Tensor]) -> Attributes:
    attributes = op.attributes
    first = tensors[op.inputs[0]].shape
    refusal = InvalidModelError("mixes samples of a batch", where=f"{op.kind} '{op.name}'", fix=f"run it with batch {old}")
    match attributes:
        case ops.Reshape(shape):
            if not shape or shape[0] != old or first[:1] != (old,):
                raise refusal
            return ops.Reshape((new, *shape[1:]))
        case ops.Expand(shape):
            if len(first) != len(shape) or first[0] != old or shape[0] != old:
                raise refusal
            return ops.Expand((new, *shape[1:]))
        case ops.Slice(begin, extent, step):
            if (begin[0], extent[0], step[0]) != (0, old, 1) or first[0] != old:
                raise refusal
            return ops.Slice(begin, (new, *extent[1:]), step)
        case ops.Transpose(permutation) if permutation[0] != 0:
            raise refusal
        case ops.Concat(axis) | ops.ArgMax(axis=axis) if axis == 0:
            raise refusal
        case ops.Softmax(axes) | ops.LayerNorm(axes=axes) | ops.Reduce(axes=axes) if 0 in axes:
            raise refusal
        case ops.Pad(begin, end) if begin[0] or end[0]:
            raise refusal
        case _:
            return attributes
