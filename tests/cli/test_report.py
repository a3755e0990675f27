"""``lepton report``: the page it writes, and what a wrong folder is told."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_dse import flow

ASKED = 'subject_to = ["energy_j <= 1"]'


@pytest.fixture
def folder(finished: Callable[[str], Path]) -> Path:
    return finished(ASKED)


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


def test_pictures_are_written_where_they_are_asked_for(lepton: Any, folder: Path) -> None:
    svg, png = folder.parent / "front.svg", folder.parent / "pictures" / "front.png"
    result = lepton("report", folder, "--svg", svg)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"wrote {folder / 'report.html'}; open it in a browser\nwrote {svg}\n"
    root = ET.fromstring(svg.read_text())
    members = [node for node in root.iter() if node.get("class") == "member"]
    assert len(members) == (folder / "report.html").read_text().count('<tr tabindex="0" data-index="')
    pytest.importorskip("resvg_py")
    assert lepton("report", folder, "--png", png).code == 0
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_picture_without_its_package_writes_nothing(lepton: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    complaint = lepton("report", folder, "--png", folder.parent / "front.png").complaint
    assert "a PNG needs the package resvg-py" in complaint
    assert not (folder / "report.html").exists()
    assert not (folder.parent / "front.png").exists()


def test_changed_cost_models_are_one_line(lepton: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = flow.cost

    def slower(*args: Any, **options: Any) -> Any:
        report = cost(*args, **options)
        return report.model_copy(update={"latency_s": 2 * report.latency_s})

    monkeypatch.setattr(flow, "cost", slower)
    complaint = lepton("report", folder).complaint
    assert "so the cost models have changed; run the study again, or use the version that made it" in complaint
    assert not (folder / "report.html").exists()


def test_damaged_hardware_models_are_one_line(lepton: Any, folder: Path) -> None:
    (path,) = (folder / "inputs").glob("*/targets.json")
    path.write_text("{}")
    assert "the study's hardware models are damaged; run the study again" in lepton("report", folder).complaint


def test_a_study_with_a_page_goes_on(lepton: Any, folder: Path) -> None:
    lepton("report", folder)
    again = lepton("study", folder.parent / "STUDY.toml", "-o", folder, "--workers", 0, "--resume")
    assert (again.code, again.err) == (0, "")


def test_wrong_folders_and_names_are_one_line(lepton: Any, folder: Path) -> None:
    assert "holds no study; make one by: lepton study" in lepton("report", folder.parent).complaint
    assert "holds no study" in lepton("report", folder.parent / "none").complaint
    assert "holds no study" in lepton("report", folder / "study.json").complaint
    assert "a report is HTML" in lepton("report", folder, "-o", folder.parent / "page.svg").complaint
    assert "not the name of an SVG" in lepton("report", folder, "--svg", folder.parent / "page.png").complaint
    assert "not the name of a PNG" in lepton("report", folder, "--png", folder.parent / "page.svg").complaint
    journal = folder / "journal.log"
    journal.write_text("\n".join(journal.read_text().splitlines()[:3]) + "\n")
    assert "the study is not finished; go on with it" in lepton("report", folder).complaint
    assert not (folder / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_old_one(lepton: Any, folder: Path) -> None:
    (folder.parent / "taken.html").mkdir()
    assert "cannot be written" in lepton("report", folder, "-o", folder.parent / "taken.html").complaint
