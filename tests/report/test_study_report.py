"""The page about a study: what it says is what was found, nothing in it runs but its own script, and a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.data import Dataset
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.report.study_report import Details, details_of, study_html
from lepton_dse.report.study_report.facts import Facts, grouped_reasons
from lepton_dse.report.study_report.points import axes_of, drawn, points_json
from lepton_dse.study import Finished, Found, Row, Settings, Space, Standing, Study, read_finished
from lepton_dse.study.objectives import Objective

sys.path.insert(0, str(Path(__file__).parent))
from browser import CHROMIUM, Page, opened

NAME = '</script><script>window.owned=1</script><img src=x onerror="window.owned=2">&amp;\'<!--${1}'
TARGET = "<b></script><img src=x onerror='window.owned=3'>%{x}&lt;.toml"
FORMATS = ("float16", "int8", "w4a8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with names that would be markup, candidates that do not fit, and some that break a constraint."""
    root = tmp_path_factory.mktemp("study")
    model = onnx.load(data_folder("models") / "digits_cnn.onnx")
    model.graph.name = model.graph.node[0].name = NAME
    onnx.save(model, root / "model.onnx")
    (root / TARGET).parent.mkdir(parents=True)
    (root / TARGET).write_text((data_folder("hwmodels") / "cpu" / "raspberry-pi-5.toml").read_text())
    rng = np.random.default_rng(3)
    data = Dataset(rng.random((40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40))
    tpu = {"target": "google-tpu-v7", "numbers": {}}
    space = Space(targets=(TARGET, tpu, "nvidia-t4", "lattice-ice40up5k"), formats=FORMATS, channels=(0, 0.25))
    options: dict[str, Any] = {
        "minimize": ("latency_s", "energy_j", "loss_points"),
        "subject_to": ("loss_points <= 60", "latency_s <= 1.2e-5"),
    }
    options |= {"screen": 10, "calibration": 8}
    return Study(root / "model.onnx", space, folder=root / "out", data=data, root=root, **options).run(workers=0)


@pytest.fixture(scope="module")
def finished(study: Study) -> Finished:
    return read_finished(study.folder)


@pytest.fixture(scope="module")
def details(study: Study, finished: Finished) -> Details:
    return details_of(study.folder, finished)


@pytest.fixture(scope="module")
def html(finished: Finished, details: Details) -> str:
    return study_html(finished, details)


class _Elements(HTMLParser):
    """Elements as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1][0] if self.tags else ""
        if tag == "script" and not data.isspace():
            self.scripts[-1] += data
        self.texts.setdefault(tag, []).append(data)


def embedded(html: str) -> Any:
    return expanded(_Elements(html).scripts[0])


def expanded(text: str) -> Any:
    """The page's data, points by the names of their fields and texts in the place of their numbers."""
    document = json.loads(text)
    texts = document["texts"]
    for place, values in enumerate(document["points"]):
        point = dict(zip(document["fields"], values, strict=True))
        point["chosen"] = [texts[number] for number in point["chosen"]]
        for name, size in (("figures", 3), ("bounds", 2)):
            point[name] = [[texts[number] for number in part] for part in zip(*[iter(point[name])] * size, strict=True)]
        document["points"][place] = point
    return document


def test_every_feasible_candidate_is_drawn_with_its_figures(study: Study, html: str) -> None:
    found, document = study.found, embedded(html)
    assert found is not None
    points = {point["index"]: point for point in document["points"]}
    assert len(points) == found.evaluated - found.infeasible - found.failed > len(found.front) > 1
    assert found.infeasible > 0
    space = study.settings.space
    assert [point["index"] for point in document["points"] if point["front"]] == [
        space.index(row.candidate) for row in found.front
    ]
    for row in found.front:
        point = points[space.index(row.candidate)]
        assert point["at"] == [row.figures[name] for name in study.settings.minimize]
        assert document["targets"][point["target"]] == row.candidate.hardware.target
        assert point["better"] is None
        told = dict(zip(document["figures"], point["figures"], strict=True))
        assert row.accuracy is not None
        value, interval, known = told["accuracy"]
        assert value == f"{row.accuracy.value:.4f}"
        assert interval == f"95% interval {row.accuracy.low:.4f} to {row.accuracy.high:.4f}, 40 samples"
        assert known.startswith("executed: ")
        assert told["energy"][2].startswith("unchecked: ")
        assert told["latency"][2].startswith(f"{row.evidence}: ")
    screened = [
        point for point in document["points"] if "10 samples" in point["figures"][document["figures"].index("accuracy")][1]
    ]
    assert all(not point["front"] for point in screened)


def test_the_answer_names_the_best_of_each_objective(study: Study, html: str) -> None:
    links = [attributes["href"] for tag, attributes in _Elements(html).tags if tag == "a"]
    best = [study.best(name) for name in study.settings.minimize]
    assert links == [f"#candidate={study.settings.space.index(row.candidate)}" for row in best if row is not None]


def test_names_stay_text(html: str) -> None:
    elements = _Elements(html)
    assert elements.texts["h1"][0] == elements.texts["title"][0] == f"Study of {NAME}"
    assert TARGET in embedded(html)["targets"]
    assert TARGET in elements.texts["option"]
    assert {tag for tag, _ in elements.tags}.isdisjoint({"img", "b", "iframe", "link"})
    assert [attributes for tag, attributes in elements.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
        {},
    ]
    for _, attributes in elements.tags:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_only_its_own_scripts_may_run_and_nothing_may_be_loaded(html: str) -> None:
    elements = _Elements(html)
    policy = next(attributes["content"] for tag, attributes in elements.tags if attributes.get("http-equiv")) or ""
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in elements.scripts[1:]]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_same_folder_same_bytes_and_the_folder_stays(study: Study, html: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.folder.rglob("*")}
    again = read_finished(study.folder)
    assert study_html(again, details_of(study.folder, again)) == html
    assert {path: path.stat().st_mtime_ns for path in study.folder.rglob("*")} == before


def test_reasons_are_counted(finished: Finished, html: str) -> None:
    out = [entry for entry in finished.candidates if entry.why]
    groups = grouped_reasons(out)
    assert sum(group.candidates for group in groups) == len(out) == finished.found.infeasible
    assert len(groups) < len({entry.why for entry in out})
    assert any("asked is latency_s <= 1.2e-05" in group.example for group in groups)
    assert "float16 arithmetic of lattice-ice40up5k" in html


def test_a_long_reason_is_folded_and_whole(finished: Finished) -> None:
    out = next(entry for entry in finished.candidates if entry.why)
    long = replace(out, why=f"<b>{'word ' * 100}&end")
    spoilt = replace(finished, candidates=tuple(long if entry is out else entry for entry in finished.candidates))
    assert re.search("<details><summary>&lt;b&gt;word [^<]*…</summary>…[^<]*&amp;end</details>", study_html(spoilt))


def test_nothing_feasible_is_a_page_without_a_picture(tmp_path: Path) -> None:
    model = data_folder("models") / "digits_cnn.onnx"
    space = Space(targets=("nvidia-t4",))
    Study(model, space, folder=tmp_path / "out", subject_to=("latency_s <= 1e-15",)).run(workers=0)
    html = study_html(read_finished(tmp_path / "out"))
    assert "None of the candidates that were evaluated is feasible" in html
    assert "asked is latency_s &lt;= 1e-15" in html
    assert "<script" not in html


def test_one_objective_has_a_companion_on_the_other_axis(tmp_path: Path) -> None:
    model = data_folder("models") / "digits_cnn.onnx"
    Study(model, Space(targets=("nvidia-t4", "raspberry-pi-5")), folder=tmp_path / "out", minimize=("throughput_per_s",)).run(
        workers=0
    )
    document = embedded(study_html(read_finished(tmp_path / "out")))
    assert [(axis["name"], axis["greater"]) for axis in document["axes"]] == [("throughput", True), ("latency", False)]
    assert not document["line"]


def test_a_name_that_no_file_can_hold_is_replaced(finished: Finished) -> None:
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    object.__setattr__(graph, "name", "half \ud800")
    spoilt = Finished(graph, finished.settings, finished.found, finished.candidates, finished.samples)
    assert "<h1>Study of half ?</h1>" in study_html(spoilt)


FIGURES = st.tuples(*[st.integers(0, 3)] * 4)


def synthetic(figures: list[tuple[int, ...]]) -> Finished:
    """Candidates with given latencies, throughputs, energies and weights, judged and compared one by one."""
    space = Space(targets=("unit",), batches=tuple(range(1, len(figures) + 1)))
    settings = Settings(
        space=space,
        minimize=("latency_s", "throughput_per_s"),
        subject_to=("energy_j <= 2", "weight_bytes >= 1"),
    )
    rows = []
    for index, values in enumerate(figures):
        named = dict(zip(("latency_s", "throughput_per_s", "energy_j", "weight_bytes"), map(float, values), strict=True))
        rows.append(Row(space.candidate(index), named, "unchecked", None, None, None))
    whys = [next(filter(None, (bound.broken(row.figures) for bound in settings.constraints)), "") for row in rows]
    kept = [row for row, why in zip(rows, whys, strict=True) if not why]
    front = [
        row for place, row in enumerate(kept) if not any(dominates(other, row) for other in kept) and row not in kept[:place]
    ]
    distinct = {(row.figures["latency_s"], row.figures["throughput_per_s"]): row for row in reversed(front)}
    members = sorted(distinct.values(), key=lambda row: row.figures["latency_s"] or 0.0)
    standings = [
        Standing(index, row, why, False, row in members) for index, (row, why) in enumerate(zip(rows, whys, strict=True))
    ]
    found = Found(tuple(members), len(rows), len(rows) - len(kept), 0, True, 0.5, 0, ())
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    return Finished(graph, settings, found, tuple(standings), 0)


def dominates(one: Row, other: Row) -> bool:
    """Less latency or more throughput, and neither worse."""
    a, b = one.figures, other.figures
    gains = [b["latency_s"] - a["latency_s"], a["throughput_per_s"] - b["throughput_per_s"]]  # type: ignore[operator]
    return min(gains) >= 0 and max(gains) > 0


@given(st.lists(FIGURES, min_size=1, max_size=8))
def test_facts_are_those_of_all_pairs(figures: list[tuple[int, ...]]) -> None:
    study = synthetic(figures)
    facts = Facts(study)
    members = [entry for entry in study.candidates if entry.front]
    if not members:
        assert facts.front == ()
        return
    best, equal = facts.best(Objective("throughput_per_s"))
    throughputs = [entry.row.figures["throughput_per_s"] for entry in members]
    assert best.row.figures["throughput_per_s"] == max(throughputs)  # type: ignore[type-var]
    assert equal == throughputs.count(best.row.figures["throughput_per_s"])
    low, heavy = study.settings.constraints
    for entry in facts.feasible:
        beater = facts.beaten_by(entry)
        assert (beater is None) == entry.front
        assert beater is None or beater.front
        assert beater is None or not dominates(entry.row, beater.row)
        for bound, other in ((low, heavy), (heavy, low)):
            expected = 0
            for rival in study.candidates:
                figures_of = rival.row.figures
                if bound.broken(figures_of) and not other.broken(figures_of):
                    expected += dominates(rival.row, entry.row)
            assert facts.keeps_out(bound, entry) == expected
    assert {entry.index for entry in drawn(facts)} == {entry.index for entry in facts.feasible}
    assert axes_of(facts) == ("latency_s", "throughput_per_s")
    assert "<" not in points_json(facts)


def test_many_points_are_thinned_and_the_front_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_dse.report.study_report.points._DRAWN", 4)
    study = synthetic([(number, 1, 1, 1) for number in range(20)])
    shown = drawn(Facts(study))
    assert [entry.index for entry in shown] == [0, 1, 6, 11, 16]
    assert "Drawn are 5 of 20" in study_html(study)


@pytest.fixture(scope="module")
def page(html: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium is not installed")
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(html)
    with opened(folder / "profile") as page:
        page.open((folder / "report.html").as_uri())
        page.wait("document.querySelectorAll('#plot .point').length > 0")
        yield page
        assert page.complaints == []
        assert {url.partition(":")[0] for url in page.requests} == {"file"}
        assert page.run("window.owned === undefined")


HEADING = "document.getElementById('candidate-name').textContent"
TOLD = "document.getElementById('candidate-figures').innerText"


@pytest.mark.slow
def test_browser_a_link_chooses_a_candidate(page: Page, html: str) -> None:
    point = embedded(html)["points"][0]
    page.run("location.hash = ''")
    page.run(f"location.hash = '#candidate={point['index']}'")
    page.wait(f"{HEADING} === 'Candidate {point['index']}, on the front'")
    told = page.run(TOLD)
    for value, interval, _ in point["figures"]:
        assert value in told
        assert interval in told
    assert point["chosen"][0] in told
    assert page.run("document.querySelectorAll('#front tr[aria-current]').length") == 1
    page.run("location.hash = '#candidate=999999'")
    page.wait(f"{HEADING} === 'Candidate 999999 is not drawn'")


@pytest.mark.slow
def test_browser_a_click_on_a_point_chooses_it(page: Page, html: str) -> None:
    points = embedded(html)["points"]
    beaten = next(point for point in points if not point["front"])
    page.run(f"document.getElementById('plot').emit('plotly_click', {{points: [{{customdata: {beaten['index']}}}]}})")
    page.wait(f"{HEADING} === 'Candidate {beaten['index']}, not on the front'")
    assert f"It is beaten by candidate {beaten['better']}" in page.run(TOLD)
    page.run("document.getElementById('plot').scrollIntoView()")
    place = page.run("(() => { const box = [...document.querySelectorAll('#plot .point')].at(-2).getBoundingClientRect();"
                     " return [box.x + box.width / 2, box.y + box.height / 2]; })()")  # fmt: skip
    where = {"x": place[0], "y": place[1]}
    page.send("Input.dispatchMouseEvent", type="mouseMoved", **where)
    page.wait("document.querySelector('#plot .hovertext') !== null")
    for kind in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)
    page.wait(f"{HEADING}.endsWith(', on the front')")


@pytest.mark.slow
def test_browser_the_table_answers_to_keys(page: Page, html: str) -> None:
    members = [point["index"] for point in embedded(html)["points"] if point["front"]]
    page.run("document.querySelector('#front tbody tr:last-child').focus()")
    page.press("Enter")
    page.wait(f"{HEADING} === 'Candidate {members[-1]}, on the front'")
    latency = "[...document.querySelectorAll('#front thead button')].find((button) => button.textContent === 'latency')"
    order = "[...document.querySelectorAll('#front tbody tr')].map((row) => Number(row.dataset.index))"
    for sort, expected in (("ascending", members), ("descending", members[::-1])):
        page.run(f"{latency}.focus()")
        page.press("Enter")
        page.wait(f"{latency}.parentElement.getAttribute('aria-sort') === '{sort}'")
        assert page.run(order) == expected


@pytest.mark.slow
def test_browser_names_of_operations_stay_text(page: Page) -> None:
    assert page.run("document.querySelector('#plan tbody th').textContent") == NAME
    assert page.run("document.getElementById('roofline').data.at(-1).text[0].split('<br>')[0]").startswith("&lt;/script&gt;")
    assert page.run("document.querySelectorAll('main img, main script').length") == 0


@pytest.mark.slow
def test_browser_targets_and_axes_can_be_chosen(page: Page, html: str) -> None:
    document = embedded(html)
    set_to = "((name, value) => {{ const select = document.getElementById('select-' + name); select.value = value;"
    set_to += " select.dispatchEvent(new Event('change')); }})('{}', '{}')"
    only = document["targets"].index(TARGET)
    page.run(set_to.format("target", only))
    wanted = sum(point["target"] == only for point in document["points"])
    page.wait(f"document.getElementById('plot').data.flatMap((trace) => trace.customdata || []).length === {wanted}")
    shown = "[...document.querySelectorAll('#front tbody tr')].filter((row) => !row.hidden).length"
    assert page.run(shown) == sum(point["target"] == only and point["front"] for point in document["points"])
    assert TARGET in page.run("document.querySelector('#plot .legend').textContent")
    page.run(set_to.format("target", ""))
    page.run(set_to.format("y", 2))
    page.wait("document.querySelector('#plot .ytitle').textContent === 'points lost, less is better'")
    assert page.run(shown) == sum(point["front"] for point in document["points"])
    assert page.run("document.getElementById('plot').layout.xaxis.type") in ("log", "linear")


@pytest.mark.slow
def test_browser_dark_where_the_reader_wants_it(page: Page) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        grounds.append(page.run("getComputedStyle(document.body).backgroundColor"))
        page.wait(f"document.getElementById('plot').layout.paper_bgcolor === '{'#14181d' if scheme == 'dark' else '#ffffff'}'")
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]
