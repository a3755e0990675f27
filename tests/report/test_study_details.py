"""What a report says behind a study's figures: plans that add up, roofs that nothing is above, observations, and growth."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.data import Interval
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Evidence, SearchResult
from lepton_dse.report.study_report import Details, details_of, study_html
from lepton_dse.report.study_report.evidence import holdings_of, stored_suites
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.study_report.members import HEADINGS, Member, members_of, plan_of, proof_words
from lepton_dse.report.study_report.progress import growth
from lepton_dse.report.study_report.roofline import Rooflines, widest_format
from lepton_dse.study import Finished, Found, Row, Settings, Space, Standing, Study, read_finished
from lepton_dse.study.detail import Detail, Repriced
from lepton_dse.targets import load_target

DIGITS = data_folder("models") / "digits_cnn.onnx"
LEVELS_OFF = 1 + 1e-9
"""Sums round."""


@pytest.fixture(scope="module")
def finished(families: Study) -> Finished:
    return read_finished(families.folder)


@pytest.fixture(scope="module")
def detail(families: Study, finished: Finished) -> Detail:
    return Detail(families.folder, finished)


@pytest.fixture(scope="module")
def every(finished: Finished, detail: Detail) -> list[Member]:
    """All feasible candidates, as if they were on the front."""
    return [Member(entry, detail.priced(entry)) for entry in finished.candidates if not entry.why]


def of(members: list[Member], target: str) -> list[Member]:
    found = [member for member in members if member.entry.row.candidate.hardware.target == target]
    assert found
    return found


def test_operations_add_up_to_the_recorded_figures(every: list[Member]) -> None:
    streams = 0
    for member in every:
        report, figures = member.found.report, member.entry.row.figures
        assert report.latency_s == figures["latency_s"]
        assert report.energy_j == figures["energy_j"]
        if report.cycles is None:
            assert sum(op.latency_s for op in report.ops) == pytest.approx(figures["latency_s"], rel=1e-12)
            for level, moved in report.traffic_bytes.items():
                assert sum(op.traffic_bytes[level] for op in report.ops) == pytest.approx(moved, rel=1e-12)
        else:
            streams += 1
            assert figures["dsp"] == report.resources["DSP"]
    assert 0 < streams < len(every)


def test_a_plan_lists_every_operation_with_its_formats_and_zeros(every: list[Member]) -> None:
    for member in every:
        plan, report = plan_of(member), member.found.report
        headings = HEADINGS[plan["kind"]]
        assert [row[0] for row in plan["ops"]] == [op.name for op in report.ops]
        assert {len(row) for row in plan["ops"]} == {len(headings)}
        for row, op in zip(plan["ops"], report.ops, strict=True):
            told = dict(zip(headings, row, strict=True))
            assert told["MACs"] == f"{op.macs:,}"
            assert told["evidence"].startswith(str(report.evidence))
            if op.macs:
                assert told["bits of weights"][0] == str(member.precision.weights.bits)
                pruned = member.entry.row.candidate.variant.sparsity == "2:4"
                skipped = op.zeros is not None and op.zeros.skipped
                note = "skipped" if skipped else "not skipped" if pruned and told["zeros"][0] != "0.0%" else ""
                assert told["zeros"] == (told["zeros"][0], note)
        if plan["kind"]:
            assert plan["total"] is None
            assert "all stages work at the same time" in plan["note"]
        else:
            assert len(plan["total"]) == len(headings)
    for target, skipped in (("nvidia-jetson-orin-nano", True), ("raspberry-pi-5", False)):
        zeros = [op.zeros for member in of(every, target) for op in member.found.report.ops if op.zeros is not None]
        assert {entry.skipped for entry in zeros} == {skipped}


def test_what_is_taken_of_the_device_is_what_it_has(every: list[Member]) -> None:
    for member in of(every, "amd-zynq-7020"):
        usable = load_target("amd-zynq-7020").resources()  # type: ignore[union-attr]
        use = plan_of(member)["use"]
        assert [name.split()[0] for name, *_ in use] == ["LUT", "FF", "DSP", "BRAM18"]
        for name, used, available, part, _ in use:
            amount = member.entry.row.figures[name.split()[0].lower()]
            assert amount is not None
            assert (used, available) == (f"{amount:,.0f}", f"{usable[name.split()[0]]:,.0f}")
            assert part == pytest.approx(amount / usable[name.split()[0]], abs=1e-6)
            assert part <= 1
    for member in of(every, "raspberry-pi-5"):
        main, *inner = plan_of(member)["use"]
        assert main[0].startswith(member.found.target.levels[-1].name)  # type: ignore[union-attr]
        assert [name.split()[0] for name, *_ in inner] == ["l3", "l2", "l1"]
        peak = member.entry.row.figures["peak_bytes"]
        assert peak is not None
        for entry, level in zip(inner, member.found.target.levels[-2::-1], strict=True):  # type: ignore[union-attr]
            assert entry[3] == pytest.approx(peak / level.capacity_bytes.value, abs=1e-6)
            assert entry[4] == ("all of it fits" if entry[3] <= 1 else "only a part fits at a time")


def test_no_operation_is_above_the_roofs_of_its_own_format(every: list[Member], finished: Finished) -> None:
    rooflines = Rooflines(finished.graph)
    checked = 0
    for member in every:
        (roof, own), target = rooflines.of(member), member.found.target
        skips = {op.name for op in member.found.report.ops if op.zeros is not None and op.zeros.skipped}
        for points, name in ((roof["before"], roof["widest"]), (own["after"], own["format"])):
            if hasattr(target, "peaks"):
                fastest = max(2 * entry.mac_per_s.value for entry in target.peaks)
                peak = target.peak(Precision.parse(name))
                fitting = fastest if peak is None else 2 * peak.mac_per_s.value
            else:
                fitting = max(rate for _, rate in roof["roofs"])
            for op, moved, operations, seconds in points:
                if op in skips and points is own["after"]:
                    continue
                assert operations / seconds <= fitting * LEVELS_OFF, (str(member.entry.row.candidate), op)
                if member.found.plan is not None:
                    continue  # a stage of a design reads its weights from memories of its own, as often as it likes
                for (level, bandwidth), amount in zip(roof["levels"], moved, strict=True):
                    assert amount / bandwidth <= seconds * LEVELS_OFF, (str(member.entry.row.candidate), op, level)
                    checked += 1
        rates = [rate for _, rate in roof["roofs"]]
        assert rates == sorted(set(rates), reverse=True)
    assert checked > 100


def test_before_is_the_float_network_in_the_widest_format(every: list[Member], finished: Finished) -> None:
    formats = {"amd-zynq-7020": "int16", "nvidia-t4": "float32", "raspberry-pi-5": "float32"}
    assert {name: widest_format(load_target(name)) for name in formats} == formats
    widest = Precision.parse(widest_format(load_target("google-tpu-v1")))
    peaks = [Precision.parse(peak.format) for peak in load_target("google-tpu-v1").peaks]  # type: ignore[union-attr]
    assert all(widest.weights.bits + widest.activations.bits >= peak.weights.bits + peak.activations.bits for peak in peaks)
    member = of(every, "raspberry-pi-5")[0]
    expected = flow.cost(finished.graph, "raspberry-pi-5", format="float32")
    before = Rooflines(finished.graph).of(member)[0]["before"]
    assert {name: seconds for name, _, _, seconds in before} == {
        op.name: op.latency_s for op in expected.ops if op.latency_s and op.kind != "Reshape"
    }


def test_another_cost_is_refused_in_one_line(detail: Detail, every: list[Member]) -> None:
    entry = every[0].entry
    for name in ("latency_s", "throughput_per_s", "peak_bytes"):
        value = entry.row.figures[name]
        assert value is not None
        wrong = replace(entry, row=replace(entry.row, figures={**entry.row.figures, name: value * (1 + 1e-6)}))
        with pytest.raises(LeptonError, match=f"candidate {entry.index} has {name} .* so the cost models have changed; run the"):
            detail.priced(wrong)
    unknown = replace(entry, row=replace(entry.row, figures={**entry.row.figures, "peak_bytes": None}))
    with pytest.raises(LeptonError, match="None was recorded"):
        detail.priced(unknown)


def test_what_holds_each_figure_is_named_or_said_to_be_nothing(finished: Finished, detail: Detail) -> None:
    found = {(entry.target, entry.figure, entry.grade): entry for entry in holdings_of(Facts(finished), detail)}
    banded = found["google-tpu-v1", "latency", Evidence.BANDED]
    assert (banded.suite, banded.formats, banded.error_pct) == ("tpu-v1", "int8", 4.7)
    assert found["google-tpu-v1", "latency", Evidence.UNCHECKED].formats == "float16 and w4a8"
    assert found["amd-zynq-7020", "latency", Evidence.EXECUTED].suite == "fpga-cycles"
    assert found["raspberry-pi-5", "latency", Evidence.UNCHECKED].suite == ""
    assert {target for target, _, _ in found} == {
        entry.row.candidate.hardware.target for entry in finished.candidates if not entry.why
    }
    for target in {target for target, _, _ in found}:
        rows = [entry.row for entry in finished.candidates if not entry.why and entry.row.candidate.hardware.target == target]
        predicted = any(row.figures["energy_j"] is not None for row in rows)
        assert (found[target, "energy", Evidence.UNCHECKED].told == "no energy is predicted") != predicted
    told: list[str] = []
    results = {result.name: result for result in stored_suites(tuple(found.values()), told.append)}
    assert sorted(results) == sorted(told) == ["energy-tpu-v1", "tpu-v1"]
    scored = [row for row in results["tpu-v1"].rows if row.scored]
    errors = [abs(100 * (row.predicted - row.reference) / row.reference) for row in scored]
    assert np.mean(errors) == pytest.approx(results["tpu-v1"].mape_pct)
    assert round(float(np.mean(errors)), 1) == banded.error_pct


def test_both_accuracies_are_those_of_the_folder(families: Study, finished: Finished) -> None:
    details = details_of(families.folder, finished)
    documents = [json.loads(path.read_text()) for path in (families.folder / "variants").glob("*.json")]
    stored = {(entry["variant"]["format"], str(entry["variant"]["sparsity"]), entry["samples"]): entry for entry in documents}
    both = [key[:2] for key in stored if key[2] == 40 and (*key[:2], 10) in stored]
    assert len(details.screened) == len(both) > 0
    for entry in details.screened:
        form, _, zeros = entry.name.partition(", ")
        few, whole = (stored[form, zeros or "0.0", samples]["accuracy"] for samples in (10, 40))
        assert (entry.few, entry.every) == (Interval(**few), Interval(**whole))


def test_the_page_says_all_of_it(families: Study, finished: Finished) -> None:
    html = study_html(finished, details_of(families.folder, finished))
    for heading in ("A member, operation by operation", "What it takes of the device", "How well the figures are known"):
        assert f">{heading}</h2>" in html
    assert "Executed figures equal what an emitted design does" in html
    assert "lepton validate fpga-cycles" in html
    assert '<th scope="rowgroup" rowspan="2">nvidia-jetson-orin-nano<br>raspberry-pi-5</th>' in html
    assert '<div id="observed"' in html
    assert '<div id="growth"' in html
    without = study_html(finished)
    assert all(name not in without for name in ('id="plan"', '<div id="growth"', '<div id="observed"', '<table id="holdings"'))


def test_proofs_are_told_as_they_are(every: list[Member]) -> None:
    report = every[0].found.report
    search = SearchResult(objective="latency", space="two", evaluated=2, best=4e-6, lower_bound=3e-6, gap=0.25, optimal=False)
    told = proof_words(report.model_copy(update={"search": search}))
    assert told.endswith("It found 4 us, and proved that nothing can be below 3 us: at most 25.0% could still be gained.")
    proven = search.model_copy(
        update={"lower_bound": 4e-6, "gap": 0.0, "optimal": True, "objective": "latency in cycles", "best": 7}
    )
    assert proof_words(report.model_copy(update={"search": proven})).endswith("It proved that none of them is better than 7.")
    assert proof_words(report.model_copy(update={"search": None})).startswith("Nothing was searched")


def synthetic(points: list[tuple[int, ...]]) -> Finished:
    """Candidates with given latencies and energies, the front found pair by pair; those of latency 0 are out."""
    space = Space(targets=("unit",), batches=tuple(range(1, len(points) + 1)))
    settings = Settings(space=space, minimize=("latency_s", "energy_j"), subject_to=("latency_s >= 1",))
    rows = [
        Row(space.candidate(index), {"latency_s": float(one), "energy_j": float(two)}, "unchecked", None, None, None)
        for index, (one, two) in enumerate(points)
    ]
    inside = [index for index, (one, _) in enumerate(points) if one >= 1]
    front = brute_front(points, inside)
    standings = tuple(
        Standing(index, row, "" if index in inside else "out", False, index in front) for index, row in enumerate(rows)
    )
    members = tuple(sorted((rows[index] for index in front), key=lambda row: row.figures["latency_s"] or 0.0))
    found = Found(members, len(rows), len(rows) - len(inside), 0, True, 0.5, 0, ())
    return Finished(load_model(DIGITS), settings, found, standings, 0)


def brute_front(points: list[tuple[int, ...]], among: list[int]) -> list[int]:
    """Those that none beats, the first of equals."""

    def beats(other: int, own: int) -> bool:
        nowhere_worse = all(a <= b for a, b in zip(points[other], points[own], strict=True))
        return nowhere_worse and (points[other] != points[own] or other < own)

    return [own for own in among if not any(beats(other, own) for other in among if other != own)]


def brute_share(points: list[tuple[int, ...]], front: list[int], box: list[int]) -> float:
    """Unit cells of the box around all feasible points that the front dominates; a flat side does not count."""
    sides = [(min(points[index][axis] for index in box), max(points[index][axis] for index in box)) for axis in (0, 1)]
    wide = [axis for axis in (0, 1) if sides[axis][1] > sides[axis][0]]
    if not wide:
        return 1.0 if front else 0.0
    cells = [[cell] for cell in range(*sides[wide[0]])]
    if len(wide) == 2:
        cells = [[*cell, other] for cell in cells for other in range(*sides[1])]
    covered = sum(
        any(all(points[index][axis] <= at for axis, at in zip(wide, cell, strict=True)) for index in front) for cell in cells
    )
    return covered / len(cells)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_growth_is_that_of_the_candidates_so_far(points: list[tuple[int, ...]], random: Any) -> None:
    facts, order = Facts(synthetic(points)), list(range(len(points)))
    random.shuffle(order)
    inside = [index for index, (one, _) in enumerate(points) if one >= 1]
    found = growth(facts, order)
    if not inside:
        assert found == ()
        return
    assert [moment[0] for moment in found] == list(range(1, len(points) + 1))
    for count, size, volume in found:
        so_far = [index for index in order[:count] if index in inside]
        distinct = {points[index] for index in brute_front(points, so_far)}
        assert size == len(distinct)
        assert volume == pytest.approx(brute_share(points, brute_front(points, so_far), inside))
    assert found[-1][1] == len(facts.front)


def test_growth_ends_at_the_studys_own_figures(families: Study, finished: Finished, detail: Detail) -> None:
    assert sorted(detail.order) == [entry.index for entry in finished.candidates]
    evaluated, size, volume = growth(Facts(finished), detail.order)[-1]
    assert (evaluated, size) == (finished.found.evaluated, len(finished.found.front))
    assert volume == pytest.approx(finished.found.hypervolume, rel=1e-12)


class Priced:
    """Stands for a folder: every candidate has one report."""

    def __init__(self, found: Repriced) -> None:
        self.found, self.asked = found, 0

    def priced(self, entry: Standing) -> Repriced:
        self.asked += 1
        return self.found


def test_few_members_of_a_long_front_have_plans_and_the_page_says_so(
    monkeypatch: pytest.MonkeyPatch, every: list[Member]
) -> None:
    monkeypatch.setattr("lepton_dse.report.study_report.members._MEMBERS", 6)
    study = synthetic([(1 + number, 40 - number) for number in range(40)])
    facts, named, folder = Facts(study), [], Priced(every[0].found)
    found = members_of(facts, folder, named.append)  # type: ignore[arg-type]
    assert named[-1].startswith(f"plan {len(found)} of {len(found)}: ")
    indices = [member.entry.index for member in found]
    assert len(found) == folder.asked == len(named) <= 6
    assert {0, 39} <= set(indices)
    assert indices == sorted(indices)
    html = study_html(study, Details(study, found, (), (), (), growth(facts, range(40))))
    assert f"Plans of {len(found)} of the 40 members are on this page" in html
    monkeypatch.setattr("lepton_dse.report.study_report.members._ROWS", 2 * len(study.graph.ops))
    assert len(members_of(facts, folder, named.append)) == 2  # type: ignore[arg-type]


def test_a_page_of_five_thousand_candidates_is_below_six_megabytes(every: list[Member]) -> None:
    rng = np.random.default_rng(5)
    names = ("latency_s", "throughput_per_s", "energy_j", "peak_bytes", "weight_bytes")
    space = Space(
        targets=tuple(f"device-{number}" for number in range(25)),
        formats=("float32", "float16", "int8", "w4a8", "int4"),
        sparsities=(0.0, 0.25, 0.5, 0.75, "2:4"),
        channels=(0.0, 0.25),
        batches=(1, 2, 4, 8),
    )
    bounds = ("latency_s <= 10", "loss_points <= 5", "energy_j <= 10")
    settings = Settings(space=space, minimize=("latency_s", "energy_j", "loss_points"), subject_to=bounds)
    accuracies = rng.random(space.size // space.each)
    standings = []
    for index in range(space.size):
        value = float(accuracies[index // space.each])
        accuracy, loss = Interval(value, value - 0.01, value + 0.01, 1000), Interval(4 * value, 3 * value, 5 * value, 1000)
        figures = dict(zip(names, map(float, 10 ** -rng.uniform(1, 6, len(names))), strict=True))
        figures |= {"accuracy": accuracy.value, "loss_points": loss.value}
        row = Row(space.candidate(index), figures, "banded", 5.2, accuracy, loss)
        standings.append(Standing(index, row, "", False, index < 200))
    members = tuple(standings[:200])
    found = Found(tuple(entry.row for entry in members), space.size, 0, 0, True, 0.5, 50, ())
    study = Finished(load_model(DIGITS), settings, found, tuple(standings), 1000)
    plans = tuple(Member(entry, every[number % len(every)].found) for number, entry in enumerate(members[:48]))
    details = Details(study, plans, (), (), (), growth(Facts(study), range(space.size)))
    assert space.size == 5000
    html = study_html(study, details)
    assert html.count('<tr tabindex="0" data-index="') == 200
    assert len(html.encode()) < 6_000_000
