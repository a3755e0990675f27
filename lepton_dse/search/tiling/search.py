"""The tile search: branch and bound over the buffer's tiles, with the array's best choices bounded once for all of them.

1. Every choice of the array is listed once with the least traffic that it causes (:mod:`.units`, :mod:`.bounds`), and for each
   residency and each set of operands that stay in place a front of least energy and least cycles is kept.
2. A sparse sample of buffer tiles, and a descent from the best of them, gives a first best.
3. All buffer tiles are bounded; those that may beat the best are evaluated exactly, least bound first, in blocks of fixed
   size, so that the result does not depend on the number of threads.

The search ends with every tile evaluated or bounded at or above the best, hence a gap of 0; or at `most` evaluated tiles,
and then says how far the least remaining bound lies below the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.plan import Mapping, SearchResult, Unroll, Violation
from lepton_dse.search.tiling import costs, walk
from lepton_dse.search.tiling.hierarchy import ROLES, Hierarchy
from lepton_dse.search.tiling.prepare import Prepared
from lepton_dse.search.tiling.records import Floats, Ints
from lepton_dse.search.tiling.space import MapSpace, Objective
from lepton_dse.sim.loopnest import LevelMapping, NestMapping, Problem, traffic

__all__ = ["TileResult", "search_tiles"]

_BLOCK, _SAMPLE, _STARTS = 64, 4096, 16
_FIRST_CHUNKS, _MOST_CHUNKS = 4, 4096
_HANDS, _ROOM = 16, 64  # parts that chunks are dealt into; survivors of a chunk that are kept at first


@dataclass(frozen=True)
class TileResult:
    """The best mapping of a nest and the proof of it.

    Parameters
    ----------
    mapping : NestMapping or None
        None where nothing fits; `violation` then says why.
    energy_j, cycles, steps : float
        Of the mapping; steps are the arithmetic's share of the cycles.
    stay, keep : str
        Role of the operand whose loops stand innermost at the buffer and at main memory.
    certificate : SearchResult
    tiles : int
        Buffer tiles that were bounded.
    violation : Violation or None
    """

    mapping: NestMapping | None
    energy_j: float
    cycles: float
    steps: float
    stay: str
    keep: str
    certificate: SearchResult
    tiles: int
    violation: Violation | None = None

    def plan_mapping(self) -> Mapping:
        """As a plan holds it."""
        if self.mapping is None:
            return Mapping()
        spatial = tuple(
            Unroll(loop=loop, factor=factor, axis="array") for loop, factor in self.mapping.spatial.items() if factor > 1
        )
        tiles = {level.name: dict(level.tile) for level in self.mapping.levels[:-1]}
        return Mapping(spatial=spatial, tiles=tiles, order=tuple(reversed(self.mapping.levels[-2].order)))


def search_tiles(
    problem: Problem,
    hierarchy: Hierarchy,
    objective: Objective = Objective.EDP,
    space: MapSpace | None = None,
    *,
    most: int | None = None,
    limit_cycles: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> TileResult:
    """Find the mapping of least cost, and prove it.

    Parameters
    ----------
    problem : Problem
        Two operands read, one written.
    hierarchy : Hierarchy
    objective : Objective
    space : MapSpace, optional
    most : int, optional
        Tiles to evaluate exactly before giving up the proof; no limit by default.
    limit_cycles : float
        Mappings that take longer are out.
    progress : callable, optional
        Told chunks done and chunks in all.

    Raises
    ------
    LeptonError
        If the nest is no contraction of two operands, the hierarchy cannot run, or the space has 2^40 buffer tiles or more.
    """
    if len(problem.reads) != 2:
        raise LeptonError(f"a nest that reads {len(problem.reads)} operands", fix="search tiles of contractions")
    hierarchy.check()
    search = _Search(problem, hierarchy, objective, space or MapSpace(), limit_cycles)
    return search.run(most, progress or (lambda done, total: None))


class _Search:
    """One search, and the best so far."""

    def __init__(self, problem: Problem, hierarchy: Hierarchy, objective: Objective, space: MapSpace, limit: float) -> None:
        self.hierarchy, self.objective, self.space, self.limit = hierarchy, objective, space, limit
        self.prepared = Prepared(problem, hierarchy, objective, space, limit)
        self.shape = tuple(int(count) for count in self.prepared.nest.counts)
        self.best = np.full(walk.FOUND, np.inf)
        self.best_number = -1
        self.evaluated = 0

    @property
    def beaten(self) -> float:
        """Bounds from here on are not worth a look."""
        return float(self.best[0]) * (1 - costs.SAME)

    def run(self, most: int | None, progress: Callable[[int, int], None]) -> TileResult:
        if not len(self.prepared.resident):
            return self._infeasible()
        self._start()
        chunks = self.prepared.total // (self.shape[-1] * self.shape[-2])
        floor, spent, start, width = math.inf, 0, 0, _FIRST_CHUNKS
        while start < chunks:  # few at first: what they find shortens the rest
            stop = min(chunks, start + width)
            progress(start, chunks)
            numbers, bounds = self._bounded(start, stop)
            order = np.lexsort((numbers, bounds))
            numbers, bounds = numbers[order], bounds[order]
            for block in range(0, len(numbers), _BLOCK):
                if bounds[block] >= self.beaten:
                    break
                if most is not None and spent >= most:
                    floor = min(floor, float(bounds[block]))
                    break
                part = slice(block, block + _BLOCK)
                promising = numbers[part][bounds[part] < self.beaten]
                spent += len(promising)
                self._evaluate(promising)
            start, width = stop, min(2 * width, _MOST_CHUNKS)
        progress(chunks, chunks)
        return self._result(min(floor, float(self.best[0])))

    def _start(self) -> None:
        """A first best: the most promising of a sparse sample, then their better neighbours."""
        share = max(2, int(_SAMPLE ** (1 / len(self.shape))))
        picks = [np.unique(np.linspace(0, count - 1, min(count, share)).astype(np.int64)) for count in self.shape]
        grid = np.stack(np.meshgrid(*picks, indexing="ij"), -1).reshape(-1, len(picks))
        numbers: Ints = np.asarray(np.ravel_multi_index(tuple(grid.T), self.shape), np.int64)
        bounds, prepared = np.empty(len(numbers)), self.prepared
        walk.bound_tiles(numbers, prepared.nest, prepared.known, prepared.goal, bounds)
        self._evaluate(numbers[np.lexsort((numbers, bounds))][:_STARTS])
        before = math.inf
        while self.best_number >= 0 and self.best[0] < before:
            before = float(self.best[0])
            place, unit = np.array(np.unravel_index(self.best_number, self.shape)), np.eye(len(self.shape), dtype=np.int64)
            near = [place + step * unit[loop] for loop in range(len(self.shape)) for step in (-1, 1)]
            inside = [tuple(entry) for entry in near if (entry >= 0).all() and (entry < self.shape).all()]
            self._evaluate(np.array([np.ravel_multi_index(entry, self.shape) for entry in inside], np.int64))

    def _evaluate(self, numbers: Ints) -> None:
        """Exact costs of numbered tiles; the best so far moves on where one is better."""
        prepared, found = self.prepared, np.empty((len(numbers), walk.FOUND))
        best = float(self.best[0])
        walk.evaluate_tiles(numbers, best, prepared.nest, prepared.known, prepared.choices, prepared.goal, found)
        self.evaluated += int(found[:, -1].sum())
        for number, record in zip(numbers, found, strict=True):
            if record[0] < self.beaten:
                self.best, self.best_number = record.copy(), int(number)

    def _bounded(self, start: int, stop: int) -> tuple[Ints, Floats]:
        """Tiles of some chunks that may beat the best, and their bounds."""
        prepared = self.prepared
        # Neighbours need like effort; dealt out in turn, every thread's share of the list gets some of each.
        chunks = np.concatenate([np.arange(start + hand, stop, _HANDS) for hand in range(_HANDS)])
        room, found = np.full(len(chunks), _ROOM), []
        while len(chunks):
            offsets = np.concatenate([[0], np.cumsum(room)])
            numbers, bounds = np.empty(offsets[-1], np.int64), np.empty(offsets[-1])
            counts, best = np.empty(len(chunks), np.int64), float(self.best[0])
            arrays = (prepared.nest, prepared.tables, prepared.known, prepared.goal)
            walk.bound_chunks(chunks, best, *arrays, offsets, numbers, bounds, counts)
            fits = counts <= room
            kept = np.arange(len(numbers)) - np.repeat(offsets[:-1], room) < np.repeat(np.where(fits, counts, 0), room)
            found.append((numbers[kept], bounds[kept]))
            chunks, room = chunks[~fits], counts[~fits]  # once more, with room for all
        return np.concatenate([numbers for numbers, _ in found]), np.concatenate([bounds for _, bounds in found])

    def _certificate(self, best: float, bound: float) -> SearchResult:
        gap = (best - bound) / best if best > 0 else 0.0
        return SearchResult(
            objective=self.objective.value,
            space=self.space.describe(self.prepared.problem, self.hierarchy),
            evaluated=self.evaluated,
            best=best,
            lower_bound=bound,
            gap=gap,
            optimal=gap == 0,
        )

    def _result(self, bound: float) -> TileResult:
        if self.best_number < 0:
            return self._infeasible()
        prepared, problem, loops = self.prepared, self.prepared.problem, self.prepared.problem.loops
        value, _, _, k, m, stay, keep, _ = self.best
        place = np.unravel_index(self.best_number, self.shape)
        tile: Ints = prepared.nest.options[np.arange(len(loops)), place]
        choice, names = int(k), [operand.name for operand in problem.operands]
        array = np.minimum(prepared.choices.tiles[choice], tile)
        slice_ = np.minimum(prepared.choices.slices[choice], array)

        def sizes(values: Ints) -> dict[str, int]:
            return dict(zip(loops, map(int, values), strict=True))

        def order(operand: float) -> tuple[str, ...]:
            relevant = prepared.nest.relevant[int(operand)]
            return tuple(loop for _, loop in sorted(zip(map(bool, relevant), loops, strict=True), key=lambda entry: entry[0]))

        def kept(mask: NDArray[np.bool_]) -> frozenset[str]:
            return frozenset(name for name, there in zip(names, mask, strict=True) if there)

        registers, buffer, memory = self.hierarchy.levels
        mapping = NestMapping(
            sizes(slice_),
            (
                LevelMapping(registers.name, sizes(array), order(stay), kept(prepared.resident[choice])),
                LevelMapping(buffer.name, sizes(tile), order(keep), kept(prepared.masks1[int(m)])),
                LevelMapping(memory.name, {}, (), frozenset(names)),
            ),
        )
        # Among mappings of equal cost this one's other figures may be less than the class of its loop order says.
        counted = traffic(problem, mapping)
        energy = problem.iterations * self.hierarchy.energy_j_per_mac
        cycles = float(counted.steps)
        for role, name in zip(ROLES, names, strict=True):
            energy += counted.fetched_bytes[name] * registers.energy_of(role)
            for level in (registers, buffer, memory):
                passed = counted.read_bytes[level.name].get(name, 0.0) + counted.written_bytes[level.name].get(name, 0.0)
                energy += passed * level.energy_of(role)
        for level in (buffer, memory):
            cycles = max(cycles, counted.level_bytes(level.name) / level.bandwidth_byte_per_cycle)
        certificate = self._certificate(float(value), min(bound, float(value)))
        places = ROLES[int(stay)], ROLES[int(keep)]
        return TileResult(mapping, energy, cycles, float(counted.steps), *places, certificate, prepared.total)

    def _infeasible(self) -> TileResult:
        prepared, (registers, buffer, _) = self.prepared, self.hierarchy.levels
        widths = prepared.goal.widths[[0, 1, 3]]
        if not len(prepared.resident):
            level, bound = registers, registers.capacity_bytes
            need = float((prepared.masks0 * widths).sum(1).min())
            if need <= bound:  # then an operand does not fit its own part
                kept = [(role, width) for role, width in zip(ROLES, widths, strict=True) if role in registers.keeps]
                parts = [(float(width), registers.capacity_of(role)) for role, width in kept]
                need, bound = max(parts, key=lambda part: part[0] - part[1])
        elif math.isfinite(self.limit):
            levers: tuple[str, ...] = ("allow more time", "choose a larger array")
            what = f"{prepared.problem.write.name} in the time given"
            violation = Violation(
                what=what, demand=float(prepared.choices.steps.min()), bound=self.limit, unit="cycle", levers=levers
            )
            return TileResult(None, 0.0, 0.0, 0.0, "", "", self._certificate(0.0, 0.0), prepared.total, violation)
        else:
            level, bound = buffer, buffer.capacity_bytes
            need = float((prepared.masks1 * widths).sum(1).min())
        levers = (f"enlarge {level.name}", "let operands bypass it", "use narrower formats")
        what = f"the smallest tile in {level.name}"
        violation = Violation(what=what, demand=need, bound=bound, unit="B", levers=levers)
        return TileResult(None, 0.0, 0.0, 0.0, "", "", self._certificate(0.0, 0.0), prepared.total, violation)
