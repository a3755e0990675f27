"""Seconds of every step of a sharded program: kernels by the model of the device's family, exchanges by that of the cluster.

A contraction is a product of its loops (:mod:`lepton_dse.sim.product`) in the formats of its operands; where the device lacks
these, in the narrowest that it has and that hold them. Every other operation moves its operands and its result once. Operations
run one after another: what a compiler fuses is not taken off, so that the sum is above what runs. A view, and a part that is cut
where it stands, cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import loop_nest
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import stored_bytes
from lepton_dse.numerics.formats import FLOAT32, INT8, INT32, NumberFormat, Precision
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.schedule.sharded import Compute, Cut, Exchange, Halo, Shard, ShardedProgram, Step
from lepton_dse.schedule.sharded.reshard import moves
from lepton_dse.search.kernels import GpuKernels, TpuKernels, kernels_of
from lepton_dse.sim.network import Fabric, Group, exchange_time, fabric_of
from lepton_dse.targets import Cluster, GpuTarget, TpuTarget, load_target

__all__ = ["StepPrices", "exchange_seconds", "message_bytes", "prices_of"]

_SPECIAL = ops.Softmax | ops.Sigmoid | ops.Tanh | ops.Gelu | ops.Unary


@dataclass
class StepPrices:
    """Prices on one cluster, each looked up once.

    Parameters
    ----------
    cluster : Cluster
    device : GpuTarget or TpuTarget
    fabric : Fabric
    """

    cluster: Cluster
    device: GpuTarget | TpuTarget
    fabric: Fabric
    kernels: dict[Precision, GpuKernels | TpuKernels] = field(default_factory=dict)
    known: dict[object, float] = field(default_factory=dict)

    def program(self, program: ShardedProgram) -> float:
        """Seconds of all steps, one after another."""
        return sum(self.step(step, program) for step in program.steps)

    def step(self, step: Step, program: ShardedProgram) -> float:
        """Seconds of one step."""
        if isinstance(step, Cut):
            return 0.0
        if isinstance(step, Compute):
            return self._compute(step.op, program.shards)
        mesh = program.mesh
        if isinstance(step, Halo):
            source = program.shards[step.source].tensor
            row = source.elements // source.shape[step.dimension] * source.format.numpy.itemsize
            group = Group(2, mesh.stride(step.axis))
            return exchange_time(Collective.POINT_TO_POINT, float(max(step.before, step.after) * row), group, self.fabric)
        group = Group(mesh.size(step.axes), min(mesh.stride(axis) for axis in step.axes))
        return exchange_time(step.kind, float(message_bytes(step, program.shards)), group, self.fabric)

    def _compute(self, op: Op, shards: Mapping[str, Shard]) -> float:
        inputs, output = [shards[name].tensor for name in op.inputs], shards[op.output].tensor
        key = (op.attributes, tuple((tensor.shape, tensor.format) for tensor in inputs), output.shape, output.format)
        if key not in self.known:
            self.known[key] = self._operation(op, inputs, output)
        return self.known[key]

    def _operation(self, op: Op, inputs: list[Tensor], output: Tensor) -> float:
        if isinstance(op.attributes, ops.Reshape) or not output.elements:
            return 0.0
        nest = loop_nest(op, inputs, output)
        if not nest.multiplies:
            moved = float(sum(stored_bytes(tensor) for tensor in inputs) + stored_bytes(output))
            elements = float(max(nest.iterations, output.elements))
            kernels = self._kernels(Precision(FLOAT32, FLOAT32))
            return kernels.streaming(moved, elements, elements if isinstance(op.attributes, _SPECIAL) else 0.0)
        groups = m = n = k = 1
        of_x, of_w = ({name for index in read.indices for name, _ in index.terms} for read in nest.reads[:2])
        for loop in nest.loops:
            if loop.reduction:
                k *= loop.extent
            elif loop.name in of_x and loop.name in of_w:
                groups *= loop.extent
            elif loop.name in of_w:
                n *= loop.extent
            else:
                m *= loop.extent
        formats = Precision(inputs[1].format, inputs[0].format)
        bits = tuple(8.0 * tensor.format.numpy.itemsize for tensor in (inputs[0], inputs[1], output))
        return self._kernels(formats).product(float(m), float(n), float(k), float(groups), (bits[0], bits[1], bits[2]))

    def _kernels(self, formats: Precision) -> GpuKernels | TpuKernels:
        """Kernels in these formats, or in the narrowest that hold them."""
        if formats not in self.kernels:
            both = (formats.weights, formats.activations)
            for candidate in (formats, *(Precision(form, form) for form in _wider(both))):
                if self.device.peak(candidate) is not None:
                    self.kernels[formats] = kernels_of(self.device, candidate)
                    break
            else:
                raise LeptonError(f"{self.device.name} computes nothing as wide as {formats}", fix="choose another device")
        return self.kernels[formats]


def _wider(formats: tuple[NumberFormat, NumberFormat]) -> tuple[NumberFormat, ...]:
    if all(form.is_integer for form in formats):
        return (INT8, INT32, *_REALS)
    return _REALS


_REALS = (NumberFormat.parse("bfloat16"), NumberFormat.parse("float16"), FLOAT32)


def exchange_seconds(graph: Graph, tensor: str, home: Layout, wanted: Layout, mesh: Mesh, prices: StepPrices) -> float:
    """Seconds of bringing a tensor from its home to another layout."""
    whole = graph.tensors[tensor]
    key = (whole.shape, whole.format, home, wanted, mesh)
    if key not in prices.known:
        prices.known[key] = _exchanges(whole, home, wanted, mesh, prices)
    return prices.known[key]


def _exchanges(whole: Tensor, home: Layout, wanted: Layout, mesh: Mesh, prices: StepPrices) -> float:
    size = float(whole.elements * whole.format.numpy.itemsize)
    total, now = 0.0, home
    for move in moves(home, wanted):
        if move.kind is not None:
            joined = move.result if move.kind == "all_gather" else now
            message = size / mesh.size(joined.used)
            group = Group(mesh.size(move.axes), min(mesh.stride(axis) for axis in move.axes))
            total += exchange_time(move.kind, message, group, prices.fabric)
        now = move.result
    return total


def message_bytes(step: Exchange, shards: Mapping[str, Shard]) -> int:
    """Bytes of the message, as :mod:`lepton_dse.parallel.collectives` counts them: the gathered result, or what goes in."""
    name = step.result if step.kind is Collective.ALL_GATHER else step.source
    return stored_bytes(shards[name].tensor)


def prices_of(cluster: Cluster) -> StepPrices:
    """Prices on a cluster.

    Raises
    ------
    LeptonError
        If its device is neither GPU nor TPU, or its nodes have no links.
    """
    device = load_target(cluster.device)
    if not isinstance(device, GpuTarget | TpuTarget):
        raise LeptonError(f"{device.name} is neither GPU nor TPU", where=cluster.name, fix="choose a cluster of either")
    return StepPrices(cluster, device, fabric_of(cluster))
