"""The front as a picture that stands still: every point is in it, where its figures put it, and names stay text."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.report.front_picture import front_png, front_svg
from lepton_dse.study import Finished, Found, Row, Settings, Space, Standing, Study, read_finished

SVG = "{http://www.w3.org/2000/svg}"
TARGET = "<b>\"&amp;</svg>'%{x}.toml"


def synthetic(points: list[tuple[float, float]], target: str = TARGET) -> Finished:
    """Candidates with given latencies and points lost, the front found pair by pair."""
    space = Space(targets=(target,), batches=tuple(range(1, len(points) + 1)))
    settings = Settings(space=space, minimize=("latency_s", "loss_points"))

    def beaten(own: int) -> bool:
        others = [(place, point) for place, point in enumerate(points) if place != own]
        return any(
            point[0] <= points[own][0] and point[1] <= points[own][1] and (point != points[own] or place < own)
            for place, point in others
        )

    rows = [
        Row(space.candidate(index), {"latency_s": one, "loss_points": two}, "unchecked", None, None, None)
        for index, (one, two) in enumerate(points)
    ]
    standings = tuple(Standing(index, row, "", False, not beaten(index)) for index, row in enumerate(rows))
    members = tuple(entry.row for entry in standings if entry.front)
    found = Found(members, len(rows), 0, 0, True, 0.5, 0, ())
    return Finished(load_model(data_folder("models") / "digits_cnn.onnx"), settings, found, standings, 0)


def marks(text: str, kind: str) -> list[tuple[str, float, float]]:
    """Name, across and up of the marks of a kind."""
    root = ET.fromstring(text)
    circles = [node for node in root.iter(f"{SVG}circle") if node.get("class") == kind]
    titles = [node.find(f"{SVG}title") for node in circles]
    return [
        ("" if title is None else title.text or "", float(node.get("cx", "")), float(node.get("cy", "")))
        for node, title in zip(circles, titles, strict=True)
    ]


@given(st.lists(st.tuples(st.floats(1e-6, 1e-3), st.floats(-5, 5)), min_size=1, max_size=12))
def test_every_point_stands_where_its_figures_put_it(points: list[tuple[float, float]]) -> None:
    study = synthetic(points)
    text = front_svg(study)
    assert front_svg(study) == text
    placed = {name: (x, y) for kind in ("member", "beaten") for name, x, y in marks(text, kind)}
    assert len(placed) == len(points)
    assert [name for name, *_ in marks(text, "member")] == [str(row.candidate) for row in study.found.front]
    for entry in study.candidates:
        x, y = placed[str(entry.row.candidate)]
        assert 96 <= x <= 960 - 230
        assert 64 <= y <= 470 - 62
        for other in study.candidates:
            across, up = placed[str(other.row.candidate)]
            if entry.row.figures["latency_s"] < other.row.figures["latency_s"]:  # type: ignore[operator]
                assert x <= across
            if entry.row.figures["loss_points"] < other.row.figures["loss_points"]:  # type: ignore[operator]
                assert y >= up


def test_names_stay_text_and_members_are_named() -> None:
    points = [(1e-6 * (1 + number), 20.0 - number) for number in range(20)]
    text = front_svg(synthetic(points))
    root = ET.fromstring(text)
    assert {node.tag for node in root.iter()} == {
        f"{SVG}{name}" for name in ("svg", "title", "style", "rect", "text", "path", "circle")
    }
    shown = [node.text or "" for node in root.iter(f"{SVG}text")]
    assert TARGET in shown
    assert any(line.startswith(f"int8 on {TARGET}, batch 1: latency 1 us, points lost 20.00") for line in shown)
    assert "and 4 more members of the front" in shown
    assert "latency, less is better" in shown


def test_a_name_that_no_xml_holds_is_replaced() -> None:
    study = synthetic([(1e-6, 1.0)])
    object.__setattr__(study.graph, "name", "half \ud800 \x7f")
    text = front_svg(study)
    assert "half ? ?: 1 of 1 feasible" in text
    ET.fromstring(text)


def test_nothing_to_draw_is_one_line() -> None:
    study = synthetic([(1e-6, 1.0)])
    empty = Finished(study.graph, study.settings, Found((), 1, 1, 0, True, 0.0, 0, ()), (), 0)
    with pytest.raises(LeptonError, match="no candidate is feasible, so there is no front to draw; loosen"):
        front_svg(empty)


def test_a_png_opens_and_has_the_points(families: Study) -> None:
    resvg = pytest.importorskip("resvg_py")
    image = pytest.importorskip("PIL.Image")
    text = front_svg(read_finished(families.folder))
    picture = image.open(io.BytesIO(front_png(text))).convert("RGB")
    size = ET.fromstring(text).get("viewBox", "").split()[2:]
    assert resvg is not None
    assert picture.size == tuple(2 * int(side) for side in size)
    root = ET.fromstring(text)
    members = [node for node in root.iter(f"{SVG}circle") if node.get("class") == "member"]
    assert members
    last = members[-1]  # drawn over the others
    colour = str(last.get("fill"))
    place = (round(2 * float(last.get("cx", ""))), round(2 * float(last.get("cy", ""))))
    assert picture.getpixel(place) == tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))
    assert picture.getpixel((2, 2)) == (255, 255, 255)


def test_without_the_package_a_png_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingToolError, match="a PNG needs the package resvg-py; pip install"):
        front_png("<svg/>")
