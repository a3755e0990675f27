"""Sharding as a plan: made, written, read again, and refused where it is another graph's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.errors import InvalidPlanError
from lepton_dse.flow import PlannedModel
from lepton_dse.ir.semantics import run
from lepton_dse.plan import Plan, Sharding
from lepton_dse.schedule.sharded import planned_sharding
from lepton_dse.sim.sharded import run_sharded
from tests.oracle.sharding import perceptron, residual_network


@pytest.fixture(scope="module")
def planned() -> PlannedModel:
    graph = residual_network(0, batch=1, channels=8, extent=8)
    return ld.shard(graph, "google-v5e-pod", "x=2,y=2", batch=4, format="int8")


def test_a_plan_is_read_as_it_was_written(planned: PlannedModel, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    planned.save(path)
    again = ld.read_plan(path)
    assert again.plan == planned.plan
    assert again.target == planned.target
    assert again.lowered.digest == planned.lowered.digest
    assert again.lowered.batch == 4


def test_the_planned_steps_compute_what_the_model_computes(planned: PlannedModel) -> None:
    sharding = planned.plan.sharding
    assert sharding is not None
    program = planned_sharding(planned.lowered, sharding)
    feeds = {name: np.random.default_rng(0).normal(size=planned.lowered.tensors[name].shape) for name in planned.lowered.inputs}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    expected, found = run(planned.lowered, feeds), run_sharded(program, feeds)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_the_report_adds_up(planned: PlannedModel) -> None:
    predicted = planned.predicted
    assert predicted.resources["devices"] == 4
    assert predicted.latency_s == pytest.approx(predicted.resources["kernels_s"] + predicted.resources["exchanges_s"])
    assert predicted.throughput_per_s == pytest.approx(4 / predicted.latency_s)
    assert predicted.search is not None
    assert predicted.search.optimal
    weights = sum(tensor.nbytes for tensor in planned.lowered.constants.values())
    assert predicted.peak_bytes > 0
    assert predicted.feasible
    alone = ld.shard(planned.bundle, "google-v5e-pod", "x=1", batch=4)
    assert alone.predicted.peak_bytes >= weights
    assert alone.predicted.latency_s >= predicted.latency_s


def test_more_devices_than_samples_share_by_something_else() -> None:
    wide = ld.shard(perceptron(0, batch=1, extents=(64, 4096, 64)), "google-v5e-pod", "x=8", format="float32")
    sharding = wide.plan.sharding
    assert sharding is not None
    assert any(entry.loops for entry in sharding.ops.values())


def rename(document: dict[str, Any]) -> None:
    entries = document["sharding"]["ops"]
    entries["another"] = entries.pop(next(iter(entries)))


def forget(document: dict[str, Any]) -> None:
    document["sharding"]["ops"].popitem()


def unknown_axis(document: dict[str, Any]) -> None:
    document["sharding"]["mesh"] = "x=2,z=2"
    next(iter(document["sharding"]["ops"].values()))["loops"] = {"d0": ["y"]}


def no_mesh(document: dict[str, Any]) -> None:
    document["sharding"]["mesh"] = "two by two"


def uneven(document: dict[str, Any]) -> None:
    document["sharding"]["mesh"] = "x=3,y=7"
    next(iter(document["sharding"]["ops"].values()))["loops"] = {"d0": ["x"]}


def twice(document: dict[str, Any]) -> None:
    for entry in document["sharding"]["ops"].values():
        entry["home"] = [["x"], ["x"], *entry["home"][2:]]


def rank(document: dict[str, Any]) -> None:
    for entry in document["sharding"]["ops"].values():
        entry["home"] = [["x"]]


def lost_input(document: dict[str, Any]) -> None:
    document["sharding"]["inputs"] = {}


@pytest.mark.parametrize("edit", [rename, forget, unknown_axis, no_mesh, uneven, twice, rank, lost_input])
def test_a_sharding_of_another_graph_is_one_line(planned: PlannedModel, edit: Any) -> None:
    document = json.loads(planned.plan.model_dump_json())
    edit(document)
    sharding = Sharding.model_validate(document["sharding"])
    with pytest.raises(InvalidPlanError, match="plan again") as caught:
        planned_sharding(planned.lowered, sharding)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_refused() -> None:
    graph = perceptron(0, batch=1, extents=(8, 8))
    for arguments, what in (
        ({"cluster": "dgx-a10", "mesh": "x=2"}, "no cluster"),
        ({"cluster": "dgx-a100", "mesh": "x"}, "no axis"),
        ({"cluster": "dgx-a100", "mesh": "x=2", "batch": 0}, "0 samples"),
        ({"cluster": "google-v5e-pod", "mesh": "x=512"}, "cluster of 256"),
    ):
        with pytest.raises(ld.LeptonError, match=what):
            ld.shard(graph, **arguments)
    bundle = ld.quantize(graph, "int8")
    with pytest.raises(ld.LeptonError, match="too late"):
        ld.shard(bundle, "dgx-a100", "x=2", rounding="gptq")


def test_plans_without_sharding_have_none() -> None:
    plan = ld.plan(perceptron(0, batch=1, extents=(8, 8)), "google-tpu-v5e")
    assert plan.plan.sharding is None
    assert Plan.from_json(plan.plan.to_json()) == plan.plan
