"""Best tiles of a whole network: every contraction searched once for each distinct nest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tiling.hierarchy import Hierarchy, Level
from lepton_dse.search.tiling.memo import remembered_tiles
from lepton_dse.search.tiling.search import TileResult
from lepton_dse.search.tiling.space import MapSpace, Objective
from lepton_dse.sim.loopnest import problem_of
from lepton_dse.targets import TpuTarget
from lepton_dse.targets.schema import MemoryLevel

__all__ = ["NetworkTiles", "hierarchy_of", "tile_network"]


@dataclass(frozen=True)
class NetworkTiles:
    """Best tiles of each contraction of a network, run one after another.

    Parameters
    ----------
    layers : tuple of (str, TileResult)
        Name of the operation, and its tiles.
    """

    layers: tuple[tuple[str, TileResult], ...]

    @property
    def feasible(self) -> bool:
        """Whether every contraction fits."""
        return all(result.violation is None for _, result in self.layers)

    @property
    def energy_j(self) -> float:
        """Joules of all contractions."""
        return sum(result.energy_j for _, result in self.layers)

    @property
    def cycles(self) -> float:
        """Cycles of all contractions."""
        return sum(result.cycles for _, result in self.layers)

    @property
    def optimal(self) -> bool:
        """Whether each layer's mapping is proved to be the best of its space."""
        return all(result.certificate.optimal for _, result in self.layers)


def tile_network(
    graph: Graph,
    hierarchy: Hierarchy,
    precision: Precision,
    objective: Objective = Objective.EDP,
    space: MapSpace | None = None,
    *,
    batch: int = 1,
    progress: Callable[[str], None] | None = None,
) -> NetworkTiles:
    """Search the tiles of every contraction of a network.

    Parameters
    ----------
    graph : Graph
    hierarchy : Hierarchy
    precision : Precision
    objective : Objective
        Minimised for each layer by itself; energy and latency of the network are then sums of the best, the product is not.
    space : MapSpace, optional
    batch : int
        Samples a pass.
    progress : callable, optional
        Told the layer that is about to be searched.

    Raises
    ------
    LeptonError
        If the graph has no contraction, or cannot take the batch.
    """
    graph = graph.with_batch(batch)
    contractions = [op for op in graph.ops if graph.nest(op).multiplies]
    if not contractions:
        raise LeptonError(f"'{graph.name}' has no contraction", fix="tile a model with convolutions or matrix products")
    layers = []
    for op in contractions:
        if progress is not None:
            progress(op.name)
        problem = problem_of(graph, op, precision)
        layers.append((op.name, remembered_tiles(problem, hierarchy, objective, space or MapSpace())))
    return NetworkTiles(tuple(layers))


def hierarchy_of(target: TpuTarget, precision: Precision) -> Hierarchy:
    """A systolic target as the machine that tiles are searched for: cells that hold one weight, on-chip memory, main memory.

    Half of the on-chip memory holds the tiles in use, the other half those that are being loaded. Energies that the target does
    not state count as 0.

    Raises
    ------
    LeptonError
        If the target has no arithmetic for the formats.
    """
    if target.peak(precision) is None:
        raise LeptonError(f"{target.name} has no {precision} arithmetic", fix="choose another format")
    clock = target.clock_hz.value
    chip, memory = target.levels[0], target.levels[-1]
    known = target.energy_j_per_mac.get(str(precision))

    def level(entry: MemoryLevel, share: float) -> Level:
        energy = 0.0 if entry.energy_j_per_byte is None else entry.energy_j_per_byte.value
        return Level(entry.name, entry.capacity_bytes.value * share, entry.bandwidth_byte_per_s.value / clock, energy)

    cells = Level("cell", precision.weights.bits / 8, float("inf"), 0.0, ("w",), bypass=False)
    return Hierarchy(
        int(target.array_rows.value),
        int(target.array_columns.value * target.array_count.value),
        (cells, level(chip, 0.5), level(memory, 1.0)),
        0.0 if known is None else known.value,
    )
