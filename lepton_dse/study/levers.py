"""What one other choice would give: a candidate held against those that differ from it along a single axis of the space."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lepton_dse.study.objectives import Objective
from lepton_dse.study.reading import Finished, Standing
from lepton_dse.study.space import Candidate, Hardware

__all__ = ["Lever", "levers"]


@dataclass(frozen=True)
class Lever:
    """One other choice.

    Parameters
    ----------
    axis : str
        What is chosen otherwise: format, zeros, channels cut, hardware, mesh, stages, batch, or the path of a swept number.
    choice : str
        The other value.
    standing : Standing
        How the candidate came out that has this value and is the same otherwise.
    gains : tuple of str
        Objectives in which it is better.
    """

    axis: str
    choice: str
    standing: Standing
    gains: tuple[str, ...]


def levers(study: Finished, index: int) -> tuple[Lever, ...]:
    """Of each axis the choice that gains most in each objective, whether it keeps the constraints or not.

    Parameters
    ----------
    study : Finished
    index : int
        Of the candidate that is held against the others. Candidates that a sampled study did not evaluate are no levers, nor are
        those that could not be evaluated or whose objective is not known.

    Raises
    ------
    KeyError
        If the study did not evaluate it.
    """
    standings = {entry.row.candidate: entry for entry in study.candidates if not entry.failed or entry.index == index}
    here = next((entry for entry in standings.values() if entry.index == index), None)
    if here is None:
        raise KeyError(index)
    found: list[Lever] = []
    for axis, others in _neighbours(study, here.row.candidate):
        known = [(choice, standings[other]) for choice, other in others if other in standings]
        best: dict[int, Lever] = {}
        for objective in study.settings.objectives:
            better = [pair for pair in known if _gain(objective, here, pair[1]) > 0]
            if better:
                choice, entry = max(better, key=lambda pair: _gain(objective, here, pair[1]))
                gains = tuple(each.figure for each in study.settings.objectives if _gain(each, here, entry) > 0)
                best.setdefault(entry.index, Lever(axis, choice, entry, gains))
        found += best.values()
    return tuple(found)


def _gain(objective: Objective, here: Standing, other: Standing) -> float:
    """By how much the other's figure is better; minus infinity where one is not known."""
    before, after = (objective.value(entry.row.figures) for entry in (here, other))
    return -math.inf if before is None or after is None else before - after


def _neighbours(study: Finished, here: Candidate) -> Iterator[tuple[str, list[tuple[str, Candidate]]]]:
    """Each axis with the other choices along it: what they are called, and the candidate that has them."""
    space, variant, hardware = study.settings.space, here.variant, here.hardware
    forms = [form for form in space.formats if form != variant.format]
    yield "format", [(form, replace(here, variant=replace(variant, format=form))) for form in forms]
    zeros = [entry for entry in space.sparsities if entry != variant.sparsity]
    yield "zeros", [(_share(entry), replace(here, variant=replace(variant, sparsity=entry))) for entry in zeros]
    cuts = [entry for entry in space.channels if entry != variant.channels]
    yield "channels cut", [(_share(entry), replace(here, variant=replace(variant, channels=entry))) for entry in cuts]
    same = (entry.row.candidate for entry in study.candidates)
    machines = [other.hardware for other in same if other == replace(here, hardware=other.hardware)]
    elsewhere = [machine for machine in machines if machine.target != hardware.target]
    yield "hardware", [(str(machine), replace(here, hardware=machine)) for machine in elsewhere]
    for path, _ in hardware.numbers:
        siblings = [machine for machine in machines if _differs_in(machine, hardware, path)]
        yield path, [(f"{dict(machine.numbers)[path]:g}", replace(here, hardware=machine)) for machine in siblings]
    sweep = next(sweep for sweep in space.targets if sweep.target == hardware.target)
    meshes = [replace(hardware, mesh=mesh) for mesh in sweep.every_mesh if mesh != hardware.mesh]
    yield "mesh", [(machine.mesh, replace(here, hardware=machine)) for machine in meshes]
    depths = [replace(hardware, stages=stages) for stages in sweep.stages if stages != hardware.stages]
    yield "stages", [(str(machine.stages), replace(here, hardware=machine)) for machine in depths]
    batches = [batch for batch in space.batches if batch != here.batch]
    yield "batch", [(str(batch), replace(here, batch=batch)) for batch in batches]


def _differs_in(one: Hardware, other: Hardware, path: str) -> bool:
    """Whether two hardware models are the same but for one number."""
    pairs = zip(one.numbers, other.numbers, strict=False)
    return one.target == other.target and [a[0] for a, b in pairs if a != b] == [path]


def _share(value: float | str) -> str:
    return value if isinstance(value, str) else f"{100 * value:g}%"
