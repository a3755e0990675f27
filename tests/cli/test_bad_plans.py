"""Plans, bundles and artefacts that were edited: one line, exit code 2, what was there before left whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.files import data_folder


def raise_latency(plan: dict[str, Any]) -> None:
    plan["predicted"]["cycles"]["latency"] += 1


def refold(plan: dict[str, Any]) -> None:
    plan["ops"][0]["mapping"]["spatial"][0]["factor"] = 17


def deepen(plan: dict[str, Any]) -> None:
    plan["ops"][0]["fifo_depth"] += 1


def rename(plan: dict[str, Any]) -> None:
    plan["ops"][0]["op"] = "nothing"


def drop(plan: dict[str, Any]) -> None:
    del plan["ops"][0]


def retarget(plan: dict[str, Any]) -> None:
    plan["target"] = "unit-fpga"


def redigest(plan: dict[str, Any]) -> None:
    plan["target_digest"] = "0" * 64


def undigest(plan: dict[str, Any]) -> None:
    del plan["digest"]


def unknown(plan: dict[str, Any]) -> None:
    plan["colour"] = "blue"


def twice(plan: dict[str, Any]) -> None:
    plan["ops"].append(plan["ops"][0])


def negative(plan: dict[str, Any]) -> None:
    plan["predicted"]["latency_s"] = -1


def infeasible(plan: dict[str, Any]) -> None:
    plan["predicted"]["feasible"] = False


def newer(plan: dict[str, Any]) -> None:
    plan["schema_version"] = 4


def older(plan: dict[str, Any]) -> None:
    plan["schema_version"] = 2
    del plan["sharding"]


def overlap(plan: dict[str, Any]) -> None:
    for place in plan["memory"]["places"].values():
        place["offset"] = 0


def misalign(plan: dict[str, Any]) -> None:
    list(plan["memory"]["places"].values())[-1]["offset"] += 1


def outgrow(plan: dict[str, Any]) -> None:
    plan["memory"]["peak"] = plan["memory"]["bound"] = 64


def move(plan: dict[str, Any]) -> None:
    for place in plan["memory"]["places"].values():
        place["offset"] += 64
    plan["memory"]["peak"] += 64


def elsewhere(plan: dict[str, Any]) -> None:
    plan["bundle_digest"] = "../" * 21 + "a"


EDITS: dict[Callable[[dict[str, Any]], None], str] = {
    raise_latency: "edited",
    refold: "edited",
    deepen: "edited",
    rename: "edited",
    drop: "edited",
    retarget: "edited",
    redigest: "edited",
    undigest: "edited",
    unknown: "colour",
    twice: "twice",
    negative: "latency_s",
    infeasible: "feasible",
    newer: "schema_version 4, this release reads 3; plan again",
    older: "schema_version 2, this release reads 3; plan again",
    overlap: "are needed at once and overlap",
    misalign: "which is no multiple of 64",
    outgrow: "reaches out of its block or of the arena",
    move: "edited",
    elsewhere: "bundle_digest",
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edited_plan_is_refused(edit: Any, lepton: Any, work: Path) -> None:
    plan = json.loads((work / "plan.json").read_text())
    edit(plan)
    (work / "plan.json").write_text(json.dumps(plan))
    for line in (
        lepton("emit", work / "plan.json", "-o", work / "new").complaint,
        lepton("explain", work / "plan.json").complaint,
    ):
        assert EDITS[edit] in line
        assert "plan.json" in line
    assert not (work / "new").exists()


def test_a_plan_may_be_formatted_anew(lepton: Any, work: Path) -> None:
    (work / "plan.json").write_text(json.dumps(json.loads((work / "plan.json").read_text()), indent=7))
    assert lepton("emit", work / "plan.json", "-o", work / "new").code == 0


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", "[" * 100_000, '"x"', "{}"])
def test_a_file_that_is_no_plan_is_refused(text: str, lepton: Any, work: Path) -> None:
    (work / "plan.json").write_text(text)
    assert "plan.json" in lepton("emit", work / "plan.json", "-o", work / "new").complaint


BUNDLE = ("constants.safetensors", "graph.json", "samples.safetensors", "scales.json")


@pytest.mark.parametrize("name", BUNDLE)
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "deep", "bit"])
def test_a_damaged_bundle_is_refused(name: str, damage: str, lepton: Any, work: Path) -> None:
    path = next((work / "bundles").iterdir()) / name
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "bit" and name.endswith(".json"):
        path.write_bytes(
            bytes(data).replace(b'"zero": ', b'"zero": 1', 1).replace(b'"high": 0', b'"high": 1', 1).replace(b"conv", b"conw")
        )
    elif damage == "bit":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes({"empty": b"", "half": bytes(data[: len(data) // 2]), "deep": b"[" * 100_000}[damage])
    assert "bundle" in lepton("emit", work / "plan.json", "-o", work / "new").complaint
    assert not (work / "new").exists()


def test_a_deleted_bundle_is_refused(lepton: Any, work: Path) -> None:
    shutil.rmtree(work / "bundles")
    assert "bundle is missing" in lepton("emit", work / "plan.json", "-o", work / "new").complaint


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_emit_leaves_what_is_not_its_own(lepton: Any, work: Path) -> None:
    for name in ("notes.txt", "manifest.json"):  # other programs keep manifests too
        (work / "mine").mkdir(exist_ok=True)
        (work / "mine" / name).write_text('{"name": "mine"}')
        before = contents(work / "mine")
        assert "not an artefact" in lepton("emit", work / "plan.json", "-o", work / "mine").complaint
        assert contents(work / "mine") == before
    (work / "file").write_text("mine")
    assert lepton("emit", work / "plan.json", "-o", work / "file").complaint
    assert lepton("emit", work / "plan.json", "-o", work / "file" / "below").complaint
    assert lepton("emit", work / "plan.json", "-o", "/proc/nowhere").complaint
    assert (work / "file").read_text() == "mine"
    assert not [path for path in work.iterdir() if path.name.startswith(".")]


def test_emit_again_gives_the_same_bytes(lepton: Any, work: Path) -> None:
    before = contents(work / "cpp")
    assert lepton("emit", work / "plan.json", "-o", work / "cpp", "--as", "cpp").code == 0
    assert contents(work / "cpp") == before


def test_emit_into_the_current_folder(lepton: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "here").mkdir()
    monkeypatch.chdir(work / "here")
    assert lepton("emit", work / "plan.json", "-o", ".").code == 0
    monkeypatch.chdir(work)
    assert (work / "here" / "manifest.json").is_file()


def test_an_unknown_emitter_is_refused_with_those_that_serve(lepton: Any, work: Path) -> None:
    line = lepton("emit", work / "plan.json", "-o", work / "new", "--as", "cuda").complaint
    assert "verilog" in line
    assert "cpp" in line


def rehash(folder: Path) -> None:
    """Make the manifest fit again, as a careful forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    present = [name for name in manifest["files"] if (folder / name).is_file()]
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in present}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["model.cpp", "plan.json", "weights.inc", "graph/graph.json", "vectors/expected_0.bin", "README.md"]
)
def test_verify_refuses_a_changed_byte(name: str, lepton: Any, work: Path) -> None:
    path = work / "cpp" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert name in lepton("verify", work / "cpp").complaint
    path.unlink()
    assert name in lepton("verify", work / "cpp", "--json").complaint


def test_verify_refuses_an_added_file(lepton: Any, work: Path) -> None:
    (work / "cpp" / "vectors" / "more.bin").touch()
    assert "more.bin" in lepton("verify", work / "cpp").complaint


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', "[" * 100_000, '{"files": {"../model.onnx": ""}, "emitter": "cpp"}']
)
def test_verify_refuses_a_damaged_manifest(text: str, lepton: Any, work: Path) -> None:
    (work / "cpp" / "manifest.json").write_text(text)
    assert lepton("verify", work / "cpp").complaint


def test_verify_refuses_what_is_no_artefact(lepton: Any, work: Path) -> None:
    assert "manifest.json" in lepton("verify", work).complaint
    assert "manifest.json" in lepton("verify", work / "nowhere").complaint


@pytest.mark.parametrize(
    "name", ["vectors/expected_0.bin", "vectors/input.bin", "graph/constants.safetensors", "plan.json", "model.cpp"]
)
def test_verify_refuses_an_incomplete_artefact_whose_manifest_fits(name: str, lepton: Any, work: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    (work / "cpp" / name).unlink()
    rehash(work / "cpp")
    assert lepton("verify", work / "cpp").complaint


def test_verify_refuses_an_unknown_kind_of_artefact(lepton: Any, work: Path) -> None:
    manifest = json.loads((work / "cpp" / "manifest.json").read_text())
    (work / "cpp" / "manifest.json").write_text(json.dumps(manifest | {"emitter": "abacus"}))
    assert "abacus" in lepton("verify", work / "cpp").complaint


@pytest.mark.parametrize("text", [None, "", "{", "[" * 100_000, "edited"])
def test_a_damaged_hardware_model_beside_a_plan_is_refused(text: str | None, lepton: Any, work: Path) -> None:
    path = next((work / "targets").iterdir())
    if text is None:
        path.unlink()
    elif text == "edited":
        before = path.read_text()
        path.write_text(before.replace("53200", "53201"))
        assert path.read_text() != before
    else:
        path.write_text(text)
    assert path.name in lepton("emit", work / "plan.json", "-o", work / "new").complaint
    assert not (work / "new").exists()


def test_a_plan_for_a_file_of_ones_own_needs_that_file_no_more(lepton: Any, work: Path) -> None:
    source = data_folder("hwmodels") / "fpga" / "amd-zynq-7020.toml"
    (work / "mine.toml").write_text(source.read_text())
    assert lepton("plan", work / "model.onnx", "--target", work / "mine.toml", "-o", work / "new.json").code == 0
    (work / "mine.toml").unlink()
    assert lepton("explain", work / "new.json").code == 0
    assert lepton("emit", work / "new.json", "-o", work / "new").code == 0
