"""What a study finds, whatever happens on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_dse import flow
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.study import Candidate, Found, Step, Study, run, work
from lepton_dse.study.work import Priced, shaped
from lepton_dse.targets import load_target, with_numbers

Make = Callable[..., Study]
SAMPLED = {"enumerate_up_to": 0, "population": 4, "trials": 14}
COST = {"minimize": ["latency_s", "energy_j"], "data": None}


def found(study: Study, **options: Any) -> Found:
    result = study.run(**{"workers": 0, **options}).found
    assert result is not None
    return result


def forked(workers: int) -> Executor:
    """Workers that start with what a test has put in place."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_CHUNK", 8)
    monkeypatch.setattr(run, "_TASK", 2)


def test_front_of_costs_is_that_of_all_candidates_priced_one_by_one(study: Make, graph: Graph) -> None:
    one = study(**COST)
    result = found(one)
    points = {}
    for candidate in one.settings.space.candidates():
        target = with_numbers(load_target(candidate.hardware.target), dict(candidate.hardware.numbers))
        variant = candidate.variant
        report = flow.cost(shaped(graph, variant), target, format=variant.format, batch=candidate.batch)
        if report.feasible and report.energy_j is not None:
            points.setdefault((report.latency_s, report.energy_j), candidate)
    front = {
        point: candidate
        for point, candidate in points.items()
        if not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
    }
    assert [(row.figures["latency_s"], row.figures["energy_j"]) for row in result.front] == sorted(front)
    assert [row.candidate for row in result.front] == [front[point] for point in sorted(front)]
    assert result.enumerated
    assert result.evaluated == one.settings.space.size == 48
    assert all(row.accuracy is None for row in result.front)


def test_every_member_of_the_front_is_measured_on_all_samples(study: Make, graph: Graph, data: Dataset) -> None:
    one = study()
    result = found(one)
    assert 0 < len({row.candidate.variant for row in result.front}) <= result.measured < 12
    order = np.random.default_rng(0).permutation(len(data))
    shuffled = Dataset(data.x[order], None if data.y is None else data.y[order])
    for row in result.front:
        assert row.accuracy is not None
        assert row.loss is not None
        bundle = flow.quantize(shaped(graph, row.candidate.variant), row.candidate.variant.format, shuffled.take(10))
        assert row.accuracy == flow.accuracy(bundle, data)
        assert row.accuracy.count == len(data)
        assert row.figures["accuracy"] == row.accuracy.value
        assert row.figures["loss_points"] == pytest.approx(100 * (1 - row.accuracy.value))  # labels are the network's own
        assert row.loss.low <= row.loss.value <= row.loss.high


def test_fewer_samples_may_be_asked_for(study: Make) -> None:
    result = found(study(samples=30))
    assert {row.accuracy.count for row in result.front if row.accuracy is not None} == {30}


def test_constraints_hold_on_the_front(study: Make) -> None:
    bounds = ["loss_points <= 10", "latency_s <= 1.7e-5"]
    rows = found(study(subject_to=bounds)).front
    assert rows
    assert all(row.figures["loss_points"] <= 10 and row.figures["latency_s"] <= 1.7e-5 for row in rows)  # type: ignore[operator]


def test_best_is_the_best_of_the_front(study: Make) -> None:
    one = study()
    with pytest.raises(LeptonError, match="has not run"):
        _ = one.front
    found(one)
    fastest, exact = one.best("latency_s"), one.best("latency_s", ["loss_points <= 0"])
    assert fastest is not None
    assert exact is not None
    assert fastest is one.front[0]
    assert exact.figures["loss_points"] == 0
    assert exact.figures["latency_s"] == min(row.figures["latency_s"] for row in one.front if row.figures["loss_points"] == 0)
    assert one.best("energy_j", ["latency_s <= 1e-12"]) is None


def test_nothing_feasible_says_why(study: Make) -> None:
    result = found(study(subject_to=["latency_s <= 1e-12"]))
    assert result.front == ()
    assert (result.infeasible, result.failed, result.measured) == (48, 0, 0)
    assert "asked is latency_s <= 1e-12" in result.reasons[-1][1]


@pytest.mark.parametrize("sampler", ["nsga2", "random"])
def test_sampling_depends_on_the_seed_alone(study: Make, sampler: str) -> None:
    options = {**SAMPLED, "sampler": sampler, "minimize": ["latency_s", "energy_j", "loss_points"]}
    first, again, other = (study(seed=seed, **options) for seed in (3, 3, 4))
    results = [found(each) for each in (first, again, other)]
    assert results[0] == results[1]
    assert evaluated(first) == evaluated(again) != evaluated(other)
    assert not results[0].enumerated
    assert results[0].evaluated == len(evaluated(first)) == 14


def evaluated(study: Study) -> list[str]:
    """What the journal holds, without times and worker names."""
    lines = (study.folder / "journal.log").read_text().splitlines()
    return [line.split('"user_attrs":')[1] for line in lines if '"user_attrs":' in line and '"figures"' in line]


def test_sampling_ends_where_nothing_more_is_gained(study: Make) -> None:
    result = found(study(**{**SAMPLED, **COST, "trials": 48, "patience": 2, "least_gain": 0.5}))
    assert 0 < result.evaluated < 48


def test_sampling_ends_where_nothing_new_or_feasible_is_drawn(study: Make) -> None:
    result = found(study(**{**SAMPLED, **COST, "trials": 10_000, "patience": 3, "subject_to": ["latency_s <= 1e-12"]}))
    assert result.front == ()
    assert result.evaluated <= 48


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["enumerated", "sampled"])
def test_workers_change_nothing(study: Make, options: dict[str, Any]) -> None:
    studies = [study(**options) for _ in range(3)]
    results = [found(each, workers=workers) for workers, each in enumerate(studies)]
    assert results[0] == results[1] == results[2]
    assert evaluated(studies[0]) == evaluated(studies[1]) == evaluated(studies[2])


def test_any_executor_will_do(study: Make) -> None:
    with ThreadPoolExecutor(2) as executor:
        assert found(study(**COST), executor=executor) == found(study(**COST))


def die_after(steps: int, step: Step, *, seen: list[Step]) -> None:
    seen.append(step)
    if len(seen) == steps:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("steps", [1, 13])
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["enumerated", "sampled"])
@pytest.mark.usefixtures("small_batches")
def test_a_killed_study_goes_on_as_if_nothing_had_been(study: Make, options: dict[str, Any], steps: int) -> None:
    whole = study(**options)
    wanted = found(whole)
    killed = study("killed", **options)
    progress = partial(die_after, steps, seen=[])
    process = multiprocessing.get_context("fork").Process(target=partial(killed.run, workers=0, progress=progress))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert found(study("killed", **options), resume=True) == wanted
    assert evaluated(killed) == evaluated(whole)


@pytest.mark.usefixtures("small_batches")
def test_a_torn_batch_is_evaluated_again(study: Make) -> None:
    whole = study(**COST)
    wanted, journal = found(whole), whole.folder / "journal.log"
    lines = evaluated(whole)
    text = journal.read_bytes()
    for keep in (0, 1, len(text) // 3, len(text) // 2, len(text) - 1):
        journal.write_bytes(text[:keep])
        assert found(whole, resume=True) == wanted
        assert evaluated(whole) == lines


@pytest.mark.usefixtures("small_batches")
def test_one_interrupt_ends_after_the_batch_and_two_at_once(study: Make) -> None:
    wanted = found(study())

    def interrupt(step: Step) -> None:
        if step.done == 10:
            signal.raise_signal(signal.SIGINT)

    one = study("interrupted")
    result = found(one, progress=interrupt)
    assert (result.interrupted, result.front, result.evaluated) == (True, (), 16)
    assert found(one, resume=True) == wanted

    def twice(step: Step) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        found(study(), progress=twice)


@pytest.mark.usefixtures("small_batches")
def test_where_interrupts_are_ignored_they_stay_so(study: Make) -> None:
    wanted = found(study())

    def interrupt(step: Step) -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert found(study(), progress=interrupt) == wanted
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_interrupt_while_the_front_is_measured_keeps_what_was(study: Make) -> None:
    wanted = found(study())

    def interrupt(step: Step) -> None:
        if step.stage.startswith("accuracy of the front"):
            signal.raise_signal(signal.SIGINT)

    one = study("interrupted")
    result = found(one, progress=interrupt)
    assert (result.interrupted, result.front, result.measured) == (True, (), 1)
    assert found(one, resume=True) == wanted


def test_more_trials_go_on_with_a_sampled_study(study: Make) -> None:
    wanted = found(study(**{**SAMPLED, "trials": 20}))
    assert found(study("longer", **{**SAMPLED, "trials": 12})).evaluated == 12
    assert found(study("longer", **{**SAMPLED, "trials": 20}), resume=True) == wanted


def poisoned(poison: Callable[[Candidate], None], price: Any, inputs: work.Inputs, candidate: Candidate) -> Priced:
    poison(candidate)
    result: Priced = price(inputs, candidate)
    return result


def is_poison(candidate: Candidate) -> bool:
    return candidate.hardware.target == "nvidia-t4" and candidate.variant.format == "int8" and not candidate.variant.channels


def test_a_candidate_that_raises_is_recorded_with_its_reason(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(candidate: Candidate) -> None:
        if is_poison(candidate):
            raise ZeroDivisionError("by nothing")

    clean = found(study(**COST))
    monkeypatch.setattr(work, "_price", partial(poisoned, raises, work._price))
    one = study(**COST)
    result = found(one)
    assert (result.failed, result.evaluated) == (2, clean.evaluated)
    assert sum("ZeroDivisionError: by nothing" in line for line in evaluated(one)) == 2
    assert result.front
    assert not any(is_poison(row.candidate) for row in result.front)


@pytest.mark.usefixtures("small_batches")
def test_a_candidate_that_kills_its_worker_blocks_nothing(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def kills(candidate: Candidate) -> None:
        if is_poison(candidate):
            os._exit(9)

    clean = study(**COST)
    found(clean)
    monkeypatch.setattr(work, "_price", partial(poisoned, kills, work._price))
    one = study(**COST)
    result = found(one, executor=partial(forked, 2))
    assert result.failed == 2
    wanted = [line if not ("int8" in line and "nvidia-t4" in line and "cut" not in line) else None for line in evaluated(clean)]
    got = [line if "it ended its worker 2 times" not in line else None for line in evaluated(one)]
    assert got == wanted


@pytest.mark.usefixtures("small_batches")
def test_a_lost_worker_changes_nothing(study: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "died"

    def dies_once(candidate: Candidate) -> None:
        if is_poison(candidate) and not mark.exists():
            mark.touch()
            os._exit(9)

    wanted = found(study(**COST))
    monkeypatch.setattr(work, "_price", partial(poisoned, dies_once, work._price))
    assert found(study(**COST), executor=partial(forked, 2)) == wanted
    assert mark.exists()


def test_a_variant_that_kills_its_worker_is_refused(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = work._measure

    def kills(inputs: work.Inputs, variant: Any, samples: int) -> Any:
        if variant.format == "int8":
            os._exit(9)
        return measure(inputs, variant, samples)

    monkeypatch.setattr(work, "_measure", kills)
    one = study()
    result = found(one, executor=partial(forked, 1))
    assert result.front
    assert all(row.candidate.variant.format != "int8" for row in result.front)
    texts = [path.read_text() for path in (one.folder / "variants").iterdir()]
    assert sum("it ended its worker 2 times" in text for text in texts) == 4


def test_an_executor_that_cannot_be_made_anew_says_so(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_price", partial(poisoned, lambda candidate: os._exit(9), work._price))
    with forked(1) as executor, pytest.raises(LeptonError, match="the executor lost its workers"):
        found(study(**COST), executor=executor)


def test_planned_fpgas_have_resources(study: Make) -> None:
    axes = {"targets": ["amd-zynq-7020"], "formats": ["int8", "float32"], "sparsities": [0], "channels": [0], "batches": [1, 2]}
    with pytest.raises(LeptonError, match="'lut' is a figure of a planned FPGA design"):
        study(axes=axes, minimize=["lut"])
    one = study(axes=axes, minimize=["latency_s", "lut"], fpga="plan", data=None)
    result = found(one)
    assert [str(row.candidate) for row in result.front] == ["int8 on amd-zynq-7020, batch 1"]
    assert result.front[0].figures["lut"] > 0  # type: ignore[operator]
    assert any("takes samples one by one" in why for _, why in result.reasons)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minimize": ["speed"]}, "no figure 'speed'"),
        ({"minimize": ["latency_s", "latency_s"]}, "given twice"),
        ({"subject_to": ["latency_s < 1"]}, "is no constraint"),
        ({"metric": "bottom1"}, "no metric 'bottom1'"),
        ({"data": None}, "'loss_points' needs labelled data"),
        ({"axes": {"targets": ["nvidia-t5"]}}, "no target called 'nvidia-t5'"),
        ({"axes": {"targets": [{"target": "nvidia-t4", "numbers": {"rows": [1]}}]}}, "no number 'rows'"),
        ({"fast": True}, "fast: Extra inputs"),
    ],
)
def test_wrong_arguments(study: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(LeptonError, match=said):
        study(**options)


def test_labels_are_needed_by_metrics_that_use_them(study: Make, data: Dataset) -> None:
    with pytest.raises(LeptonError, match="needs labelled data"):
        study(data=replace(data, y=None))
    assert found(study(data=replace(data, y=None), metric="agreement")).front
