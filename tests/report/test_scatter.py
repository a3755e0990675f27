"""Scatter pictures: well-formed, every point inside, every group and label named."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.report.scatter import Point, scatter_svg

POINTS = [Point("a <1>", 1e-6, 3e-3, "one"), Point("b", 2e-5, 1e-4, "two"), Point("c", 3e-5, 2e-3, "two")]


def test_every_point_is_drawn_and_the_front_labelled() -> None:
    root = ElementTree.fromstring(scatter_svg("t & u", "x", "y", POINTS, POINTS[:2]))
    name = "{http://www.w3.org/2000/svg}"
    circles = [entry for entry in root.iter(f"{name}circle") if entry.find(f"{name}title") is not None]
    assert len(circles) == 3
    for circle in circles:
        assert 84 <= float(circle.attrib["cx"]) <= 590
        assert 56 <= float(circle.attrib["cy"]) <= 404
    words = {entry.text for entry in root.iter(f"{name}text")}
    assert {"t & u", "a <1>", "b", "one", "two", "x", "y"} <= words
    assert "c" not in words


@pytest.mark.parametrize("points", [[], [Point("a", 0.0, 1.0)], [Point("a", 1.0, float("nan"))]])
def test_points_that_have_no_place_are_refused(points: list[Point]) -> None:
    with pytest.raises(LeptonError, match="above 0"):
        scatter_svg("t", "x", "y", points, [])


def test_one_point_needs_no_front() -> None:
    assert "front" not in scatter_svg("t", "x", "y", POINTS[:1], POINTS[:1]).split("</style>")[1]
    assert 'class="front"' in scatter_svg("t", "x", "y", POINTS, POINTS[:2])
    assert 'class="front"' not in scatter_svg("t", "x", "y", POINTS, POINTS[:2], joined=False)


def test_points_without_groups_have_no_key() -> None:
    alone = [Point("a", 1, 2), Point("b", 2, 1)]
    assert scatter_svg("t", "x", "y", alone, alone).count("<circle") == 2
    grouped = [Point("a", 1, 2, "one"), Point("b", 2, 1, "two")]
    assert scatter_svg("t", "x", "y", grouped, grouped).count("<circle") == 4
