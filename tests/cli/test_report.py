"""``lepton report``: the page it writes, and what a wrong folder is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

STUDY = """\
model = "model.onnx"
subject_to = ["energy_j <= 1"]

[space]
targets = ["raspberry-pi-5", "google-tpu-v7"]
formats = ["float16", "int8"]
"""


@pytest.fixture
def folder(lepton: Any, work: Path) -> Path:
    (work / "STUDY.toml").write_text(STUDY)
    assert lepton("study", work / "STUDY.toml", "-o", work / "out", "--workers", 0).code == 0
    return work / "out"


def test_the_page_is_written_where_it_is_asked_for(lepton: Any, folder: Path) -> None:
    result = lepton("report", folder)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"wrote {folder / 'report.html'}; open it in a browser\n"
    page = (folder / "report.html").read_text()
    assert "<h1>Study of tiny</h1>" in page
    assert "gives the least latency and the least energy, with energy at most 1 J?" in page
    other = folder.parent / "pages" / "study.htm"
    assert lepton("report", folder, "-o", other).code == 0
    assert other.read_text() == page
    assert not list(other.parent.glob(".*"))


def test_a_study_with_a_page_goes_on(lepton: Any, folder: Path) -> None:
    lepton("report", folder)
    again = lepton("study", folder.parent / "STUDY.toml", "-o", folder, "--workers", 0, "--resume")
    assert (again.code, again.err) == (0, "")


def test_wrong_folders_and_names_are_one_line(lepton: Any, folder: Path) -> None:
    assert "holds no study; make one by: lepton study" in lepton("report", folder.parent).complaint
    assert "holds no study" in lepton("report", folder.parent / "none").complaint
    assert "holds no study" in lepton("report", folder / "study.json").complaint
    assert "a report is HTML" in lepton("report", folder, "-o", folder.parent / "page.svg").complaint
    journal = folder / "journal.log"
    journal.write_text("\n".join(journal.read_text().splitlines()[:3]) + "\n")
    assert "the study is not finished; go on with it" in lepton("report", folder).complaint
    assert not (folder / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_old_one(lepton: Any, folder: Path) -> None:
    (folder.parent / "taken.html").mkdir()
    assert "cannot be written" in lepton("report", folder, "-o", folder.parent / "taken.html").complaint
