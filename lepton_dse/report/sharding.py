"""How the devices of a mesh share a plan's operations, as a table."""

from __future__ import annotations

from rich.table import Table

from lepton_dse.ir.graph import Graph
from lepton_dse.plan import Sharding
from lepton_dse.report.tables import plain_table

__all__ = ["sharding_table"]


def sharding_table(graph: Graph, sharding: Sharding) -> Table:
    """A row for each operation of the lowered graph, in order; a line before each stage of a pipeline but the first."""
    stages = f", {len(sharding.stages) + 1} stages" if sharding.stages else ""
    table = plain_table(f"{graph.name} over {sharding.mesh} of {sharding.cluster}{stages}", "operation", "shared by", "result")
    for name in (op.name for op in graph.ops):
        entry = sharding.ops[name]
        if name in sharding.stages:
            table.add_section()
        loops = ", ".join(f"{loop} over {'+'.join(axes)}" for loop, axes in entry.loops.items()) or "none: whole on every device"
        table.add_row(name, loops, f"[{', '.join('+'.join(axes) or '-' for axes in entry.home)}]")
    return table
