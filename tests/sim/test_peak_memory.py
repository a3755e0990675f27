"""Peak memory of the cost models: packed weights and the arena of the memory map, one definition for every family."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.files import data_folder
from lepton_dse.flow import cost
from lepton_dse.importers import load_model
from lepton_dse.ir.graph import Graph
from lepton_dse.memory import map_memory
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.report import sizes_in
from lepton_dse.targets import load_target
from lepton_dse.targets.schema import Quantity
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import arena as oracle

FAMILIES = ("raspberry-pi-5", "nvidia-h100-sxm", "google-tpu-v1", "google-tpu-v4", "amd-zynq-7020")
FORMATS = {"int8": (8, 32, 8), "w4a8": (4, 32, 8), "float32": (32, 32, 32), "w4-float16": (4, 32, 16)}
"""Bits of a weight, of an element of a vector, and of an activation."""


def bits(graph: Graph, name: str, form: str) -> int:
    weight, vector, activation = FORMATS[form]
    if not graph.tensors[name].format.is_float:
        return graph.tensors[name].format.bits
    if name not in graph.constants:
        return activation
    return vector if len(graph.tensors[name].shape) < 2 else weight


def whole(graph: Graph, form: str) -> dict[str, int]:
    return {name: (tensor.elements * bits(graph, name, form) + 7) // 8 for name, tensor in graph.tensors.items()}


@settings(max_examples=40, deadline=None)
@given(graphs(branches=True), st.sampled_from(sorted(FORMATS)), st.integers(1, 3), st.sampled_from(FAMILIES))
def test_weights_and_the_arena(graph: Graph, form: str, batch: int, target: str) -> None:
    report, batched = cost(graph, target, format=form, batch=batch), graph.with_batch(batch)
    sizes = whole(batched, form)
    weights = sum(sizes[name] for name in batched.constants)
    mapped = map_memory(batched, bytes_of=lambda tensor: sizes[tensor.name])
    assert report.peak_bytes == weights + mapped.peak
    rounded = {name: -(-size // 64) * 64 for name, size in sizes.items()}
    assert mapped.bound <= oracle.live_bytes(batched, rounded)
    assert max(sizes[name] for name in mapped.places) <= mapped.peak <= sum(rounded[name] for name in mapped.places)


@pytest.mark.parametrize("target", FAMILIES)
def test_quantised_models_need_what_their_format_says(target: str) -> None:
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    bundle = quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0]
    assert cost(bundle, target, batch=3).peak_bytes == cost(graph, target, format="int8", batch=3).peak_bytes


def test_activations_that_stay_on_the_chip_are_the_arena() -> None:
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    arena = map_memory(graph, bytes_of=sizes_in(graph, Precision.parse("int8"))).peak
    target = load_target("google-tpu-v1")

    def with_buffer(capacity: int) -> str:
        levels = tuple(
            level.model_copy(update={"capacity_bytes": Quantity(value=capacity, source="unit")}) if index == 0 else level
            for index, level in enumerate(target.levels)  # type: ignore[union-attr]
        )
        report = cost(graph, target.model_copy(update={"levels": levels}), format="int8")
        return "; ".join(str(entry) for entry in report.violations if entry.what.startswith("live activations"))

    assert with_buffer(arena) == ""
    assert f"needs {arena} B, {arena - 1} available" in with_buffer(arena - 1)
