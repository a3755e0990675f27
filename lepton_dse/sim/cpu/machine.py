"""A CPU's hardware model and a contraction as the numbers that pricing looks at."""

from __future__ import annotations

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.cpu.pricing import Core, Work
from lepton_dse.sim.product import Product, product_of
from lepton_dse.sim.report import compulsory_bytes
from lepton_dse.targets import CpuTarget

__all__ = ["core_of", "work_of"]

_ACCUMULATOR_BITS = 32
"""Sums of formats up to 32 bits."""


def core_of(target: CpuTarget, precision: Precision) -> Core:
    """The numbers of a CPU for a pair of formats.

    Raises
    ------
    LeptonError
        If a cache's line is no power of two.
    """
    cores = target.core_count.value
    peak = target.peak(precision)
    rate = 0.0 if peak is None else peak.mac_per_s.value / cores
    wide = max(_ACCUMULATOR_BITS, precision.activations.bits)
    lanes = max(1.0, float(int(target.simd_bits.value / wide)))
    each = rate / (target.clock_hz.value * target.fma_ports.value * lanes)
    caches = target.levels[:-1]
    ways = [int(level.ways.value) for level in caches if level.ways is not None]
    lines = [level.line_bytes.value for level in caches if level.line_bytes is not None]
    for level, line in zip(caches, lines, strict=True):
        if line != int(line) or int(line) & (int(line) - 1):
            where = f"{level.name} of {target.name}"
            raise LeptonError(f"lines of {line:g} bytes", where=where, fix="a power of two is needed")
    sets = [target.instance_bytes(level) / (way * line) for level, way, line in zip(caches, ways, lines, strict=True)]
    alone = [
        level.bandwidth_byte_per_s.value / cores if level.core_byte_per_s is None else level.core_byte_per_s.value
        for level in target.levels
    ]
    return Core(
        cores=cores,
        mac_per_s=rate,
        clock=target.clock_hz.value,
        load_ports=target.load_ports.value,
        fma_cycles=target.fma_cycles.value,
        window=target.reorder_window.value,
        registers=target.registers.value,
        fill_s=0.0 if target.fill_cycles is None else target.fill_cycles.value / target.clock_hz.value,
        load_window=0.0 if target.load_window is None else target.load_window.value,
        lanes=lanes,
        depth=float(max(1, round(each))),
        sets=np.array([*sets, 0.0], np.float64),
        ways=np.array([*ways, 0], np.int64),
        line=np.array([*lines, 0.0], np.float64),
        shared_by=np.array([target.sharers(level) for level in target.levels], np.float64),
        core_rate=np.array(alone, np.float64),
        rate=np.array([level.bandwidth_byte_per_s.value for level in target.levels], np.float64),
    )


def work_of(graph: Graph, op: Op, precision: Precision) -> tuple[Work, Work]:
    """A contraction with its output positions as rows, and with its output channels as rows.

    Parameters
    ----------
    graph : Graph
    op : Op
        Its nest multiplies.
    precision : Precision
    """
    product = product_of(graph, op, graph.nest(op), precision)
    constant = op.inputs[1] in graph.constants
    compulsory = compulsory_bytes(graph, op, precision)
    return _oriented(product, constant, compulsory, swapped=False), _oriented(product, constant, compulsory, swapped=True)


def _oriented(product: Product, constant: bool, compulsory: float, *, swapped: bool) -> Work:
    windowed = product.in_rows > 1 or product.positions > 1
    m, n = (product.n, product.m) if swapped else (product.m, product.n)
    x, w = product.x_element, product.w_element
    return Work(
        groups=float(product.groups),
        m=float(m),
        n=float(n),
        k=float(product.k),
        a_element=w if swapped else x,
        b_element=x if swapped else w,
        c_element=product.y_element,
        c_step=n * product.y_element,
        other_bytes=product.other_bytes,
        image=(2 if swapped else 1) if windowed else 0,
        fixed=(1 if swapped else 2) if constant else 0,
        positions=float(product.positions),
        image_rows=float(product.rows),
        in_rows=float(product.in_rows),
        row_step=float(product.stride),
        row_extent=float(product.extent),
        row_bytes=product.row_bytes,
        compulsory=compulsory,
    )
