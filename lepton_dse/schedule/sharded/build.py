"""From a graph and a strategy for each operation to the steps of every device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import FormatKind, NumberFormat
from lepton_dse.parallel.layout import Layout, Mesh, local_shape, replicated
from lepton_dse.parallel.splitting import Border, OpLayouts, layouts_of, local_attributes
from lepton_dse.schedule.sharded.program import (
    Compute,
    Cut,
    Exchange,
    Halo,
    Shard,
    ShardedProgram,
    Step,
    operands_of,
    result_of,
)
from lepton_dse.schedule.sharded.reshard import Move, moves

__all__ = ["OpStrategy", "Strategies", "sharded_program"]

_BIAS = 2  # position among the operands of a convolution or matrix product


@dataclass(frozen=True)
class OpStrategy:
    """How one operation is shared.

    Parameters
    ----------
    shared : mapping of str to tuple of str
        Axes by loop.
    home : Layout
        How its result lies from then on; no sum is open.
    """

    shared: Mapping[str, tuple[str, ...]]
    home: Layout


@dataclass(frozen=True)
class Strategies:
    """How a whole graph is shared.

    Parameters
    ----------
    inputs : mapping of str to Layout
        How the graph's inputs arrive.
    ops : mapping of str to OpStrategy
        By operation.
    """

    inputs: Mapping[str, Layout]
    ops: Mapping[str, OpStrategy]


def sharded_program(graph: Graph, mesh: Mesh, strategies: Strategies) -> ShardedProgram:
    """The steps of every device.

    Parameters
    ----------
    graph : Graph
    mesh : Mesh
    strategies : Strategies

    Raises
    ------
    InvalidPlanError
        If an operation or input has no strategy, or one that does not come out even.
    """
    builder = _Builder(graph, mesh)
    for name in graph.inputs:
        layout = strategies.inputs.get(name)
        if layout is None:
            raise InvalidPlanError("no layout is planned", where=name, fix="plan again")
        builder.arrive(name, layout)
    for op in graph.ops:
        strategy = strategies.ops.get(op.name)
        layouts = None if strategy is None else layouts_of(graph, op, strategy.shared, mesh)
        rank = len(graph.tensors[op.output].shape)
        if strategy is None or layouts is None or len(strategy.home.cuts) != rank or strategy.home.partial:
            raise InvalidPlanError("no strategy is planned that comes out even", where=op.name, fix="plan again")
        builder.compute(op, strategy, layouts)
    outputs = {name: builder.fetch(name, builder.home(name)) for name in graph.outputs}
    steps, read = _needed(builder.steps, set(outputs.values()))
    constants = {shard: source for shard, source in builder.constants.items() if shard in read}
    return ShardedProgram(mesh, graph, builder.shards, {name: name for name in graph.inputs}, constants, steps, outputs)


def _needed(steps: list[Step], read: set[str]) -> tuple[tuple[Step, ...], set[str]]:
    """Steps whose results are read, and all that is read: what nobody wants as it lies at home is not brought there."""
    kept: list[Step] = []
    for step in reversed(steps):
        if result_of(step) in read:
            kept.append(step)
            read = read.union(operands_of(step))
    return tuple(reversed(kept)), read


@dataclass
class _Builder:
    graph: Graph
    mesh: Mesh
    shards: dict[str, Shard] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    homes: dict[str, Layout] = field(default_factory=dict)
    have: dict[tuple[str, Layout], str] = field(default_factory=dict)
    moved: dict[tuple[str, Move | Border], str] = field(default_factory=dict)
    """What became of a shard, so that nothing is sent twice."""

    def arrive(self, name: str, layout: Layout) -> None:
        """An input of the graph, under its own name."""
        self.homes[name] = layout
        self.have[name, layout] = self._add(name, name, layout)

    def home(self, name: str) -> Layout:
        """How a tensor lies; a constant that is an output is whole on every device."""
        return self.homes.get(name) or replicated(len(self.graph.tensors[name].shape))

    def fetch(self, name: str, wanted: Layout) -> str:
        """The shard of a tensor in a layout, exchanged from its home where that is another."""
        if (name, wanted) not in self.have:
            if name in self.graph.constants:
                self.have[name, wanted] = self._add(self._free(name), name, wanted)
                self.constants[self.have[name, wanted]] = name
                return self.have[name, wanted]
            self._move(name, self.have[name, self.homes[name]], self.homes[name], wanted)
        return self.have[name, wanted]

    def compute(self, op: Op, strategy: OpStrategy, layouts: OpLayouts) -> None:
        """An operation on parts, what it needs of neighbours before it, and its result brought home."""
        sources = [self.fetch(name, layout) for name, layout in zip(op.inputs, layouts.inputs, strict=True)]
        if layouts.border is not None:
            sources[0] = self._with_border(sources[0], layouts)
        summed = bool(layouts.output.partial)
        bias = sources.pop(_BIAS) if summed and len(sources) > _BIAS else None
        whole = self.graph.tensors[op.output]
        shape = local_shape(whole.shape, layouts.output, self.mesh)
        attributes = local_attributes(op, layouts, shape, strategy.shared, self.mesh)
        self.homes[op.output] = strategy.home
        direct = layouts.output == strategy.home and bias is None
        name = op.output if direct else self._free(op.output)
        form = _addend(whole.format) if summed else whole.format
        self._add(name, op.output if bias is None else "", layouts.output, form)
        self.steps.append(Compute(Op(op.name, attributes, tuple(sources), name)))
        if bias is None:
            self.have[op.output, layouts.output] = name
            if not direct:
                self._move(op.output, name, layouts.output, strategy.home)
            return
        closed = Layout(strategy.home.cuts)
        without = self._exchange(name, layouts.output, closed, "", form)
        along = self._biased(op, closed)
        self._add(op.output, op.output, closed)
        self.steps.append(Compute(Op(f"{op.name} bias", ops.Add(), (without, along), op.output)))
        self.have[op.output, closed] = op.output

    def _biased(self, op: Op, layout: Layout) -> str:
        """The bias as it lies beside the closed sum, with the extents that adding it takes."""
        bias = op.inputs[_BIAS]
        channel = 1 if isinstance(op.attributes, ops.Conv) else len(layout.cuts) - 1
        shard = self.fetch(bias, Layout((layout.cuts[channel],)))
        if not isinstance(op.attributes, ops.Conv):
            return shard
        tensor = self.shards[shard].tensor
        shape = (tensor.shape[0], *[1] * (len(layout.cuts) - 2))
        name = self._free(bias)
        self.shards[name] = Shard(Tensor(name, shape, tensor.format), "", replicated(len(shape)))
        self.steps.append(Compute(Op(f"{op.name} bias shape", ops.Reshape(shape), (shard,), name)))
        return name

    def _with_border(self, source: str, layouts: OpLayouts) -> str:
        border, shard = layouts.border, self.shards[source]
        assert border is not None
        if not border.before and not border.after:
            return source
        if (source, border) in self.moved:
            return self.moved[source, border]
        shape = list(shard.tensor.shape)
        shape[border.dimension] += border.before + border.after
        name = self._free(shard.source)
        self.shards[name] = Shard(Tensor(name, tuple(shape), shard.tensor.format, shard.tensor.quant), "", shard.layout)
        self.steps.append(Halo(border.axis, source, name, border.dimension, border.before, border.after, border.fill))
        self.moved[source, border] = name
        return name

    def _move(self, tensor: str, source: str, layout: Layout, wanted: Layout) -> None:
        """Exchanges that end in a shard which is remembered."""
        self.have[tensor, wanted] = self._exchange(source, layout, wanted, tensor, None)

    def _exchange(self, source: str, layout: Layout, wanted: Layout, tensor: str, form: NumberFormat | None) -> str:
        found = moves(layout, wanted)
        for position, move in enumerate(found):
            if (source, move) in self.moved:
                source = self.moved[source, move]
                continue
            last = position == len(found) - 1
            home = last and bool(tensor) and wanted == self.homes.get(tensor) and tensor not in self.shards
            name = tensor if home else self._free(self.shards[source].source or source)
            shape_of = self.graph.tensors[tensor] if tensor else None
            if shape_of is not None:
                still = bool(move.result.partial)
                self._add(name, tensor, move.result, _addend(shape_of.format) if still else shape_of.format)
            else:
                before = self.shards[source]
                shape = _moved(before.tensor.shape, before.layout, move.result, self.mesh)
                self.shards[name] = Shard(Tensor(name, shape, form or before.tensor.format), "", move.result)
            if move.kind is None:
                self.steps.append(Cut(move.axes, source, name, move.dimension))
            else:
                self.steps.append(Exchange(move.kind, move.axes, source, name, move.dimension, move.joined))
            self.moved[source, move] = name
            source = name
        return source

    def _add(self, name: str, source: str, layout: Layout, form: NumberFormat | None = None) -> str:
        """A shard of a tensor of the graph; one without a source is an addend of it that lacks the bias."""
        whole = self.graph.tensors[source or name.rpartition(".")[0]]
        shape = local_shape(whole.shape, layout, self.mesh)
        cut = whole.quant is not None and whole.quant.axis is not None and layout.cuts[whole.quant.axis]
        quant = None if cut else whole.quant
        self.shards[name] = Shard(Tensor(name, shape, form or whole.format, quant), source, layout)
        return name

    def _free(self, stem: str) -> str:
        number = 0
        while f"{stem}.{number}" in self.shards or f"{stem}.{number}" in self.graph.tensors:
            number += 1
        return f"{stem}.{number}"


def _moved(shape: tuple[int, ...], before: Layout, after: Layout, mesh: Mesh) -> tuple[int, ...]:
    whole = [extent * mesh.size(axes) for extent, axes in zip(shape, before.cuts, strict=True)]
    return local_shape(tuple(whole), after, mesh)


def _addend(form: NumberFormat) -> NumberFormat:
    """What an addend of a tensor is stored in: all that its storage holds, since a sum may be narrower than its addends."""
    if form.kind is not FormatKind.INT:
        return form
    return NumberFormat(FormatKind.INT, max(32, 8 * form.numpy.itemsize))
