"""Planning again with an earlier study: what a study from nothing finds, and no more work than the change asks for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.study import Candidate, Found, Space, Step, Study, Variant, read_finished, run, work
from lepton_dse.targets import load_target, with_numbers

USUAL: dict[str, Any] = {"minimize": ["latency_s", "loss_points"], "screen": 10, "calibration": 5, "samples": 25, "seed": 0}
AXES: dict[str, Any] = {
    "targets": ["nvidia-t4", {"target": "google-tpu-v1", "numbers": {"array_rows": [64, 128]}}],
    "formats": ["float16", "int8"],
    "sparsities": [0.0, "2:4"],
}


@dataclass
class Seen:
    """What workers were asked for."""

    priced: list[Candidate] = field(default_factory=list)
    measured: list[tuple[Variant, int]] = field(default_factory=list)


@contextmanager
def watched() -> Iterator[Seen]:
    """Everything that is computed meanwhile, in this process."""
    seen, price, measure = Seen(), work._price, work._measure

    def priced(inputs: work.Inputs, candidate: Candidate) -> Any:
        seen.priced.append(candidate)
        return price(inputs, candidate)

    def measured(inputs: work.Inputs, variant: Variant, samples: int) -> Any:
        seen.measured.append((variant, samples))
        return measure(inputs, variant, samples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_price", priced)
        patch.setattr(work, "_measure", measured)
        yield seen


@dataclass
class Asked:
    """A study to be run in folders of its own."""

    graph: Graph
    data: Dataset
    axes: dict[str, Any] = field(default_factory=lambda: dict(AXES))
    options: dict[str, Any] = field(default_factory=lambda: dict(USUAL))

    def but(self, **changes: Any) -> Asked:
        axes = {**self.axes, **{name: value for name, value in changes.items() if name in Space.model_fields}}
        options = {**self.options, **{name: value for name, value in changes.items() if name in USUAL or name in OTHERS}}
        return Asked(changes.get("graph", self.graph), changes.get("data", self.data), axes, options)

    def study(self, folder: Path) -> Study:
        return Study(self.graph, Space(**self.axes), folder=folder, data=self.data, **self.options)

    def run(self, folder: Path, **options: Any) -> tuple[Found, Seen]:
        with watched() as seen:
            found = self.study(folder).run(workers=0, **options).found
        assert found is not None
        return found, seen


OTHERS = ("subject_to", "metric", "fpga", "enumerate_up_to", "population", "trials")


@pytest.fixture
def asked(graph: Graph, data: Dataset) -> Asked:
    return Asked(graph, data)


def records(folder: Path) -> list[dict[str, Any]]:
    """What the journal says of each candidate, but for whether it was reused."""
    lines = map(json.loads, (folder / "journal.log").read_text().splitlines())
    found = [(line["user_attrs"], line.get("values")) for line in lines if "figures" in line.get("user_attrs", {})]
    return [{**{name: value for name, value in attrs.items() if name != "reused"}, "values": values} for attrs, values in found]


def accuracies(folder: Path) -> dict[str, Any]:
    found = {path.name: json.loads(path.read_text()) for path in (folder / "variants").glob("*.json")}
    return {name: {key: value for key, value in document.items() if key != "reused"} for name, document in found.items()}


def hardware(candidate: Candidate) -> str:
    return with_numbers(load_target(candidate.hardware.target), dict(candidate.hardware.numbers)).model_dump_json()


def compared(old: Asked, new: Asked, place: Path) -> tuple[Found, Seen, Seen, Seen]:
    """The new study from nothing and with the old one: equal in all that they found."""
    _, first = old.run(place / "old")
    cold, all_of_it = new.run(place / "cold")
    again, rest = new.run(place / "new", reuse=place / "old")
    assert again == cold
    assert records(place / "new") == records(place / "cold")
    assert accuracies(place / "new") == accuracies(place / "cold")
    assert again.reused_prices == len(all_of_it.priced) - len(rest.priced)
    assert again.reused_accuracies == len(all_of_it.measured) - len(rest.measured)
    read = read_finished(place / "new").found
    assert (read, read.reused_prices, read.reused_accuracies) == (cold, again.reused_prices, again.reused_accuracies)
    return again, first, all_of_it, rest


def other_weights(graph: Graph) -> Graph:
    """Every weight a little larger, so that none becomes zero and the same ones are the smallest."""
    return graph.with_constants({name: value * np.float32(1.125) for name, value in graph.constants.items() if value.ndim >= 2})


SWEPT = {"target": "google-tpu-v1", "numbers": {"array_rows": [64, 256]}}
CHANGES = {
    "targets": st.sampled_from([["nvidia-t4"], ["nvidia-t4", SWEPT], [SWEPT, "raspberry-pi-5"], AXES["targets"]]),
    "formats": st.lists(st.sampled_from(["float16", "int8", "w4a8"]), min_size=1, max_size=3, unique=True),
    "sparsities": st.lists(st.sampled_from([0.0, 0.5, "2:4"]), min_size=1, max_size=2, unique=True),
    "channels": st.lists(st.sampled_from([0.0, 0.25]), min_size=1, max_size=2, unique=True),
    "batches": st.lists(st.sampled_from([1, 4]), min_size=1, max_size=2, unique=True),
    "minimize": st.sampled_from([["latency_s", "loss_points"], ["energy_j", "loss_points"], ["weight_bytes", "accuracy"]]),
    "subject_to": st.sampled_from([[], ["loss_points <= 50"], ["latency_s <= 2e-5"]]),
    "metric": st.sampled_from(["top1", "agreement"]),
    "calibration": st.sampled_from([5, 6]),
    "samples": st.sampled_from([25, 30]),
    "screen": st.sampled_from([10, 12]),
    "seed": st.sampled_from([0, 1]),
}


@pytest.mark.slow
@settings(max_examples=15)
@given(start=st.fixed_dictionaries(CHANGES), changes=st.data())
def test_planning_again_is_planning_from_nothing(
    graph: Graph, data: Dataset, start: dict[str, Any], changes: st.DataObject
) -> None:
    named = changes.draw(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=2, unique=True))
    old = Asked(graph, data).but(**start)
    new = old.but(**{name: changes.draw(CHANGES[name], label=name) for name in named})
    with TemporaryDirectory() as scratch:
        _, first, whole, rest = compared(old, new, Path(scratch))
    known = {(entry.variant, entry.batch, hardware(entry)) for entry in first.priced}
    touched = [entry for entry in whole.priced if (entry.variant, entry.batch, hardware(entry)) not in known]
    assert rest.priced == touched
    same = all(old.options.get(name) == new.options.get(name) for name in ("metric", "calibration", "seed"))
    # Fewer samples in all are other ones: the choice of samples is drawn once, and its beginning is the same.
    assert rest.measured == [entry for entry in whole.measured if not (same and entry in first.measured)]


def test_one_changed_device_is_priced_again_and_nothing_is_measured(asked: Asked, tmp_path: Path) -> None:
    new = asked.but(targets=["nvidia-t4", {"target": "google-tpu-v1", "numbers": {"array_rows": [64, 256]}}])
    _, _, _, rest = compared(asked, new, tmp_path)
    assert {str(entry.hardware) for entry in rest.priced} == {"google-tpu-v1[array_rows=256]"}
    assert rest.measured == []


def test_nothing_left_to_do_starts_no_worker(asked: Asked, tmp_path: Path) -> None:
    wanted, _ = asked.run(tmp_path / "old")

    def make() -> Any:
        raise AssertionError("a worker was started")

    found = asked.study(tmp_path / "new").run(make, reuse=tmp_path / "old").found
    assert found == wanted
    assert (found.reused_prices, found.reused_accuracies) == (wanted.evaluated, len(accuracies(tmp_path / "old")))


def test_an_edited_hardware_file_is_priced_again(asked: Asked, graph: Graph, tmp_path: Path) -> None:
    """The name is the same; one number in the file is not."""
    from lepton_dse.files import data_folder

    text = (data_folder("hwmodels") / "cpu" / "raspberry-pi-5.toml").read_text()
    axes = {"targets": ["mine.toml", "nvidia-t4"], "formats": ["int8"]}
    (tmp_path / "mine.toml").write_text(text)

    def run(folder: str, **options: Any) -> tuple[Found | None, Seen]:
        with watched() as seen:
            study = Study(graph, Space(**axes), folder=tmp_path / folder, root=tmp_path, minimize=["latency_s"])
            return study.run(workers=0, **options).found, seen

    run("old")
    assert "launch_s = { value = " in text
    (tmp_path / "mine.toml").write_text(text.replace("launch_s = { value = ", "launch_s = { value = 1", 1))
    cold, _ = run("cold")
    again, rest = run("new", reuse=tmp_path / "old")
    assert again == cold
    assert [entry.hardware.target for entry in rest.priced] == ["mine.toml"]


def test_other_weights_are_measured_again_and_cost_the_same(asked: Asked, tmp_path: Path) -> None:
    _, _, whole, rest = compared(asked, asked.but(graph=other_weights(asked.graph)), tmp_path)
    assert (rest.priced, rest.measured) == ([], whole.measured)


def test_a_weight_that_becomes_zero_is_priced_again(asked: Asked, tmp_path: Path) -> None:
    name = next(name for name, value in asked.graph.constants.items() if value.ndim >= 2)
    value = asked.graph.constants[name].copy()
    value.reshape(-1)[np.abs(value).argmax()] = 0
    new = asked.but(graph=asked.graph.with_constants({name: value}))
    _, _, whole, rest = compared(asked, new, tmp_path)
    assert (rest.priced, rest.measured) == (whole.priced, whole.measured)


def test_other_data_are_measured_again(asked: Asked, tmp_path: Path) -> None:
    _, _, whole, rest = compared(asked, asked.but(data=replace(asked.data, x=asked.data.x + np.float32(0.25))), tmp_path)
    assert (rest.priced, rest.measured) == ([], whole.measured)
    shutil.rmtree(tmp_path / "new")
    _, rest = asked.run(tmp_path / "new", reuse=tmp_path / "cold")
    assert rest.priced == []


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"calibration": 6}, {"graph": None}, {"data": None}], ids=["seed", "calibration", "weights", "data"]
)
def test_a_planned_design_depends_on_weights_and_calibration(asked: Asked, tmp_path: Path, change: dict[str, Any]) -> None:
    axes = {"targets": ["amd-zynq-7020", "raspberry-pi-5"], "formats": ["int8"], "sparsities": [0.0]}
    old = asked.but(**axes, minimize=["latency_s"], fpga="plan")
    if "graph" in change:
        change = {"graph": other_weights(asked.graph)}
    if "data" in change:
        change = {"data": replace(asked.data, x=asked.data.x + np.float32(0.25))}
    _, _, _, rest = compared(old, old.but(**change), tmp_path)
    assert [entry.hardware.target for entry in rest.priced] == ["amd-zynq-7020"]
    shutil.rmtree(tmp_path / "new")
    assert old.run(tmp_path / "new", reuse=tmp_path / "old")[1].priced == []
    _, rest = old.but(fpga="bound").run(tmp_path / "bound", reuse=tmp_path / "old")
    assert [entry.hardware.target for entry in rest.priced] == ["amd-zynq-7020"]


def test_a_sampled_study_is_reused(asked: Asked, tmp_path: Path) -> None:
    sampled = asked.but(enumerate_up_to=0, population=4, trials=8)
    _, first, whole, rest = compared(sampled, sampled.but(minimize=["energy_j", "loss_points"]), tmp_path)
    assert set(map(str, rest.priced)) == set(map(str, whole.priced)) - set(map(str, first.priced))


def test_an_unfinished_study_is_reused_and_a_reusing_one_goes_on(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(step: Step) -> None:
        if step.done > 8 or folder == "new":
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "_CHUNK", 4)
    folder = "old"
    with pytest.raises(KeyboardInterrupt):
        asked.run(tmp_path / "old", progress=stop)
    assert len(records(tmp_path / "old")) == 8
    with (tmp_path / "old" / "journal.log").open("a") as journal:
        journal.write('{"op_code":4,"worker')
    new = asked.but(formats=["int8", "float16", "w4a8"])
    wanted, whole = new.run(tmp_path / "cold")
    folder = "new"
    with pytest.raises(KeyboardInterrupt):
        new.run(tmp_path / "new", reuse=tmp_path / "old", progress=stop)
    assert len(records(tmp_path / "new")) == 4
    found, rest = new.run(tmp_path / "new", resume=True)
    assert (found, found.reused_prices) == (wanted, 4)
    assert rest.priced == whole.priced[4:]
    assert records(tmp_path / "new") == records(tmp_path / "cold")


def test_what_failed_is_tried_again(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise MemoryError("for a moment")

    with monkeypatch.context() as patch:
        patch.setattr(work, "_price", fails)
        found = asked.study(tmp_path / "old").run(workers=0).found
        assert found is not None
        assert found.failed == found.evaluated
    wanted, whole = asked.run(tmp_path / "cold")
    again, rest = asked.run(tmp_path / "new", reuse=tmp_path / "old")
    assert (again, rest.priced, again.reused_prices) == (wanted, whole.priced, 0)


@pytest.mark.parametrize("change", [{"lepton_dse": "0.0.9 0123456789ab"}, {"numpy": "1.0"}, None])
def test_other_software_is_refused(asked: Asked, tmp_path: Path, change: dict[str, str] | None) -> None:
    asked.run(tmp_path / "old")
    path = tmp_path / "old" / "study.json"
    document = json.loads(path.read_text())
    if change is None:
        del document["software"]
    else:
        document["software"] |= change
    path.write_text(json.dumps(document))
    said = "cannot be reused: it was computed by " + ("" if change is None else " ".join(*change.items()))
    with pytest.raises(LeptonError, match=said):
        asked.run(tmp_path / "new", reuse=tmp_path / "old")
    assert not (tmp_path / "new").exists()
    with pytest.raises(LeptonError, match="software changed since the study began"):
        asked.run(tmp_path / "old", resume=True)


def test_a_changed_formula_is_other_software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lepton_dse.study import software

    package = Path(software.__file__).parents[1]
    shutil.copytree(package, tmp_path / "lepton_dse", ignore=shutil.ignore_patterns("__pycache__", "_data"))
    monkeypatch.setattr(software, "__file__", str(tmp_path / "lepton_dse" / "study" / "software.py"))
    before = software._sources()
    (tmp_path / "lepton_dse" / "report" / "text.py").write_text("")
    assert software._sources() == before
    with (tmp_path / "lepton_dse" / "sim" / "roofline.py").open("a") as source:
        source.write("\n")
    assert software._sources() != before


def test_wrong_folders(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="holds no study"):
        asked.run(tmp_path / "new", reuse=tmp_path / "none")
    asked.run(tmp_path / "old")
    with pytest.raises(LeptonError, match="is the study's own folder"):
        asked.run(tmp_path / "old", reuse=tmp_path / "old", resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("study.json", '"settings"', '"sittings"'),
        ("study.json", '"model_digest": "', '"model_digest": "0'),
        ("study.json", '"latency_s"', '"speed"'),
        ("journal.log", '"op_code"', "op_code"),
        ("journal.log", '"index":0,', '"index":48,'),
        ("journal.log", '"latency_s":', '"latency_s":"slow","was":'),
        ("variants", '"low": ', '"law": '),
        ("inputs", '"array_rows"', '"array_raws"'),
    ],
)
def test_a_damaged_study_is_not_reused(asked: Asked, tmp_path: Path, name: str, old: str, new: str) -> None:
    asked.run(tmp_path / "old")
    kept = {"variants": "variants/*.json", "inputs": "inputs/*/targets.json"}.get(name, name)
    path = next((tmp_path / "old").glob(kept))
    text = path.read_text()
    if name == "inputs":
        old, new = old.replace('"', '\\"'), new.replace('"', '\\"')
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LeptonError, match=r"damaged|no study's record|no measured accuracy|array_raws"):
        asked.run(tmp_path / "new", reuse=tmp_path / "old")
    assert not (tmp_path / "new").exists()


def test_the_earlier_folder_is_only_read(asked: Asked, tmp_path: Path) -> None:
    asked.run(tmp_path / "old")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "old").rglob("*") if path.is_file()}
    asked.but(formats=["int8"]).run(tmp_path / "new", reuse=tmp_path / "old")
    assert {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "old").rglob("*") if path.is_file()
    } == before
