"""What is computed for a study: the cost of candidates and the accuracy of variants. It runs in workers, which keep no state.

A task says all that it needs; model, data and hardware models are read from files that are named by their digest.
"""

from __future__ import annotations

import hashlib
import json
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load, save

from lepton_dse import flow
from lepton_dse.bundle import Bundle
from lepton_dse.compress.prune import prune
from lepton_dse.data import Dataset, Interval
from lepton_dse.errors import LeptonError
from lepton_dse.files import read_text, write_bytes
from lepton_dse.flow.sharding import sharding_misfits, staged_report
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.serialize import graph_to_files, read_graph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.parallel.layout import Mesh
from lepton_dse.plan import CostReport, Plan
from lepton_dse.reference.accuracy import outputs_of
from lepton_dse.reference.metrics.protocol import Outputs, metric_named
from lepton_dse.search.sharded import ShardedPlan, StepPrices, plan_sharding, prices_of
from lepton_dse.sim.report import stored_format
from lepton_dse.study.machine import Machine, Pool, machine_from_json, machine_to_json, with_choices
from lepton_dse.study.objectives import MEASURED, RESOURCES
from lepton_dse.study.software import software
from lepton_dse.study.space import Candidate, Hardware, Variant
from lepton_dse.targets import AnyTarget, FpgaTarget

__all__ = [
    "Inputs",
    "MeasureTask",
    "Measured",
    "PriceTask",
    "Priced",
    "Task",
    "UnfitWorkerError",
    "execute",
    "figures_of_report",
    "predicted",
    "read_data",
    "read_inputs",
    "read_machines",
    "shaped",
    "software_digest",
    "write_inputs",
]

_DATA_FILE = "data.safetensors"
_TARGETS_FILE = "targets.json"
_ONE_AT_A_TIME = threading.Lock()
"""Kernels have threads of their own, and not all ways that these are made bear two callers."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Priced:
    """The cost of a candidate.

    Parameters
    ----------
    figures : dict of str to float or None
        By name, those that need no data.
    evidence : str
        How the latency is known.
    band_pct : float, optional
        Mean error of the suite that holds it.
    why : str
        What does not fit; empty where everything does.
    failed : bool
        Whether it could not be priced at all.
    """

    figures: dict[str, float | None]
    evidence: str = ""
    band_pct: float | None = None
    why: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Measured:
    """The accuracy of a variant.

    Parameters
    ----------
    accuracy, loss : Interval, optional
        The metric, and the points of it that are lost against the float network on the same samples; None where the variant could
        not be made.
    why : str
        Why it could not.
    """

    accuracy: Interval | None
    loss: Interval | None = None
    why: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Measured:
        """From its fields, which may stand among others."""
        accuracy, loss = (None if (ends := document[name]) is None else Interval(**ends) for name in ("accuracy", "loss"))
        return cls(accuracy, loss, document["why"])

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures that need data."""
        if self.accuracy is None or self.loss is None:
            return dict.fromkeys(MEASURED)
        return {"accuracy": self.accuracy.value, "loss_points": self.loss.value}

    @property
    def hoped(self) -> dict[str, float | None]:
        """The better ends of the intervals: what cannot be ruled out yet."""
        if self.accuracy is None or self.loss is None:
            return dict.fromkeys(MEASURED)
        return {"accuracy": self.accuracy.high, "loss_points": self.loss.low}


@dataclass(frozen=True)
class Inputs:
    """What all tasks of a study share.

    Parameters
    ----------
    folder : str
        Of the files that :func:`write_inputs` wrote; its name is their digest.
    fpga : str
        ``bound`` or ``plan``.
    metric : str
    calibration : int
        The first samples of the data, for integer formats.
    seed : int
    software : str
        Which a worker must have too, as :func:`software_digest` says it; empty where it is not asked.
    """

    folder: str
    fpga: str
    metric: str
    calibration: int
    seed: int
    software: str = ""


class UnfitWorkerError(Exception):
    """That a worker cannot do what it is asked, whatever the candidate; the message says what to do."""


class Task(Protocol[Answer]):
    """Work for one process."""

    @property
    def inputs(self) -> Inputs:
        """What it shares with all tasks of the study."""

    @property
    def key(self) -> str:
        """What tells it from the other tasks of the study."""

    def run(self) -> Answer:
        """Do it."""

    def split(self) -> Sequence[Task[Answer]]:
        """The same work in the smallest parts; their answers are put together by :meth:`joined`."""

    def joined(self, answers: Sequence[Answer]) -> Answer:
        """The answer of the whole from those of its parts."""

    def lost(self, why: str) -> Answer:
        """The answer where no worker lived to give one."""

    def written(self, answer: Answer) -> str:
        """The answer as JSON."""

    def read(self, text: str) -> Answer:
        """The inverse of :meth:`written`."""


@dataclass(frozen=True)
class PriceTask:
    """Prices candidates whose networks have one shape, in order."""

    inputs: Inputs
    candidates: tuple[Candidate, ...]

    @property
    def key(self) -> str:
        """Digest of the candidates."""
        return "price " + hashlib.sha256("\n".join(map(str, map(asdict, self.candidates))).encode()).hexdigest()[:32]

    def run(self) -> tuple[Priced, ...]:
        """One answer a candidate; whatever goes wrong with one is its answer."""
        return tuple(_caught_price(self.inputs, candidate) for candidate in self.candidates)

    def split(self) -> tuple[PriceTask, ...]:
        """One task a candidate."""
        return tuple(PriceTask(self.inputs, (candidate,)) for candidate in self.candidates)

    def joined(self, answers: Sequence[tuple[Priced, ...]]) -> tuple[Priced, ...]:
        """All answers, in order."""
        return tuple(priced for answer in answers for priced in answer)

    def lost(self, why: str) -> tuple[Priced, ...]:
        """Every candidate failed."""
        return tuple(Priced({}, why=why, failed=True) for _ in self.candidates)

    def written(self, answer: tuple[Priced, ...]) -> str:
        """One entry a candidate."""
        return json.dumps([asdict(priced) for priced in answer])

    def read(self, text: str) -> tuple[Priced, ...]:
        """The inverse of :meth:`written`."""
        found = tuple(Priced(**entry) for entry in json.loads(text))
        if len(found) != len(self.candidates):
            raise ValueError("not one answer a candidate")
        return found


@dataclass(frozen=True)
class MeasureTask:
    """Measures one variant on the first samples."""

    inputs: Inputs
    variant: Variant
    samples: int

    @property
    def key(self) -> str:
        """Of the variant and the number of samples."""
        return f"accuracy {self.variant.digest[:32]} {self.samples}"

    def run(self) -> Measured:
        """The accuracy, or why there is none."""
        try:
            return _measure(self.inputs, self.variant, self.samples)
        except Exception as error:
            return Measured(None, why=_reason(error))

    def split(self) -> tuple[MeasureTask, ...]:
        """It is one part."""
        return (self,)

    def joined(self, answers: Sequence[Measured]) -> Measured:
        """The one answer."""
        return answers[0]

    def lost(self, why: str) -> Measured:
        """No accuracy."""
        return Measured(None, why=why)

    def written(self, answer: Measured) -> str:
        """Its fields."""
        return json.dumps(asdict(answer))

    def read(self, text: str) -> Measured:
        """The inverse of :meth:`written`."""
        return Measured.read(json.loads(text))


def execute(task: Task[Answer], attempt: int = 0) -> Answer:
    """Run a task; what an executor is given, with the number of the attempt, which tells two of them apart.

    Raises
    ------
    UnfitWorkerError
        If this process has other software, or cannot see the study's files.
    """
    folder = Path(task.inputs.folder)
    if task.inputs.software not in ("", software_digest()):
        raise UnfitWorkerError(f"a worker has other software; install there what is here: {_words(software())}")
    if not (folder / _TARGETS_FILE).is_file():
        where = f"a worker on {platform.node()} cannot see {folder}"
        raise UnfitWorkerError(f"{where}; share the study's folder under the same path on all machines")
    with _ONE_AT_A_TIME:
        return task.run()


def software_digest() -> str:
    """Digest of what computes here."""
    return hashlib.sha256(_words(software()).encode()).hexdigest()


def _words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def write_inputs(folder: Path, graph: Graph, data: Dataset | None, machines: Mapping[str, Machine]) -> None:
    """Write what :class:`Inputs` names, unless it is there: the folder's name is the digest of all of it."""
    if (folder / _TARGETS_FILE).is_file():
        return
    for name, content in graph_to_files(graph).items():
        write_bytes(folder / name, content)
    if data is not None:
        arrays = {"x": np.ascontiguousarray(data.x)} | ({} if data.y is None else {"y": np.ascontiguousarray(data.y)})
        write_bytes(folder / _DATA_FILE, save(arrays))
    texts = {name: machine_to_json(machine) for name, machine in machines.items()}
    write_bytes(folder / _TARGETS_FILE, json.dumps(texts).encode())  # the last one: where it is, the others are


def read_inputs(folder: Path) -> tuple[Graph, int]:
    """The network that :func:`write_inputs` wrote, and how many samples the data has; 0 where there is none."""
    path = folder / _DATA_FILE
    if not path.is_file():
        return read_graph(folder), 0
    with safe_open(path, "numpy") as arrays:
        return read_graph(folder), int(arrays.get_slice("x").get_shape()[0])


def read_data(folder: Path) -> Dataset | None:
    """The samples that :func:`write_inputs` wrote; None where there are none."""
    path = folder / _DATA_FILE
    if not path.is_file():
        return None
    arrays = load(path.read_bytes())
    return Dataset(arrays["x"], arrays.get("y"))


def read_machines(folder: Path) -> dict[str, Machine]:
    """The hardware models and clusters that :func:`write_inputs` wrote, by name."""
    texts: dict[str, str] = json.loads(read_text(folder / _TARGETS_FILE))
    return {name: machine_from_json(text, where=name) for name, text in texts.items()}


def shaped(graph: Graph, variant: Variant) -> Graph:
    """The network with the variant's channels cut out and its zeros put in, in float."""
    small = prune(graph, variant.channels, kind="channels") if variant.channels else graph
    if (pattern := variant.pattern) is not None:
        kept, of = pattern
        return prune(small, 1 - kept / of, kind="n:m", n=kept, m=of)
    return prune(small, float(variant.sparsity), kind="weights") if variant.sparsity else small


def _caught_price(inputs: Inputs, candidate: Candidate) -> Priced:
    try:
        return _price(inputs, candidate)
    except UnfitWorkerError:
        raise
    except Exception as error:  # any wrong candidate is a value, and no reason to end the study
        return Priced({}, why=_reason(error), failed=True)


def _price(inputs: Inputs, candidate: Candidate) -> Priced:
    variant = candidate.variant
    graph, machine = _shape(inputs.folder, *variant.shape), _hardware(inputs.folder, candidate.hardware)
    weights = {"weight_bytes": _weight_bytes(inputs.folder, variant)}
    if isinstance(machine, Pool):
        mesh, stages, lowered = _mesh(candidate), candidate.hardware.stages, _lowered(inputs, variant, candidate.batch)
        misfits = sharding_misfits(lowered, mesh, stages, machine.cluster)
        if misfits:
            return Priced({"devices": float(candidate.hardware.devices), **weights}, why="; ".join(map(str, misfits)))
        found = _shared(inputs, variant, candidate.hardware.target, mesh, candidate.batch)
        _, report = staged_report(found, stages, candidate.batch, _prices(inputs.folder, candidate.hardware.target))
    else:
        report, _ = predicted(candidate, graph, machine, inputs.fpga, lambda: _bundle(inputs, variant))
    band = None if report.band is None else report.band.mape_pct
    return Priced({**figures_of_report(report), **weights}, report.evidence.value, band, "; ".join(map(str, report.violations)))


def _mesh(candidate: Candidate) -> Mesh:
    return Mesh.parse(candidate.hardware.mesh)


def predicted(
    candidate: Candidate, graph: Graph, target: AnyTarget, fpga: str, bundle: Callable[[], Bundle]
) -> tuple[CostReport, Plan | None]:
    """What a candidate costs on a device by itself, and its plan where a streaming design is planned.

    Parameters
    ----------
    candidate : Candidate
    graph : Graph
        Of its variant, in float.
    target : hardware model
        Of its hardware.
    fpga : str
        As of :class:`Inputs`.
    bundle : callable
        Quantises the graph, where that is needed.
    """
    if not (isinstance(target, FpgaTarget) and fpga == "plan"):
        return flow.cost(graph, target, format=candidate.variant.format, batch=candidate.batch), None
    if candidate.batch != 1:
        raise LeptonError(f"a batch of {candidate.batch}", where=target.name, fix="a streaming design takes samples one by one")
    plan = flow.plan(bundle(), target).plan
    return plan.predicted, plan


def figures_of_report(report: CostReport) -> dict[str, float | None]:
    """The figures of a study that a cost report has, by name."""
    return {
        "latency_s": report.latency_s,
        "throughput_per_s": report.throughput_per_s,
        "energy_j": report.energy_j,
        "peak_bytes": report.peak_bytes,
        "devices": report.resources.get("devices", 1.0),
        "exchanged_bytes": report.traffic_bytes.get("exchanged", 0.0),
        **{name.lower(): amount for name, amount in report.resources.items() if name.lower() in RESOURCES},
    }


def _measure(inputs: Inputs, variant: Variant, samples: int) -> Measured:
    metric = metric_named(inputs.metric)
    before = _reference(inputs.folder, inputs.metric, samples)
    after = outputs_of(lower_bundle(_bundle(inputs, variant)), _samples(inputs.folder, samples), metric, before.reference)
    lost = metric.lost(before, after)
    points = Interval(100 * lost.value, 100 * lost.low, 100 * lost.high, lost.count)
    return Measured(metric.measure(after), points)


def _samples(folder: str, count: int) -> Dataset:
    """The first samples of the study's data."""
    data = _data(folder)
    if data is None:
        raise LeptonError("no data to measure accuracy on", fix="give data")
    return data.take(count)


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, LeptonError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


# Kept between tasks of one process, under the digest in the folder's name.


@lru_cache(maxsize=2)
def _graph(folder: str) -> Graph:
    return read_graph(Path(folder))


@lru_cache(maxsize=2)
def _data(folder: str) -> Dataset | None:
    return read_data(Path(folder))


@lru_cache(maxsize=4)
def _reference(folder: str, metric: str, samples: int) -> Outputs:
    """What the float network gives, held against itself."""
    found = outputs_of(_graph(folder).with_batch(1), _samples(folder, samples), metric_named(metric))
    return replace(found, reference=found.scores)


@lru_cache(maxsize=4)
def _shape(folder: str, sparsity: float | str, channels: float) -> Graph:
    return shaped(_graph(folder), Variant("", sparsity, channels))


@lru_cache(maxsize=2)
def _bundle(inputs: Inputs, variant: Variant) -> Bundle:
    data = _data(inputs.folder)
    samples = None if data is None else data.take(inputs.calibration)
    return flow.quantize(_shape(inputs.folder, *variant.shape), variant.format, samples, seed=inputs.seed)


@lru_cache(maxsize=256)
def _weight_bytes(folder: str, variant: Variant) -> float:
    graph, precision = _shape(folder, *variant.shape), Precision.parse(variant.format)
    return sum(graph.tensors[name].elements * stored_format(graph, name, precision).bits for name in graph.constants) / 8


@lru_cache(maxsize=4)
def _lowered(inputs: Inputs, variant: Variant, batch: int) -> LoweredGraph:
    return lower_bundle(_bundle(inputs, variant)).with_batch(batch)


@lru_cache(maxsize=16)
def _shared(inputs: Inputs, variant: Variant, cluster: str, mesh: Mesh, batch: int) -> ShardedPlan:
    """Strategies, which are the same for any number of stages."""
    return plan_sharding(_lowered(inputs, variant, batch), mesh, _prices(inputs.folder, cluster))


@lru_cache(maxsize=16)
def _prices(folder: str, cluster: str) -> StepPrices:
    pool = _machines(folder)[cluster]
    assert isinstance(pool, Pool)
    prices = prices_of(pool.cluster)
    if prices.device.digest != pool.device.digest:
        where = f"a worker on {platform.node()} has another hardware model of {pool.device.name}"
        raise UnfitWorkerError(f"{where}; give it the one that is here")
    return prices


@lru_cache(maxsize=2)
def _machines(folder: str) -> dict[str, Machine]:
    return read_machines(Path(folder))


@lru_cache(maxsize=1024)
def _hardware(folder: str, hardware: Hardware) -> Machine:
    return with_choices(_machines(folder)[hardware.target], hardware)
