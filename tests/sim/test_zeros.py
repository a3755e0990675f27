"""Zeros in weights: found exactly, and priced only where a kernel skips them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lepton_dse.compress.prune import prune
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.errors import LeptonError
from lepton_dse.flow import cost as flow_cost
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, Evidence, Zeros
from lepton_dse.search.gpu import gpu_cost
from lepton_dse.sim.mixed import mixed_cost
from lepton_dse.sim.zeros import as_stored, zeros_in, zeros_of
from lepton_dse.targets import GpuTarget, load_target
from lepton_dse.targets.gpu import SparseCores

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import zeros as oracle

GPUS = ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-l40s", "nvidia-jetson-orin-nano", "nvidia-v100-sxm2")
FORMS = ("float32", "float16", "int8", "w4a8", "w4-float16")


def gpu(name: str) -> GpuTarget:
    target = load_target(name)
    assert isinstance(target, GpuTarget)
    return target


def dense(rows: int, weights: NDArray[np.generic]) -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", (rows, weights.shape[0]))
    return builder.build([builder.add(ops.MatMul(), [x, builder.constant("w", weights)], output="y", name="fc")])


def conv(weights: NDArray[np.generic], extent: int = 8) -> Graph:
    builder = GraphBuilder("conv")
    x = builder.input("x", (1, weights.shape[1], extent, extent))
    window = ops.Window(weights.shape[2:], (1, 1), (1, 1), (0, 0), (0, 0))
    return builder.build([builder.add(ops.Conv(window), [x, builder.constant("w", weights)], output="y", name="conv")])


def halved(k: int, n: int, seed: int = 0) -> NDArray[np.float32]:
    """Weights with exactly two of four zero along k."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 1, (k // 4, 4, n)).astype(np.float32)
    gone = rng.permuted(np.tile(np.array([True, True, False, False])[None, :, None], (k // 4, 1, n)), axis=1)
    return np.where(gone, np.float32(0), weights).reshape(k, n)


def price(graph: Graph, name: str, form: str, batch: int = 1) -> CostReport:
    return gpu_cost(graph, load_target(name), Precision.parse(form), batch)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.floats(0, 1), st.integers(0, 99))
def test_zeros_are_counted_as_weight_by_weight(c: int, m: int, h: int, w: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((m, c, h, w)) < share, 0, 1).astype(np.float32)
    zeros, patterned = oracle.of_convolution(weights.tolist())
    expected = None if zeros == 0 else Zeros(share=zeros / weights.size, two_of_four=patterned)
    assert zeros_of(conv(weights), conv(weights).op("conv")) == expected
    assert zeros_in(np.moveaxis(weights, 1, 2), 2) == expected
    matrix = weights[:, :, 0, 0].T
    found = zeros_of(dense(1, matrix), dense(1, matrix).op("fc"))
    zeros, patterned = oracle.of_convolution(matrix.T[:, :, None, None].tolist())
    assert found == (None if zeros == 0 else Zeros(share=zeros / matrix.size, two_of_four=patterned))


def test_repeated_weights_are_looked_at_once() -> None:
    many = np.broadcast_to(np.zeros((1, 1), np.float32), (1 << 20, 1 << 20))
    assert zeros_in(many, 0) == Zeros(share=1, two_of_four=True)
    assert zeros_in(np.broadcast_to(np.float32([0, 1]), (1 << 20, 2)), 0) == Zeros(share=0.5, two_of_four=False)
    assert zeros_in(np.broadcast_to(np.float32([0, 1, 0, 1])[:, None], (4, 1 << 30)), 0) == Zeros(share=0.5, two_of_four=True)
    assert zeros_in(np.broadcast_to(np.float32([0, 1, 0])[:, None], (3, 1 << 30)), 0) == Zeros(share=2 / 3, two_of_four=False)


def test_zeros_are_those_that_are_stored() -> None:
    """A weight that rounds to the integer zero is one; the pattern is found in what is stored."""
    weights = np.full((8, 4), 1.0, np.float32)
    weights[::2] = 1e-6
    graph = dense(2, weights)
    assert zeros_of(graph, graph.op("fc")) is None
    bundle = quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0]
    stored = as_stored(bundle)
    assert zeros_of(stored, stored.op("fc")) == Zeros(share=0.5, two_of_four=True)
    assert mixed_cost(bundle, load_target("nvidia-t4")).ops[0].zeros == Zeros(share=0.5, two_of_four=True)
    assert flow_cost(bundle, "nvidia-t4") == mixed_cost(bundle, load_target("nvidia-t4"))
    with pytest.raises(LeptonError, match="came too late"):
        flow_cost(bundle, "nvidia-t4", format="int8")
    plain = quantize(dense(2, np.ones((8, 4), np.float32)), Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0]
    assert as_stored(plain) is plain.graph


@settings(max_examples=60)
@given(
    st.sampled_from(GPUS), st.sampled_from(FORMS), st.integers(1, 2000), st.integers(1, 60), st.integers(1, 20),
    st.floats(0, 1), st.floats(0, 1), st.integers(0, 99),
)  # fmt: skip
def test_more_zeros_are_never_slower(
    name: str, form: str, rows: int, runs: int, n: int, first: float, second: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights, order = rng.uniform(0.5, 1, (4 * runs, n)).astype(np.float32), rng.random((4 * runs, n))
    fewer, more = sorted((first, second))
    times = [
        price(dense(rows, np.where(order < share, np.float32(0), weights)), name, form, rows).latency_s
        for share in (-1.0, fewer, more)
    ]
    assert times[2] <= times[1] <= times[0]


@settings(max_examples=60)
@given(st.sampled_from(GPUS), st.sampled_from(FORMS), st.integers(1, 4000), st.integers(1, 400), st.integers(1, 300))
def test_two_of_four_is_never_below_half_the_tensor_cores_time(name: str, form: str, rows: int, runs: int, n: int) -> None:
    target, precision = gpu(name), Precision.parse(form)
    peak = target.peak(precision)
    assume(peak is not None)
    assert peak is not None
    graph = dense(rows, halved(4 * runs, n))
    report = price(graph, name, form, rows)
    cost = report.ops[0]
    assert cost.zeros is not None
    assert cost.zeros.two_of_four
    assert cost.latency_s <= price(dense(rows, np.ones((4 * runs, n), np.float32)), name, form, rows).ops[0].latency_s
    assert cost.utilization <= 1 + 1e-9
    cuda = target.peak(Precision.parse("float32"))
    assert cuda is not None
    # Half the products at the peak, on the tensor cores or, at 0.27 of theirs, on the CUDA cores; half the weights are read.
    fastest = max(peak.mac_per_s.value, cuda.mac_per_s.value)
    assert cost.latency_s >= cost.macs / 2 / fastest
    assert cost.latency_s >= 4 * runs * n * precision.weights.bits / 16 / target.levels[-1].bandwidth_byte_per_s.value
    if cost.zeros.skipped:
        assert (report.evidence, report.band) == (Evidence.UNCHECKED, None)


def test_the_sparse_mode_by_hand_on_the_unit_device() -> None:
    """One multiprocessor, every rate 1: a tile's time is the sum of its parts, of which arithmetic and weights shrink."""
    unit = gpu("unit-gpu")
    one = unit.sm_count
    mode = SparseCores(formats=("int16",), rate=one.model_copy(update={"value": 2}), reached=one)
    target = unit.model_copy(update={"sparse": (mode,)})
    precision = Precision.parse("int16")
    plain = gpu_cost(dense(8, np.ones((64, 8), np.float32)), target, precision, 8).ops[0]
    sparse = gpu_cost(dense(8, halved(64, 8)), target, precision, 8).ops[0]
    assert plain.zeros is None
    assert sparse.zeros == Zeros(share=0.5, two_of_four=True, skipped=True)
    assert str(sparse.zeros) == "2:4, priced"
    # The smallest tile (32 x 32, 64 deep) makes 65,536 products; half of them, at twice the rate, are 32,768 seconds less.
    # 512 weights of 2 bytes become 256 of 2 bytes and 2 bits, 576 bytes: 448 seconds of main memory less.
    assert plain.latency_s - sparse.latency_s == 32 * 32 * 64 / 2 + (1024 - 576)
    assert plain.traffic_bytes["hbm"] - sparse.traffic_bytes["hbm"] == 448
    assert gpu_cost(dense(8, halved(64, 8)), unit, precision, 8).ops[0] == plain.model_copy(
        update={"zeros": Zeros(share=0.5, two_of_four=True)}
    )
    # A product of one row takes the kernel without tensor cores, which has no such mode: 128 + 1,024 + 16 seconds.
    alone = gpu_cost(dense(1, halved(64, 8)), target, precision, 1).ops[0]
    assert alone.latency_s == 64 * 2 + 1024 + 8 * 2
    assert str(alone.zeros) == "2:4, not skipped here"


def test_unstructured_zeros_pay_above_a_break_even() -> None:
    """Against dense products of float32 on the same cores it lies near 70%; against tensor cores it lies far higher."""
    rng = np.random.default_rng(0)
    weights, order = rng.uniform(0.5, 1, (2048, 2048)).astype(np.float32), rng.random((2048, 2048))

    def pays(form: str, share: float) -> bool:
        zeros = price(dense(2048, np.where(order < share, np.float32(0), weights)), "nvidia-v100-sxm2", form, 2048).ops[0].zeros
        return zeros is not None and zeros.skipped

    assert [pays("float32", share) for share in (0.5, 0.65, 0.75, 0.9)] == [False, False, True, True]
    assert [pays("float16", share) for share in (0.9, 0.99)] == [False, True]
    assert not pays("int8", 0.99)  # no such kernel was published


def test_unstructured_zeros_of_several_taps_are_not_skipped() -> None:
    weights = np.zeros((64, 64, 3, 3), np.float32)
    weights[0, 0, 0, 0] = 1
    graphs = (conv(weights), conv(weights[..., :1, :1]))
    found = [str(price(graph, "nvidia-v100-sxm2", "float32").ops[0].zeros) for graph in graphs]
    assert found == ["100% in 2:4, not skipped here", "100% in 2:4, priced"]


@pytest.mark.parametrize("name", ["raspberry-pi-5", "google-tpu-v4", "amd-zynq-7020", "nvidia-t4"])
def test_elsewhere_zeros_cost_what_weights_cost_and_the_report_says_so(name: str) -> None:
    weights = np.random.default_rng(0).uniform(0.5, 1, (16, 16, 3, 3)).astype(np.float32)
    graph = conv(weights)
    pruned = prune(graph, 0.5, kind="n:m")
    full, cut = flow_cost(graph, name), flow_cost(pruned, name)
    assert (cut.latency_s, cut.energy_j, cut.peak_bytes) == (full.latency_s, full.energy_j, full.peak_bytes)
    assert full.ops[0].zeros is None
    assert str(cut.ops[0].zeros) == "2:4, not skipped here"


def test_the_published_products_of_the_a100() -> None:
    """The share of the gain is the least squares of these two products: 9% too slow on one and 11% too fast on the other."""
    for (m, n, k), measured in (((3072, 3072, 10240), 0.870 / 0.630), ((4096, 4096, 4096), 0.607959 / 0.545792)):
        ones = price(dense(m, np.ones((k, n), np.float32)), "nvidia-a100-sxm-80gb", "float16", m).latency_s
        fewer = price(dense(m, halved(k, n)), "nvidia-a100-sxm-80gb", "float16", m).latency_s
        assert abs(math.log(ones / fewer / measured)) < 0.11
