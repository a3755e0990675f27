"""The graph while it is being read: what each name in the file stands for, and the operations so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.values import Array, NotSupported, as_float32, stored
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.ops import Attributes, Op
from lepton_dse.ir.shapes import infer
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import FLOAT32, NumberFormat

__all__ = ["Sketch"]

# Kinds that move, compare, choose or add elements, and so have an exact meaning on integers too.
_EXACT = (
    *(ops.Reshape, ops.Transpose, ops.Concat, ops.Pad, ops.Expand, ops.Slice, ops.Gather),
    *(ops.Clip, ops.MaxPool, ops.Add, ops.Compare, ops.Where, ops.Cast),
)
_EXACT_FUNCTIONS = (
    *(ops.BinaryFunction.MINIMUM, ops.BinaryFunction.MAXIMUM),
    *(ops.ReduceFunction.MINIMUM, ops.ReduceFunction.MAXIMUM),
)
_WIDEST_SUM = 32  # bits of integers whose sums cannot leave 64
# Folding may produce so many bytes in all, and besides each stored constant in so many forms (cast, scaled, shifted ...).
_ALLOWANCE = 1 << 27
_ALLOWED_FORMS = 8


class Sketch:
    """A graph under construction, whose operations may still be merged.

    Parameters
    ----------
    name : str
        Name of the graph.
    folder : Path
        Where external data may lie.
    outputs : sequence of str
        Names in the file of the graph's outputs.
    reserved : iterable of str
        All names in the file, which made-up names avoid.
    """

    def __init__(self, name: str, folder: Path, outputs: Sequence[str], reserved: Iterable[str]) -> None:
        self.name = name
        self.folder = folder
        self.outputs = tuple(outputs)
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Array] = {}
        self.inputs: list[str] = []
        self.operations: list[Op] = []
        self._values: dict[str, str | Array] = {}
        self._operands: dict[str, str] = {}
        self._reserved = set(reserved)
        self._allowance = _ALLOWANCE

    # --- names of the file ----------------------------------------------------------------------------------------

    def define(self, name: str, value: str | Array) -> None:
        """Let a name of the file stand for a tensor of the sketch or for a constant."""
        self._values[name] = value

    def knows(self, name: str) -> bool:
        """Whether the name stands for something."""
        return name in self._values

    def constant(self, name: str) -> Array | None:
        """Value of a name that stands for a constant, else None."""
        value = self._values[name]
        return None if isinstance(value, str) else value

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of what a name stands for."""
        value = self._values[name]
        return self.tensors[value].shape if isinstance(value, str) else value.shape

    def operand(self, name: str) -> str:
        """The tensor that a name stands for; a constant becomes one, reals in float32 and integers in their own type."""
        value = self._values[name]
        if isinstance(value, str):
            return value
        if name not in self._operands:
            self._operands[name] = self.add_constant(name, value if value.dtype.kind in "iub" else as_float32(value))
        return self._operands[name]

    def store(self, name: str, value: Array) -> None:
        """Let a name stand for a constant that the file itself holds, which widens what folding may produce."""
        self.define(name, value)
        self._allowance += _ALLOWED_FORMS * value.nbytes

    def charge(self, value: Array, where: str) -> None:
        """Account for the memory of a constant that was made, not read.

        Raises
        ------
        InvalidModelError
            If all of them together are out of proportion to the file.
        """
        self._allowance -= stored(value).nbytes
        if self._allowance < 0:
            raise InvalidModelError(
                "the constants fold into far more than the file holds", where=where, fix="fold them on export"
            )

    # --- the graph ------------------------------------------------------------------------------------------------

    def add_input(self, name: str, shape: tuple[int, ...], form: NumberFormat = FLOAT32) -> None:
        """Add a graph input."""
        self.tensors[name] = Tensor(name, shape, form)
        self.inputs.append(name)
        self.define(name, name)

    def add_constant(self, stem: str, value: Array) -> str:
        """Add a constant tensor; its name is `stem` or close to it."""
        # A name that stands for a constant in the file is free for a form of it, unless the graph must output that name.
        free = stem not in self.tensors and stem not in self.outputs and not isinstance(self._values.get(stem, stem), str)
        name = stem if free else self.fresh(stem)
        self.charge(value, name)
        self.tensors[name] = Tensor(name, value.shape, NumberFormat.from_numpy(value.dtype))
        self.constants[name] = value
        return name

    def fresh(self, stem: str) -> str:
        """A tensor name that neither the sketch nor the file uses."""
        name, count = stem, 1
        while name in self.tensors or name in self._reserved:
            name, count = f"{stem}_{count}", count + 1
        return name

    def emit(self, node: Node, attributes: Attributes, inputs: Sequence[str], *, last: bool = True, output: str = "") -> str:
        """Append an operation over tensors of the sketch; returns the tensor it makes.

        Parameters
        ----------
        node : Node
            The node it comes from.
        attributes : Attributes
            Kind and attributes.
        inputs : sequence of str
            Tensors of the sketch.
        last : bool
            Whether it makes the node's own output, and so takes its name.
        output : str
            Another name for the result, of a node with several outputs.

        Raises
        ------
        InvalidModelError
            If the shapes do not fit.
        NotSupported
            If it would multiply or average integers, or mix them with reals.
        """
        operands = [self.tensors[name] for name in inputs]
        _check_formats(attributes, [operand.format for operand in operands])
        try:
            shape, form = infer(attributes, operands)
        except InvalidModelError as error:
            raise InvalidModelError(error.what, where=node.where, fix="export the model again") from error
        output = output or node.outputs[0] if last else self.fresh(f"{node.outputs[0]}_{type(attributes).__name__.lower()}")
        self.tensors[output] = Tensor(output, shape, form)
        self.operations.append(Op(node.name, attributes, tuple(inputs), output))
        return output

    def finish(self) -> Graph:
        """The graph; an output that merely renames another tensor becomes a view under its own name.

        Raises
        ------
        InvalidModelError
            If the graph is not valid.
        """
        builder = GraphBuilder(self.name)
        for name in self.inputs:
            builder.input(name, self.tensors[name].shape, self.tensors[name].format)
        for name, value in self.constants.items():
            builder.constant(name, value)
        for op in self.operations:
            builder.add(op.attributes, op.inputs, output=op.output, name=op.name)
        for name in self.outputs:
            result = self._values[name]
            if not isinstance(result, str):
                builder.constant(name, result)
            elif result != name:
                builder.add(ops.Reshape(self.tensors[result].shape), [result], output=name)
        return builder.build(self.outputs)


def _check_formats(attributes: Attributes, formats: Sequence[NumberFormat]) -> None:
    """Refuse to mix formats, and to compute on integers what is not exact on them."""
    match attributes:
        case ops.Gather():
            values = formats[:1]
        case ops.Where():
            values = formats[1:]
        case _:
            values = formats
    if any(form != values[0] for form in values):
        raise NotSupported("mixes reals and integers")
    if not values[0].is_integer:
        return
    if not isinstance(attributes, _EXACT) and getattr(attributes, "function", None) not in _EXACT_FUNCTIONS:
        raise NotSupported("computes on integers")
    if isinstance(attributes, ops.Add) and values[0].bits > _WIDEST_SUM:
        raise NotSupported(f"adds integers of more than {_WIDEST_SUM} bits")
