"""Brute-force counters for GPU kernels: CTAs placed one by one, lanes and banks enumerated, panels walked in raster order."""

from __future__ import annotations

from collections import defaultdict


def occupancy(
    registers: int, shared: int, threads: int, most: int, of_thread: int, of_cta: int, threads_of_cta: int, system: int = 1024
) -> int:
    """Places CTAs until the next one would not fit; each warp takes registers of one quarter, in units of 256."""
    need = of_thread * 32
    while need % 256:
        need += 1
    quarters = [registers // 4] * 4
    placed = taken_threads = taken_shared = 0
    while placed < most:
        taken_shared += of_cta + system
        while taken_shared % 128:
            taken_shared += 1
        for _ in range(-(-threads_of_cta // 32)):
            taken_threads += 32
            roomiest = quarters.index(max(quarters))
            quarters[roomiest] -= need
        if min(quarters) < 0 or taken_threads > threads or taken_shared > shared:
            break
        placed += 1
    return placed


def busiest(ctas: int, multiprocessors: int) -> int:
    """CTAs of the multiprocessor with the most, each CTA going to the one with the fewest so far."""
    load = [0] * multiprocessors
    for _ in range(ctas):
        load[load.index(min(load))] += 1
    return max(load)


def waves(ctas: int, multiprocessors: int, resident: int) -> int:
    """Rounds until all CTAs have run, if all that run side by side end together: the busiest multiprocessor decides."""
    queues = [0] * multiprocessors
    for cta in range(ctas):
        queues[cta % multiprocessors] += 1
    rounds = 0
    while any(queues):
        queues = [max(0, queue - resident) for queue in queues]
        rounds += 1
    return rounds


def conflict_passes(words: list[int], words_per_lane: int) -> int:
    """Passes of a request of 32 lanes: in each pass every bank serves one word, to however many lanes ask for it."""
    group = 32 // words_per_lane
    worst = 0
    for first in range(0, 32, group):
        waiting = {words[lane] + word for lane in range(first, first + group) for word in range(words_per_lane)}
        passes = 0
        while waiting:
            served: dict[int, int] = {}
            for word in sorted(waiting):
                served.setdefault(word % 32, word)
            waiting -= set(served.values())
            passes += 1
        worst = max(worst, passes)
    return worst


def raster_panels(x: int, y: int, width: int, in_flight: int, x_panel: float, y_panel: float, cache: float) -> dict[str, int]:
    """Panels read of either operand, walking the CTAs in raster order with an explicit set of panels on chip.

    A panel is on chip while CTAs in flight use it. Panels of the group stay for the group if the cache holds a whole group's;
    panels of the other operand stay for good if the cache holds them all.
    """
    read: dict[str, int] = defaultdict(int)
    held_y: set[int] = set()
    group = min(width, x)
    columns = min(y, max(1, in_flight // group))
    for first_row in range(0, x, group):
        rows = range(first_row, min(x, first_row + group))
        held_x: set[int] = set()
        group_held_y: set[int] = set()
        for first in range(0, y, columns):
            step_x: set[int] = set()
            for column in range(first, min(y, first + columns)):
                for row in rows:
                    if row not in step_x and row not in held_x:
                        read["x"] += 1
                        step_x.add(row)
                    if column not in group_held_y and column not in held_y:
                        read["y"] += 1
                        group_held_y.add(column)
            if x_panel * group <= cache:
                held_x |= step_x
        if y_panel * y <= cache:
            held_y |= group_held_y
    return dict(read)


def bytes_of_runs(n: int, k: int, count: int, bits: int) -> float:
    """Weights with two of four kept, run by run: each run writes two values and two positions of 2 bits."""
    written = 0
    for _ in range(count):
        for _ in range(n):
            for _ in range(k // 4):
                for _ in range(2):
                    written += bits
                    written += 2
    return written / 8


def bytes_of_compressed_rows(matrices: list[list[list[int]]], bits: int) -> float:
    """All matrices as compressed rows, one after another: values, column numbers, and where each row begins and the last ends."""
    values, columns, pointers = 0, 0, 1
    for rows in matrices:
        for row in rows:
            pointers += 1
            for weight in row:
                if weight:
                    values += 1
                    columns += 1
    return values * bits / 8 + 4 * columns + 4 * pointers
