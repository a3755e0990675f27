"""What a finished study's folder holds beyond its figures: the plan behind each candidate, and when each was evaluated.

A plan is not stored: it is found again by what priced the candidate, from the network and the hardware model that the folder
keeps, and refused where its totals are not those that were recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lepton_dse import flow
from lepton_dse.bundle import Bundle
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import CostReport, Plan
from lepton_dse.study.reading import Finished, Standing
from lepton_dse.study.space import Sweep, Variant
from lepton_dse.study.state import StoredFolder, stored_inputs
from lepton_dse.study.work import Measured, figures_of_report, predicted, read_data, read_targets, shaped
from lepton_dse.targets import AnyTarget, with_numbers

__all__ = ["Detail", "Repriced"]

_SAME = 1e-9
"""Relative difference up to which two figures are one: sums may round differently on another processor."""


@dataclass(frozen=True)
class Repriced:
    """A candidate with all that its cost says.

    Parameters
    ----------
    graph : Graph
        The network with its channels cut out and its zeros put in, in float.
    target : AnyTarget
    report : CostReport
    plan : Plan or None
        Of a streaming design.
    """

    graph: Graph
    target: AnyTarget
    report: CostReport
    plan: Plan | None


class Detail:
    """The folder of a finished study.

    Parameters
    ----------
    folder : str or Path
    study : Finished
        As it was read from that folder.
    """

    def __init__(self, folder: str | Path, study: Finished) -> None:
        self.folder, self.study = Path(folder), study
        self._inputs = stored_inputs(self.folder)
        self._state = StoredFolder(self.folder)
        self._shapes: dict[tuple[float | str, float], Graph] = {}

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Indices of the candidates in the order in which they were evaluated."""
        settings = self.study.settings
        records, _ = self._state.open_journal(settings.objectives, settings.space.size)
        return tuple(record.index for record in records)

    @cached_property
    def targets(self) -> Mapping[str, AnyTarget]:
        """The study's targets as they were, before any number was swept, by the names that its space has.

        Raises
        ------
        LeptonError
            If they cannot be read.
        """
        try:
            found = read_targets(self._inputs)
            return {sweep.target: found[sweep.target] for sweep in self._sweeps}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            where = str(self._inputs)
            raise LeptonError("the study's hardware models are damaged", where=where, fix="run the study again") from error

    @cached_property
    def _data(self) -> Dataset | None:
        return read_data(self._inputs)

    def _shape(self, variant: Variant) -> Graph:
        if variant.shape not in self._shapes:
            self._shapes[variant.shape] = shaped(self.study.graph, variant)
        return self._shapes[variant.shape]

    @property
    def _sweeps(self) -> tuple[Sweep, ...]:
        return self.study.settings.space.targets

    def measured(self, variant: Variant, samples: int) -> Measured | None:
        """A variant's accuracy on the first samples; None where it was not measured on so many."""
        return self._state.measured(variant, samples)

    def priced(self, entry: Standing) -> Repriced:
        """A candidate that was feasible, priced again.

        Raises
        ------
        LeptonError
            If its figures are not those that were recorded: the package has changed since.
        """
        candidate, settings = entry.row.candidate, self.study.settings
        variant = candidate.variant
        graph, hardware = self._shape(variant), candidate.hardware
        target = with_numbers(self.targets[hardware.target], dict(hardware.numbers))
        report, plan = predicted(candidate, graph, target, settings.fpga, lambda: self._bundle(graph, variant.format))
        self._hold(entry, report)
        return Repriced(graph, target, report, plan)

    def _bundle(self, graph: Graph, format: str) -> Bundle:
        settings = self.study.settings
        samples = None if self._data is None else self._data.take(settings.calibration)
        return flow.quantize(graph, format, samples, seed=settings.seed)

    def _hold(self, entry: Standing, report: CostReport) -> None:
        found = figures_of_report(report)
        for name, value in found.items():
            recorded = entry.row.figures.get(name)
            if (value is None or recorded is None) and value is recorded:
                continue
            if value is None or recorded is None or not math.isclose(value, recorded, rel_tol=_SAME):
                what = f"candidate {entry.index} has {name} {value} and {recorded} was recorded, so the cost models have changed"
                raise LeptonError(what, where=str(self.folder), fix="run the study again, or use the version that made it")
