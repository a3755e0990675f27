"""The tile search equals exhaustive enumeration, says what it proved, and does not depend on threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tiling import Hierarchy, Level, MapSpace, Objective, Tiles, search_tiles
from lepton_dse.search.tiling.space import tile_options
from lepton_dse.sim.loopnest import Problem, problem_of, traffic

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import exhaustive_tiles as oracle

INT8 = Precision.parse("int8")
MOST = 15_000  # mappings that enumeration prices for one case
CASES = settings(max_examples=200, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small searches beside other tests: more threads than cores only wait for one another."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def product_of(rows: int, columns: int, inner: int) -> Problem:
    builder = GraphBuilder("matmul")
    x = builder.input("x", (rows, inner))
    w = builder.constant("w", np.ones((inner, columns), np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [x, w], output="y")])
    return problem_of(graph, graph.ops[0], INT8)


def convolution_of(
    shape: tuple[int, ...], filters: int, kernel: int, stride: int = 1, pad: tuple[int, int] = (0, 0), groups: int = 1
) -> Problem:
    builder = GraphBuilder("conv")
    x = builder.input("x", shape)
    axes = len(shape) - 2
    w = builder.constant("w", np.ones((filters, shape[1] // groups, *(kernel,) * axes), np.float32))
    window = ops.Window((kernel,) * axes, (stride,) * axes, (1,) * axes, (pad[0],) * axes, (pad[1],) * axes)
    graph: Graph = builder.build([builder.add(ops.Conv(window, groups), [x, w], output="y")])
    return problem_of(graph, graph.ops[0], INT8)


@st.composite
def products(draw: st.DrawFn) -> Problem:
    return product_of(draw(st.integers(1, 9)), draw(st.integers(1, 6)), draw(st.integers(2, 9)))


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    kernel, stride = draw(st.integers(2, 5)), draw(st.integers(1, 2))
    pad = (draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1)))
    length = draw(st.integers(max(1, kernel - sum(pad)), kernel + 5))
    return convolution_of((1, draw(st.integers(1, 3)), length), draw(st.integers(1, 3)), kernel, stride, pad)


@st.composite
def depthwise(draw: st.DrawFn) -> Problem:
    kernel, channels = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    pad = draw(st.integers(0, kernel - 1))
    shape = (1, channels, draw(st.integers(kernel, kernel + 4)))
    return convolution_of(shape, channels, kernel, draw(st.integers(1, 2)), (pad, pad), channels)


@st.composite
def hierarchies(draw: st.DrawFn) -> Hierarchy:
    energy = st.sampled_from([0.0, 0.25, 1.0, 3.0])
    roles = st.lists(st.sampled_from(["x", "w", "y"]), unique=True).map(tuple)
    capacity = st.sampled_from([0, 1, 2, 4, 6, 9, 16, 40, 1000])
    bandwidth = st.sampled_from([0.5, 2.0, 7.0, 1e9])
    own = tuple((role, draw(energy)) for role in draw(roles))
    part = tuple((role, draw(capacity)) for role in draw(roles))
    registers = Level("registers", draw(capacity), 1e9, draw(energy), draw(roles), draw(st.booleans()), own, part)
    buffer = Level("buffer", draw(capacity) * 3, draw(bandwidth), draw(energy) * 2, draw(roles), draw(st.booleans()))
    memory = Level("memory", 1e9, draw(bandwidth), draw(energy) * 20 + 1)
    return Hierarchy(draw(st.integers(1, 3)), draw(st.integers(1, 3)), (registers, buffer, memory), draw(energy))


spaces = st.sampled_from([MapSpace(Tiles.CEIL), MapSpace(Tiles.DIVISOR)])


def equals_enumeration(problem: Problem, hierarchy: Hierarchy, space: MapSpace, every_order: bool = False) -> None:
    assume(oracle.size(problem, hierarchy, space, every_order) <= MOST)
    expected = oracle.best(problem, hierarchy, space, every_order)
    for objective in Objective:
        found = search_tiles(problem, hierarchy, objective, space)
        if not expected:
            assert found.mapping is None
            assert found.violation is not None
            assert found.violation.demand > found.violation.bound
            continue
        certificate = found.certificate
        assert certificate.best == pytest.approx(expected[objective.value], rel=1e-9)
        assert certificate.optimal
        assert certificate.gap == 0
        assert found.mapping is not None
        # The mapping that is returned costs what is said of it, counted by the general model.
        counted = traffic(problem, named(problem, found.mapping))
        energy = problem.iterations * hierarchy.energy_j_per_mac
        for role, operand in zip(("x", "w", "y"), problem.operands, strict=True):
            energy += counted.fetched_bytes[operand.name] * hierarchy.levels[0].energy_of(role)
            for level in hierarchy.levels:
                for moved in (counted.read_bytes, counted.written_bytes):
                    energy += moved[level.name].get(operand.name, 0.0) * level.energy_of(role)
        busy = [counted.level_bytes(level.name) / level.bandwidth_byte_per_cycle for level in hierarchy.levels[1:]]
        assert found.energy_j == pytest.approx(energy, rel=1e-9)
        assert found.cycles == pytest.approx(max(counted.steps, *busy), rel=1e-9)


def named(problem: Problem, mapping):  # type: ignore[no-untyped-def]
    """The mapping without the loops of one iteration that the search adds to very small nests."""

    def kept(sizes):  # type: ignore[no-untyped-def]
        return {loop: size for loop, size in sizes.items() if problem.loop(loop) >= 0}

    levels = tuple(
        replace(level, tile=kept(level.tile), order=tuple(loop for loop in level.order if problem.loop(loop) >= 0))
        for level in mapping.levels
    )
    return replace(mapping, spatial=kept(mapping.spatial), levels=levels)


@CASES
@given(products(), hierarchies(), spaces)
def test_products_equal_enumeration(problem: Problem, hierarchy: Hierarchy, space: MapSpace) -> None:
    equals_enumeration(problem, hierarchy, space)


@CASES
@given(convolutions(), hierarchies(), spaces)
def test_convolutions_equal_enumeration(problem: Problem, hierarchy: Hierarchy, space: MapSpace) -> None:
    equals_enumeration(problem, hierarchy, space)


@CASES
@given(depthwise(), hierarchies(), spaces)
def test_depthwise_convolutions_equal_enumeration(problem: Problem, hierarchy: Hierarchy, space: MapSpace) -> None:
    equals_enumeration(problem, hierarchy, space)


@settings(max_examples=40, deadline=None)
@given(products(), hierarchies(), spaces)
def test_no_loop_order_is_better_than_the_three(problem: Problem, hierarchy: Hierarchy, space: MapSpace) -> None:
    equals_enumeration(problem, hierarchy, space, every_order=True)


MACHINE = Hierarchy(
    16,
    16,
    (Level("registers", 16, 1e9, 0.1e-12), Level("buffer", 32768, 64, 3e-12), Level("memory", 1e12, 16, 80e-12)),
    0.3e-12,
)
NETWORK = [
    product_of(1, 1000, 512),
    product_of(197, 768, 768),
    convolution_of((1, 16, 28, 28), 32, 3, 1, (1, 1)),
    convolution_of((1, 3, 64, 64), 16, 7, 2, (3, 3)),
    convolution_of((1, 32, 14, 14), 32, 3, 1, (1, 1), 32),
]


@pytest.mark.parametrize("problem", NETWORK, ids=lambda problem: "x".join(map(str, problem.extents)))
@pytest.mark.parametrize("objective", Objective)
def test_layers_are_proved_and_do_not_depend_on_threads(problem: Problem, objective: Objective) -> None:
    results = []
    for threads in (1, 2):
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        results.append(search_tiles(problem, MACHINE, objective))
        numba.set_num_threads(1)
    assert results[0] == results[1]
    assert results[0].certificate.optimal
    assert results[0].cycles >= problem.iterations / (MACHINE.rows * MACHINE.columns)


@settings(max_examples=60, deadline=None)
@given(st.one_of(products(), convolutions()), hierarchies(), st.sampled_from(["capacity", "bandwidth", "units", "registers"]))
def test_more_of_anything_never_costs_time(problem: Problem, hierarchy: Hierarchy, what: str) -> None:
    registers, buffer, memory = hierarchy.levels
    if what == "capacity":
        more = replace(hierarchy, levels=(registers, replace(buffer, capacity_bytes=2 * buffer.capacity_bytes + 3), memory))
    elif what == "registers":
        more = replace(hierarchy, levels=(replace(registers, capacity_bytes=registers.capacity_bytes + 5), buffer, memory))
    elif what == "bandwidth":
        faster = [replace(level, bandwidth_byte_per_cycle=1.5 * level.bandwidth_byte_per_cycle) for level in (buffer, memory)]
        more = replace(hierarchy, levels=(registers, *faster))
    else:
        more = replace(hierarchy, rows=hierarchy.rows + 1, columns=hierarchy.columns + 2)
    before, after = (search_tiles(problem, machine, Objective.LATENCY) for machine in (hierarchy, more))
    if before.mapping is not None:
        assert after.mapping is not None
        assert after.cycles <= before.cycles * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.one_of(products(), convolutions()), hierarchies())
def test_a_search_that_stops_early_brackets_the_optimum(problem: Problem, hierarchy: Hierarchy) -> None:
    whole = search_tiles(problem, hierarchy, Objective.EDP).certificate
    part = search_tiles(problem, hierarchy, Objective.EDP, most=0).certificate
    assert part.lower_bound <= whole.best * (1 + 1e-9)
    assert part.best >= whole.best * (1 - 1e-9)


@pytest.mark.parametrize("problem", [NETWORK[1], NETWORK[2]], ids=["product", "convolution"])
def test_a_search_that_stops_early_says_how_far_it_may_be(problem: Problem) -> None:
    whole = search_tiles(problem, MACHINE, Objective.ENERGY).certificate
    part = search_tiles(problem, MACHINE, Objective.ENERGY, most=0).certificate
    assert not part.optimal
    assert 0 < part.gap < 0.5
    assert part.lower_bound < whole.best <= part.best


def test_a_limit_on_time_trades_energy_for_it() -> None:
    problem = NETWORK[2]
    free = search_tiles(problem, MACHINE, Objective.ENERGY)
    fast = search_tiles(problem, MACHINE, Objective.LATENCY)
    assert fast.cycles < free.cycles
    held = search_tiles(problem, MACHINE, Objective.ENERGY, limit_cycles=fast.cycles)
    assert held.cycles == fast.cycles
    assert free.energy_j < held.energy_j <= fast.energy_j
    assert search_tiles(problem, MACHINE, Objective.ENERGY, limit_cycles=1).violation is not None


@given(st.integers(1, 5000))
def test_tile_options_are_those_of_their_definitions(extent: int) -> None:
    for tiles in Tiles:
        assert list(tile_options(extent, tiles)) == oracle.options(extent, tiles)


def test_the_space_is_printed() -> None:
    found = search_tiles(NETWORK[2], MACHINE, Objective.EDP)
    for word in ("16x16 units", "ceil-distinct", "halo", "32 bits", "ties"):
        assert word in found.certificate.space
    assert found.plan_mapping().spatial


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (replace(MACHINE, rows=0), "0 x 16"),
        (replace(MACHINE, levels=MACHINE.levels[:2]), "2 levels"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("memory", 1e9, 0.0, 1.0))), "moves nothing"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("memory", 1e9, float("nan"), 1.0))), "moves nothing"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("memory", -1.0, 1.0, 1.0))), "negative"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("memory", 1.0, 1.0, 1.0, ("z",)))), "'z'"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("memory", 1.0, 1.0, 1.0, (), True, (("q", 1.0),)))), "'q'"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("memory", 1.0, 1.0, 1.0, (), True, (("x", -1.0),)))), "negative"),
        (replace(MACHINE, levels=(*MACHINE.levels[:2], Level("m", 9.0, 1.0, 1.0, (), True, (), (("x", 1.0),)))), "by operand"),
    ],
)
def test_machines_that_cannot_run_are_refused(machine: Hierarchy, message: str) -> None:
    with pytest.raises(LeptonError, match=message):
        search_tiles(NETWORK[0], machine)


def test_a_space_without_end_is_refused() -> None:
    endless = replace(NETWORK[1], extents=(1 << 30, 1 << 30, 1 << 30))
    with pytest.raises(LeptonError, match="tiles of"):
        search_tiles(endless, MACHINE)
