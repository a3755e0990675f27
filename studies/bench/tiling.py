"""Speed of the exact tile search, its proof included, on the problems that other mappers are timed on."""

from __future__ import annotations

import math

import numpy as np
from measuring import Row, least_seconds

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tiling import Hierarchy, Level, MapSpace, Objective, search_tiles
from lepton_dse.search.tiling.search import _Search
from lepton_dse.sim.loopnest import Problem, problem_of

# 32 x 32 units with 64 bytes of registers each, a buffer of 512 KiB, main memory; joules a byte and a multiply-accumulate.
MACHINE = Hierarchy(
    32,
    32,
    (Level("registers", 64, math.inf, 0.1e-12), Level("buffer", 512 * 1024, 256, 3e-12), Level("dram", 1e12, 32, 80e-12)),
    0.3e-12,
)


def convolution(channels: int, filters: int, extent: int, kernel: int) -> Problem:
    builder = GraphBuilder("convolution")
    x = builder.input("x", (1, channels, extent, extent))
    w = builder.constant("w", np.ones((filters, channels, kernel, kernel), np.float32))
    pad = (kernel // 2,) * 2
    graph = builder.build([builder.add(ops.Conv(ops.Window((kernel,) * 2, (1, 1), (1, 1), pad, pad), 1), [x, w], output="y")])
    return problem_of(graph, graph.ops[0], Precision.parse("int8"))


def product(size: int) -> Problem:
    builder = GraphBuilder("product")
    x, w = builder.input("x", (size, size)), builder.constant("w", np.ones((size, size), np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [x, w], output="y")])
    return problem_of(graph, graph.ops[0], Precision.parse("int8"))


def rows(repetitions: int) -> list[Row]:
    """Seconds to a proved optimum, and buffer tiles bounded a second; a tile counts once for all its mappings."""
    found = []
    for name, problem in (("ResNet-18 conv2_x", convolution(64, 64, 56, 3)), ("GEMM 4096^3", product(4096))):
        for objective in Objective:
            result = search_tiles(problem, MACHINE, objective)
            assert result.certificate.optimal, f"{name}: a proof"
            where = f"{name}, {objective.value}, {result.tiles:,} buffer tiles, gap {result.certificate.gap:g}"
            seconds = least_seconds(lambda p=problem, o=objective: search_tiles(p, MACHINE, o), repetitions)
            found.append(Row("exact tile search", where, seconds, "s"))
        search = _Search(problem, MACHINE, Objective.ENERGY, MapSpace(), math.inf)
        best = search.run(None, lambda done, total: None).certificate.best
        search.best[0] = best
        chunks = search.prepared.total // (search.shape[-1] * search.shape[-2])
        seconds = least_seconds(lambda s=search, c=chunks: s._bounded(0, c), 10 * repetitions)
        found.append(Row("tiles bounded", f"{name}, energy", search.prepared.total / seconds / 1e6, "M/s"))
    return found
