"""The cost model of GPUs on whole graphs: never below the roofline, by hand on the unit device, and fast enough."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import InvalidTargetError, LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, Evidence
from lepton_dse.search.gpu import gpu_cost, product_of
from lepton_dse.sim.gpu.machine import machine_of
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.sim.roofline import roofline
from lepton_dse.targets import GpuTarget, load_target, target_from_json
from lepton_dse.targets.schema import Quantity
from lepton_dse.testing.strategies import graphs, precisions

GPUS = (*sorted(path.stem for path in (data_folder("hwmodels") / "gpu").glob("*.toml")), "unit-gpu")
FORMS = st.one_of(precisions(2, 16).map(str), st.sampled_from(["float32", "bfloat16", "float16", "float8_e4m3", "w4-float16"]))
RESNET = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"


def gpu(name: str) -> GpuTarget:
    target = load_target(name)
    assert isinstance(target, GpuTarget)
    return target


def cost(graph: Graph, name: str, form: str = "float16", batch: int | None = None) -> CostReport:
    return gpu_cost(graph, load_target(name), Precision.parse(form), graph.batch if batch is None else batch)


def dense(rows: int, columns: int, summed: int, *, bias: bool = False) -> Graph:
    builder = GraphBuilder("dense")
    operands = [builder.input("x", (rows, summed)), builder.constant("w", np.ones((summed, columns), np.float32))]
    if bias:
        operands.append(builder.constant("b", np.ones(columns, np.float32)))
    return builder.build([builder.add(ops.MatMul(), operands, output="y")])


@settings(max_examples=60)
@given(graphs(branches=True), FORMS, st.integers(1, 40), st.sampled_from(GPUS))
def test_the_roofline_bounds_every_operation(graph: Graph, form: str, batch: int, name: str) -> None:
    target, precision = load_target(name), Precision.parse(form)
    report = gpu_cost(graph, target, precision, batch)
    bound = roofline(graph, target, precision, batch)
    for ours, least in zip(report.ops, bound.ops, strict=True):
        assert ours.latency_s >= least.latency_s * (1 - 1e-9)
        assert ours.macs == least.macs
        assert all(ours.traffic_bytes[level] >= moved * (1 - 1e-9) for level, moved in least.traffic_bytes.items())
        assert 0 <= ours.utilization <= 1 + 1e-9
    assert report.latency_s == pytest.approx(sum(op.latency_s for op in report.ops), rel=1e-12)
    assert (report.feasible, report.violations) == (bound.feasible, bound.violations)
    assert report.peak_bytes == bound.peak_bytes
    assert CostReport.model_validate_json(report.model_dump_json()) == report


@settings(max_examples=40)
@given(graphs(branches=True), FORMS, st.integers(1, 20), st.sampled_from(GPUS), st.floats(1, 10), st.integers(1, 20))
def test_better_devices_are_never_slower(graph: Graph, form: str, batch: int, name: str, factor: float, more: int) -> None:
    target, precision = gpu(name), Precision.parse(form)
    base = gpu_cost(graph, target, precision, batch).latency_s

    def scaled(quantity: Quantity, by: float) -> Quantity:
        return quantity.model_copy(update={"value": quantity.value * by})

    faster = [
        level.model_copy(update={"bandwidth_byte_per_s": scaled(level.bandwidth_byte_per_s, factor)}) for level in target.levels
    ]
    larger = [level.model_copy(update={"capacity_bytes": scaled(level.capacity_bytes, factor)}) for level in target.levels]
    share = 1 + more / target.sm_count.value
    peaks = tuple(peak.model_copy(update={"mac_per_s": scaled(peak.mac_per_s, share)}) for peak in target.peaks)
    for change in (
        {"levels": tuple(faster)},
        {"levels": tuple(larger)},
        {"shared_bytes_per_sm": scaled(target.shared_bytes_per_sm, factor)},
        {"sm_count": scaled(target.sm_count, share), "peaks": peaks},
    ):
        assert gpu_cost(graph, target.model_copy(update=change), precision, batch).latency_s <= base * (1 + 1e-12)


@settings(max_examples=40)
@given(graphs(branches=True), st.integers(2, 15), st.integers(1, 9), st.sampled_from(GPUS))
def test_more_work_never_takes_less(graph: Graph, bits: int, batch: int, name: str) -> None:
    base = cost(graph, name, f"int{bits}", batch).latency_s
    for form, samples in ((f"int{bits}", batch + 1), (f"int{bits + 1}", batch), (f"w{bits}a{bits + 1}", batch)):
        # The constants of a device's formats may differ where one is calibrated and another is not.
        if gpu(name).constants(Precision.parse(form)) == gpu(name).constants(Precision.parse(f"int{bits}")):
            assert cost(graph, name, form, samples).latency_s >= base * (1 - 1e-12)


def test_the_unit_device_by_hand() -> None:
    """Rates of one: a vector-matrix product moves 3 + 6 + 4 * 2 + 2 bytes of int8 and makes 6 products."""
    report = cost(dense(1, 2, 3, bias=True), "unit-gpu", "int8")
    assert report.latency_s == 3 + 6 + 8 + 2
    assert report.traffic_bytes == {"shared": 19, "hbm": 19}
    assert report.energy_j == 6 + 2 * 19
    assert report.ops[0].utilization == 6 / 19
    assert report.evidence is Evidence.UNCHECKED
    # Eight rows and columns go to a tiled kernel, in one step of 64 elements of 16 bits (the peak that holds int8).
    report = cost(dense(8, 8, 3), "unit-gpu", "int8")
    tiled = min(
        math.ceil(8 / rows)
        * math.ceil(8 / columns)
        * (
            rows * columns * 64  # every product of the padded tile, one a second
            + (rows + columns) * 128  # what the one multiprocessor takes in
            + (rows + columns) * 128  # the same through the level that stands in for L2
        )
        + 64  # and the result through it
        + (24 + 24 + 64)  # main memory
        + rows * columns  # the last tile is written, a byte a second
        for rows, columns in tiles("ampere")[:, :2]
    )
    assert report.latency_s == pytest.approx(tiled)


def test_a_large_product_is_arithmetic_and_a_vector_is_memory() -> None:
    large = cost(dense(8192, 8192, 8192), "nvidia-h100-sxm", "bfloat16")
    assert large.bound_by == "arithmetic"
    assert 0.6 < large.ops[0].utilization < 1
    assert large.ops[0].mapping.tiles["cta"]["m"] * large.ops[0].mapping.tiles["cta"]["n"] >= 128 * 128
    vector = cost(dense(1, 16384, 16384), "nvidia-h100-sxm", "bfloat16")
    assert vector.bound_by == "hbm"
    assert vector.ops[0].utilization < 0.01
    small = cost(dense(4, 4, 4), "nvidia-h100-sxm", "bfloat16")
    assert small.bound_by == "launch"
    assert large.evidence is Evidence.BANDED
    assert large.band is not None
    assert large.band.suite == "gpu-gemm-h100-bf16-calibrated"
    deep = cost(dense(64, 64, 32768), "nvidia-h100-sxm", "bfloat16")
    assert any(unroll.loop == "k" and unroll.factor in SPLITS for unroll in deep.ops[0].mapping.spatial)


def test_convolutions_become_products() -> None:
    builder = GraphBuilder("conv")
    x = builder.input("x", (2, 8, 10, 12))
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    w = builder.constant("w", np.ones((6, 4, 3, 3), np.float32))
    graph = builder.build([builder.add(ops.Conv(window, groups=2), [x, w], output="y")])
    problem = product_of(graph, graph.ops[0], Precision.parse("float16"), (16.0, 16.0))
    assert (problem.m, problem.n, problem.k, problem.products) == (240, 3, 36, 2)
    assert (problem.a_bytes, problem.b_bytes, problem.c_bytes) == (2 * 1920, 2 * 216, 2 * 1440)
    assert problem.m * problem.n * problem.k * problem.products == graph.macs


def test_batched_products_keep_their_weights_apart() -> None:
    for x_shape, w_shape, expected in (
        ((4, 5, 7), (7, 3), (20, 3, 7, 1)),  # weights that every batch shares: rows
        ((4, 5, 7), (4, 7, 3), (5, 3, 7, 4)),
        ((7,), (7, 3), (1, 3, 7, 1)),
    ):
        builder = GraphBuilder("matmul")
        x, w = builder.input("x", x_shape), builder.constant("w", np.ones(w_shape, np.float32))
        graph = builder.build([builder.add(ops.MatMul(), [x, w], output="y")])
        problem = product_of(graph, graph.ops[0], Precision.parse("float16"), (16.0, 16.0))
        assert (problem.m, problem.n, problem.k, problem.products) == expected


def test_views_and_absorbed_clips_are_free_and_equal_layers_priced_once() -> None:
    builder = GraphBuilder("chain")
    tensor = builder.input("x", (1, 64))
    for index in range(3):
        w = builder.constant(f"w{index}", np.full((64, 64), float(index + 1), np.float32))
        tensor = builder.add(ops.MatMul(), [tensor, w], output=f"m{index}")
        tensor = builder.add(ops.Clip(0.0, float("inf")), [tensor], output=f"r{index}")
    graph = builder.build([builder.add(ops.Reshape((1, 8, 8)), [tensor], output="y")])
    report = cost(graph, "nvidia-l40s")
    by_kind = {kind: [op.latency_s for op in report.ops if op.kind == kind] for kind in ("MatMul", "Clip", "Reshape")}
    assert by_kind["Clip"] == [0, 0, 0]
    assert by_kind["Reshape"] == [0]
    assert len(set(by_kind["MatMul"])) == 1
    assert report.search is not None
    one = cost(dense(1, 64, 64), "nvidia-l40s")
    assert one.search is not None
    assert report.search.evaluated == one.search.evaluated  # of three equal products one is priced
    assert (report.search.gap, report.search.optimal) == (0, True)
    assert f"{len(tiles('ampere'))} tiles" in report.search.space


@pytest.mark.parametrize("kind", [ops.Softmax((1,)), ops.LayerNorm((1,), 1e-5)])
def test_normalisations_read_long_rows_twice(kind: ops.Attributes) -> None:
    def seconds(shape: tuple[int, int]) -> float:
        builder = GraphBuilder("rows")
        operands = [builder.input("x", shape)]
        if isinstance(kind, ops.LayerNorm):
            operands += [builder.constant(name, np.ones(shape[1], np.float32)) for name in ("scale", "shift")]
        return cost(builder.build([builder.add(kind, operands, output="y")]), "nvidia-a100-sxm-80gb").latency_s

    assert seconds((1 << 9, 1 << 17)) == pytest.approx(1.5 * seconds((1 << 17, 1 << 9)), rel=0.05)


def test_functions_pay_for_special_units() -> None:
    slow = gpu("unit-gpu").model_copy(update={"special_per_clock": Quantity(value=0.5, source="unit")})

    def seconds(kind: ops.Attributes) -> float:
        builder = GraphBuilder("one")
        graph = builder.build([builder.add(kind, [builder.input("x", (64, 1024))], output="y")])
        return gpu_cost(graph, slow, Precision.parse("int8"), 64).latency_s

    assert seconds(ops.Clip(0.0, 6.0)) == 2 * 64 * 1024  # a byte read and a byte written
    assert seconds(ops.Gelu()) == seconds(ops.Tanh()) == 2 * 64 * 1024 / 0.5  # two special functions, one in two seconds


@pytest.mark.parametrize(
    ("name", "form"), [("nvidia-a100-sxm-80gb", "float64"), ("nvidia-h100-sxm", "float64"), ("nvidia-t4", "int16")]
)
def test_formats_that_a_device_lacks_are_violations(name: str, form: str) -> None:
    report = cost(dense(64, 64, 64), name, form)
    assert not report.feasible
    assert form in report.violations[0].what
    assert report.latency_s > cost(dense(64, 64, 64), name, "float16").latency_s / 2
    assert machine_of(gpu(name), Precision.parse(form)) is None


def test_weights_alone_narrow_save_traffic_not_arithmetic() -> None:
    wide, narrow = (cost(dense(1, 8192, 8192), "nvidia-a100-sxm-80gb", form) for form in ("float16", "w4-float16"))
    assert narrow.traffic_bytes["hbm"] < wide.traffic_bytes["hbm"] / 3
    assert narrow.latency_s < wide.latency_s / 2


def test_huge_shapes_do_not_wrap() -> None:
    builder = GraphBuilder("huge")
    x = builder.input("x", (1 << 16, 1 << 16))
    w = builder.constant("w", np.broadcast_to(np.float32(1), (1 << 16, 1 << 16)))
    report = cost(builder.build([builder.add(ops.MatMul(), [x, w], output="y")]), "nvidia-t4", "float16")
    assert report.ops[0].macs == 1 << 48
    assert report.latency_s > (1 << 48) / 32.5e12
    assert not report.feasible  # 24 GiB of operands


def test_bad_input() -> None:
    with pytest.raises(LeptonError, match="no GPU"):
        cost(dense(1, 2, 3), "unit-cpu")
    with pytest.raises(LeptonError, match="empty"):
        cost(dense(1, 2, 3), "nvidia-t4", batch=0)
    text = gpu("nvidia-t4").model_dump_json()
    for change, message in (
        ('"memory_share":{"value":0.85', '"memory_share":{"value":1.5'),
        ('"overlap_exponent":{"value":4.0', '"overlap_exponent":{"value":0.5'),
        ('"clock_hz":{"value":1590000000.0', '"clock_hz":{"value":0.0'),
    ):
        assert change in text
        with pytest.raises(InvalidTargetError):
            target_from_json(text.replace(change, message), where="test")


@pytest.mark.parametrize("name", GPUS)
def test_resnet_on_every_gpu_in_little_time(name: str) -> None:
    graph = load_model(RESNET)
    first = cost(graph, name, "int8", 8)  # compiles, or loads the compiled kernels
    start = time.perf_counter()
    second = cost(graph, name, "int8", 8)
    assert time.perf_counter() - start < 2
    assert first == second
    assert sum(op.macs for op in second.ops) == 8 * graph.macs


@pytest.mark.slow
def test_resnet_from_a_cold_start(tmp_path: Path) -> None:
    script = f"""
import time
start = time.perf_counter()
from lepton_dse import flow
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from pathlib import Path
flow.cost(load_model(Path({str(RESNET)!r})), "nvidia-h100-sxm", format="int8")
print(time.perf_counter() - start)
"""
    environment = {"PATH": "/usr/bin:/bin", "NUMBA_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert float(run.stdout) < 20
    assert any(tmp_path.rglob("*.nbi"))  # it was cold, and is not any more


def test_every_gpu_names_a_known_generation() -> None:
    names = {name: generation(gpu(name).compute_capability.value) for name in GPUS}
    assert names["nvidia-h200-sxm"] == "hopper"
    assert names["nvidia-b200-sxm"] == "blackwell"
    assert names["nvidia-v100-sxm2"] == "ampere"
