"""The cost of networks of several formats, from reports of one format each."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.flow import cost
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.mixed import Prices, formats_of, mixed_cost, stored_peak
from lepton_dse.sim.zeros import as_stored
from lepton_dse.targets import load_target

TARGETS = ("raspberry-pi-5", "nvidia-jetson-orin-nano", "google-tpu-v1", "amd-zynq-7020")


def network(*, pooled: bool = False) -> Graph:
    rng = np.random.default_rng(0)
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 8, 12, 12))
    window = ops.Window((3, 3), (1, 1), (1, 1), (0, 0), (0, 0))
    for index in range(3):
        weights = builder.constant(f"w{index}", rng.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32))
        bias = builder.constant(f"b{index}", rng.normal(0, 0.2, 8).astype(np.float32))
        x = builder.add(ops.Conv(window), [x, weights, bias], output=f"y{index}", name=f"conv{index}")
        if pooled:
            x = builder.add(ops.Clip(0.0, np.inf), [x], output=f"r{index}", name=f"relu{index}")
    if pooled:
        x = builder.add(ops.MaxPool(ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))), [x], output="p", name="pool")
    return builder.build([x])


def quantized(graph: Graph, text: str, **overrides: str) -> Bundle:
    recipe = Recipe(Precision.parse(text), {name: Precision.parse(form) for name, form in overrides.items()})
    return quantize(graph, recipe, noise(graph, 0, 4))[0]


@pytest.mark.parametrize(("name", "text"), list(product(TARGETS, ("int8", "w4a8"))))
def test_one_format_costs_what_the_model_says(name: str, text: str) -> None:
    graph = network(pooled=True)
    bundle, target = quantized(graph, text), load_target(name)
    assert mixed_cost(bundle, target, batch=2) == cost(as_stored(bundle), target, format=text, batch=2)
    assert stored_peak(bundle, graph) == cost(graph, target, format=text).peak_bytes


@pytest.mark.parametrize("name", TARGETS)
def test_every_operation_costs_what_it_costs_in_its_own_formats(name: str) -> None:
    graph, target = network(), load_target(name)
    report = mixed_cost(quantized(graph, "int8", conv1="w4a8"), target)
    wide, narrow = cost(graph, target, format="int8"), cost(graph, target, format="w4a8")
    assert [entry.latency_s for entry in report.ops] == [
        wide.ops[0].latency_s,
        narrow.ops[1].latency_s,
        wide.ops[2].latency_s,
    ]
    assert report.latency_s == pytest.approx(sum(entry.latency_s for entry in report.ops))
    assert report.peak_bytes == wide.peak_bytes - 8 * 8 * 9 / 2
    assert report.feasible
    assert (report.energy_j is None) == (wide.energy_j is None)


def test_activations_are_counted_as_they_are_stored() -> None:
    graph = network(pooled=True)
    formats = formats_of(quantized(graph, "int8", conv1="w4a4"))
    assert {name: str(form) for name, form in formats.items()} == {
        "conv0": "int8",
        "relu0": "int8",  # free: the convolution before it clips
        "conv1": "int4",
        "relu1": "int8",
        "conv2": "int8",
        "relu2": "int8",
        "pool": "int8",
    }


def test_what_a_target_does_not_compute_gains_nothing() -> None:
    graph, target = network(), load_target("nvidia-jetson-orin-nano")
    plain, odd = Precision.parse("int8"), Precision.parse("int16")
    prices = Prices(graph, target, plain)
    assert prices.lacking(odd)
    assert prices.op("conv1", odd) == prices.op("conv1", plain)
    report = mixed_cost(quantized(graph, "int8", conv1="int16"), target, default=plain)
    assert report.latency_s == cost(graph, target, format="int8").latency_s
    assert report.feasible


def test_a_network_that_does_not_fit_says_so() -> None:
    target = load_target("lattice-ice40up5k")
    rng = np.random.default_rng(0)
    builder = GraphBuilder("wide")
    x = builder.input("x", (1, 400))
    for index in range(2):
        weights = builder.constant(f"w{index}", rng.normal(0, 0.2, (400, 400)).astype(np.float32))
        x = builder.add(ops.MatMul(), [x, weights], output=f"y{index}", name=f"fc{index}")
    report = mixed_cost(quantized(builder.build([x]), "int8", fc1="w4a8"), target)
    assert not report.feasible
    assert report.violations[0].unit == "B"
    assert report.violations[0].demand == report.peak_bytes == 400 * 400 * 1.5 + 2 * 448
