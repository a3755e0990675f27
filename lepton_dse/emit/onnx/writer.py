"""Collects the nodes and constants of an ONNX model under names that never collide, and serialises them the same way twice."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto, checker, helper

from lepton_dse.emit.onnx.types import activation_type, packed
from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor

__all__ = ["BATCH", "ModelWriter"]

_OPSET = 19  # the first with floats of 8 bits and dilated means
_WIDE_OPSET = 21  # the first with integers of 4 and 16 bits, and with scales per block
_IR_VERSIONS = {_OPSET: 9, _WIDE_OPSET: 10}  # those that came with them
_NEW_TYPES = (TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16, TensorProto.UINT16)
BATCH = "batch"
_MOST_BYTES = (1 << 31) - (1 << 20)  # protobuf holds no message of 2 GiB; some room for nodes and names


class ModelWriter:
    """An ONNX model under construction.

    Parameters
    ----------
    graph : Graph
        The graph whose tensors keep their names; everything else gets a name that none of them has.

    Raises
    ------
    LeptonError
        If a name is empty or no text.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.dynamic = _takes_any_batch(graph)
        self.kinds: list[str] = []
        self._op = ""
        self._opset = _OPSET
        self._taken = set(graph.tensors)
        for name in (*graph.tensors, *(op.name for op in graph.ops)):
            if not name or "\0" in name or not _is_text(name):
                raise LeptonError(f"the name {name!r} cannot stand in an ONNX file", where=graph.name or "graph")
        self._node_names: set[str] = set()
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._shared: dict[tuple[Any, ...], str] = {}
        self._described: dict[str, ValueInfoProto] = {}
        self._bytes = 0
        self._fixed = set(graph.constants)
        for op in graph.ops:
            if self._fixed.issuperset(op.inputs):
                self._fixed.add(op.output)

    def is_fixed(self, name: str) -> bool:
        """Whether constants alone determine a tensor of the graph, so that it has no batch axis."""
        return name in self._fixed

    def begin(self, op: Op) -> None:
        """The nodes that follow belong to `op`; their kinds are collected anew."""
        self._op, self.kinds = op.name, []

    def fresh(self, stem: str) -> str:
        """A name that no tensor has yet."""
        return _untaken(stem, self._taken)

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Append a node; returns the name of its result."""
        output = output or self.fresh(f"{self._op}/{kind}")
        name = _untaken(f"{self._op}/{kind}", self._node_names)
        self._opset = _WIDE_OPSET if "block_size" in attributes else self._opset
        self._nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        self.kinds.append(kind)
        return output

    def constant(self, name: str, value: NDArray[Any], kind: int) -> str:
        """Store a constant under a name that begins as asked, once for equal constants of that name; returns its own.

        Equal constants of different names stay apart: fusions of onnxruntime rewrite one and stumble over the other.

        Raises
        ------
        LeptonError
            If the model would outgrow one file.
        """
        self._opset = _WIDE_OPSET if kind in _NEW_TYPES else self._opset
        stored = packed("", value, kind)
        key = (name, kind, value.shape, hashlib.sha256(stored.raw_data).digest())
        if key in self._shared:
            return self._shared[key]
        self._bytes += len(stored.raw_data)
        if self._bytes > _MOST_BYTES:
            raise LeptonError(
                "constants of more than 2 GB, which one ONNX file cannot hold",
                where=self.graph.name,
                fix="use narrower weights or prune the model",
            )
        known = self.graph.constants.get(name)
        stored.name = name if known is not None and name not in self._initializers else self.fresh(name)
        self._initializers[stored.name] = stored
        self._shared[key] = stored.name
        return stored.name

    def reals(self, stem: str, value: Any) -> str:
        """A float32 constant."""
        return self.constant(stem, np.asarray(value, np.float32), TensorProto.FLOAT)

    def indices(self, stem: str, value: Any) -> str:
        """An int64 constant."""
        return self.constant(stem, np.asarray(value, np.int64), TensorProto.INT64)

    def reshape(self, x: str, shape: tuple[int, ...], *, fixed: bool, output: str = "") -> str:
        """A Reshape that keeps an open batch open; `fixed` says that x has no batch axis."""
        wanted = (-1, *shape[1:]) if self.dynamic and not fixed else shape
        return self.add("Reshape", [x, self.indices("shape", wanted)], output)

    def describe(self, tensor: Tensor) -> None:
        """State type and shape of a result that carries the name of a tensor of the graph."""
        self._described[tensor.name] = self._info(tensor)

    def _info(self, tensor: Tensor) -> ValueInfoProto:
        shape: list[int | str] = list(tensor.shape)
        if self.dynamic and not self.is_fixed(tensor.name):
            shape[0] = BATCH
        return helper.make_tensor_value_info(tensor.name, activation_type(tensor.format), shape)

    def model(self) -> ModelProto:
        """The finished model, checked.

        Raises
        ------
        LeptonError
            If it breaks a rule of ONNX.
        """
        graph = self.graph
        ends = {*graph.inputs, *graph.outputs}
        proto = GraphProto(
            name=graph.name or "model",
            node=self._nodes,
            initializer=list(self._initializers.values()),
            input=[self._info(graph.tensors[name]) for name in graph.inputs],
            output=[self._info(graph.tensors[name]) for name in graph.outputs],
            value_info=[info for name, info in self._described.items() if name not in ends],
        )
        model = ModelProto(
            ir_version=_IR_VERSIONS[self._opset],
            producer_name="lepton_dse",
            producer_version=version("lepton_dse"),
            opset_import=[OperatorSetIdProto(domain="", version=self._opset)],
            graph=proto,
        )
        try:
            checker.check_model(model, full_check=True)
        except Exception as error:  # the checker and shape inference raise types of their own
            raise LeptonError(f"no valid ONNX model: {str(error).strip().splitlines()[0]}", where=graph.name) from error
        return model


def _is_text(name: str) -> bool:
    """Whether a name has a form in UTF-8, which half of a surrogate pair has not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _untaken(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        name, count = f"{stem}_{count}", count + 1
    taken.add(name)
    return name


def _takes_any_batch(graph: Graph) -> bool:
    """Whether samples never mix, so that axis 0 may stay open."""
    try:
        graph.with_batch(graph.batch + 1)
    except InvalidModelError:
        return False
    return True
