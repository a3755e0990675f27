"""Runs a blocked nest, access by access in program order, through a hierarchy of caches.

Order within the register tile: for each p first the vectors of B, then the elements of A; after the last p, for each row and
vector of C a load and a store. Where a vector's elements are not neighbours in memory, or stand at the edge, they are touched one
by one. Packing reads and then writes each element of A (each vector of B); padding is written without a read. Packed panels are
whole, so the edge of the product costs loads of padding there, and nothing where operands are not packed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.jit import kernel
from lepton_dse.sim.cache.lru import Counts, Hierarchy, access
from lepton_dse.sim.cache.nest import PACK_COLUMNS, Addresses, Blocking, Layout, Problem

__all__ = ["fill", "simulate"]

LOAD, STORE = 0, 1
_PACKED, _PREPACKED = int(Layout.PACKED), int(Layout.PREPACKED)


class _Plan(NamedTuple):
    """Everything but the offsets, as int64."""

    m: int
    n: int
    k: int
    element: int
    rows: int
    vectors: int
    lanes: int
    mc: int
    nc: int
    kc: int
    layout_a: int
    layout_b: int
    first: int
    """Loop that runs outermost: 0 ic, 1 jc, 2 pc."""
    second: int
    third: int
    rows_inner: int
    a: int
    b: int
    c: int
    packed_a: int
    packed_b: int
    guard_y: int
    guard_x: int


@kernel
def _one(tags: Any, shapes: Any, counts: Any, accesses: Any, address: int, size: int, write: int) -> None:
    accesses[write] += 1
    access(tags, shapes, counts, address, size, write)


@kernel
def _stored(plan: Any, guard_rows: Any, guard_columns: Any, m: int, k: int) -> bool:
    y = guard_rows[m, 0] + guard_columns[k, 0]
    x = guard_rows[m, 1] + guard_columns[k, 1]
    return bool(0 <= y < plan.guard_y and 0 <= x < plan.guard_x)


@kernel
def _pack_a(
    tags: Any,
    shapes: Any,
    counts: Any,
    accesses: Any,
    plan: Any,
    rows: Any,
    columns: Any,
    guard_rows: Any,
    guard_columns: Any,
    ic: int,
    pc: int,
) -> None:
    """Panels of mr rows, w columns at a time, of those row by row."""
    deep = min(plan.kc, plan.k - pc)
    for ir in range(0, min(plan.mc, plan.m - ic), plan.rows):
        for first in range(0, deep, PACK_COLUMNS):
            for i in range(plan.rows):
                m = ic + ir + i
                for p in range(first, min(first + PACK_COLUMNS, deep)):
                    if m < plan.m and _stored(plan, guard_rows, guard_columns, m, pc + p):
                        _one(tags, shapes, counts, accesses, plan.a + rows[m] + columns[pc + p], plan.element, LOAD)
                    place = plan.packed_a + (ir * deep + p * plan.rows + i) * plan.element
                    _one(tags, shapes, counts, accesses, place, plan.element, STORE)


@kernel
def _vector(
    tags: Any,
    shapes: Any,
    counts: Any,
    accesses: Any,
    plan: Any,
    base: int,
    columns: Any,
    n: int,
    whole: bool,
    write: int,
) -> None:
    """`lanes` elements from column n on, at once where they are neighbours."""
    if whole and n + plan.lanes <= plan.n:
        _one(tags, shapes, counts, accesses, base + columns[n], plan.lanes * plan.element, write)
        return
    for lane in range(min(plan.lanes, plan.n - n)):
        _one(tags, shapes, counts, accesses, base + columns[n + lane], plan.element, write)


@kernel
def _pack_b(
    tags: Any, shapes: Any, counts: Any, accesses: Any, plan: Any, rows: Any, columns: Any, whole: bool, jc: int, pc: int
) -> None:
    """Panels of nr columns, row by row."""
    deep = min(plan.kc, plan.k - pc)
    place = plan.packed_b
    for jr in range(0, min(plan.nc, plan.n - jc), plan.vectors * plan.lanes):
        for p in range(deep):
            for v in range(plan.vectors):
                n = jc + jr + v * plan.lanes
                if n < plan.n:
                    _vector(tags, shapes, counts, accesses, plan, plan.b + rows[pc + p], columns, n, whole, LOAD)
                _one(tags, shapes, counts, accesses, place, plan.lanes * plan.element, STORE)
                place += plan.lanes * plan.element


@kernel
def _tile(
    tags: Any,
    shapes: Any,
    counts: Any,
    accesses: Any,
    plan: Any,
    a_rows: Any,
    a_columns: Any,
    b_rows: Any,
    b_columns: Any,
    c_rows: Any,
    c_columns: Any,
    guard_rows: Any,
    guard_columns: Any,
    whole_b: bool,
    whole_c: bool,
    ic: int,
    jc: int,
    pc: int,
    ir: int,
    jr: int,
) -> None:
    """One register tile over one block of k."""
    deep = min(plan.kc, plan.k - pc)
    panel_a = plan.packed_a + ir * deep * plan.element
    panel_b = plan.packed_b + jr * deep * plan.element
    if plan.layout_a == _PREPACKED:
        padded = (plan.m + plan.rows - 1) // plan.rows * plan.rows
        panel_a = plan.packed_a + (pc * padded + (ic + ir) * deep) * plan.element
    if plan.layout_b == _PREPACKED:
        columns = plan.vectors * plan.lanes
        padded = (plan.n + columns - 1) // columns * columns
        panel_b = plan.packed_b + (pc * padded + (jc + jr) * deep) * plan.element
    wide = plan.lanes * plan.element
    for p in range(deep):
        for v in range(plan.vectors):
            n = jc + jr + v * plan.lanes
            if plan.layout_b:
                _one(tags, shapes, counts, accesses, panel_b + (p * plan.vectors + v) * wide, wide, LOAD)
            elif n < plan.n:
                _vector(tags, shapes, counts, accesses, plan, plan.b + b_rows[pc + p], b_columns, n, whole_b, LOAD)
        for i in range(plan.rows):
            m = ic + ir + i
            if plan.layout_a:
                _one(tags, shapes, counts, accesses, panel_a + (p * plan.rows + i) * plan.element, plan.element, LOAD)
            elif m < plan.m and _stored(plan, guard_rows, guard_columns, m, pc + p):
                _one(tags, shapes, counts, accesses, plan.a + a_rows[m] + a_columns[pc + p], plan.element, LOAD)
    for i in range(min(plan.rows, plan.m - ic - ir)):
        row = plan.c + c_rows[ic + ir + i]
        for v in range(plan.vectors):
            n = jc + jr + v * plan.lanes
            if n < plan.n:
                _vector(tags, shapes, counts, accesses, plan, row, c_columns, n, whole_c, LOAD)
                _vector(tags, shapes, counts, accesses, plan, row, c_columns, n, whole_c, STORE)


@kernel
def _walk(
    tags: Any,
    shapes: Any,
    counts: Any,
    accesses: Any,
    plan: Any,
    a_rows: Any,
    a_columns: Any,
    b_rows: Any,
    b_columns: Any,
    c_rows: Any,
    c_columns: Any,
    guard_rows: Any,
    guard_columns: Any,
    whole_b: bool,
    whole_c: bool,
) -> None:
    extents = (plan.m, plan.n, plan.k)
    steps = (plan.mc, plan.nc, plan.kc)
    at = np.zeros(3, np.int64)
    # A block of A depends on ic and pc, one of B on jc and pc: packed in the second loop where the first two name both.
    early_a = plan.third == 1
    early_b = plan.third == 0
    columns = plan.vectors * plan.lanes
    for one in range(0, extents[plan.first], steps[plan.first]):
        at[plan.first] = one
        for two in range(0, extents[plan.second], steps[plan.second]):
            at[plan.second] = two
            if plan.layout_b == _PACKED and early_b:
                _pack_b(tags, shapes, counts, accesses, plan, b_rows, b_columns, whole_b, at[1], at[2])
            if plan.layout_a == _PACKED and early_a:
                _pack_a(tags, shapes, counts, accesses, plan, a_rows, a_columns, guard_rows, guard_columns, at[0], at[2])
            for three in range(0, extents[plan.third], steps[plan.third]):
                at[plan.third] = three
                if plan.layout_b == _PACKED and not early_b:
                    _pack_b(tags, shapes, counts, accesses, plan, b_rows, b_columns, whole_b, at[1], at[2])
                if plan.layout_a == _PACKED and not early_a:
                    _pack_a(tags, shapes, counts, accesses, plan, a_rows, a_columns, guard_rows, guard_columns, at[0], at[2])
                ic, jc, pc = at[0], at[1], at[2]
                high, wide = min(plan.mc, plan.m - ic), min(plan.nc, plan.n - jc)
                outer_stop, outer_step = (wide, columns) if plan.rows_inner else (high, plan.rows)
                inner_stop, inner_step = (high, plan.rows) if plan.rows_inner else (wide, columns)
                for outer in range(0, outer_stop, outer_step):
                    for inner in range(0, inner_stop, inner_step):
                        ir, jr = (inner, outer) if plan.rows_inner else (outer, inner)
                        _tile(
                            tags,
                            shapes,
                            counts,
                            accesses,
                            plan,
                            a_rows,
                            a_columns,
                            b_rows,
                            b_columns,
                            c_rows,
                            c_columns,
                            guard_rows,
                            guard_columns,
                            whole_b,
                            whole_c,
                            ic,
                            jc,
                            pc,
                            ir,
                            jr,
                        )


@kernel
def _fill(tags: Any, shapes: Any, counts: Any, accesses: Any, base: int, stop: int, step: int) -> None:
    for address in range(base, stop, step):
        _one(tags, shapes, counts, accesses, address, step, STORE)


def fill(hierarchy: Hierarchy, base: int, size_bytes: int, step: int) -> None:
    """Store `size_bytes` from `base` on, `step` bytes at a time: how a program sets its operands before the nest runs."""
    if min(base, size_bytes) < 0 or step < 1:
        raise LeptonError(f"a fill of {size_bytes} bytes from {base} in steps of {step}", fix="use a step of at least 1")
    _fill(hierarchy.tags, hierarchy.shapes, hierarchy.counts, hierarchy.accesses, base, base + size_bytes, step)


def simulate(
    hierarchy: Hierarchy, problem: Problem, blocking: Blocking, addresses: Addresses | None = None
) -> tuple[Counts, ...]:
    """Misses of a blocked nest at each level, from the present state of the caches on.

    Parameters
    ----------
    hierarchy : Hierarchy
        Changed.
    problem : Problem
    blocking : Blocking
    addresses : Addresses, optional
        Operands and buffers one after another where not given.

    Returns
    -------
    tuple of Counts
        Of each level, for this nest alone.

    Raises
    ------
    LeptonError
        If an address is negative.
    """
    places = addresses or Addresses.in_sequence(problem, blocking)
    if min(places.a, places.b, places.c, places.packed_a, places.packed_b) < 0:
        raise LeptonError("an operand at a negative address", fix="give addresses of at least 0")
    loops = {"m": 0, "n": 1, "p": 2}
    plan = _Plan(
        problem.m,
        problem.n,
        problem.k,
        problem.element,
        blocking.rows,
        blocking.vectors,
        blocking.lanes,
        blocking.mc,
        blocking.nc,
        blocking.kc,
        int(blocking.a),
        int(blocking.b),
        loops[blocking.order[0]],
        loops[blocking.order[1]],
        loops[blocking.order[2]],
        int(blocking.rows_inner),
        places.a,
        places.b,
        places.c,
        places.packed_a,
        places.packed_b,
        problem.guard[0],
        problem.guard[1],
    )
    before = hierarchy.read()
    _walk(
        hierarchy.tags,
        hierarchy.shapes,
        hierarchy.counts,
        hierarchy.accesses,
        plan,
        problem.a_rows,
        problem.a_columns,
        problem.b_rows,
        problem.b_columns,
        problem.c_rows,
        problem.c_columns,
        problem.guard_rows,
        problem.guard_columns,
        _dense(problem.b_columns, problem.element),
        _dense(problem.c_columns, problem.element),
    )
    return tuple(after - earlier for after, earlier in zip(hierarchy.read(), before, strict=True))


def _dense(offsets: Any, element: int) -> bool:
    return bool(np.all(np.diff(offsets) == element))
