"""A machine that walks a mapped loop nest statement by statement and notes every element it moves. Written from the prose of
the model, without its formulas: sets of coordinates, nested Python loops, no tile arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from lepton_dse.ir.loops import Access, LoopNest

Range = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """A loop that steps tiles of one row through those of the next."""

    row: int
    loop: str
    size: int
    moves: bool


class NestMachine:
    """Rows of tiles from the slice of a step (row 0) to the whole nest (the last); orders[k] lists the loops that step row k."""

    def __init__(
        self,
        nest: LoopNest,
        shapes: dict[str, tuple[int, ...]],
        rows: list[dict[str, int]],
        orders: list[list[str]],
    ) -> None:
        self.nest, self.shapes, self.rows, self.orders = nest, shapes, rows, orders
        self.extents = {loop.name: loop.extent for loop in nest.loops}

    def steps_around(self, row: int) -> list[Step]:
        """The loops around a tile of a row, innermost first."""
        found = []
        for k in range(row, len(self.rows) - 1):
            for loop in self.orders[k]:
                found.append(Step(k, loop, self.rows[k][loop], self.rows[k][loop] < self.rows[k + 1][loop]))
        return found

    def uses(self, access: Access, loop: str) -> bool:
        return any(name == loop for index in access.indices for name, _ in index.terms)

    def load_site(self, access: Access, row: int) -> list[Step]:
        """The loops that stay around a load after it has been moved out as far as it may."""
        around = self.steps_around(row)
        while around and (not self.uses(access, around[0].loop) or not around[0].moves):
            around = around[1:]
        return around

    def places(self, around: list[Step]) -> Iterator[dict[str, Range]]:
        """Every iteration of some loops, outermost slowest: the range of each loop's iterations that it leaves."""

        def walk(steps: list[Step], ranges: dict[str, Range]) -> Iterator[dict[str, Range]]:
            if not steps:
                yield ranges
                return
            step, rest = steps[0], steps[1:]
            start, stop = ranges[step.loop]
            for first in range(start, stop, step.size):
                yield from walk(rest, {**ranges, step.loop: (first, min(stop, first + step.size))})

        yield from walk(list(reversed(around)), {loop: (0, extent) for loop, extent in self.extents.items()})

    def touched(self, access: Access, ranges: dict[str, Range]) -> set[tuple[int, ...]]:
        """Coordinates inside the tensor that a tile uses."""
        names = [loop for loop in ranges if self.uses(access, loop)]
        found = set()
        for point in product(*(range(*ranges[name]) for name in names)):
            at = {**dict.fromkeys(ranges, 0), **dict(zip(names, point, strict=True))}
            place = tuple(index.at(at) for index in access.indices)
            if all(0 <= position < extent for position, extent in zip(place, self.shapes[access.tensor], strict=True)):
                found.add(place)
        return found

    def loaded(self, access: Access, row: int) -> int:
        """Elements that go into the tiles of a row."""
        return sum(len(self.touched(access, ranges)) for ranges in self.places(self.load_site(access, row)))

    def stored(self, access: Access, row: int) -> tuple[int, int]:
        """Elements written out of the tiles of a row, and those of them that are not final: each of these is read again."""
        written: Counter[tuple[int, ...]] = Counter()
        for ranges in self.places(self.load_site(access, row)):
            written.update(self.touched(access, ranges))
        return sum(written.values()), sum(written.values()) - len(written)

    def streamed(self, access: Access) -> Counter[tuple[int, ...]]:
        """How often each element moves where nothing keeps it: in every step that uses it."""
        moved: Counter[tuple[int, ...]] = Counter()
        for ranges in self.places(self.steps_around(0)):
            moved.update(self.touched(access, ranges))
        return moved

    def steps(self) -> int:
        return sum(1 for _ in self.places(self.steps_around(0)))
