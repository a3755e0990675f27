"""Levers against every pair of candidates, compared field by field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import pytest

from lepton_dse.study import Candidate, Standing, Study, read_finished
from lepton_dse.study.levers import levers

Make = Callable[..., Study]


def parts(candidate: Candidate) -> dict[str, object]:
    """Every choice of a candidate by its axis; a number that only one target sweeps is no choice elsewhere."""
    variant, hardware = candidate.variant, candidate.hardware
    names = dict(zip(("format", "zeros", "channels cut"), astuple(variant), strict=True))
    return {**names, "hardware": hardware.target, "batch": candidate.batch, **dict(hardware.numbers)}


def axis_between(one: Candidate, other: Candidate) -> str | None:
    """The only choice in which two candidates differ; what two targets sweep each for itself comes with the target."""
    a, b = parts(one), parts(other)
    shared = a.keys() & b.keys()
    if a["hardware"] != b["hardware"]:
        shared &= {"format", "zeros", "channels cut", "hardware", "batch"}
    different = [name for name in shared if a[name] != b[name]]
    return different[0] if len(different) == 1 else None


@pytest.mark.parametrize("bounds", [[], ["latency_s <= 1.7e-5"]])
def test_levers_are_the_best_single_changes(study: Make, bounds: list[str]) -> None:
    read = read_finished(study(subject_to=bounds, axes={"batches": [1, 4]}).run(workers=0).folder)
    objectives = read.settings.objectives

    def gain(figure: int, here: Standing, other: Standing) -> float:
        before, after = (objectives[figure].value(entry.row.figures) for entry in (here, other))
        return before - after if before is not None and after is not None else -1.0

    seen = set()
    for here in read.candidates[::7]:
        found = levers(read, here.index)
        for axis in ("format", "zeros", "channels cut", "hardware", "batch", "array_rows"):
            near = [entry for entry in read.candidates if axis_between(here.row.candidate, entry.row.candidate) == axis]
            mine = [lever for lever in found if lever.axis == axis]
            for figure, objective in enumerate(objectives):
                most = max((gain(figure, here, entry) for entry in near), default=0.0)
                given = max((gain(figure, here, lever.standing) for lever in mine), default=0.0)
                assert max(most, 0.0) == max(given, 0.0)
                assert all((objective.figure in lever.gains) == (gain(figure, here, lever.standing) > 0) for lever in mine)
            assert all(lever.standing in near and lever.gains for lever in mine)
            seen |= {axis} if mine else set()
    assert {"format", "channels cut", "hardware"} <= seen


def test_what_was_not_evaluated_is_no_lever(study: Make) -> None:
    read = read_finished(study(enumerate_up_to=0, population=4, trials=14).run(workers=0).folder)
    known = {entry.index for entry in read.candidates}
    assert len(known) < read.settings.space.size
    for index in known:
        assert {lever.standing.index for lever in levers(read, index)} <= known
    with pytest.raises(KeyError):
        levers(read, next(index for index in range(read.settings.space.size) if index not in known))
