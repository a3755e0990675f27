"""The parts of the page behind the figures, in a browser: plans, rooflines, observations, and room for all of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.report.study_report import Details, details_of, study_html
from lepton_dse.report.study_report.members import plan_of
from lepton_dse.study import Study, read_finished

sys.path.insert(0, str(Path(__file__).parent))
from browser import CHROMIUM, Page, opened

pytestmark = pytest.mark.slow
CELLS = "[...document.querySelectorAll('#plan tbody tr')].map((row) => [...row.cells].map((cell) => cell.firstChild?.data ?? ''))"
SELECTED = "Number(document.getElementById('select-plan').value)"


@pytest.fixture(scope="module")
def details(families: Study) -> Details:
    return details_of(families.folder, read_finished(families.folder))


@pytest.fixture(scope="module")
def page(details: Details, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium is not installed")
    folder = tmp_path_factory.mktemp("plans")
    (folder / "report.html").write_text(study_html(details.study, details))
    with opened(folder / "profile") as page:
        page.open((folder / "report.html").as_uri())
        page.wait("document.querySelectorAll('#plot .point').length > 0")
        yield page
        assert page.complaints == []
        assert {url.partition(":")[0] for url in page.requests} == {"file"}


def told(details: Details, place: int) -> list[list[str]]:
    plan = plan_of(details.members[place])
    rows: list[list[Any]] = [*plan["ops"], *([] if plan["total"] is None else [plan["total"]])]
    return [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows]


def choose(page: Page, name: str, value: object) -> None:
    page.run(
        f"(() => {{ const select = document.getElementById('select-{name}'); select.value = '{value}';"
        " select.dispatchEvent(new Event('change')); })()"
    )


def test_a_plan_is_there_before_anything_is_chosen(page: Page, details: Details) -> None:
    assert page.run(CELLS) == told(details, 0)
    assert page.run(SELECTED) == details.members[0].entry.index


def test_a_click_on_a_point_of_the_front_shows_its_plan(page: Page, details: Details) -> None:
    page.run("document.getElementById('plot').scrollIntoView()")
    last = "[...document.querySelectorAll('#plot .point')].at(-1).getBoundingClientRect()"
    place = page.run(f"((box) => [box.x + box.width / 2, box.y + box.height / 2])({last})")
    where = {"x": place[0], "y": place[1]}
    page.send("Input.dispatchMouseEvent", type="mouseMoved", **where)
    page.wait("document.querySelector('#plot .hovertext') !== null")
    for kind in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)
    page.wait("document.getElementById('candidate-name').textContent.endsWith(', on the front')")
    index = int(page.run("/\\d+/.exec(document.getElementById('candidate-name').textContent)[0]"))
    assert page.run(SELECTED) == index
    place = [member.entry.index for member in details.members].index(index)
    assert page.run(CELLS) == told(details, place)
    assert page.run("document.getElementById('plan-absent').hidden")


def test_every_member_can_be_chosen_where_its_plan_is(page: Page, details: Details) -> None:
    top = "document.getElementById('select-plan').getBoundingClientRect().top"
    for place, member in enumerate(details.members):
        before = page.run(f"(document.getElementById('select-plan').scrollIntoView(), {top})")
        choose(page, "plan", member.entry.index)
        page.wait(f"location.hash === '#candidate={member.entry.index}'")
        page.wait(f"document.querySelector('#front tr[aria-current]').dataset.index === '{member.entry.index}'")
        assert page.run(CELLS) == told(details, place)
        assert abs(page.run(top) - before) < 2  # the reader's place stays
        use = page.run("[...document.querySelectorAll('#use tbody th')].map((cell) => cell.textContent)")
        assert use == [name for name, *_ in plan_of(member)["use"]]
        names = {op.name for op in member.found.report.ops}
        dots = "document.getElementById('roofline').data.filter((trace) => trace.mode === 'markers')"
        hovers = page.run(f"{dots}.map((trace) => trace.text.map((text) => text.split('<br>')[0]))")
        assert len(hovers) == 2
        assert hovers[1]
        assert {name for side in hovers for name in side} <= names | {op.name for op in details.study.graph.ops}


def test_a_beaten_candidate_has_no_plan_and_the_page_says_so(page: Page, details: Details) -> None:
    beaten = next(entry for entry in details.study.candidates if not entry.front and not entry.why)
    before = page.run(CELLS)
    page.run(f"location.hash = '#candidate={beaten.index}'")
    page.wait("!document.getElementById('plan-absent').hidden")
    assert page.run(CELLS) == before


def test_bytes_of_another_memory_move_the_points(page: Page, details: Details) -> None:
    member = next(entry for entry in details.members if len(getattr(entry.found.target, "levels", ())) > 2)
    choose(page, "plan", member.entry.index)
    page.wait(f"{SELECTED} === {member.entry.index}")
    page.wait(f"location.hash === '#candidate={member.entry.index}'")
    title = "document.querySelector('#roofline .xtitle').textContent"
    at = "document.getElementById('roofline').data.at(-1).x"
    names = [level.name for level in member.found.target.levels]  # type: ignore[union-attr]
    page.wait(f"{title} === 'operations for each byte of {names[-1]} (op/B)'")
    outer = page.run(at)
    choose(page, "level", 0)
    page.wait(f"{title} === 'operations for each byte of {names[0]} (op/B)'")
    inner = page.run(at)
    assert all(near <= far for near, far in zip(inner, outer, strict=True))
    assert inner != outer


def test_observations_are_drawn_on_both_axes(page: Page, details: Details) -> None:
    for place, suite in enumerate(details.suites):
        trace = f"document.getElementById('observed-{place}').data.at(-1)"
        assert page.run(f"{trace}.x") == [row.reference for row in suite.rows]
        assert page.run(f"{trace}.y") == [row.predicted for row in suite.rows]
    assert page.run("document.getElementById('growth').data[0].y.at(-1)") == details.growth[-1][2]
    assert page.run("document.getElementById('screened').data.at(-1).x") == [entry.few.value for entry in details.screened]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(page: Page, details: Details, width: int, scheme: str) -> None:
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    ground = "#14181d" if scheme == "dark" else "#ffffff"
    for place in ("plot", "roofline", "observed-0", "screened", "growth"):
        page.wait(f"document.getElementById('{place}').layout.paper_bgcolor === '{ground}'")
    page.wait(
        "Math.abs(document.querySelector('#growth .main-svg').clientWidth - document.getElementById('growth').clientWidth) < 2"
    )
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    # What scrolls by itself may be wider inside; all else ends within the window, and no text leaves its own box.
    own = "one.matches('select, .chart, .chart *, #plot, #plot *, #observed *') || getComputedStyle(one).display === 'inline'"
    wide = (
        "[...document.querySelectorAll('main *')].filter((one) => !one.closest('svg, .wide, #candidate'))"
        ".filter((one) => one.getBoundingClientRect().right > innerWidth + 1 ||"
        f" (one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1 && !({own})))"
        ".map((one) => one.outerHTML.slice(0, 80))"
    )
    assert page.run(wide) == []
    clipped = (
        "[...document.querySelectorAll('.wide td, .wide th')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => one.textContent)"
    )
    assert page.run(clipped) == []
