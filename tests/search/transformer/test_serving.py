"""Serving plans: all ways are tried, memory and limits are kept, and no figure is below what the hardware allows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir.transformer import Norm, Transformer
from lepton_dse.search.transformer.serving import Serving, ServingPoint, plan_serving
from lepton_dse.targets import Cluster, load_cluster, load_target

LLAMA = {"gated": True, "tied": False, "biases": False, "dropout": False, "norm": Norm.RMS}
SMALL = Transformer("small", 6, 1024, 16, 4, 64, 4096, 32000, 8192, **LLAMA)
SPARSE = replace(SMALL, name="sparse", experts=8, active=2)
LARGE = Transformer("large", 80, 8192, 64, 8, 128, 28672, 128256, 8192, **LLAMA)
H100, V5E = load_cluster("dgx-h100"), load_cluster("google-v5e-pod")
SHARE = 0.9


def peaks(cluster: Cluster) -> tuple[float, float]:
    """Bytes a second of main memory, and the most multiply-accumulates a second in any format."""
    device = load_target(cluster.device)
    return device.levels[-1].bandwidth_byte_per_s.value, max(peak.mac_per_s.value for peak in device.peaks)


def with_capacity(cluster: Cluster, size: float, folder: Path) -> Cluster:
    """The cluster with devices that have another amount of memory."""
    name = cluster.device
    family = name.partition("-")[0].replace("nvidia", "gpu").replace("google", "tpu")
    text = (data_folder("hwmodels") / family / f"{name}.toml").read_text()
    head, _, tail = text.rpartition("capacity_bytes = { value = ")
    path = folder / f"{name}-{size:g}.toml"
    path.write_text(f"{head}capacity_bytes = {{ value = {size:g}{tail[tail.index(',') :]}")
    assert load_target(path).levels[-1].capacity_bytes.value == size
    return cluster.model_copy(update={"device": str(path)})


def ways(model: Transformer, devices: int, nearby: int) -> set[tuple[int, int, int]]:
    """Every way to write the devices as tensor x stages x copies that comes out even."""
    numbers = range(1, devices + 1)
    return {
        (tensor, pipeline, copies)
        for tensor in numbers
        for pipeline in numbers
        for copies in numbers
        if tensor * pipeline * copies == devices
        and tensor <= nearby
        and pipeline <= model.layers
        and model.heads % tensor == model.intermediate % tensor == model.kv_heads % min(tensor, model.kv_heads) == 0
    }


def held(serving: Serving, point: ServingPoint, element: float, cached: float) -> float:
    """Bytes of the fullest device, product by product and head by head."""
    model = serving.model
    layers = math.ceil(model.layers / point.pipeline)
    heads = max(model.kv_heads / point.tensor, 1) * model.head_width
    products = (2 * model.queries * model.hidden + 3 * model.experts * model.hidden * model.intermediate) / point.tensor
    layer = products + 2 * heads * model.hidden + model.hidden * (2 + (model.experts if model.experts > 1 else 0))
    table = model.vocabulary * model.hidden / point.tensor * (2 if point.pipeline == 1 else 1)
    tokens = point.sequences * (serving.prompt + serving.answer)
    return layers * (element * layer + 2 * heads * cached * tokens) + 2 * table


@pytest.mark.parametrize(("cluster", "nearby"), [(H100, 8), (V5E, 8)])
@pytest.mark.parametrize("model", [SMALL, SPARSE])
def test_every_way_that_fits_is_a_point(model: Transformer, cluster: Cluster, nearby: int) -> None:
    serving = Serving(model, 1024, 256)
    found = plan_serving(serving, cluster, 8)
    assert {(point.tensor, point.pipeline, point.copies) for point in found.points} == ways(model, 8, nearby)
    for point in found.points:
        assert math.log2(point.sequences / point.pipeline).is_integer()
        assert point.memory_bytes == pytest.approx(held(serving, point, 2, 2))
        assert point.memory_bytes <= SHARE * load_target(cluster.device).levels[-1].capacity_bytes.value
    assert found.violations == ()
    assert found.best.tokens_per_s == max(point.tokens_per_s for point in found.points)
    assert found.search.evaluated >= len(found.points)


def test_sequences_double_until_memory_is_full() -> None:
    found = plan_serving(Serving(LARGE, 4096, 512), H100, 8)
    capacity = SHARE * load_target(H100.device).levels[-1].capacity_bytes.value
    for way in {(point.tensor, point.pipeline) for point in found.points}:
        same = [point for point in found.points if (point.tensor, point.pipeline) == way]
        assert [point.sequences for point in same] == [same[0].sequences << power for power in range(len(same))]
        layers = math.ceil(LARGE.layers / way[1])
        one = layers * 4608 * 2 * max(8 / way[0], 1) * 128 * 2
        assert same[-1].memory_bytes + same[-1].sequences * one > capacity


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([SMALL, SPARSE, LARGE]),
    st.sampled_from([H100, V5E]),
    st.sampled_from([8, 16, 32]),
    st.integers(1, 4000),
    st.integers(1, 500),
    st.sampled_from([("bfloat16", 2.0, 2.0), ("int8", 1.0, 1.0), ("w4-bfloat16", 0.5, 2.0)]),
)
def test_no_figure_is_below_what_the_hardware_allows(
    model: Transformer, cluster: Cluster, devices: int, prompt: int, answer: int, formats: tuple[str, float, float]
) -> None:
    name, weight, cached = formats
    serving = Serving(model, prompt, answer, name, "int8" if cached == 1.0 else "bfloat16")
    byte_per_s, mac_per_s = peaks(cluster)
    found = plan_serving(serving, cluster, devices)
    for point in (found.best, *found.points):
        visited = model.active * model.expert_parameters
        read = weight * model.layers * (model.attention_parameters + visited) / point.tensor
        read += 2 * model.vocabulary * model.hidden / point.tensor
        together = max(1, point.sequences // point.pipeline)
        read += together * prompt * model.layers * 2 * max(model.keys / point.tensor, model.head_width) * cached
        assert point.tpot_s >= read / byte_per_s
        products = prompt * model.layers * (model.attention_parameters + visited)
        assert point.ttft_s >= products / point.tensor / mac_per_s
        assert point.tokens_per_s <= point.copies * point.sequences / point.tpot_s
        all_products = (model.layers * (model.attention_parameters + visited)) * (prompt / answer + 1)
        assert point.tokens_per_s <= devices * mac_per_s / all_products


@pytest.mark.parametrize("cluster", [H100, V5E])
def test_more_memory_never_hurts(cluster: Cluster, tmp_path: Path) -> None:
    rates, counts = [], []
    for size in (8e9, 16e9, 40e9, 200e9):
        found = plan_serving(Serving(LARGE, 1024, 256, tpot_s=0.1), with_capacity(cluster, size, tmp_path), 32)
        rates.append(0.0 if found.violations else found.best.tokens_per_s)
        counts.append(len(found.points))
    assert rates == sorted(rates)
    assert counts == sorted(counts)
    assert rates[-1] > rates[0]


def test_limits_are_kept_and_cost_throughput() -> None:
    serving = Serving(LARGE, 4096, 512)
    free = plan_serving(serving, H100, 16)
    limited = plan_serving(replace(serving, tpot_s=0.02, ttft_s=0.6), H100, 16)
    allowed = [point for point in free.points if point.tpot_s <= 0.02 and point.ttft_s <= 0.6]
    assert free.best.tpot_s > 0.02
    assert limited.best == max(allowed, key=lambda point: point.tokens_per_s)
    assert limited.violations == ()
    assert limited.best.tokens_per_s < free.best.tokens_per_s


def test_limits_beyond_reach_are_violations_with_levers() -> None:
    found = plan_serving(Serving(LARGE, 4096, 512, ttft_s=1e-3, tpot_s=1e-4), H100, 8)
    first, each = found.violations
    assert (first.what, first.demand, first.bound) == ("time to the first token", found.best.ttft_s, 1e-3)
    assert (each.what, each.demand, each.bound) == ("time per output token", found.best.tpot_s, 1e-4)
    assert "more devices" in first.levers
    short = max(first.demand / first.bound, each.demand / each.bound)
    assert short == min(max(point.ttft_s / 1e-3, point.tpot_s / 1e-4) for point in found.points)


def test_what_does_not_fit_is_a_violation_with_the_least_memory() -> None:
    found = plan_serving(Serving(LARGE, 4096, 512), H100, 1)
    (violation,) = found.violations
    assert found.points == ()
    assert (violation.what, violation.unit, violation.demand) == ("memory of a device", "bytes", found.best.memory_bytes)
    assert violation.bound == SHARE * load_target(H100.device).levels[-1].capacity_bytes.value
    assert "narrower weights" in violation.levers


def test_narrower_weights_answer_faster_and_hold_less() -> None:
    points = {
        name: {(p.tensor, p.pipeline, p.sequences): p for p in plan_serving(Serving(LARGE, 2048, 512, name), H100, 8).points}
        for name in ("bfloat16", "float8_e4m3")
    }
    for way, wide in points["bfloat16"].items():
        narrow = points["float8_e4m3"][way]
        assert narrow.memory_bytes < wide.memory_bytes
        assert narrow.tpot_s < wide.tpot_s


def test_copies_answer_as_one_each() -> None:
    one, two = (plan_serving(Serving(SMALL, 512, 128), H100, devices) for devices in (8, 16))
    doubled = {(p.tensor, p.pipeline, p.sequences): p for p in two.points if p.copies % 2 == 0}
    for point in one.points:
        both = doubled[point.tensor, point.pipeline, point.sequences]
        assert (both.ttft_s, both.tpot_s, both.copies) == (point.ttft_s, point.tpot_s, 2 * point.copies)
        assert both.tokens_per_s == pytest.approx(2 * point.tokens_per_s)


@pytest.mark.parametrize(
    ("changed", "devices", "message"),
    [
        ({}, 0, "0 devices of 16384"),
        ({}, 16385, "16385 devices of 16384; use at least 1 and at most all"),
        ({"prompt": 0}, 8, "0 tokens of a prompt and 128 of an answer; use 1 or more of each"),
        ({"answer": 0}, 8, "0 of an answer"),
        ({"answer": 8000}, 8, "512 and 8000 tokens where it was made for 8192"),
        ({"ttft_s": 0.0}, 8, "a limit of 0 s to the first token; use one above 0, or none"),
        ({"tpot_s": -1.0}, 8, "a limit of -1 s per output token"),
        ({"tpot_s": math.nan}, 8, "a limit of nan s per output token"),
        ({"format": "int5x"}, 8, "is not a format"),
        ({"cache": "wide"}, 8, "is not a format"),
        ({"format": "float64"}, 8, "float64"),
        ({"model": replace(SMALL, causal=False)}, 8, "sees all tokens"),
    ],
)
def test_wrong_input_is_one_clear_line(changed: dict[str, object], devices: int, message: str) -> None:
    with pytest.raises(LeptonError) as caught:
        plan_serving(replace(Serving(SMALL, 512, 128), **changed), H100, devices)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
