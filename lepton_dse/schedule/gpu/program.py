"""The kernels that a lowered graph becomes on a GPU, in order, with what each tensor is stored as.

* A convolution or a matrix product of formats that a kernel multiplies becomes a contraction; every other operation a kernel
  with a thread for each result, or with a warp for each row.
* Pointwise operations join the kernel of the one operand that nothing else needs; that operand is never stored.
* Stored numbers become reals where they are read: a Dequantize is no kernel, unless a caller sees its result.
* Weights of which two of every four neighbours are zero, or whole blocks, become kernels that leave these out.
* A Reshape is a view of a row-major tensor. Where a tensor lies otherwise, a kernel that copies it comes before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.loops import POINTWISE
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate
from lepton_dse.ir.tensors import Tensor
from lepton_dse.plan import Plan
from lepton_dse.schedule.gpu.choose import default_tile, engine_for
from lepton_dse.schedule.gpu.contraction import Contraction, Engine, Touch
from lepton_dse.schedule.gpu.kernels import Buffer, Kernel, Source
from lepton_dse.schedule.gpu.layout import Layout, layouts
from lepton_dse.schedule.gpu.nests import ROWS, copy_nest, nest_of
from lepton_dse.schedule.gpu.products import Problem, blocked, packed, problem_of, skipping, touch_of
from lepton_dse.schedule.gpu.registers import Limits, estimated_registers, planned_blocks
from lepton_dse.schedule.gpu.tile import Tile

__all__ = ["Choose", "GpuProgram", "epilogue_operands", "gpu_program", "planned_program"]

Choose = Callable[[Op, Problem, Engine], Tile]
"""Gives the tile of a contraction."""


@dataclass(frozen=True)
class GpuProgram:
    """Kernels in order, and every tensor that they store or read.

    Parameters
    ----------
    graph : LoweredGraph
    kernels : tuple of Kernel
    buffers : dict of str to Buffer
        Inputs and results that own their storage, by name, in order of their first use.
    constants : dict of str to ndarray
        Read-only data as kernels read them.
    inputs, outputs : tuple of Buffer
        Row-major.
    capability : float
        Compute capability that the kernels are for.
    limits : Limits or None
        What one multiprocessor holds, where it is known.
    """

    graph: LoweredGraph
    capability: float
    kernels: tuple[Kernel, ...]
    buffers: dict[str, Buffer]
    constants: dict[str, NDArray[np.generic]]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    limits: Limits | None = None


def gpu_program(graph: LoweredGraph, capability: float, choose: Choose | None = None, limits: Limits | None = None) -> GpuProgram:
    """The kernels of a lowered graph.

    Parameters
    ----------
    graph : LoweredGraph
    capability : float
        Compute capability of the device.
    choose : callable, optional
        Gives the tile of each contraction; a tile that fits well enough by default.
    limits : Limits, optional
        What one multiprocessor holds; kernels are then compiled for the blocks that it is to hold at once.

    Raises
    ------
    LeptonError
        If a tile is no kernel for its operation or the device, or a tensor has no elements.
    """
    return _Builder(graph, capability, choose, limits).run()


def planned_program(graph: LoweredGraph, plan: Plan, capability: float, limits: Limits | None = None) -> GpuProgram:
    """The kernels of a plan: its tiles, and one that fits well enough where it names none."""

    def choose(op: Op, problem: Problem, engine: Engine) -> Tile:
        return Tile.from_mapping(plan.op(op.name).mapping) or default_tile(problem, engine, capability)

    return gpu_program(graph, capability, choose, limits)


def epilogue_operands(kernel: Kernel) -> list[tuple[Op, int]]:
    """What the epilogue of a contraction reads: operations and positions of operands, in the order of its touches."""
    found = [(kernel.ops[0], 2)] if len(kernel.ops[0].inputs) > 2 else []
    for before, op in pairwise(kernel.ops):
        found.extend((op, position) for position, name in enumerate(op.inputs) if name != before.output)
    return found


@dataclass
class _Draft:
    """A kernel while operations may still join it."""

    ops: list[Op]
    operands: dict[str, Source]
    problem: Problem | None = None
    reordered: str = ""
    result: Buffer | None = None
    rows: NDArray[np.generic] | None = None
    """Constant weights of a contraction, a row for each column of its result."""
    touches: list[Touch] = field(default_factory=list)


class _Builder:
    def __init__(self, graph: LoweredGraph, capability: float, choose: Choose | None, limits: Limits | None) -> None:
        self.graph, self.capability, self.choose, self.limits = graph, capability, choose, limits
        self.layouts = layouts(graph)
        self.sources: dict[str, Source] = {}
        self.drafts: list[_Draft] = []
        self.maker: dict[str, _Draft] = {}
        self.constants: dict[str, NDArray[np.generic]] = {}

    def run(self) -> GpuProgram:
        graph = self.graph
        for name in (*graph.inputs, *graph.constants):
            self.sources[name] = Source(self.buffer(graph.tensors[name]))
        for op in graph.ops:
            self.add(op)
        outputs = []
        for name in graph.outputs:
            source = self.sources[name]
            kept = source.buffer if source.scaled is None else self.materialised(name, source)
            outputs.append(self.row_major(kept, name))
            if kept.owner in graph.constants:
                self.constants.setdefault(kept.owner, self.stored(kept.owner))
        kernels = tuple(self.finished(draft) for draft in self.drafts)
        inputs = tuple(self.sources[name].buffer for name in graph.inputs)
        buffers = {buffer.name: buffer for buffer in (*inputs, *(kernel.result for kernel in kernels))}
        for kernel in kernels:
            replaced = kernel.ops[0].inputs[1] if kernel.ops and f"{kernel.name}.packed" in self.constants else ""
            for name, source in kernel.operands.items():
                if source.buffer.owner in graph.constants and name != replaced:
                    self.constants.setdefault(source.buffer.owner, self.stored(source.buffer.owner))
        return GpuProgram(graph, self.capability, kernels, buffers, self.constants, inputs, tuple(outputs), self.limits)

    def buffer(self, tensor: Tensor) -> Buffer:
        return Buffer(tensor, self.layouts[tensor.name], tensor.name)

    def stored(self, name: str) -> NDArray[np.generic]:
        """A constant as its format is stored."""
        return np.asarray(self.graph.constants[name]).astype(self.graph.tensors[name].format.numpy, copy=False)

    # --- one operation --------------------------------------------------------------------------------------------

    def add(self, op: Op) -> None:
        if isinstance(op.attributes, ops.Reshape):
            self.view(op)
        elif isinstance(op.attributes, ops.Dequantize) and op.output not in self.graph.outputs:
            self.scale(op)
        elif not self.joins(op):
            self.begin(op)

    def view(self, op: Op) -> None:
        source = self.sources[op.inputs[0]]
        flat = self.row_major(source.buffer, op.inputs[0])
        shape = self.graph.tensors[op.output].shape
        view = Buffer(replace(flat.tensor, name=op.output, shape=shape), Layout.row_major(len(shape)), flat.owner)
        self.sources[op.output] = Source(view, source.scaled)

    def scale(self, op: Op) -> None:
        """Reals that readers make for themselves; constants with several scales become reals once and for all."""
        name = op.inputs[0]
        source, stored = self.sources[name], self.graph.tensors[name]
        if stored.quant is not None and len(stored.quant.beta) > 1:
            if name not in self.graph.constants:
                self.begin(op)
                return
            tensor = self.graph.tensors[op.output]
            self.constants[op.output] = np.asarray(
                evaluate(op, [self.graph.constants[name]], tensor, [stored]), tensor.format.numpy
            )
            self.sources[op.output] = Source(Buffer(tensor, Layout.row_major(len(tensor.shape)), op.output))
            return
        self.sources[op.output] = Source(source.buffer, stored)

    def begin(self, op: Op) -> None:
        operands = {name: self.sources[name] for name in op.inputs}
        draft = _Draft([op], operands)
        if isinstance(op.attributes, ops.Conv | ops.MatMul):
            self.contract(draft)
        self.put(draft, op.output)

    def put(self, draft: _Draft, output: str) -> None:
        self.drafts.append(draft)
        self.maker[output] = draft
        self.sources[output] = Source(self.buffer(self.graph.tensors[output]))

    def contract(self, draft: _Draft) -> None:
        """Make a draft a contraction, if its operation and where its result lies allow it."""
        op = draft.ops[0]
        name = op.inputs[0]
        weights = draft.operands[op.inputs[1]].buffer
        constant = weights.owner in self.graph.constants or weights.owner in self.constants
        source = draft.operands[name]
        rank = len(source.buffer.tensor.shape)
        order = Layout.channels_last(rank) if isinstance(op.attributes, ops.Conv) else Layout.row_major(rank)
        lying = Source(replace(source.buffer, layout=order), source.scaled)  # as it would lie; copied only if it is used
        problem = problem_of(self.graph, op, {**draft.operands, name: lying}, constant=constant)
        touches = None if problem is None else self.touches([op], problem)
        if problem is None or touches is None or engine_for(problem, self.capability) is None:
            return
        draft.operands[name] = Source(self.ordered(source.buffer, name, order), source.scaled)
        draft.problem, draft.touches = problem, touches
        if constant:
            # Two operations may share one constant and yet store it differently: the kernel's own.
            key = f"{op.name}.packed"
            values = self.constants[weights.owner] if weights.owner in self.constants else self.stored(weights.owner)
            draft.rows = packed(problem, op, values.reshape(weights.tensor.shape))
            fewer = skipping(problem, draft.rows) if self.capability >= Engine.SPARSE_HALF.capability else None
            if fewer is not None:
                draft.problem, draft.rows, self.constants[f"{op.name}.positions"] = fewer
            self.constants[key] = draft.rows

    def touches(self, ops_: list[Op], problem: Problem) -> list[Touch] | None:
        """What the epilogue of a chain reads and writes, the result last; None where that is not linear."""
        shape = self.graph.tensors[ops_[-1].output].shape
        found: list[Touch | None] = []
        if len(ops_[0].inputs) > 2:
            found.append(touch_of(problem, shape, self.sources[ops_[0].inputs[2]].buffer, channel=True))
        for before, op in pairwise(ops_):
            for name in op.inputs:
                if name != before.output:
                    channel = isinstance(op.attributes, ops.Affine)
                    if channel and problem.column_axis != 1:
                        return None
                    found.append(touch_of(problem, shape, self.sources[name].buffer, channel=channel))
        found.append(touch_of(problem, shape, self.buffer(self.graph.tensors[ops_[-1].output]), store=True))
        return None if None in found else [touch for touch in found if touch is not None]

    # --- joining --------------------------------------------------------------------------------------------------

    def joins(self, op: Op) -> bool:
        """Let a pointwise operation join the kernel of an operand that nothing else needs; the latest such kernel."""
        if not isinstance(op.attributes, POINTWISE):
            return False
        drafts = [(self.drafts.index(self.maker[name]), name) for name in op.inputs if self.is_open(op, name)]
        for _, name in sorted(drafts, reverse=True):
            draft = self.maker[name]
            longer = [*draft.ops, op]
            if draft.problem is not None:
                if isinstance(op.attributes, ops.Lookup):
                    continue
                touches = self.touches(longer, draft.problem)
                if touches is None:
                    continue
                draft.touches = touches
            draft.ops = longer
            draft.operands.update({other: self.sources[other] for other in op.inputs if other != name})
            self.drafts.remove(draft)
            del self.maker[name]
            del self.sources[name]
            self.put(draft, op.output)
            return True
        return False

    def is_open(self, op: Op, name: str) -> bool:
        draft = self.maker.get(name)
        if draft is None or name in self.graph.outputs or draft.reordered:
            return False
        if len(self.graph.consumers(name)) != 1 or op.inputs.count(name) != 1:
            return False
        if isinstance(op.attributes, ops.Lookup | ops.Affine) and op.inputs[0] != name:
            return False
        same = self.graph.tensors[name].shape == self.graph.tensors[op.output].shape
        return same and not isinstance(draft.ops[0].attributes, ROWS)

    # --- layouts --------------------------------------------------------------------------------------------------

    def row_major(self, buffer: Buffer, name: str) -> Buffer:
        return self.ordered(buffer, name, Layout.row_major(len(buffer.tensor.shape)))

    def ordered(self, buffer: Buffer, name: str, order: Layout) -> Buffer:
        """A tensor in a layout: itself where it lies so, a copy otherwise."""
        if buffer.layout.same(order, buffer.tensor.shape):
            return replace(buffer, layout=order)
        copy = f"{name}.{'rows' if order == Layout.row_major(len(order.order)) else 'channels_last'}"
        if copy in self.sources:
            return self.sources[copy].buffer
        tensor = replace(buffer.tensor, name=copy)
        result = Buffer(tensor, order, copy)
        self.drafts.append(_Draft([], {buffer.name: Source(buffer)}, reordered=name, result=result))
        self.sources[copy] = Source(result)
        return result

    def materialised(self, name: str, source: Source) -> Buffer:
        """Stored numbers that leave the model as reals."""
        op = Op(f"{name}.real", ops.Dequantize(), (name,), name)
        self.put(_Draft([op], {name: Source(source.buffer)}), name)
        return self.sources[name].buffer

    # --- the end --------------------------------------------------------------------------------------------------

    def finished(self, draft: _Draft) -> Kernel:
        if draft.reordered:
            (name, source), *_ = draft.operands.items()
            assert draft.result is not None, "a copy has a place"
            return Kernel(draft.result.name, (), {name: source}, draft.result, copy_nest(source, draft.result), draft.reordered)
        head = draft.ops[0]
        result = self.buffer(self.graph.tensors[draft.ops[-1].output])
        if draft.problem is None:
            nest = nest_of(self.graph, draft.ops, draft.operands, result)
            return Kernel(head.name, tuple(draft.ops), draft.operands, result, nest)
        engine = engine_for(draft.problem, self.capability)
        assert engine is not None, "a draft is a contraction only where something multiplies it"
        choose = self.choose or (lambda op, problem, kind: default_tile(problem, kind, self.capability))
        problem = draft.problem
        tile = choose(head, problem, engine)
        b = problem.b
        fewer = None if draft.rows is None else blocked(problem, draft.rows, tile)
        if fewer is not None:
            b, self.constants[f"{head.name}.packed"] = fewer
            starts = np.cumsum([0, *map(len, fewer[0].lists)])
            self.constants[f"{head.name}.starts"] = starts.astype(np.int32)
            self.constants[f"{head.name}.steps"] = np.asarray([*chain.from_iterable(fewer[0].lists), 0], np.int32)
        work = Contraction(problem.a, b, problem.products, engine, tile, tuple(draft.touches), problem.swapped)
        for violation in work.violations(self.capability):
            raise LeptonError(str(violation), where=head.name)
        registers = estimated_registers(work, self.capability)
        resident = 0 if self.limits is None else planned_blocks(work, self.capability, self.limits)
        if self.limits is not None and not resident:
            raise LeptonError(
                f"no block of {tile.threads} threads and {tile.shared_bytes} bytes fits", where=head.name, fix="a smaller tile"
            )
        return Kernel(head.name, tuple(draft.ops), draft.operands, result, work, registers=registers, resident=resident)
