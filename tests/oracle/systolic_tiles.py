"""Walks the tiles of a product one by one: what moves, what is held, and how long each array works."""

from __future__ import annotations

import systolic_tokens


def walk(
    m: int,
    n: int,
    k: int,
    tile: tuple[int, int, int],
    *,
    n_outer: bool,
    rows: int,
    columns: int,
    over: tuple[int, int],
    groups: int = 1,
) -> dict[str, float]:
    """Elements moved from and to main memory, and streamed into the arrays; cycles of the array with the largest share.

    Main memory keeps of each operand the tile loaded last. Every array takes the first, and so the largest, share of each tile.
    """
    pieces = systolic_tokens.pieces
    moved = {"x": 0, "w": 0, "y": 0, "x_streamed": 0, "tiles": 0}
    outer = [(i, j) for i in pieces(m, tile[0]) for j in pieces(n, tile[1])]
    if n_outer:
        outer = [(i, j) for j in pieces(n, tile[1]) for i in pieces(m, tile[0])]
    for _ in range(groups):
        held_x = held_w = None
        for (m0, mf), (n0, nf) in outer:
            for k0, kf in pieces(k, tile[2]):
                if held_x != (m0, k0):
                    held_x = (m0, k0)
                    moved["x"] += mf * kf
                if held_w != (k0, n0):
                    held_w = (k0, n0)
                    moved["w"] += kf * nf
                moved["tiles"] += 1
                for _, width in pieces(nf, -(-nf // over[1])):
                    moved["x_streamed"] += mf * kf * len(pieces(width, columns))
            moved["y"] += mf * nf
    start, end, last = 0, 0, None
    for _ in range(groups):
        for _, nf in pieces(n, tile[1]):
            for _, mf in pieces(m, tile[0]):
                stream = -(-mf // over[0])
                for _, width in pieces(-(-nf // over[1]), columns):
                    for _, depth in pieces(k, rows):
                        start = depth if last is None else start + max(last, depth)
                        end = max(end, start + stream + rows + width - 2)
                        last = stream
    return moved | {"cycles": end}


def input_rows(m: int, rows: int, positions: int, in_rows: int, stride: int, extent: int) -> int:
    """Distinct input rows that the first `m` output positions look at, without padding."""
    seen = set()
    for position in range(m):
        image, inside = divmod(position, rows * positions)
        first = inside // positions * stride
        seen |= {(image, row) for row in range(first, min(first + extent, in_rows))}
    return len(seen)
