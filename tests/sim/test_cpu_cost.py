"""The CPU cost model: by hand, never below what physics allows, monotone in the hardware, quick on a real network."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.errors import InvalidTargetError, LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport
from lepton_dse.search.cpu import BLOCKS, ORDERS, TILES, cpu_cost, search_work, splits_of
from lepton_dse.search.cpu_rerank import rerank
from lepton_dse.sim.cache import Blocking, Layout, matrix_problem
from lepton_dse.sim.cpu import arithmetic_s, core_of, nest_of, price, price_nest, work_of
from lepton_dse.sim.roofline import roofline
from lepton_dse.targets import CpuTarget, load_target, target_names
from lepton_dse.targets.schema import Rate
from lepton_dse.testing.strategies import graphs, precisions

CPUS = [name for name in target_names() if load_target(name).family == "cpu"]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
INT8, FLOAT32 = Precision.parse("int8"), Precision.parse("float32")


def cpu(name: str) -> CpuTarget:
    target = load_target(name)
    assert isinstance(target, CpuTarget)
    return target


def with_levels(target: CpuTarget, field: str, factor: float, at: range) -> CpuTarget:
    """Some levels with one figure scaled, where they have it."""
    levels = list(target.levels)
    for index in at:
        quantity = getattr(levels[index], field)
        if quantity is not None:
            scaled = quantity.model_copy(update={"value": quantity.value * factor})
            levels[index] = levels[index].model_copy(update={field: scaled})
    return target.model_copy(update={"levels": tuple(levels)})


def with_cores(target: CpuTarget, count: int) -> CpuTarget:
    """The same cores in another number: private caches and peaks scale, what is shared stays."""
    factor = count / target.core_count.value
    private = [index for index, level in enumerate(target.levels) if target.sharers(level) == 1]
    for field in ("capacity_bytes", "bandwidth_byte_per_s"):
        target = with_levels(target, field, factor, range(len(private)))
    shared = [level.shared_by for level in target.levels[len(private) : -1]]
    levels = list(target.levels)
    for index, sharers in enumerate(shared, start=len(private)):
        assert sharers is not None
        levels[index] = levels[index].model_copy(update={"shared_by": Rate(value=count, source=sharers.source)})
    peaks = tuple(
        peak.model_copy(update={"mac_per_s": Rate(value=peak.mac_per_s.value * factor, source=peak.mac_per_s.source)})
        for peak in target.peaks
    )
    core_count = target.core_count.model_copy(update={"value": float(count)})
    return target.model_copy(update={"core_count": core_count, "peaks": peaks, "levels": tuple(levels)})


def dense(batch: int = 1, inputs: int = 3, outputs: int = 2, *, constant: bool = True) -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", (batch, inputs))
    if constant:
        w, b = np.ones((inputs, outputs), np.float32), np.ones(outputs, np.float32)
        return builder.build([builder.add(ops.MatMul(), [x, builder.constant("w", w), builder.constant("b", b)], output="y")])
    return builder.build([builder.add(ops.MatMul(), [x, builder.input("w", (inputs, outputs))], output="y")])


def test_a_dense_layer_by_hand() -> None:
    """Three values into two on one core of one product, one load and one byte a second.

    A tile of one row and two columns takes three steps of three loads, its two sums two loads and two stores: 13 seconds. The
    first level moves the 9 bytes loaded, 4 of sums and the bias of 8: 21. Main memory: x 3, w 6, y 2 in and 2 out, bias 8: 21.
    """
    target = cpu("unit-cpu")
    report = cpu_cost(dense(), target, INT8, 1)
    assert report.latency_s == 21
    assert report.traffic_bytes == {"l1": 21, "dram": 21}
    assert report.ops[0].mapping.tiles["registers"] == {"m": 1, "n": 2}
    assert report.energy_j == 6 + 42
    fast = with_levels(target, "bandwidth_byte_per_s", 1e12, range(2))
    report = cpu_cost(dense(), fast, INT8, 1)
    assert (report.latency_s, report.bound_by) == (13, "arithmetic")
    assert report.ops[0].utilization == 6 / 13
    slow_start = fast.model_copy(update={"launch_s": Rate(value=100, source="unit")})
    report = cpu_cost(dense(), slow_start, INT8, 1)
    assert (report.latency_s, report.bound_by) == (113, "launch")


def test_what_is_no_contraction_streams() -> None:
    builder = GraphBuilder("clip")
    graph = builder.build([builder.add(ops.Clip(0.0, 6.0), [builder.input("x", (1, 5))], output="y")])
    report = cpu_cost(graph, cpu("unit-cpu"), INT8, 1)
    assert (report.latency_s, report.traffic_bytes) == (10, {"l1": 10, "dram": 10})
    assert report.search is not None
    assert report.search.optimal


def test_arithmetic_by_hand() -> None:
    """A core of the EPYC in float32: 6 x 2 vectors are 12 cycles a step, loads 4, the chain 4 and less with look-ahead."""
    core = core_of(cpu("amd-epyc-9654"), FLOAT32)
    assert (core.lanes, core.depth, core.mac_per_s) == (16, 1, 16 * 2.4e9)
    time_ = arithmetic_s(core, 1.0, 6.0, 32.0, 100.0, 6.0, 2.0, 100.0)
    assert time_ == pytest.approx((100 * 12 + 2 * 12 / 2) / 2.4e9)
    alone = arithmetic_s(core._replace(window=0.0), 1.0, 1.0, 16.0, 100.0, 1.0, 1.0, 100.0)
    assert alone == pytest.approx((100 * 4 + 2 / 2) / 2.4e9)
    ahead = arithmetic_s(core, 1.0, 1.0, 16.0, 100.0, 1.0, 1.0, 100.0)
    assert ahead == pytest.approx((100 * 4 * 100 / (100 + 320 / 5) + 1) / 2.4e9)
    spilled = arithmetic_s(core._replace(registers=9.0, mac_per_s=0.0), 1.0, 6.0, 32.0, 100.0, 6.0, 2.0, 100.0)
    assert spilled == pytest.approx((100 * (8 + 2 * 6) / 2 + 12) / 2.4e9)
    # Partial tiles take as long as full ones.
    assert arithmetic_s(core, 1.0, 7.0, 33.0, 100.0, 6.0, 2.0, 100.0) == pytest.approx(4 * time_)
    # VNNI sums four bytes at a time.
    assert core_of(cpu("amd-epyc-9654"), INT8).depth == 4


def test_lines_that_meet_in_one_set_wait_for_one_another() -> None:
    """B read where it lies, its 512 rows a way of the first cache apart: every one of its lines waits for the one before."""
    core = core_of(cpu("amd-epyc-9654"), FLOAT32)._replace(fill_s=5e-9, load_window=64.0)
    blocking = Blocking(1, 1, 16, 8, 64, 512, Layout.UNPACKED, Layout.UNPACKED, "mnp", rows_inner=False)
    nests = [nest_of(matrix_problem(8, 64, 512, ldb=ldb), blocking) for ldb in (1024, 1040)]
    met, apart = (price_nest(nest, core, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0) for nest in nests)
    # Four lines of each row of B for each of eight rows of A; A's own 8 x 32 and the 8 x 4 of C are nearly all kept.
    assert met.level_s[1] == pytest.approx((8 * 4 * 512 + 8 * 32 + 8 * 4) * 5e-9, rel=1e-3)
    assert met.total_s >= met.level_s[1] > 3 * apart.total_s
    free = price_nest(nests[0], core._replace(fill_s=0.0), 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    assert free.total_s < met.total_s
    # The same blocks, packed first: the source is read a column of tiles at a time, so each of its lines waits once.
    packed = nest_of(matrix_problem(8, 64, 512, ldb=1024), replace(blocking, b=Layout.PACKED))
    assert price_nest(packed, core, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0).total_s < 0.5 * met.total_s


def test_every_listed_blocking_is_no_better_than_the_chosen_one() -> None:
    graph = dense(200, 300, 500)
    for name in ("raspberry-pi-5", "unit-cpu"):
        core = core_of(cpu(name), FLOAT32)
        works, splits = work_of(graph, graph.ops[0], FLOAT32), splits_of(int(core.cores))
        found = search_work(works, core, splits)
        assert found.seconds == pytest.approx(found.price.total_s)
        for way, work in enumerate(works):
            for split in splits:
                m, n = np.ceil(work.m / split[1]), np.ceil(work.n / split[2])
                times = [arithmetic_s(core, 1.0, m, n, work.k, *tile, work.k) for tile in TILES]
                rows, vectors = TILES[int(np.argmin(times))]
                columns = vectors * core.lanes
                for block in BLOCKS:
                    sizes = (block[0] * rows or np.ceil(m / rows) * rows, block[1] * columns or np.ceil(n / columns) * columns)
                    if sizes[0] > np.ceil(m / rows) * rows or sizes[1] > np.ceil(n / columns) * columns:
                        continue
                    for order in ORDERS:
                        for packed in (0, 1):
                            turn = (int(order[0]), int(order[1]), int(order[2]))
                            deep = block[2] or work.k
                            if split[0] > 1 or deep > work.k:
                                continue
                            cost = price(work, core, tuple(split), (rows, vectors), (*sizes, deep), turn, packed)
                            assert cost.total_s >= found.seconds * (1 - 1e-12), (way, split, block)


@settings(max_examples=60, deadline=None)
@given(graphs(branches=True), precisions(2, 16), st.integers(1, 4), st.sampled_from(CPUS))
def test_no_bound_is_beaten_and_totals_are_sums(graph: Graph, precision: Precision, batch: int, name: str) -> None:
    target = cpu(name)
    report, bound = cpu_cost(graph, target, precision, batch), roofline(graph, target, precision, batch)
    assert report.latency_s == pytest.approx(sum(op.latency_s for op in report.ops), rel=1e-12)
    assert report.feasible == (not report.violations) == (target.peak(precision) is not None)
    assert report.search is not None
    assert report.search.lower_bound <= report.latency_s * (1 + 1e-12)
    assert report.peak_bytes == bound.peak_bytes
    assert all(0 <= op.utilization <= 1 + 1e-9 for op in report.ops)
    for op, least in zip(report.ops, bound.ops, strict=True):
        assert op.macs == least.macs
        assert op.latency_s * (1 + 1e-9) >= least.latency_s
        assert all(op.traffic_bytes[level] >= moved * (1 - 1e-9) for level, moved in least.traffic_bytes.items())
    for level in target.levels:
        assert report.latency_s * (1 + 1e-9) >= report.traffic_bytes[level.name] / level.bandwidth_byte_per_s.value
    assert CostReport.model_validate_json(report.model_dump_json()) == report


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900), st.integers(1, 900)),
    st.sampled_from(CPUS),
    st.sampled_from(["int8", "float32"]),
    st.booleans(),
    st.floats(1, 20),
    st.integers(1, 12),
)
def test_more_hardware_never_costs_time(
    sizes: tuple[int, int, int], name: str, form: str, constant: bool, factor: float, cores: int
) -> None:
    target, precision = cpu(name), Precision.parse(form)
    graph = dense(*sizes, constant=constant)

    def seconds(device: CpuTarget) -> float:
        core = core_of(device, precision)._replace(fill_s=10 / target.clock_hz.value, load_window=60.0)
        return search_work(work_of(graph, graph.ops[0], precision), core, splits_of(int(core.cores))).seconds

    base = seconds(target) * (1 + 1e-9)
    caches, every = range(len(target.levels) - 1), range(len(target.levels))
    for fields, at in ((("capacity_bytes",), caches), (("bandwidth_byte_per_s", "core_byte_per_s"), every)):
        better = target
        for field in fields:
            better = with_levels(better, field, factor, at)
        assert seconds(better) <= base
    assert seconds(with_levels(target, "ways", 2, caches)) <= base * 1.2  # the same bytes in half the sets: about as good
    few, more = with_cores(target, cores), with_cores(target, cores + 1)
    assert seconds(more) <= seconds(few) * (1 + 1e-9)


def test_larger_caches_save_traffic() -> None:
    """A product far larger than the last cache, with slow memory: the traffic falls as the cache grows."""
    target = with_levels(cpu("raspberry-pi-5"), "bandwidth_byte_per_s", 0.05, range(3, 4))
    target = with_levels(target, "core_byte_per_s", 0.05, range(3, 4))
    graph = dense(2048, 2048, 2048)
    moved = []
    for factor in (1, 4, 16):
        report = cpu_cost(graph, with_levels(target, "capacity_bytes", factor, range(2, 3)), FLOAT32, 2048)
        moved.append(report.traffic_bytes["dram"])
    assert moved[0] > 1.2 * moved[1] > 1.44 * moved[2]
    assert moved[0] >= 3 * 4 * 2048**2


def test_cores_share_memory() -> None:
    """A matrix by a vector: more cores help until main memory is busy, and the report says so."""
    report = cpu_cost(dense(1, 4096, 4096), cpu("amd-epyc-9654"), INT8, 1)
    assert report.bound_by == "dram"
    assert report.latency_s == pytest.approx(4096 * 4096 / 460.8e9, rel=0.1)
    cores = [unroll.factor for unroll in report.ops[0].mapping.spatial if unroll.axis == "cores"]
    assert np.prod(cores) >= 460.8 // 30


def test_equal_operations_are_searched_once() -> None:
    def chain(depth: int) -> CostReport:
        builder = GraphBuilder("chain")
        value = builder.input("x", (1, 64))
        for index in range(depth):
            w = builder.constant(f"w{index}", np.zeros((64, 64), np.float32))
            value = builder.add(ops.MatMul(), [value, w], output=f"y{index}")
        return cpu_cost(builder.build([value]), cpu("aws-graviton3"), INT8, 1)

    one, six = chain(1), chain(6)
    assert one.search is not None
    assert six.search is not None
    assert one.search.evaluated == six.search.evaluated > 0
    assert six.latency_s == pytest.approx(6 * one.latency_s)
    assert "best of" in one.search.space


@pytest.mark.parametrize("name", CPUS)
def test_the_digits_model_on_every_cpu(name: str) -> None:
    report = flow.cost(load_model(data_folder("models") / "digits_cnn.onnx"), name, format="int8")
    assert report.feasible
    assert report.latency_s > 0


@pytest.mark.parametrize("name", ["amd-epyc-9654", "intel-xeon-8480", "raspberry-pi-5"])
def test_resnet50_is_quick(name: str) -> None:
    graph, target = load_model(LIGHT / "light_resnet50.onnx"), cpu(name)
    cpu_cost(graph, target, INT8, 1)  # compiles
    start = time.perf_counter()
    report = cpu_cost(graph, target, INT8, 8)
    assert time.perf_counter() - start < 2
    assert sum(op.macs for op in report.ops) == 8 * 4_089_184_256
    bound = roofline(graph, target, INT8, 8).latency_s
    assert bound <= report.latency_s < 2 * bound


def test_huge_extents_do_not_wrap() -> None:
    core = core_of(cpu("amd-epyc-9654"), INT8)
    graph = dense()
    works = work_of(graph, graph.ops[0], INT8)
    m, n, k = 2.0**40, 2.0**39, 2.0**38
    large = works[0]._replace(m=m, n=n, k=k, c_step=n, compulsory=m * n + m * k + k * n)
    swapped = works[1]._replace(m=n, n=m, k=k, c_step=m, compulsory=large.compulsory)
    found = search_work((large, swapped), core, splits_of(96))
    assert found.seconds >= m * n * k / (96 * core.mac_per_s)
    assert found.seconds < 2 * m * n * k / (96 * core.mac_per_s)


def test_formats_that_a_device_lacks_are_violations() -> None:
    for name, form in (("intel-xeon-e5-2699v3", "float64"), ("aws-graviton3", "int16"), ("raspberry-pi-5", "float64")):
        report = cpu_cost(dense(), cpu(name), Precision.parse(form), 1)
        assert not report.feasible
        assert form in report.violations[0].what
        assert report.latency_s > 0


def test_a_model_larger_than_memory_is_a_violation() -> None:
    small = with_levels(cpu("unit-cpu"), "capacity_bytes", 16e-18, range(2))
    report = cpu_cost(dense(), small, INT8, 1)
    assert not report.feasible
    assert (report.violations[0].demand, report.violations[0].bound) == (142, 16)


def test_the_simulator_ranks_the_best_again() -> None:
    graph = dense(512, 640, 512)
    ranked = rerank(graph, graph.ops[0], cpu("raspberry-pi-5"), FLOAT32, limit=1 << 21)
    assert len(ranked) == 16
    times = [entry.simulated_s for entry in ranked]
    assert times == sorted(times)
    best = cpu_cost(graph, cpu("raspberry-pi-5"), FLOAT32, 512)
    assert min(entry.closed_s for entry in ranked) == pytest.approx(best.latency_s)
    for entry in ranked:
        assert entry.closed_s / 3 < entry.simulated_s < entry.closed_s * 3
    with pytest.raises(LeptonError, match="at least 1"):
        rerank(graph, graph.ops[0], cpu("raspberry-pi-5"), FLOAT32, keep=0)
    builder = GraphBuilder("clip")
    clip = builder.build([builder.add(ops.Clip(0.0, 6.0), [builder.input("x", (1, 5))], output="y")])
    with pytest.raises(LeptonError, match="no contraction"):
        rerank(clip, clip.ops[0], cpu("raspberry-pi-5"), FLOAT32)


SCRIPT = """
import numpy as np
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.cpu import cpu_cost
from lepton_dse.targets import load_target
builder = GraphBuilder("conv")
x = builder.input("x", (1, 3, 9, 9))
w = builder.constant("w", np.zeros((8, 3, 3, 3), np.float32))
window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
graph = builder.build([builder.add(ops.Conv(window), [x, w], output="y")])
report = cpu_cost(graph, load_target("raspberry-pi-5"), Precision.parse("int8"), 1)
print(report.latency_s.hex(), [value.hex() for value in report.traffic_bytes.values()], report.ops[0].mapping, report.search)
"""


def test_compiled_and_interpreted_agree() -> None:
    outputs = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert "best of" in outputs[0]


UNIT = (data_folder("hwmodels") / "unit" / "cpu.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ways = { value = 1,", "ways = { value = 0,", "ways"),
        ("shared_by = { value = 1,", "shared_by = { value = 0,", "shared_by"),
        ("line_bytes = { value = 1,", "line_bytes = { value = 0,", "line_bytes"),
        ('ways = { value = 1, source = "unit" }\n', "", "needs ways"),
        ('line_bytes = { value = 1, source = "unit" }\n', "", "needs line_bytes"),
        ("bandwidth_byte_per_s = { value = 1,", "bandwidth_byte_per_s = { value = 0,", "greater than 0"),
        ("core_count = { value = 1,", "core_count = { value = 0,", "greater than 0"),
        ("core_count = { value = 1,", "core_count = { value = 0.5,", "at least 1"),
        ("fma_ports = { value = 1,", "fma_ports = { value = 0,", "greater than 0"),
        ("registers = { value = 1000,", "registers = { value = 0,", "registers"),
        ("capacity_bytes = { value = 1e18,", "capacity_bytes = { value = 0.5,", "less than one set"),
        ('name = "dram"\n', 'name = "dram"\nways = { value = 8, source = "unit" }\n', "main memory"),
        ('name = "dram"', 'name = "l1"', "share a name"),
    ],
)
def test_models_of_no_machine_are_one_clear_error(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in UNIT
    (tmp_path / "odd.toml").write_text(UNIT.replace(old, new, 1))
    with pytest.raises(InvalidTargetError, match=message):
        load_target(tmp_path / "odd.toml")


def test_a_missing_level_is_one_clear_error(tmp_path: Path) -> None:
    first = UNIT.index("[[levels]]")
    second = UNIT.index("[[levels]]", first + 1)
    (tmp_path / "odd.toml").write_text(UNIT[:first] + UNIT[second:])
    with pytest.raises(InvalidTargetError, match="at least 2"):
        load_target(tmp_path / "odd.toml")


def test_a_line_that_is_no_power_of_two_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(UNIT.replace("line_bytes = { value = 1,", "line_bytes = { value = 48,"))
    with pytest.raises(LeptonError, match=r"48 bytes.*power of two"):
        cpu_cost(dense(), load_target(tmp_path / "odd.toml"), INT8, 1)


def test_wrong_arguments_are_one_clear_error() -> None:
    with pytest.raises(LeptonError, match="no CPU"):
        cpu_cost(dense(), load_target("unit-gpu"), INT8, 1)
    with pytest.raises(LeptonError, match="batch"):
        flow.cost(dense(), "unit-cpu", batch=0)
