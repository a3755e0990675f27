"""The TPU cost model: by hand on the unit device, against tiles walked one by one, and never below what physics allows."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
from lepton_dse.search.tpu import chip_of, search_product, tpu_cost
from lepton_dse.sim.report import compulsory_bytes
from lepton_dse.sim.roofline import roofline
from lepton_dse.sim.systolic import folds, weight_stationary_cycles
from lepton_dse.sim.tpu import Chip, Tiling, matrix_product, price, product_of
from lepton_dse.targets import TpuTarget, load_target, target_names
from lepton_dse.targets.schema import Rate
from lepton_dse.testing.strategies import graphs, precisions

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import systolic_tiles

TPUS = [name for name in target_names() if load_target(name).family == "tpu"]
STREAMING = [name for name in TPUS if not load_target(name).activations_on_chip]  # type: ignore[union-attr]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
INT8 = Precision.parse("int8")
INTEGERS = precisions(2, 16)
EXTENT = st.integers(1, 300)


def tpu(name: str) -> TpuTarget:
    target = load_target(name)
    assert isinstance(target, TpuTarget)
    return target


def with_level(target: TpuTarget, index: int, **changes: float) -> TpuTarget:
    """One level with other figures."""
    levels = list(target.levels)
    level = levels[index]
    levels[index] = level.model_copy(
        update={name: getattr(level, name).model_copy(update={"value": value}) for name, value in changes.items()}
    )
    return target.model_copy(update={"levels": tuple(levels)})


def dense(batch: int = 1, inputs: int = 3, outputs: int = 2) -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", (batch, inputs))
    w, b = np.ones((inputs, outputs), np.float32), np.ones(outputs, np.float32)
    return builder.build([builder.add(ops.MatMul(), [x, builder.constant("w", w), builder.constant("b", b)], output="y")])


def test_a_dense_layer_by_hand() -> None:
    """Three values into two on one cell of one product a second.

    Bytes: x 3, w 6, bias of 32 bits 8, y 2. The cell loads one weight and then uses six: 7 seconds. With a fast on-chip memory
    the best of the tilings is three tiles along K, which move each byte once: 19 seconds, and a third of the work behind them.
    """
    target = tpu("unit-tpu")
    report = tpu_cost(dense(), with_level(target, 0, bandwidth_byte_per_s=1e12), INT8, 1)
    assert report.latency_s == pytest.approx(19 + 7 / 3, rel=1e-9)
    assert (report.bound_by, report.traffic_bytes["hbm"]) == ("hbm", 19)
    # x goes in once for each of the two columns, weights once, y comes out, and all 19 pass through.
    assert report.traffic_bytes["vmem"] == 19 + 6 + 6 + 2
    assert report.ops[0].mapping.tiles == {"vmem": {"M": 1, "N": 2, "K": 1}}
    assert report.ops[0].utilization == pytest.approx(6 / (19 + 7 / 3))
    assert report.energy_j == 6 + 19 + 33  # one joule a product, and one a byte and level
    # At one byte a second the on-chip memory is the slowest: the first tile, all 33, the last result.
    slow = tpu_cost(dense(), target, INT8, 1)
    assert (slow.latency_s, slow.bound_by) == (3 + 33 + 2, "vmem")
    # With all memory fast, the cell.
    fast = with_level(with_level(target, 0, bandwidth_byte_per_s=1e12), 1, bandwidth_byte_per_s=1e12)
    report = tpu_cost(dense(), fast, INT8, 1)
    assert report.latency_s == pytest.approx(7, rel=1e-9)
    assert report.bound_by == "arithmetic"
    assert tpu_cost(dense(), fast.model_copy(update={"launch_s": Rate(value=100, source="unit")}), INT8, 1).bound_by == "launch"


def test_what_is_no_contraction_runs_on_the_vector_unit() -> None:
    builder = GraphBuilder("clip")
    graph = builder.build([builder.add(ops.Clip(0.0, 6.0), [builder.input("x", (1, 5))], output="y")])
    report = tpu_cost(graph, tpu("unit-tpu"), INT8, 1)
    assert report.latency_s == 20  # ten bytes into the on-chip memory or out of it, and as many on its other side
    assert report.traffic_bytes == {"vmem": 20, "hbm": 10}


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 3),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.data(),
)
def test_prices_are_those_of_tiles_walked_one_by_one(
    m: int, n: int, k: int, groups: int, size: tuple[int, int], over: tuple[int, int], data: st.DataObject
) -> None:
    rows, columns = size
    tile = (
        data.draw(st.integers(1, m)),
        min(n, columns * data.draw(st.integers(1, 5))),
        min(k, rows * data.draw(st.integers(1, 5))),
    )
    n_outer = data.draw(st.booleans())
    walked = systolic_tiles.walk(m, n, k, tile, n_outer=n_outer, rows=rows, columns=columns, over=over, groups=groups)
    product = matrix_product(m, n, k, x_bits=16, w_bits=8, y_bits=32, groups=groups)
    chip = Chip(rows, columns, 9, 1.0, 1e18, 1.0, 1.0, 1 << 40, False, 0.0)
    cost = price(product, chip, Tiling(*tile, 1, *over, n_outer))
    assert cost.outer_bytes == 2 * walked["x"] + walked["w"] + 4 * walked["y"]
    weights_in = groups * n * k * folds(m, tile[0]) * over[0]
    assert cost.inner_bytes == cost.outer_bytes + 2 * walked["x_streamed"] + 4 * walked["y"] + weights_in
    # Only the drain behind the very last fold, of at most all columns, depends on the order of tiles.
    assert walked["cycles"] <= cost.cycles <= walked["cycles"] + columns
    assert cost.cycles >= m * n * k * groups / (rows * columns * over[0] * over[1])


@settings(max_examples=100, deadline=None)
@given(EXTENT, EXTENT, EXTENT, st.integers(1, 9), st.integers(1, 9), EXTENT, st.integers(1, 3))
def test_one_array_takes_the_cycles_of_the_machine(
    m: int, n: int, k: int, rows: int, columns: int, tile: int, groups: int
) -> None:
    chip = Chip(rows, columns, 1, 1.0, 1e18, 1.0, 1.0, 1 << 40, False, 0.0)
    block = min(tile, m)
    cost = price(matrix_product(m, n, k, groups=groups), chip, Tiling(block, n, k, 1, 1, 1, False))
    assert cost.cycles == weight_stationary_cycles(m, n, k, rows, columns, block, True, False, groups)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([1, 2, 4, 6]), st.integers(1, 6), st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 4), st.data()
)
def test_input_rows_of_a_tile(rows: int, positions: int, images: int, extent: int, stride: int, data: st.DataObject) -> None:
    """Tiles of whole rows or whole images, all alike: each reads the rows that its windows look at."""
    in_rows, image = (rows - 1) * stride + extent, rows * positions
    parts = [positions * part for part in range(1, rows + 1) if rows % part == 0]
    m = data.draw(st.sampled_from(parts + [image * part for part in range(1, images + 1) if images % part == 0]))
    product = matrix_product(images * image, 1, extent)._replace(
        rows=rows, positions=positions, in_rows=in_rows, stride=stride, extent=extent, row_bytes=1.0, x_bytes=0.0
    )
    chip = Chip(1, 1, 1, 1.0, 1e18, 1.0, 1.0, 1 << 40, False, 0.0)
    read = price(product, chip, Tiling(m, 1, extent, 1, 1, 1, False)).outer_bytes - extent - images * image
    seen = images * image // m * systolic_tiles.input_rows(m, rows, positions, in_rows, stride, extent)
    assert read == seen if stride <= extent else read >= seen  # rows between windows are not skipped


@settings(max_examples=60, deadline=None)
@given(graphs(branches=True), INTEGERS, st.integers(1, 4))
def test_products_hold_every_multiply_accumulate_and_byte(graph: Graph, precision: Precision, batch: int) -> None:
    graph = graph.with_batch(batch)
    for op in graph.ops:
        nest = graph.nest(op)
        if nest.multiplies:
            product = product_of(graph, op, nest, precision)
            assert product.groups * product.m * product.n * product.k == nest.macs
            fixed = product.groups * product.n * (product.k * product.w_element + product.m * product.y_element)
            assert product.x_bytes + fixed + product.other_bytes == pytest.approx(compulsory_bytes(graph, op, precision))
            images = product.m // (product.rows * product.positions)
            assert product.row_bytes * product.in_rows * images * product.groups == pytest.approx(product.x_bytes)


@settings(max_examples=80, deadline=None)
@given(
    graphs(branches=True),
    st.sampled_from(["int8", "w4a8", "int16", "bfloat16", "float32"]),
    st.integers(1, 4),
    st.sampled_from(TPUS),
)
def test_no_bound_is_beaten_and_totals_are_sums(graph: Graph, form: str, batch: int, name: str) -> None:
    target, precision = tpu(name), Precision.parse(form)
    report = tpu_cost(graph, target, precision, batch)
    bound = roofline(graph, target, precision, batch)
    assert report.latency_s == pytest.approx(sum(op.latency_s for op in report.ops), rel=1e-12)
    assert report.feasible == (not report.violations) == (target.peak(precision) is not None)
    assert report.search is not None
    assert report.search.lower_bound <= report.latency_s * (1 + 1e-12)
    assert report.peak_bytes == bound.peak_bytes
    assert all(0 <= op.utilization <= 1 + 1e-9 for op in report.ops)
    for level in target.levels:
        rate = level.bandwidth_byte_per_s.value
        assert report.latency_s * (1 + 1e-9) >= report.traffic_bytes[level.name] / rate
    for op, least in zip(report.ops, bound.ops, strict=True):
        assert op.macs == least.macs
        if target.activations_on_chip:  # main memory sends no activations; arithmetic still bounds
            peak = target.peak(precision)
            assert peak is None or op.latency_s * (1 + 1e-9) >= op.macs / peak.mac_per_s.value
        else:
            assert op.latency_s * (1 + 1e-9) >= least.latency_s
            assert all(op.traffic_bytes[level] >= moved * (1 - 1e-9) for level, moved in least.traffic_bytes.items())
    assert CostReport.model_validate_json(report.model_dump_json()) == report


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.integers(1, 3),
    st.sampled_from(STREAMING),
    st.integers(1, 24),
    st.floats(1, 50),
)
def test_more_hardware_never_costs_time(m: int, n: int, k: int, groups: int, name: str, arrays: int, factor: float) -> None:
    target = tpu(name)
    product = matrix_product(m, n, k, groups=groups)

    def seconds(device: TpuTarget) -> float:
        found = search_product(product, chip_of(device, Precision.parse("bfloat16")))
        assert found.fits
        return found.price.total_s

    def with_arrays(count: int) -> TpuTarget:
        scale = count / target.array_count.value
        peaks = tuple(
            peak.model_copy(update={"mac_per_s": Rate(value=peak.mac_per_s.value * scale, source=peak.mac_per_s.source)})
            for peak in target.peaks
        )
        changed = target.array_count.model_copy(update={"value": count})
        return target.model_copy(update={"array_count": changed, "peaks": peaks})

    base = seconds(target) * (1 + 1e-12)
    inner, outer = target.levels[0], target.levels[-1]
    assert seconds(with_level(target, -1, bandwidth_byte_per_s=outer.bandwidth_byte_per_s.value * factor)) <= base
    assert seconds(with_level(target, 0, bandwidth_byte_per_s=inner.bandwidth_byte_per_s.value * factor)) <= base
    small = with_level(target, 0, capacity_bytes=max(1 << 20, inner.capacity_bytes.value / 64))
    assert base <= seconds(small) * (1 + 1e-9)
    assert seconds(with_level(small, 0, capacity_bytes=small.levels[0].capacity_bytes.value * factor)) <= seconds(small) * (
        1 + 1e-12
    )
    few = with_arrays(arrays)
    assert seconds(with_arrays(arrays + 1)) <= seconds(few) * (1 + 1e-12)


def test_larger_memory_saves_traffic() -> None:
    """A product that does not fit at once: a quarter of the memory, about twice the traffic."""
    target = tpu("google-tpu-v5e")
    product = matrix_product(8192, 8192, 8192, x_bits=16, w_bits=16, y_bits=16)
    moved = [
        search_product(
            product, chip_of(with_level(with_level(target, 0, capacity_bytes=size), 1, bandwidth_byte_per_s=1e9), INT8)
        )
        for size in (1 << 20, 1 << 22, 1 << 24, 1 << 30)
    ]
    traffic = [found.price.outer_bytes for found in moved]
    assert all(a > 1.3 * b for a, b in itertools.pairwise(traffic))
    assert traffic[-1] == 3 * 2 * 8192**2
    assert all(found.price.held_bytes <= size for found, size in zip(moved, (1 << 20, 1 << 22, 1 << 24, 1 << 30), strict=True))


@pytest.mark.parametrize(("batch", "bound_by"), [(128, "hbm"), (512, "arithmetic")])
def test_where_a_product_stops_waiting_for_memory(batch: int, bound_by: str) -> None:
    """int8 [B, 4096] x [4096, 16384] on v5e: memory binds below B = 267 ("How to Scale Your Model", TPUs, question 4)."""
    found = search_product(matrix_product(batch, 16384, 4096), chip_of(tpu("google-tpu-v5e"), INT8)).price
    assert (found.outer_s > found.arrays_s) == (bound_by == "hbm")
    least = max(batch * 4096 * 16384 / 196.5e12, (batch * 4096 + 4096 * 16384 + batch * 16384) / 819e9)
    assert least <= found.total_s <= 1.15 * least


def test_a_depthwise_convolution_may_run_on_the_vector_unit() -> None:
    builder = GraphBuilder("depthwise")
    x = builder.input("x", (1, 512, 28, 28))
    w = builder.constant("w", np.zeros((512, 1, 3, 3), np.float32))
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    graph = builder.build([builder.add(ops.Conv(window, 512), [x, w], output="y")])
    target = tpu("google-tpu-v5e")
    report = tpu_cost(graph, target, INT8, 8)
    batched = graph.with_batch(8)
    product = product_of(batched, batched.ops[0], batched.nest(batched.ops[0]), INT8)
    arrays = search_product(product, chip_of(target, INT8))
    assert report.ops[0].mapping.spatial == ()
    assert report.latency_s < arrays.price.total_s
    assert report.latency_s >= roofline(graph, target, INT8, 8).latency_s


def test_equal_operations_are_searched_once() -> None:
    def chain(depth: int) -> CostReport:
        builder = GraphBuilder("chain")
        flow_ = builder.input("x", (1, 64))
        for index in range(depth):
            w = builder.constant(f"w{index}", np.zeros((64, 64), np.float32))
            flow_ = builder.add(ops.MatMul(), [flow_, w], output=f"y{index}")
        return tpu_cost(builder.build([flow_]), tpu("google-tpu-v5e"), INT8, 1)

    one, six = chain(1), chain(6)
    assert one.search is not None
    assert six.search is not None
    assert one.search.evaluated == six.search.evaluated > 0
    assert six.latency_s == pytest.approx(6 * one.latency_s)
    assert [op.name for op in six.ops] != [six.ops[0].name] * 6


@pytest.mark.parametrize("name", TPUS)
def test_the_digits_model_on_every_tpu(name: str) -> None:
    report = flow.cost(load_model(data_folder("models") / "digits_cnn.onnx"), name, format="int8")
    assert report.feasible
    assert report.latency_s > 0
    assert report.energy_j is not None
    assert report.energy_j > 0
    contraction = next(op for op in report.ops if op.macs)
    assert {unroll.axis for unroll in contraction.mapping.spatial} >= {"rows", "columns"} or contraction.bound_by == "vector"


def test_resnet50_is_quick() -> None:
    graph, target = load_model(LIGHT / "light_resnet50.onnx"), tpu("google-tpu-v5e")
    tpu_cost(graph, target, INT8, 1)  # compiles
    start = time.perf_counter()
    report = tpu_cost(graph, target, INT8, 8)
    assert time.perf_counter() - start < 2
    assert sum(op.macs for op in report.ops) == 8 * 4_089_184_256
    assert report.latency_s >= roofline(graph, target, INT8, 8).latency_s
    assert 0 < report.search.gap < 0.5  # type: ignore[union-attr]


def test_formats_that_a_device_lacks_are_violations() -> None:
    for name, form in (
        ("google-tpu-v1", "bfloat16"),
        ("google-tpu-v5e", "float64"),
        ("google-tpu-v7", "int16"),
    ):
        report = tpu_cost(dense(), tpu(name), Precision.parse(form), 1)
        assert not report.feasible
        assert form in report.violations[0].what


def test_memory_that_holds_no_tile_is_a_violation() -> None:
    report = tpu_cost(dense(), with_level(tpu("unit-tpu"), 0, capacity_bytes=4), INT8, 1)
    assert not report.feasible
    assert "smallest tile" in report.violations[0].what
    assert report.violations[0].bound == 4


def test_activations_that_must_stay_on_chip_are_a_violation_where_they_cannot() -> None:
    graph = dense(inputs=2048, outputs=2048)
    assert tpu_cost(graph, tpu("google-tpu-v1"), INT8, 200).feasible
    report = tpu_cost(graph, tpu("google-tpu-v1"), INT8, 7000)
    assert not report.feasible
    assert any("live activations in unified_buffer" in violation.what for violation in report.violations)


def test_a_tile_of_weights_takes_its_time_on_tpu_v1() -> None:
    """2048 x 2048 weights are 64 tiles of 2 microseconds; a batch of 2048 keeps the array busy for longer."""
    target = tpu("google-tpu-v1")
    graph = dense(inputs=2048, outputs=2048)
    assert tpu_cost(graph, target, INT8, 200).latency_s == pytest.approx(64 * 2e-6)
    large = tpu_cost(graph, target, INT8, 2048)
    assert large.bound_by == "arithmetic"
    assert large.latency_s == pytest.approx((256 + 64 * 2048 + 510) / 700e6, rel=1e-9)
    assert tpu_cost(graph, target, Precision.parse("int16"), 2048).latency_s == pytest.approx(4 * large.latency_s)
    # Beyond the accumulators weights come twice.
    assert tpu_cost(graph, target, INT8, 5000).traffic_bytes["weight_memory"] == pytest.approx(2 * 2048**2 + 4 * 2048)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("array_rows = { value = 1,", "array_rows = { value = 0,", "array_rows"),
        ("array_count = { value = 1,", "array_count = { value = 0,", "array_count"),
        ('[[levels]]\nname = "vmem"', '[[levels]]\nname = "hbm"', "two levels share a name"),
    ],
)
def test_models_of_no_machine_are_one_clear_error(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (data_folder("hwmodels") / "unit" / "tpu.toml").read_text()
    assert old in text
    (tmp_path / "odd.toml").write_text(text.replace(old, new))
    with pytest.raises(InvalidTargetError, match=message):
        load_target(tmp_path / "odd.toml")


def test_a_missing_level_is_one_clear_error(tmp_path: Path) -> None:
    text = (data_folder("hwmodels") / "unit" / "tpu.toml").read_text()
    first = text.index("[[levels]]")
    second = text.index("[[levels]]", first + 1)
    (tmp_path / "odd.toml").write_text(text[:first] + text[second:])
    with pytest.raises(InvalidTargetError, match="main memory"):
        load_target(tmp_path / "odd.toml")


def test_wrong_arguments_are_one_clear_error() -> None:
    with pytest.raises(LeptonError, match="no TPU"):
        tpu_cost(dense(), load_target("unit-cpu"), INT8, 1)
    chip = chip_of(tpu("google-tpu-v5e"), INT8)
    with pytest.raises(LeptonError, match="at least 1"):
        search_product(matrix_product(0, 1, 1), chip)


def test_sizes_that_no_int64_holds() -> None:
    size = 1 << 40
    chip = chip_of(tpu("google-tpu-v5e"), INT8)
    found = search_product(matrix_product(size, size, size), chip)
    assert found.fits
    assert found.price.total_s >= float(size) ** 3 / 196.5e12
    assert found.price.total_s <= 1.2 * float(size) ** 3 / 196.5e12
    assert found.price.outer_bytes > 3 * float(size) ** 2


PROGRAM = """
import json
from lepton_dse.search.tpu import chip_of, search_product
from lepton_dse.sim.tpu import matrix_product
from lepton_dse.numerics.formats import Precision
from lepton_dse.targets import load_target
found: list = []
for name in ("google-tpu-v5e", "google-tpu-v1", "unit-tpu"):
    chip = chip_of(load_target(name), Precision.parse("int8"))
    for shape in ((3, 5, 7), (200, 300, 260), (64, 129, 1)):
        best = search_product(matrix_product(*shape), chip)
        found.append([list(best.tiling), list(best.price), best.fits, best.evaluated])
print(json.dumps(found))
"""


def test_compiled_and_interpreted_agree() -> None:
    def run(extra: dict[str, str]) -> Any:
        command = [sys.executable, "-c", PROGRAM]
        return json.loads(subprocess.run(command, env={**os.environ, **extra}, check=True, capture_output=True, text=True).stdout)

    assert run({}) == run({"NUMBA_DISABLE_JIT": "1"})
