"""The least that is live at once over all topological orders of a small graph, each counted tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

ONE = ops.Sigmoid | ops.Tanh | ops.Gelu
TWO = ops.Add | ops.Binary
"""Kinds whose result may overwrite their operand, or either of two."""


def orders(graph: Graph) -> list[list[Op]]:
    """All topological orders."""
    return [[graph.op(name) for name in names] for names in nx.all_topological_sorts(graph.networkx)]


def least_live(graph: Graph, sizes: dict[str, int], *, in_place: bool) -> int:
    """Bytes of the order that needs least."""
    return min(live_bytes(graph, order, sizes, in_place=in_place) for order in orders(graph))


def live_bytes(graph: Graph, order: Sequence[Op], sizes: dict[str, int], *, in_place: bool) -> int:
    """The most that is needed in one operation of an order, tensors of one block counted once."""
    block = {name: name for name in graph.inputs}
    most = sum(sizes[name] for name in graph.inputs) if not order else 0
    for step, op in enumerate(order):
        later = {name for other in order[step + 1 :] for name in other.inputs} | set(graph.outputs)
        before = {name for name in block if name in later or name in op.inputs or (step == 0 and name in graph.inputs)}
        block[op.output] = op.output
        if isinstance(op.attributes, ops.Reshape) and op.inputs[0] in block:
            block[op.output] = block[op.inputs[0]]
        elif in_place and isinstance(op.attributes, ONE | TWO):
            for name in op.inputs:
                sharing = {other for other in before if other in block and block[other] == block.get(name)}
                same = graph.tensors[name].shape == graph.tensors[op.output].shape and sizes[name] == sizes[op.output]
                if name in before and same and sharing == {name} and name not in later:
                    block[op.output] = block[name]
                    break
        most = max(most, sum(sizes[name] for name in {block[name] for name in (*before, op.output)}))
    return most
