"""Energy of a streaming design, counted event by event: every partial product, adder cell and bit that a frame takes."""

from __future__ import annotations

import counting
import numpy as np

from lepton_dse.ir.graph import Graph
from lepton_dse.schedule.stream import DepthwiseLayer, MatrixLayer, StreamSchedule
from lepton_dse.targets.fpga import FabricEnergy


def counted_energy(schedule: StreamSchedule, graph: Graph, energy: FabricEnergy) -> float:
    """Joules of a frame."""
    partial_products = adder_cells = bits = 0
    for stage in schedule.stages:
        op, layer = graph.op(stage.layer.name), stage.layer
        streams = [name for name in op.inputs if name not in graph.constants]
        for name in streams:
            for _ in np.ndindex(graph.tensors[name].shape):
                bits += graph.tensors[name].format.bits
        for _ in np.ndindex(graph.tensors[op.output].shape):
            bits += layer.output_bits
        if isinstance(layer, MatrixLayer | DepthwiseLayer):
            for _ in range(counting.macs(graph, op)):
                partial_products += layer.weight_bits * layer.input_bits
                adder_cells += layer.accumulator_bits
                bits += layer.weight_bits
    logic = partial_products * energy.multiply_j.value / 64 + adder_cells * energy.add_j.value / 32
    return logic + bits / 8 * energy.memory_j_per_byte.value
