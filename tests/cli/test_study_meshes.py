"""Meshes of a cluster in a study: what the program prints, writes and refuses, and how its pages show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.flow import read_plan
from lepton_dse.plan import Sharding

FILE = """\
model = "model.onnx"
data = "data.npz"
minimize = ["latency_s", "throughput_per_s", "devices", "peak_bytes", "exchanged_bytes"]
subject_to = ["loss_points <= 100"]
screen = 8
calibration = 4

[space]
targets = [
    { target = "google-v5e-pod", meshes = [1, "x=2", "x=7"], stages = [1, 2] },
    "nvidia-t4",
]
formats = ["int8"]
batches = [4]
"""


@pytest.fixture
def file(work: Path) -> Path:
    path = work / "STUDY.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def folder(lepton: Any, file: Path) -> Path:
    assert lepton("study", file, "-o", file.parent / "out", "--workers", 0).code == 0
    return file.parent / "out"


@pytest.fixture
def shared(file: Path) -> Path:
    """The file without the device that runs the network by itself, which such a small one suits best."""
    file.write_text(FILE.replace('    "nvidia-t4",\n', ""))
    return file


def indices(lepton: Any, folder: Path) -> dict[str, int]:
    """Hardware of each candidate by what explain says of it."""
    found = {}
    for index in range(7):
        first = lepton("explain", folder, "--candidate", index).out.splitlines()[0]
        match = re.fullmatch(r"Candidate \d+: int8 on (.*), batch 4", first)
        assert match is not None
        found[match[1]] = index
    return found


def test_the_front_says_which_mesh(lepton: Any, shared: Path) -> None:
    out = shared.parent / "out"
    document = lepton("study", shared, "-o", out, "--workers", 0, "--json").document
    assert document["space"]["targets"][0]["meshes"] == [1, "x=2", "x=7"]
    rows = {(row["mesh"], row["stages"]): row for row in document["front"]}
    assert len(rows) > 1
    for (mesh, stages), row in rows.items():
        assert row["devices"] == stages * {"x=1": 1, "x=2": 2}[mesh]
    assert (document["evaluated"], document["infeasible"]) == (6, 2)
    shown = lepton("study", shared, "-o", out, "--workers", 0, "--resume").out
    for heading in ("mesh", "devices", "exchanged"):
        assert heading in shown
    assert "x=1" in shown


def test_a_device_by_itself_has_no_mesh(lepton: Any, file: Path) -> None:
    rows = lepton("study", file, "-o", file.parent / "out", "--workers", 0, "--json").document["front"]
    (alone,) = (row for row in rows if row["target"] == "nvidia-t4")
    assert (alone["mesh"], alone["stages"], alone["devices"], alone["exchanged_bytes"]) == (None, 1, 1, 0)


def test_explain_shows_the_mesh_and_writes_the_plan(lepton: Any, folder: Path) -> None:
    known = indices(lepton, folder)
    path = folder.parent / "plans" / "plan.json"
    result = lepton("explain", folder, "--candidate", known["google-v5e-pod[x=2; 2 stages]"], "-o", path)
    assert (result.code, result.err) == (0, "")
    assert "devices 4, chosen" in result.out
    assert "over x=2 of google-v5e-pod, 2 stages" in result.out
    assert f"wrote {path}" in result.out
    planned = read_plan(path)
    assert isinstance(planned.plan.sharding, Sharding)
    assert (planned.plan.sharding.mesh, planned.plan.sharding.batch) == ("x=2", 4)
    assert len(planned.plan.sharding.stages) == 1
    assert "over x=2 of google-v5e-pod, 2 stages" in lepton("explain", path).out
    assert lepton("emit", path, "-o", folder.parent / "artefact").code == 0


def test_what_does_not_divide_is_explained(lepton: Any, folder: Path) -> None:
    index = indices(lepton, folder)["google-v5e-pod[x=7]"]
    result = lepton("explain", folder, "--candidate", index)
    assert (result.code, result.err) == (1, "")
    assert "It is out: what the 7 devices of axis x share evenly: needs 1 loop, 0 available; an axis of " in result.out
    assert (
        f"candidate {index} has no plan: " in lepton("explain", folder, "--candidate", index, "-o", folder / "p.json").complaint
    )


def test_plans_of_one_device_have_one_sample(lepton: Any, folder: Path) -> None:
    index = indices(lepton, folder)["nvidia-t4"]
    complaint = lepton("explain", folder, "--candidate", index, "-o", folder / "p.json").complaint
    assert "a plan of one device for a batch of 4" in complaint


def test_the_page_shows_meshes(lepton: Any, shared: Path) -> None:
    out = shared.parent / "out"
    assert lepton("study", shared, "-o", out, "--workers", 0).code == 0
    assert lepton("report", out).code == 0
    page = (out / "report.html").read_text()
    assert "6 choices of hardware" in page
    assert "<dt>mesh</dt>" in page
    assert "the fewest devices" in page
    assert "no devices that share a network like that were observed" in page
    assert "share each operation along the axes of the mesh x=" in page
    assert '"shared by"' in page
    assert re.search(r"google-v5e-pod\[x=\d", page)


def test_pages_of_single_devices_do_not_speak_of_meshes(lepton: Any, file: Path) -> None:
    text = re.sub(r"    \{ target = .*\n", "", FILE).replace(', "devices", "peak_bytes", "exchanged_bytes"', "")
    file.write_text(text)
    out = file.parent / "out"
    assert lepton("study", file, "-o", out, "--workers", 0).code == 0
    assert lepton("report", out).code == 0
    page = (out / "report.html").read_text()
    assert "<dt>mesh</dt>" not in page
    assert "exchanged" not in page
    assert "devices" not in lepton("explain", out).out


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('"x=7"', '"seven"', 9, "'seven' is no axis of a mesh; write name=devices"),
        ('"x=7"', '"x=2"', 9, "x=2 is given twice"),
        ('"x=7"', "-1", 9, "greater than 0"),
        ('"x=7"', "2000000", 9, "use at most"),
        ("[1, 2]", "[0]", 9, "stages.0: Input should be greater than 0"),
        ("google-v5e-pod", "google-v5e-pdo", 10, "no cluster called 'google-v5e-pdo'; did you mean google-v5e-pod"),
        ("google-v5e-pod", "google-tpu-v5e", 10, "meshes of a single device; leave them out, or name a cluster: dgx-a100"),
        ('meshes = [1, "x=2", "x=7"], ', "", 10, "a cluster without a mesh of its devices"),
        ("stages = [1, 2]", 'numbers = { "network.share" = [1] }', 10, "no number 'network.share'"),
    ],
)
def test_wrong_meshes_are_one_line(lepton: Any, file: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in FILE
    file.write_text(FILE.replace(old, new, 1))
    complaint = lepton("study", file, "-o", file.parent / "out").complaint
    assert said in complaint
    assert f"{file}, line {line}: " in complaint
    assert not (file.parent / "out").exists()
