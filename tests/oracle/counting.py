"""Bytes and multiply-accumulates of a graph, counted one element and one product at a time; knows nothing of loop nests."""

from __future__ import annotations

from itertools import product

import numpy as np

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op


def macs(graph: Graph, op: Op) -> int:
    """Products that an operation sums, those with padding included."""
    output = graph.tensors[op.output].shape
    count = 0
    match op.attributes:
        case ops.Conv(window, groups):
            for _ in product(*map(range, output)):
                for _ in product(range(graph.tensors[op.inputs[0]].shape[1] // groups), *map(range, window.kernel)):
                    count += 1
        case ops.MatMul():
            for _ in product(*map(range, output)):
                count += sum(1 for _ in range(graph.tensors[op.inputs[0]].shape[-1]))
        case _:
            return 0
    return count


def steps(graph: Graph, op: Op) -> int:
    """What a processor without multiplications to do executes: one step a tap, or one an element."""
    output = graph.tensors[op.output].shape
    match op.attributes:
        case ops.MaxPool(window) | ops.AveragePool(window):
            return sum(1 for _ in product(*map(range, output), *map(range, window.kernel)))
        case ops.ArgMax():
            return sum(1 for _ in np.ndindex(graph.tensors[op.inputs[0]].shape))
        case ops.Reshape():
            return 0
        case _:
            return sum(1 for _ in np.ndindex(output))


def traffic_bits(graph: Graph, op: Op, weights: int, activations: int) -> int:
    """Bits of every operand and of the result, element by element, each tensor once."""
    bits = 0
    for name in {*op.inputs, op.output}:
        tensor = graph.tensors[name]
        if tensor.format.is_integer:
            width = tensor.format.bits
        elif name not in graph.constants:
            width = activations
        else:
            width = 32 if len(tensor.shape) == 1 else weights
        bits += sum(width for _ in np.ndindex(tensor.shape))
    return bits
