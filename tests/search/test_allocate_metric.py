"""Allocations whose loss is in points of a chosen metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import lepton_dse as ld
from lepton_dse.compress.quantize import Recipe
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.sensitivity import sensitivities

INT8 = Recipe(Precision.parse("int8"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def network(outputs: int) -> ld.Graph:
    generator, builder = np.random.default_rng(1), GraphBuilder("small")

    def weights(name: str, *shape: int) -> str:
        return builder.constant(name, generator.normal(size=shape).astype(np.float32))

    hidden = builder.add(ops.MatMul(), [builder.input("x", (1, 8)), weights("w0", 8, 6)], output="h", name="first")
    hidden = builder.add(ops.Clip(0.0, np.inf), [hidden], output="r", name="relu")
    y = builder.add(ops.MatMul(), [hidden, weights("w1", 6, outputs)], output="y", name="last")
    return builder.build([y])


def labelled(graph: ld.Graph, count: int = 200) -> ld.Dataset:
    """Samples whose classes the network knows but for noise."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(count, 8)).astype(np.float32)
    hidden = np.maximum(x @ graph.constants["w0"], 0) @ graph.constants["w1"]
    hidden += generator.normal(size=hidden.shape)
    return ld.Dataset(x, np.asarray(hidden.argmax(1) if hidden.shape[1] > 1 else hidden[:, 0] > 0, np.int64))


def recall(scores: NDArray[np.generic], labels: NDArray[np.int64]) -> float:
    found = scores.reshape(len(scores), -1).argmax(1) == labels
    return float(np.mean(found[labels == 1])) if (labels == 1).any() else 1.0


@pytest.mark.parametrize("metric", ["top1", "top2", "auc", "cosine", "agreement", recall])
def test_the_budget_is_in_points_of_the_metric(metric: object) -> None:
    graph = network(3)
    data = labelled(graph)
    choices = ["int8", "w4a8", "w3a8", "w2a8"]
    found = ld.allocate(graph, "unit-cpu", data, choices, minimize="bytes", loss_points=8.0, metric=metric)  # type: ignore[arg-type]
    assert found.bundle is not None
    assert found.measured is not None
    before, after = (ld.accuracy(model, data, metric, reference=graph) for model in (graph, found.bundle))  # type: ignore[arg-type]
    assert found.measured.correct == after
    assert found.measured.loss.value == pytest.approx(100 * (before.value - after.value), abs=1e-9)
    assert found.measured.loss.value <= 8.0
    assert found.measured.loss.low <= found.measured.loss.value <= found.measured.loss.high


def test_no_metric_is_top_1_with_labels_and_agreement_without() -> None:
    graph = network(3)
    data = labelled(graph)
    plain = sensitivities(graph, data, ["w3a8"], recipe=INT8)
    assert plain.entries == sensitivities(graph, data, ["w3a8"], recipe=INT8, metric="top1").entries
    bare = ld.Dataset(data.x)
    unlabelled = sensitivities(graph, bare, ["w3a8"], recipe=INT8)
    assert unlabelled.entries == sensitivities(graph, bare, ["w3a8"], recipe=INT8, metric="agreement").entries


def test_figures_are_kept_by_metric_and_those_of_functions_are_not() -> None:
    graph = network(3)
    data = labelled(graph)
    for metric, measured in (("auc", 2), ("auc", 0), ("top1", 2), (recall, 2), (recall, 2)):
        assert sensitivities(graph, data, ["w3a8"], recipe=INT8, metric=metric).measured == measured


def test_a_network_with_one_score_is_allocated_by_its_area() -> None:
    graph = network(1)
    data = labelled(graph)
    found = ld.allocate(graph, "unit-cpu", data, ["int8", "w4a8"], minimize="bytes", loss_points=1.0, metric="auc")
    assert found.bundle is not None
    assert found.measured is not None
    assert found.measured.correct == ld.accuracy(found.bundle, data, "auc")
    assert found.measured.correct.value > 0.8


def test_a_network_with_one_output_and_no_labels_keeps_its_direction() -> None:
    graph = network(1)
    found = sensitivities(graph, ld.Dataset(labelled(graph).x), ["w4a8"], recipe=INT8)
    assert found.metric == "mse"
    assert all(0.8 < entry.correct.value <= 1 for entry in found.entries.values())


def test_what_cannot_be_measured_is_refused_before_anything_is() -> None:
    graph = network(3)
    data = labelled(graph)

    def told(text: str) -> None:
        pytest.fail(f"went on to {text}")

    for metric, word in (("f1", "no metric"), ("top4", "at most top3"), (lambda scores, labels: "x", "gave a str")):
        with pytest.raises(LeptonError, match=word):
            ld.allocate(graph, "unit-cpu", data, ["int8", "w4a8"], loss_points=1.0, metric=metric, progress=told)
    with pytest.raises(InvalidDataError, match="labels"):
        ld.allocate(graph, "unit-cpu", ld.Dataset(data.x), ["int8"], loss_points=1.0, metric="auc", progress=told)
