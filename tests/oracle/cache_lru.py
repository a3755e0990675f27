"""Caches as ordered dictionaries and blocked products as plain loops over element indices: slow, and written on their own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

Access = tuple[int, int, bool]
"""Address, bytes, whether it stores."""


class Level:
    """One cache: a dictionary a set, the most recent line last."""

    def __init__(self, size: int, ways: int, line: int) -> None:
        self.ways, self.line = ways, line
        self.sets: list[OrderedDict[int, bool]] = [OrderedDict() for _ in range(size // ways // line)]
        self.read_misses = self.write_misses = self.lines = self.write_backs = 0

    def missed(self, address: int, size: int, store: bool) -> bool:
        """Touch every line of an access; whether any was absent."""
        absent = False
        for line in range(address // self.line, (address + size - 1) // self.line + 1):
            held = self.sets[line % len(self.sets)]
            dirty = held.pop(line, None)
            if dirty is None:
                absent = True
                self.lines += 1
                if len(held) == self.ways:
                    self.write_backs += held.popitem(last=False)[1]
            held[line] = bool(dirty) or store
        if absent:
            if store:
                self.write_misses += 1
            else:
                self.read_misses += 1
        return absent


def run(levels: list[Level], accesses: Iterable[Access]) -> None:
    """Each access goes outward until a level has all of it."""
    for address, size, store in accesses:
        for level in levels:
            if not level.missed(address, size, store):
                break


def requests(level: Level, accesses: Iterable[Access], window: int) -> int:
    """Lines asked for, if a miss within `window` accesses of the last request for its line waits for that one instead."""
    last: dict[int, int] = {}
    asked = 0
    for now, (address, size, store) in enumerate(accesses):
        line = address // level.line
        if level.missed(address, size, store) and now - last.get(line, -window) >= window:
            last[line] = now
            asked += 1
    return asked


def counts(level: Level) -> tuple[int, int, int, int]:
    return level.read_misses, level.write_misses, level.lines, level.write_backs


class Operand:
    """Where an element lies; None where it is padding."""

    def __init__(self, base: int, element: int, strides: tuple[int, int]) -> None:
        self.base, self.element, self.strides = base, element, strides

    def at(self, row: int, column: int) -> int | None:
        return self.base + (row * self.strides[0] + column * self.strides[1]) * self.element


class Image(Operand):
    """The rows of a convolution's im2col matrix, read from an NCHW image."""

    def __init__(
        self,
        base: int,
        element: int,
        shape: tuple[int, int, int],
        kernel: tuple[int, int],
        out: tuple[int, int],
        stride: int,
        dilation: int,
        pad: int,
    ) -> None:
        super().__init__(base, element, (0, 0))
        self.shape, self.kernel, self.out, self.stride, self.dilation, self.pad = shape, kernel, out, stride, dilation, pad

    def at(self, row: int, column: int) -> int | None:
        channels, height, width = self.shape
        image, place = divmod(row, self.out[0] * self.out[1])
        out_y, out_x = divmod(place, self.out[1])
        channel, tap = divmod(column, self.kernel[0] * self.kernel[1])
        tap_y, tap_x = divmod(tap, self.kernel[1])
        y = out_y * self.stride + tap_y * self.dilation - self.pad
        x = out_x * self.stride + tap_x * self.dilation - self.pad
        if not (0 <= y < height and 0 <= x < width):
            return None
        return self.base + (((image * channels + channel) * height + y) * width + x) * self.element


def blocked(
    sizes: tuple[int, int, int],
    tile: tuple[int, int, int],
    blocks: tuple[int, int, int],
    order: str,
    rows_inner: bool,
    layouts: tuple[str, str],
    a: Operand,
    b: Operand,
    c: Operand,
    buffers: tuple[int, int],
    whole_c: bool = True,
) -> Iterator[Access]:
    """Accesses of the nest; `layouts` are "no", "nest" (packed inside it) or "before"."""
    (m, n, k), (mr, nv, lanes), element = sizes, tile, a.element
    nr = nv * lanes
    step = dict(zip("mnp", blocks, strict=True))
    extent = {"m": m, "n": n, "p": k}

    def loops(depth: int, at: dict[str, int]) -> Iterator[Access]:
        if depth == 3:
            yield from tiles(at)
            return
        name = order[depth]
        for value in range(0, extent[name], step[name]):
            now = {**at, name: value}
            if layouts[1] == "nest" and name in "np" and {"n", "p"} <= set(now):
                yield from fill_b(now)
            if layouts[0] == "nest" and name in "mp" and {"m", "p"} <= set(now):
                yield from fill_a(now)
            yield from loops(depth + 1, now)

    def span(at: dict[str, int], name: str) -> range:
        return range(at[name], min(at[name] + step[name], extent[name]))

    def fill_a(at: dict[str, int]) -> Iterator[Access]:
        panel = buffers[0]
        rows, deep = span(at, "m"), span(at, "p")
        for top in range(rows.start, rows.stop, mr):
            for start in range(0, len(deep), 8):
                for row in range(top, top + mr):
                    for column, p in list(enumerate(deep))[start : start + 8]:
                        source = a.at(row, p) if row < m else None
                        if source is not None:
                            yield source, element, False
                        yield panel + (column * mr + row - top) * element, element, True
            panel += mr * len(deep) * element

    def fill_b(at: dict[str, int]) -> Iterator[Access]:
        place = buffers[1]
        columns = span(at, "n")
        for left in range(columns.start, columns.stop, nr):
            for p in span(at, "p"):
                for first in range(left, left + nr, lanes):
                    yield from vector(b, p, first, False)
                    yield place, lanes * element, True
                    place += lanes * element

    def vector(operand: Operand, row: int, first: int, store: bool, whole: bool = True) -> Iterator[Access]:
        present = range(first, min(first + lanes, n))
        if whole and len(present) == lanes:
            place = operand.at(row, first)
            assert place is not None
            yield place, lanes * element, store
            return
        for column in present:
            place = operand.at(row, column)
            assert place is not None
            yield place, element, store

    def tiles(at: dict[str, int]) -> Iterator[Access]:
        rows, columns, deep = span(at, "m"), span(at, "n"), span(at, "p")
        tops, lefts = range(rows.start, rows.stop, mr), range(columns.start, columns.stop, nr)
        pairs = [(top, left) for left in lefts for top in tops] if rows_inner else [(top, left) for top in tops for left in lefts]
        for top, left in pairs:
            for index, p in enumerate(deep):
                for v in range(nv):
                    if layouts[1] == "no":
                        yield from vector(b, p, left + v * lanes, False)
                    else:
                        panel = (left - columns.start) * len(deep)
                        if layouts[1] == "before":
                            panel = deep.start * (-(-n // nr) * nr) + left * len(deep)
                        yield buffers[1] + (panel + (index * nv + v) * lanes) * element, lanes * element, False
                for i in range(mr):
                    if layouts[0] == "no":
                        place = a.at(top + i, p) if top + i < m else None
                        if place is not None:
                            yield place, element, False
                    else:
                        panel = (top - rows.start) * len(deep)
                        if layouts[0] == "before":
                            panel = deep.start * (-(-m // mr) * mr) + top * len(deep)
                        yield buffers[0] + (panel + index * mr + i) * element, element, False
            for row in range(top, min(top + mr, m)):
                for v in range(nv):
                    for store in (False, True):
                        yield from vector(c, row, left + v * lanes, store, whole_c)

    yield from loops(0, {})
