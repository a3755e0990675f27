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
from lepton_dse.flow import PlannedModel
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.plan import CostReport, Plan, Sharding
from lepton_dse.schedule.sharded import planned_sharding
from lepton_dse.search.sharded import prices_of
from lepton_dse.search.sharded.stages import operation_seconds
from lepton_dse.study.machine import Machine, Pool, device_of, with_choices
from lepton_dse.study.objectives import SHARED
from lepton_dse.study.reading import Finished, Standing
from lepton_dse.study.space import Sweep, Variant
from lepton_dse.study.state import StoredFolder, stored_inputs
from lepton_dse.study.work import Measured, figures_of_report, predicted, read_data, read_machines, shaped
from lepton_dse.targets import AnyTarget, FpgaTarget

__all__ = ["Detail", "Repriced", "Shared"]

_SAME = 1e-9
"""Relative difference up to which two figures are one: sums may round differently on another processor."""


@dataclass(frozen=True)
class Shared:
    """How devices share a candidate's network.

    Parameters
    ----------
    graph : LoweredGraph
    sharding : Sharding
    seconds : mapping of str to float
        Of each operation, exchanges before it and the closing of its sums among them; sends between stages left out.
    """

    graph: LoweredGraph
    sharding: Sharding
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Repriced:
    """A candidate with all that its cost says.

    Parameters
    ----------
    graph : Graph
        The network with its channels cut out and its zeros put in, in float.
    target : AnyTarget
        Of a cluster, that of each device.
    report : CostReport
    plan : Plan or None
        Of a streaming design.
    shared : Shared or None
        Of devices that share the network.
    """

    graph: Graph
    target: AnyTarget
    report: CostReport
    plan: Plan | None
    shared: Shared | None = None


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
        """The study's targets before any number was swept, by the names that its space has; of a cluster its device.

        Raises
        ------
        LeptonError
            If they cannot be read.
        """
        return {name: device_of(machine) for name, machine in self._machines.items()}

    @cached_property
    def _machines(self) -> Mapping[str, Machine]:
        try:
            found = read_machines(self._inputs)
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
        candidate, variant = entry.row.candidate, entry.row.candidate.variant
        graph, machine = self._shape(variant), with_choices(self._machines[candidate.hardware.target], candidate.hardware)
        if isinstance(machine, Pool):
            planned = self._shared(entry, machine)
            sharding, lowered = planned.plan.sharding, planned.lowered
            assert sharding is not None
            taken = operation_seconds(planned_sharding(lowered, sharding), prices_of(machine.cluster))
            times = {op.name: time for op, time in zip(lowered.ops, taken, strict=True)}
            return Repriced(graph, machine.device, planned.predicted, None, Shared(lowered, sharding, times))
        fpga = self.study.settings.fpga
        report, plan = predicted(candidate, graph, machine, fpga, lambda: self._bundle(graph, variant.format))
        self._hold(entry, report)
        return Repriced(graph, machine, report, plan)

    def planned(self, entry: Standing) -> PlannedModel:
        """The plan of a candidate that was feasible, which can be saved and emitted.

        Raises
        ------
        LeptonError
            If a plan has no such batch, or the figures of devices that share the network, or of a streaming design, are not those
            that were recorded: the package has changed since.
        """
        candidate, settings = entry.row.candidate, self.study.settings
        machine = with_choices(self._machines[candidate.hardware.target], candidate.hardware)
        if isinstance(machine, Pool):
            return self._shared(entry, machine)
        if candidate.batch != 1:
            fix = "choose a candidate of one sample a pass, or of a cluster"
            raise LeptonError(f"a plan of one device for a batch of {candidate.batch}", where=str(candidate), fix=fix)
        graph = self._shape(candidate.variant)
        planned = flow.plan(graph, machine, format=candidate.variant.format, data=self._calibration, seed=settings.seed)
        if isinstance(machine, FpgaTarget) and settings.fpga == "plan":
            self._hold(entry, planned.predicted)
        return planned

    def _shared(self, entry: Standing, pool: Pool) -> PlannedModel:
        candidate, hardware = entry.row.candidate, entry.row.candidate.hardware
        planned = flow.shard(
            self._shape(candidate.variant),
            pool.cluster,
            hardware.mesh,
            batch=candidate.batch,
            format=candidate.variant.format,
            data=self._calibration,
            stages=hardware.stages,
            seed=self.study.settings.seed,
        )
        self._hold(entry, planned.predicted)
        return planned

    @property
    def _calibration(self) -> Dataset | None:
        return None if self._data is None else self._data.take(self.study.settings.calibration)

    def _bundle(self, graph: Graph, format: str) -> Bundle:
        return flow.quantize(graph, format, self._calibration, seed=self.study.settings.seed)

    def _hold(self, entry: Standing, report: CostReport) -> None:
        found = figures_of_report(report)
        for name, value in found.items():
            if name not in entry.row.figures and name in SHARED:
                continue  # an earlier version did not record them
            recorded = entry.row.figures.get(name)
            if (value is None or recorded is None) and value is recorded:
                continue
            if value is None or recorded is None or not math.isclose(value, recorded, rel_tol=_SAME):
                what = f"candidate {entry.index} has {name} {value} and {recorded} was recorded, so the cost models have changed"
                raise LeptonError(what, where=str(self.folder), fix="run the study again, or use the version that made it")
