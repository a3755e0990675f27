"""What a report says of a study, worked out once: the best of each objective, what binds, and why candidates are out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.study import Finished, Standing
from lepton_dse.study.objectives import FIGURES, SHARED, Constraint, Figures, Objective, figures_of

__all__ = ["Facts", "Reason", "grouped_reasons"]

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d.,]*(?:e[-+]?\d+)?(?!\w)")


@dataclass(frozen=True)
class Reason:
    """Reasons that differ in numbers and in the target's name alone.

    Parameters
    ----------
    example : str
        The first of them.
    targets, candidates : int
        How many it stands against.
    """

    example: str
    targets: int
    candidates: int


class Facts:
    """A study's front and what stands around it.

    Parameters
    ----------
    study : Finished
    """

    def __init__(self, study: Finished) -> None:
        self.study = study
        self.objectives, self.constraints = study.settings.objectives, study.settings.constraints
        by_candidate = {entry.row.candidate: entry for entry in study.candidates if entry.front}
        self.front = tuple(by_candidate[row.candidate] for row in study.found.front)
        self.feasible = tuple(entry for entry in study.candidates if not entry.why)
        self._points = self._values(self.front)
        self._only = {bound: self._values(self._breaking_only(bound)) for bound in self.constraints}

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of figures that are told: those of devices that share the network only where any may, or where asked for."""
        asked = figures_of(self.objectives, self.constraints)
        meshed = self.study.settings.space.meshed
        return tuple(name for name in FIGURES if meshed or name not in SHARED or name in asked)

    def best(self, objective: Objective) -> tuple[Standing, int]:
        """The first member of the front that is best in one objective, and how many are as good."""
        column = self._points[:, self.objectives.index(objective)]
        return self.front[int(column.argmin())], int(np.count_nonzero(column == column.min()))

    def beaten_by(self, entry: Standing) -> Standing | None:
        """The first member of the front that is nowhere worse; None for a member."""
        if entry.front:
            return None
        point = self._values([entry])[0]
        better = np.flatnonzero((self._points <= point).all(axis=1))
        return self.front[int(better[0])] if len(better) else None

    def keeps_out(self, bound: Constraint, entry: Standing) -> int:
        """Candidates that break this constraint alone and would dominate a candidate without it."""
        others, point = self._only[bound], self._values([entry])[0]
        return int(np.count_nonzero((others <= point).all(axis=1) & (others < point).any(axis=1)))

    def _breaking_only(self, bound: Constraint) -> list[Standing]:
        found = []
        for entry in self.study.candidates:
            if not entry.why or entry.failed:
                continue
            broken = [other for other in self.constraints if other.broken(entry.row.figures)]
            if broken == [bound] and entry.why == bound.broken(entry.row.figures) and self._known(entry.row.figures):
                found.append(entry)
        return found

    def _known(self, figures: Figures) -> bool:
        return all(objective.value(figures) is not None for objective in self.objectives)

    def _values(self, entries: Sequence[Standing]) -> NDArray[np.float64]:
        rows = [[objective.value(entry.row.figures) for objective in self.objectives] for entry in entries]
        return np.array(rows, np.float64).reshape(len(rows), len(self.objectives))


def grouped_reasons(entries: Sequence[Standing]) -> list[Reason]:
    """Why candidates are out, the reason against most of them first."""
    kinds: dict[str, list[Standing]] = {}
    for entry in entries:
        kind = _NUMBER.sub("#", entry.why.replace(entry.row.candidate.hardware.target, "#"))
        kinds.setdefault(kind, []).append(entry)
    found = [
        Reason(members[0].why, len({entry.row.candidate.hardware.target for entry in members}), len(members))
        for members in kinds.values()
    ]
    return sorted(found, key=lambda reason: -reason.candidates)
