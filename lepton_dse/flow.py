"""The flow from a model to verified artefacts, each step a function from values to a new value.

    load -> quantize -> plan -> emit -> verify

Everything heavier than a check of arguments lives below; here the steps are only joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lepton_dse import registry
from lepton_dse.bundle import Bundle
from lepton_dse.compress import quantize as ptq
from lepton_dse.compress.quantize import Recipe
from lepton_dse.compress.ranges import Granularity
from lepton_dse.data import Dataset, Interval
from lepton_dse.emit.artefact import EmitRequest, Emitter, finish
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.files import read_text, write_bytes, write_folder, write_text
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.lower import lower, lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Calibration, CalibrationMethod, Check, CheckStatus, CostReport, Plan
from lepton_dse.reference.accuracy import accuracy as measure
from lepton_dse.reference.vectors import make_vectors
from lepton_dse.schedule.layers import Chain, stream_chain
from lepton_dse.schedule.stream import foldings_of, stream_schedule
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.search.tiling import Hierarchy, NetworkTiles, Objective, hierarchy_of, tile_network
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.stream import stall_case
from lepton_dse.targets import AnyTarget, FpgaTarget, TpuTarget, load_target, target_from_json, target_to_json
from lepton_dse.verify.artefact import Verifier, VerifyOptions, open_artefact

if TYPE_CHECKING:
    from lepton_dse.search.allocate.driver import Allocation

__all__ = [
    "OBJECTIVES",
    "PlannedModel",
    "Verification",
    "accuracy",
    "allocate",
    "cost",
    "emit",
    "emitters_for",
    "plan",
    "quantize",
    "read_plan",
    "recipe",
    "tile",
    "to_onnx",
    "verify",
]

Name = TypeVar("Name", bound=StrEnum)

OBJECTIVES = ("latency", "throughput")
_SAMPLES = 128  # of the data, kept in the bundle for tests of artefacts
_STALL_SEEDS = (0, 1, 2, 3, 4, 5, 6)
_STALL_FRAMES = 4


@dataclass(frozen=True)
class PlannedModel:
    """A plan with its bundle and its hardware model: all that emission needs.

    Parameters
    ----------
    plan : Plan
    bundle : Bundle
    target : AnyTarget
    """

    plan: Plan
    bundle: Bundle
    target: AnyTarget

    @property
    def lowered(self) -> LoweredGraph:
        """The lowered graph, integer-exact where the plan is."""
        return lower(self.plan, self.bundle)

    @property
    def predicted(self) -> CostReport:
        """The plan's predicted cost."""
        return self.plan.predicted

    def save(self, path: Path) -> None:
        """Write the plan to `path`, and beside it ``bundles/<digest>/`` and ``targets/<digest>.json``.

        Raises
        ------
        LeptonError
            If writing fails; an earlier plan is then left whole.
        """
        folder = _bundle_folder(path, self.plan.bundle_digest)
        for name, data in self.bundle.to_files().items():
            write_bytes(folder / name, data)
        write_text(_target_file(path, self.plan.target_digest), target_to_json(self.target))
        write_text(path, self.plan.to_json())


@dataclass(frozen=True)
class Verification:
    """Checks of one artefact."""

    artefact: Path
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status is not CheckStatus.FAILED for check in self.checks)

    @property
    def complete(self) -> bool:
        """Whether every check passed, none being unavailable."""
        return all(check.status is CheckStatus.PASSED for check in self.checks)


def _bundle_folder(path: Path, digest: str) -> Path:
    return path.parent / "bundles" / digest


def _target_file(path: Path, digest: str) -> Path:
    return path.parent / "targets" / f"{digest}.json"


def read_plan(path: Path) -> PlannedModel:
    """Read a plan, its bundle and its hardware model.

    Raises
    ------
    InvalidPlanError
        If either is missing, damaged or edited.
    """
    plan = Plan.read(path)
    bundle = Bundle.read(_bundle_folder(path, plan.bundle_digest), digest=plan.bundle_digest)
    stored = _target_file(path, plan.target_digest)
    target = target_from_json(read_text(stored), where=str(stored))
    if target.digest != plan.target_digest:
        raise InvalidPlanError("not the hardware model that the plan was made with", where=str(stored), fix="plan again")
    return PlannedModel(plan, bundle, target)


def target_of(target: str | Path | AnyTarget) -> AnyTarget:
    """A hardware model given by name, by file or as itself."""
    return load_target(target) if isinstance(target, str | Path) else target


def cost(graph: Graph, target: str | Path | AnyTarget, *, format: str = "int8", batch: int = 1) -> CostReport:
    """Predicted cost of a model on a target, without planning it.

    Raises
    ------
    LeptonError
        For an unknown target or format, or a batch below 1.
    """
    hardware, precision = target_of(target), Precision.parse(format)
    if batch < 1:
        raise LeptonError(f"a batch of {batch}", fix="use 1 or more")
    model: CostModel = registry.load(registry.Group.COST_MODELS, hardware.family)
    return model(graph, hardware, precision, batch)


def tile(
    graph: Graph,
    machine: str | Path | AnyTarget | Hierarchy,
    *,
    format: str = "int8",
    minimize: str = "edp",
    batch: int = 1,
    progress: Callable[[str], None] | None = None,
) -> NetworkTiles:
    """Find the best tiles of every contraction of a model, each with a proof of its optimum.

    Parameters
    ----------
    graph : Graph
    machine : str, Path, TPU target or Hierarchy
        Units over three levels of memory; see :class:`~lepton_dse.search.tiling.Hierarchy`.
    format : str
    minimize : {"latency", "energy", "edp"}
        Of each operation by itself.
    batch : int
    progress : callable, optional
        Told the operation that is about to be searched.

    Raises
    ------
    LeptonError
        For wrong arguments, a target that is no systolic array, or a model without contractions.
    """
    precision = Precision.parse(format)
    try:
        objective = Objective(minimize)
    except ValueError:
        raise LeptonError(f"cannot minimise '{minimize}'", fix=f"choose {' or '.join(Objective)}") from None
    if not isinstance(machine, Hierarchy):
        target = target_of(machine)
        if not isinstance(target, TpuTarget):
            raise LeptonError(f"{target.name} is no systolic array", fix="give a tpu target, or a Hierarchy")
        machine = hierarchy_of(target, precision)
    return tile_network(graph, machine, precision, objective, batch=batch, progress=progress)


def recipe(
    format: str,
    *,
    method: CalibrationMethod | str = CalibrationMethod.MSE,
    overrides: Mapping[str, str] | None = None,
    symmetric: bool = False,
    granularity: Granularity | str = Granularity.CHANNEL,
    group: int | None = None,
    rounding: str = "nearest",
    correct_bias: bool = False,
) -> Recipe:
    """How to quantise, from names; see :class:`~lepton_dse.compress.quantize.Recipe` for each.

    Raises
    ------
    LeptonError
        For a name that is not known.
    """
    return Recipe(
        Precision.parse(format),
        {name: Precision.parse(text) for name, text in (overrides or {}).items()},
        _named(CalibrationMethod, method, "calibration method"),
        symmetric,
        _named(Granularity, granularity, "granularity"),
        group,
        rounding,
        correct_bias,
    )


def _named(kind: type[Name], value: str, what: str) -> Name:
    try:
        return kind(value)
    except ValueError:
        raise LeptonError(f"no {what} '{value}'", fix=f"known: {', '.join(entry.value for entry in kind)}") from None


def quantize(
    graph: Graph,
    format: str = "int8",
    data: Dataset | None = None,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Bundle:
    """Quantise a model without planning it.

    Parameters
    ----------
    graph : Graph
        Float graph.
    format : str
        For example ``int8``, ``w4a8``, ``bfloat16`` or ``w4-float16``.
    data : Dataset, optional
        Calibration samples; seeded noise where there are none, which the bundle's history says.
    seed : int
        Of the noise.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`recipe`: method, overrides, symmetric, granularity, group, rounding, correct_bias.

    Returns
    -------
    Bundle
        For :func:`plan` and :func:`accuracy`.

    Raises
    ------
    LeptonError
        For wrong arguments.
    """
    return _quantized(graph, recipe(format, **options), data, seed, progress)[0]


def _quantized(
    graph: Graph, chosen: Recipe, data: Dataset | None, seed: int, progress: Callable[[str], None]
) -> tuple[Bundle, Calibration | None]:
    if seed < 0:
        raise LeptonError(f"a seed of {seed}", fix="use 0 or more")
    graph = graph.with_batch(1)
    samples = data if data is not None else ptq.noise(graph, seed)
    source: Literal["data", "noise"] = "data" if data is not None else "noise"
    bundle, calibration = ptq.quantize(graph, chosen, samples, source=source, progress=progress)
    return replace(bundle, samples=samples.x[:_SAMPLES]), calibration


def plan(
    model: Graph | Bundle,
    target: str | Path | AnyTarget,
    *,
    format: str = "int8",
    data: Dataset | None = None,
    minimize: str = "latency",
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> PlannedModel:
    """Decide how a model runs on a target, quantising it first where that was not done.

    Parameters
    ----------
    model : Graph or Bundle
        A float graph, which is quantised, or a bundle, which is planned as it is. It is planned for one sample a pass.
    target : str, Path or hardware model
    format : str
        Default formats, for example ``int8`` or ``w4a8``; of a graph.
    data : Dataset, optional
        Calibration samples; seeded noise where there are none, and the plan says so.
    minimize : {"latency", "throughput"}
        ``throughput`` minimises the time between results.
    seed : int
        Of the noise.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`recipe`: method, overrides, symmetric, granularity, group, rounding, correct_bias.

    Returns
    -------
    PlannedModel
        ``predicted.feasible`` is false, and ``predicted.violations`` say why, where nothing fits.

    Raises
    ------
    LeptonError
        For wrong arguments.
    """
    hardware = target_of(target)
    if minimize not in OBJECTIVES:
        raise LeptonError(f"cannot minimise '{minimize}'", fix=f"choose {' or '.join(OBJECTIVES)}")
    if isinstance(model, Bundle):
        if options:
            raise LeptonError(f"a bundle is quantised already; {', '.join(options)} came too late", fix="plan the graph instead")
        return plan_bundle(model, hardware, model.precision, minimize, None, seed)
    chosen = recipe(format, **options)
    bundle, calibration = _quantized(model, chosen, data, seed, progress)
    return plan_bundle(bundle, hardware, chosen.precision, minimize, calibration, seed)


def plan_bundle(
    bundle: Bundle, target: AnyTarget, precision: Precision, minimize: str, calibration: Calibration | None, seed: int
) -> PlannedModel:
    """Plan a bundle that is already quantised; see :func:`plan`."""
    planner: Planner = registry.load(registry.Group.PLANNERS, target.family)
    draft: PlanDraft = planner(PlanRequest(bundle, lower_bundle(bundle), target, precision, minimize))
    decided = Plan(
        model=bundle.graph.name,
        bundle_digest=bundle.digest,
        target=target.name,
        target_digest=target.digest,
        precision=str(precision),
        calibration=calibration,
        seed=seed,
        objective=minimize,
        ops=draft.ops,
        predicted=draft.predicted,
    )
    return PlannedModel(decided, bundle, target)


def allocate(
    graph: Graph,
    target: str | Path | AnyTarget,
    data: Dataset,
    choices: Sequence[str],
    *,
    minimize: str = "latency",
    loss_points: float | None = None,
    divergence: float | None = None,
    latency_s: float | None = None,
    energy_j: float | None = None,
    bytes: float | None = None,
    bits: float | None = None,
    format: str = "int8",
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Allocation:
    """Choose formats and zeros for every layer under budgets, measured on data; see :mod:`lepton_dse.search.allocate.driver`.

    Parameters
    ----------
    graph : Graph
    target : str, Path or hardware model
    data : Dataset
        The split that choices are made on: training data, not what the result will be scored on.
    choices : sequence of str
        For example ``int8``, ``w4a8``, ``int8+2:4``.
    minimize : {"loss", "latency", "energy", "bytes", "bits"}
    loss_points, divergence, latency_s, energy_j, bytes, bits : float, optional
        Budgets; see :class:`~lepton_dse.search.allocate.trials.Budgets`.
    format : str
        Formats of what is not chosen.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`recipe`, without overrides.

    Returns
    -------
    Allocation
        Its `bundle` can be planned; `violations` say why where nothing keeps the budgets.

    Raises
    ------
    LeptonError
        For wrong arguments, or data that does not fit.
    """
    from lepton_dse.search.allocate.driver import allocate as choose
    from lepton_dse.search.allocate.trials import Budgets

    budgets = Budgets(loss_points, divergence, latency_s, energy_j, bytes, bits)
    return choose(
        graph,
        target_of(target),
        data,
        choices,
        budgets=budgets,
        minimize=minimize,
        recipe=recipe(format, **options),
        progress=progress,
    )


def to_onnx(graph: Graph, path: str | Path) -> Path:
    """Write a float or lowered graph as an ONNX model; returns the path.

    Raises
    ------
    LeptonError
        If the graph has no ONNX form, or writing fails; an earlier file is then left whole.
    """
    from lepton_dse.emit.onnx import export

    write_bytes(Path(path), export(graph))
    return Path(path)


def emitters_for(family: str) -> tuple[Emitter, ...]:
    """Emitters that serve a family, the family's own first."""
    every: list[Emitter] = [registry.load(registry.Group.EMITTERS, name) for name in registry.names(registry.Group.EMITTERS)]
    serving = [emitter for emitter in every if family in emitter.families]
    return tuple(sorted(serving, key=lambda emitter: (emitter.families.index(family), emitter.name)))


def emit(
    planned: PlannedModel,
    folder: str | Path,
    *,
    emitter: str | None = None,
    data: Dataset | None = None,
) -> Path:
    """Write a plan's artefact.

    Parameters
    ----------
    planned : PlannedModel
    folder : str or Path
        New, empty, or holding an earlier artefact.
    emitter : str, optional
        The family's own by default.
    data : Dataset, optional
        Samples for the test vectors; those in the bundle by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InvalidPlanError
        If the plan is not feasible.
    LeptonError
        If no emitter serves, or writing fails; an earlier artefact is then left whole.
    """
    plan = planned.plan
    if not plan.predicted.feasible:
        raise InvalidPlanError(
            f"the plan does not fit: {plan.predicted.violations[0]}", where=plan.target, fix="see 'lepton explain'"
        )
    serving = emitters_for(planned.target.family)
    chosen = next((entry for entry in serving if emitter in (None, entry.name)), None)
    if chosen is None:
        asked = f"no emitter '{emitter}'" if emitter else "no emitter"
        known = ", ".join(entry.name for entry in serving)
        fix = f"known: {known}" if known else "plan for an fpga or a cpu target"
        raise LeptonError(f"{asked} for {planned.target.family} targets", fix=fix)
    request = _request(planned, data)
    out = Path(folder)
    write_folder(out, finish(chosen, request))
    return out


def _request(planned: PlannedModel, data: Dataset | None) -> EmitRequest:
    graph, target = planned.lowered, planned.target
    x = data.x if data is not None else planned.bundle.samples
    if not isinstance(target, FpgaTarget):
        return EmitRequest(planned.plan, graph, make_vectors(graph, x))
    chain = stream_chain(graph)
    if not isinstance(chain, Chain):
        raise InvalidPlanError(str(chain[0]), where=planned.plan.model, fix="plan again")
    schedule = stream_schedule(chain, foldings_of(planned.plan, chain))
    vectors = make_vectors(graph, x, (chain.input.name, chain.output.name))
    stalls = tuple(stall_case(schedule, seed, min(_STALL_FRAMES, len(x))) for seed in _STALL_SEEDS)
    return EmitRequest(planned.plan, graph, vectors, schedule, stalls, target.fabric)


def verify(folder: str | Path, *, synthesis: bool = False, progress: Callable[[str], None] | None = None) -> Verification:
    """Run an artefact and compare what it does with what was predicted; needs nothing but the folder.

    Parameters
    ----------
    folder : str or Path
    synthesis : bool
        Also synthesise FPGA designs and compare resources.
    progress : callable, optional
        Told what is about to run.

    Raises
    ------
    InvalidPlanError
        If the folder is no artefact or a byte of it was changed.
    """
    artefact = open_artefact(Path(folder))
    verifier: Verifier = registry.load(registry.Group.VERIFIERS, artefact.emitter)
    try:
        checks = verifier.run(artefact, VerifyOptions(synthesis, progress or (lambda text: None)))
    except (FileNotFoundError, KeyError, ValueError) as error:  # the manifest fits, yet a file lacks what is read from it
        raise InvalidPlanError(f"the artefact is inconsistent: {error}", where=str(folder), fix="emit it again") from error
    return Verification(Path(folder), tuple(checks))


def accuracy(model: Graph | Bundle | PlannedModel, data: Dataset) -> Interval:
    """Top-1 accuracy on labelled data with its 95% interval, bundles and planned models integer-exact.

    Raises
    ------
    InvalidDataError
        If the data has no labels or does not fit.
    """
    if isinstance(model, PlannedModel):
        model = model.lowered
    return measure(lower_bundle(model) if isinstance(model, Bundle) else model, data)
