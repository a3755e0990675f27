"""Meshes of a cluster as a choice of studies: what candidates cost and plan, what keys tell apart, and what does not fit."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.memory import stored_bytes
from lepton_dse.parallel.layout import Mesh
from lepton_dse.parallel.splitting import layouts_of, splittable
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.schedule.sharded import planned_stages
from lepton_dse.study import Found, Hardware, Row, Space, Standing, Step, Study, Sweep, read_finished, run, work
from lepton_dse.study.detail import Detail
from lepton_dse.study.keys import Keys, Shapes
from lepton_dse.study.levers import levers
from lepton_dse.study.machine import machine_from_json, machine_of, machine_to_json
from lepton_dse.study.work import shaped
from lepton_dse.targets import load_cluster
from tests.oracle.sharding import perceptron

Make = Callable[..., Study]
POD = "google-v5e-pod"
AXES: dict[str, Any] = {
    "targets": [{"target": POD, "meshes": [1, 2, "x=2,y=2"], "stages": [1, 2]}, "nvidia-t4"],
    "formats": ["float16", "int8"],
    "sparsities": [0.5],
    "channels": [0],
    "batches": [4],
}
WANTED = {"minimize": ["latency_s", "devices", "peak_bytes", "loss_points"], "axes": AXES}
COST = {"minimize": ["latency_s", "devices"], "data": None, "axes": AXES}


def found(study: Study, **options: Any) -> Found:
    result = study.run(**{"workers": 0, **options}).found
    assert result is not None
    return result


def pod(*meshes: str | int, stages: tuple[int, ...] = (1,), name: str = POD, **axes: Any) -> dict[str, Any]:
    """Options of a study of costs over one cluster."""
    targets = [{"target": name, "meshes": meshes, "stages": stages}]
    return {**COST, "axes": {**AXES, "targets": targets, "formats": ["int8"], "batches": [1], **axes}}


def candidates(study: Study) -> dict[str, Standing]:
    """How every candidate came out, by its hardware."""
    return {str(entry.row.candidate.hardware): entry for entry in read_finished(study.folder).candidates}


def test_a_number_of_devices_stands_for_its_meshes() -> None:
    assert Sweep(target="a", meshes=[1, 8]).every_mesh == ("x=1", "x=8", "x=2,y=4", "x=4,y=2")
    assert Sweep(target="a", meshes=[" x=2, y=3", 5]).every_mesh == ("x=2,y=3", "x=5")
    assert Sweep(target="a").every_mesh == ("",)


@given(st.integers(1, 500))
def test_meshes_of_a_number_have_that_many_devices(number: int) -> None:
    meshes = [Mesh.parse(text) for text in Sweep(target="a", meshes=[number]).every_mesh]
    assert {mesh.devices for mesh in meshes} == {number}
    divisors = [size for size in range(2, number) if number % size == 0]
    assert [mesh.axes[0][1] for mesh in meshes if len(mesh.axes) == 2] == divisors


def test_hardware_says_how_it_is_shared() -> None:
    assert str(Hardware(POD, (), "x=2,y=4", 2)) == f"{POD}[x=2,y=4; 2 stages]"
    assert str(Hardware(POD, (), "x=2")) == f"{POD}[x=2]"
    assert (Hardware(POD, (), "x=2,y=4", 2).devices, Hardware("nvidia-t4").devices) == (16, 1)


@settings(max_examples=5)
@given(
    st.sampled_from(["float16", "int8", "w4a8"]), st.sampled_from([0, 0.5, "2:4"]), st.sampled_from([0, 0.25]), st.integers(0, 9)
)
def test_one_device_of_a_mesh_is_as_accurate_as_a_device_by_itself(
    graph: Graph, data: Dataset, form: str, zeros: float | str, cut: float, seed: int
) -> None:
    rows: list[Row] = []
    axes = {"formats": [form], "sparsities": [zeros], "channels": [cut]}
    for target in ({"target": POD, "meshes": ["x=1"]}, "google-tpu-v5e"):
        space = Space(targets=[target], **axes)
        with TemporaryDirectory() as folder:
            options = {"minimize": ["loss_points"], "screen": 20, "calibration": 10, "seed": seed}
            (row,) = found(Study(graph, space, folder=folder, data=data, **options)).front
        rows.append(row)
    shared, alone = rows
    assert (shared.accuracy, shared.loss) == (alone.accuracy, alone.loss)
    for name in ("devices", "exchanged_bytes", "weight_bytes"):
        assert shared.figures[name] == alone.figures[name]
    assert (shared.figures["devices"], shared.figures["exchanged_bytes"]) == (1, 0)


def test_every_candidate_is_what_shard_plans(study: Make, graph: Graph, data: Dataset) -> None:
    one = study(**WANTED)
    found(one)
    finished = read_finished(one.folder)
    detail, order = Detail(one.folder, finished), np.random.default_rng(0).permutation(len(data))
    calibration = Dataset(data.x[order][:10])
    shared = [entry for entry in finished.candidates if entry.row.candidate.hardware.mesh]
    assert len(shared) == 12
    assert not any(entry.why for entry in shared)
    for entry in shared:
        candidate, hardware = entry.row.candidate, entry.row.candidate.hardware
        small, form = shaped(graph, candidate.variant), candidate.variant.format
        options = {"batch": candidate.batch, "format": form, "data": calibration, "stages": hardware.stages}
        direct = flow.shard(small, POD, hardware.mesh, **options)
        report, figures = direct.predicted, entry.row.figures
        assert figures["latency_s"] == report.latency_s
        assert figures["throughput_per_s"] == report.throughput_per_s
        assert figures["peak_bytes"] == report.peak_bytes
        assert figures["exchanged_bytes"] == report.traffic_bytes["exchanged"]
        assert figures["devices"] == report.resources["devices"] == hardware.devices
        planned = detail.planned(entry)
        assert planned.plan == direct.plan
        assert planned.plan.sharding is not None
        assert (planned.plan.sharding.mesh, len(planned.plan.sharding.stages) + 1) == (hardware.mesh, hardware.stages)
        priced = detail.priced(entry).shared
        assert priced is not None
        spent = report.resources["kernels_s"] + report.resources["exchanges_s"]
        if hardware.stages == 1:
            assert sum(priced.seconds.values()) == pytest.approx(spent)
        else:  # what stages send one another is of no operation
            assert sum(priced.seconds.values()) < spent


def test_plans_of_devices_by_themselves(study: Make) -> None:
    one = study(**{**WANTED, "axes": {**AXES, "targets": ["nvidia-t4"], "batches": [1, 4]}})
    for row in found(one).front:
        if row.candidate.batch == 1:
            plan = one.planned(row).plan
            assert (plan.target, plan.sharding, plan.precision) == ("nvidia-t4", None, row.candidate.variant.format)
        else:
            with pytest.raises(LeptonError, match="a plan of one device for a batch of 4"):
                one.planned(row)
    stranger = found(study(**pod(2))).front[0]
    with pytest.raises(LeptonError, match="is not on the front"):
        one.planned(stranger)


def need_jax() -> None:
    if importlib.util.find_spec("jax") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("jax is not installed")


@pytest.mark.parametrize("stages", [1, 2])
def test_a_shared_member_is_emitted_and_verified(study: Make, stages: int, tmp_path: Path) -> None:
    need_jax()
    one = study(**pod(2, stages=(stages,)))
    (row,) = found(one).front
    artefact = flow.emit(one.planned(row), tmp_path / "artefact")
    checks = {check.name: check for check in flow.verify(artefact).checks}
    assert all(check.status in (CheckStatus.PASSED, CheckStatus.REPORTED) for check in checks.values())
    assert any(name.endswith("outputs_equal") for name in checks)
    assert observed_bytes(checks) == row.figures["exchanged_bytes"]


def observed_bytes(checks: dict[str, Check]) -> float:
    """Bytes that an artefact was seen to send."""
    sums = ("collective_bytes_equal", "stages_sent_bytes")
    return sum(float(check.observed or 0) for name, check in checks.items() if name.endswith(sums))


def test_exchanged_bytes_are_those_of_the_artefact(tmp_path: Path) -> None:
    need_jax()
    planned = flow.shard(perceptron(0, batch=1, extents=(512, 2048, 2048, 512)), POD, "x=2", format="float32")
    checks = {check.name: check for check in flow.verify(flow.emit(planned, tmp_path / "artefact")).checks}
    assert all(check.status is not CheckStatus.FAILED for check in checks.values())
    assert 0 < observed_bytes(checks) == planned.predicted.traffic_bytes["exchanged"]


def test_plans_are_calibrated_though_no_accuracy_is_asked_for(study: Make, graph: Graph, data: Dataset) -> None:
    one = study(**{**pod(2), "data": data})
    (row,) = found(one).front
    order = np.random.default_rng(0).permutation(len(data))
    direct = flow.shard(
        shaped(graph, row.candidate.variant), POD, "x=2", batch=1, format="int8", data=Dataset(data.x[order][:10])
    )
    assert one.planned(row).plan == direct.plan
    assert direct.plan.calibration is not None
    assert direct.plan.calibration.source == "data"


def test_a_study_with_devices_counts_those_by_themselves(study: Make) -> None:
    rows = found(study(**COST)).front
    assert {row.figures["devices"] for row in rows if row.candidate.hardware.target == "nvidia-t4"} <= {1}
    cheapest = min(rows, key=lambda row: row.figures["devices"] or 0)
    assert cheapest.figures["devices"] == 1


# --- what does not fit ----------------------------------------------------------------------------------------------


def test_meshes_that_do_not_fit_are_out_with_their_levers(study: Make) -> None:
    one = study(**pod("x=2", "x=11", "x=512", "x=128,y=2", stages=(1, 2, 40)))
    result = found(one)
    assert (result.evaluated, result.failed) == (12, 0)
    why = {name: entry.why for name, entry in candidates(one).items()}
    assert why[f"{POD}[x=2]"] == why[f"{POD}[x=2; 2 stages]"] == ""
    assert "stages of a pipeline: needs 40 operations, 13 available; fewer stages" in why[f"{POD}[x=2; 40 stages]"]
    uneven = why[f"{POD}[x=11]"]
    assert (
        uneven
        == "what the 11 devices of axis x share evenly: needs 1 loop, 0 available; an axis of 10 or a batch that 11 divides"
    )
    assert (
        "mesh x=512 on google-v5e-pod: needs 512 devices, 256 available; a smaller mesh or a larger cluster"
        in why[f"{POD}[x=512]"]
    )
    large = why[f"{POD}[x=128,y=2; 2 stages]"]
    assert "needs 512 devices, 256 available; a smaller mesh or fewer stages or a larger cluster" in large
    assert all(entry.row.figures["devices"] == entry.row.candidate.hardware.devices for entry in candidates(one).values())


@pytest.mark.parametrize("batch", [1, 6])
def test_an_axis_does_not_divide_where_no_operation_can_be_shared_over_it(graph: Graph, batch: int) -> None:
    lowered = lower_bundle(flow.quantize(graph, "int8")).with_batch(batch)
    cluster = load_cluster(POD)
    for size in range(2, 40):
        mesh = Mesh((("x", size),))
        ways = [(op, loop) for op in lowered.ops for loop in splittable(lowered, op)]
        shares = any(layouts_of(lowered, op, {loop.name: ("x",)}, mesh) is not None for op, loop in ways)
        misfits = flow.sharding.sharding_misfits(lowered, mesh, 1, cluster)
        assert bool(misfits) != shares
        for misfit in misfits:
            lever = re.fullmatch(r"an axis of (\d+)", misfit.levers[0])
            assert lever is not None
            assert int(lever[1]) < size
            assert not flow.sharding.sharding_misfits(lowered, Mesh((("x", int(lever[1])),)), 1, cluster)


@pytest.fixture
def small_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cluster of a person's own, whose devices hold 6,050 bytes."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    models = tmp_path / "home" / ".config" / "lepton_dse" / "hwmodels"
    for folder, name in (("tpu", "google-tpu-v5e"), ("cluster", POD)):
        (models / folder).mkdir(parents=True)
        text = (
            (data_folder("hwmodels") / folder / f"{name}.toml")
            .read_text()
            .replace('device = "google-tpu-v5e"', 'device = "small"')
        )
        text = re.sub(r"capacity_bytes = \{ value = [^,]+,", "capacity_bytes = { value = 6050,", text)
        (models / folder / ("small.toml" if folder == "tpu" else "small-pod.toml")).write_text(text)
    return "small-pod"


def test_weights_that_do_not_fit_fit_on_more_devices_or_stages(study: Make, small_pod: str) -> None:
    one = study(**pod(1, 2, stages=(1, 3), name=small_pod))
    found(one)
    entries = candidates(one)
    too_large = entries["small-pod[x=1]"]
    assert re.match(r"weights of a device: needs \d+ bytes, 6050 available; a larger mesh or ", too_large.why)
    assert too_large.why.endswith("more stages")
    assert not too_large.failed
    assert entries["small-pod[x=2]"].why == ""
    assert entries["small-pod[x=1; 3 stages]"].why == ""


def test_memory_of_a_pipeline_is_that_of_its_largest_stage(graph: Graph) -> None:
    bundle = flow.quantize(graph, "int8")
    peaks = []
    for stages in (1, 2, 3):
        planned = flow.shard(bundle, POD, "x=2", batch=4, stages=stages)
        assert planned.plan.sharding is not None
        staged = planned_stages(planned.lowered, planned.plan.sharding)
        held = [sum(stored_bytes(part.shards[name].tensor) for name in part.constants) for part in staged.stages]
        sent = sum(transfer.device_bytes for transfer in staged.transfers)
        assert (
            max(held) < planned.predicted.peak_bytes <= sum(held) + flow.shard(bundle, POD, "x=2", batch=4).predicted.peak_bytes
        )
        assert planned.predicted.traffic_bytes["exchanged"] >= sent
        peaks.append(planned.predicted.peak_bytes)
    assert all(one >= other for one, other in pairwise(peaks))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            [{"target": "nvidia-t4", "meshes": ["x=2"]}],
            "nvidia-t4: meshes of a single device; leave them out, or name a cluster: dgx",
        ),
        ([{"target": "nvidia-t4", "stages": [2]}], "nvidia-t4: stages of a single device"),
        ([POD], "google-v5e-pod: a cluster without a mesh of its devices; write"),
        ([{"target": POD, "stages": [2]}], "a cluster without a mesh"),
        ([{"target": "dgx-h1000", "meshes": [2]}], "no cluster called 'dgx-h1000'; did you mean dgx-h100"),
        (
            [{"target": POD, "meshes": [2], "numbers": {"devices": [8]}}],
            "no number 'devices'; numbers of a cluster are not swept",
        ),
    ],
)
def test_meshes_that_cannot_be_asked_for(study: Make, targets: list[Any], said: str) -> None:
    with pytest.raises(LeptonError, match=re.escape(said)) as caught:
        study(**{**COST, "axes": {**AXES, "targets": targets}})
    assert "\n" not in str(caught.value)


def test_a_cluster_of_cpus_is_refused(study: Make, tmp_path: Path) -> None:
    text = (data_folder("hwmodels") / "cluster" / f"{POD}.toml").read_text().replace("google-tpu-v5e", "raspberry-pi-5")
    (tmp_path / "boards.toml").write_text(text)
    with pytest.raises(LeptonError, match="neither GPU nor TPU"):
        study(**{**COST, "root": tmp_path, "axes": {**AXES, "targets": [{"target": "boards.toml", "meshes": [2]}]}})


# --- keys, and going on ---------------------------------------------------------------------------------------------


def test_keys_tell_meshes_stages_batches_and_weights_apart(graph: Graph, data: Dataset) -> None:
    axes = {**AXES, "targets": [{"target": POD, "meshes": [1, 2, 4, "z=4"], "stages": [1, 2]}, "google-tpu-v5e"]}
    space = Space(**axes)
    options = Study(graph, space, folder="unused", minimize=["latency_s"]).settings
    machines = {sweep.target: machine_of(sweep, Path()) for sweep in space.targets}
    keys = Keys(options, Shapes(graph), data, machines)
    every = [keys.price(candidate) for candidate in space.candidates()]
    assert len(set(every)) == space.size
    assert every == [Keys(options, Shapes(graph), data, machines).price(candidate) for candidate in space.candidates()]
    constants = {name: 2 * np.asarray(value) for name, value in graph.constants.items()}
    doubled = Graph(graph.name, graph.tensors.values(), graph.ops, graph.inputs, graph.outputs, constants)
    again = [Keys(options, Shapes(doubled), data, machines).price(candidate) for candidate in space.candidates()]
    for candidate, before, after in zip(space.candidates(), every, again, strict=True):
        assert (before != after) == bool(candidate.hardware.mesh), "plans hold calibrated weights, prices only their zeros"


def test_a_machine_is_read_as_it_was_written() -> None:
    for sweep in (Sweep(target="dgx-h100", meshes=[2]), Sweep(target="nvidia-t4")):
        machine = machine_of(sweep, Path())
        again = machine_from_json(machine_to_json(machine), where="here")
        assert (again, again.digest) == (machine, machine.digest)


def test_an_earlier_study_gives_the_meshes_that_both_have(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, cold = study(**WANTED), study(**changed()), study(**changed())
    found(old)
    wanted = found(cold)
    asked: list[str] = []
    price = work._price
    monkeypatch.setattr(work, "_price", lambda inputs, one: asked.append(str(one.hardware)) or price(inputs, one))
    result = found(new, reuse=old.folder)
    assert result == wanted
    assert set(asked) == {f"{POD}[x=4]", f"{POD}[x=4; 2 stages]"}
    assert result.reused_prices == result.evaluated - len(asked) == 10
    assert result.reused_accuracies > 0


def changed() -> dict[str, Any]:
    """The study with other meshes, two of them as before."""
    targets = [{"target": POD, "meshes": ["x=1", "x=4", "x=2"], "stages": [1, 2]}, "nvidia-t4"]
    return {**WANTED, "axes": {**AXES, "targets": targets}}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_CHUNK", 8)
    monkeypatch.setattr(run, "_TASK", 2)


def die_after(steps: int, step: Step, *, seen: list[Step]) -> None:
    seen.append(step)
    if len(seen) == steps:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_and_a_killed_study_go_on(study: Make) -> None:
    wanted = found(study(**WANTED))

    def interrupt(step: Step) -> None:
        if step.done == 10:
            signal.raise_signal(signal.SIGINT)

    one = study("interrupted", **WANTED)
    assert found(one, progress=interrupt).interrupted
    with pytest.raises(LeptonError, match="space changed since the study began"):
        found(study("interrupted", **changed()), resume=True)
    assert found(one, resume=True) == wanted
    killed = study("killed", **WANTED)
    asked = partial(killed.run, workers=0, progress=partial(die_after, 7, seen=[]))
    process = multiprocessing.get_context("fork").Process(target=asked)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert found(killed, resume=True) == wanted


def test_workers_change_nothing(study: Make) -> None:
    wanted = found(study(**WANTED))
    with ThreadPoolExecutor(2) as executor:
        assert found(study(**WANTED), executor=executor) == wanted
    forked = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
    with forked as executor:
        assert found(study(**WANTED), executor=executor) == wanted


def test_a_worker_with_another_device_ends_the_study(study: Make, small_pod: str) -> None:
    one = study(**pod(1, name=small_pod))
    model = Path.home() / ".config" / "lepton_dse" / "hwmodels" / "tpu" / "small.toml"
    model.write_text(model.read_text().replace("value = 6050,", "value = 8000,"))
    with ThreadPoolExecutor(1) as executor, pytest.raises(LeptonError, match="has another hardware model of small"):
        one.run(executor)


def test_sampling_finds_meshes_too(study: Make) -> None:
    sampled = {"enumerate_up_to": 0, "population": 6, "trials": 18}
    asked = {**COST, **sampled, "axes": {**AXES, "batches": [1, 4]}}
    result = found(study(**asked))
    assert (result.evaluated, result.enumerated) == (18, False)
    assert result == found(study(**asked))


def test_meshes_and_stages_are_levers(study: Make) -> None:
    one = study(**WANTED)
    found(one)
    finished = read_finished(one.folder)
    seen = set()
    for entry in finished.candidates:
        for lever in levers(finished, entry.index):
            if lever.axis in ("mesh", "stages"):
                here, other = entry.row.candidate.hardware, lever.standing.row.candidate.hardware
                assert (here.mesh == other.mesh) == (lever.axis == "stages")
                assert (here.stages == other.stages) == (lever.axis == "mesh")
                assert lever.choice == (other.mesh if lever.axis == "mesh" else str(other.stages))
                seen.add(lever.axis)
    assert seen == {"mesh", "stages"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"family": "cluster"}', '{"family": "cluster", "cluster": {}}', "null"])
def test_what_a_folder_holds_of_a_machine_is_no_traceback(text: str) -> None:
    with pytest.raises(LeptonError, match="here"):
        machine_from_json(text, where="here")
