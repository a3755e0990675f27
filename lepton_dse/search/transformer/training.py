"""The fastest split of a training step that fits memory: all of a declared space, so that the best is proved best.

The space: every way to write the devices as tensor x context x data x pipeline, experts over replicas, samples of a microbatch by
powers of two, pieces of a stage that its layers divide into, sequence parallelism, recomputation and the stages of ZeRO. What
does not come out even is no member. A layer is priced once for each (tensor, context, expert, samples, sequence parallelism,
recomputation); the closed form of :mod:`lepton_dse.sim.transformer.step` joins these for every member, in parallel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.ir.transformer import Transformer
from lepton_dse.jit import parallel_kernel, prange
from lepton_dse.parallel.strategy import Recompute, Strategy, split_violations
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.search.transformer.costs import Training, costs_of, run_of, send_of, wire_of
from lepton_dse.search.transformer.pricing import Pricer
from lepton_dse.sim.transformer import Costs, Run, Step, Wire, step

__all__ = ["Members", "TrainingPlan", "TrainingSpace", "members", "plan_training", "price_all"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_SPACE = "devices as tensor x context x data x pipeline; experts; microbatches by powers of two; pieces; recomputation; ZeRO"
_KEPT = 16


@dataclass(frozen=True)
class TrainingSpace:
    """What a search may choose; None for all that the model and the cluster allow.

    Parameters
    ----------
    tensor, context, data, pipeline, expert, microbatch, interleave, zero : tuple of int or None
    sequence : tuple of bool
    recompute : tuple of Recompute
    """

    tensor: tuple[int, ...] | None = None
    context: tuple[int, ...] | None = (1,)
    data: tuple[int, ...] | None = None
    pipeline: tuple[int, ...] | None = None
    expert: tuple[int, ...] | None = None
    microbatch: tuple[int, ...] | None = None
    interleave: tuple[int, ...] | None = None
    zero: tuple[int, ...] = (0, 1, 2, 3)
    sequence: tuple[bool, ...] = (False, True)
    recompute: tuple[Recompute, ...] = tuple(Recompute)


@dataclass(frozen=True)
class TrainingPlan:
    """The best split, and how it compares.

    Parameters
    ----------
    strategy : Strategy
        The fastest that fits; where none fits, the one that needs least memory.
    step : Step
        Its time and memory.
    violations : tuple of Violation
        Empty exactly where it fits.
    best : tuple of (Strategy, Step)
        The fastest that fit, at most sixteen, one for each split of a layer over devices.
    feasible : int
        Members that fit.
    search : SearchResult
    """

    strategy: Strategy
    step: Step
    violations: tuple[Violation, ...]
    best: tuple[tuple[Strategy, Step], ...]
    feasible: int
    search: SearchResult


@dataclass(frozen=True)
class Members:
    """A space as arrays: a row for each split of a layer over devices, whose pieces and stages of ZeRO the kernel goes through.

    Parameters
    ----------
    strategies : tuple of Strategy
        Not interleaved, ZeRO 0.
    costs, wires : ndarray of float64, shapes (N, 12) and (N, 4)
        Rows as :class:`~lepton_dse.sim.transformer.Costs` and :class:`~lepton_dse.sim.transformer.Wire`.
    degrees : ndarray of float64, shape (N, 4)
        Stages, replicas, experts' replicas and microbatches.
    pieces : ndarray of int64, shape (N, P)
        Interleavings to try, 0 for none.
    zeros : ndarray of int64, shape (Z,)
    """

    strategies: tuple[Strategy, ...]
    costs: Floats
    wires: Floats
    degrees: Floats
    pieces: Ints
    zeros: Ints


@parallel_kernel
def price_all(
    run: Run, costs: Floats, wires: Floats, degrees: Floats, pieces: Ints, zeros: Ints
) -> tuple[Floats, Ints, Ints, Floats, Ints]:
    """The fastest pieces and stage of ZeRO of every row.

    Returns
    -------
    time : ndarray of float64, shape (N,)
        Infinite where nothing fits.
    choice : ndarray of int64, shape (N, 2)
        Pieces and stage of the fastest, or of the smallest where nothing fits.
    counts : ndarray of int64, shape (N, 2)
        Members priced, and of these those that fit.
    least : ndarray of float64, shape (N,)
        Fewest bytes of any.
    smallest : ndarray of int64, shape (N, 2)
        Pieces and stage of that.
    """
    rows = costs.shape[0]
    time, least = np.full(rows, np.inf), np.full(rows, np.inf)
    choice, counts, smallest = np.zeros((rows, 2), np.int64), np.zeros((rows, 2), np.int64), np.zeros((rows, 2), np.int64)
    for row in prange(rows):
        c = costs[row]
        cost = Costs(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11])
        wire = Wire(wires[row, 0], wires[row, 1], wires[row, 2], wires[row, 3])
        pipeline, data, expert, microbatches = degrees[row]
        for v in pieces[row]:
            if v == 0:
                continue
            for zero in zeros:
                if (zero == 3 and pipeline > 1.0) or (zero > 0 and data == 1.0):
                    continue
                found = step(run, cost, wire, pipeline, data, expert, microbatches, float(v), float(zero))
                counts[row, 0] += 1
                if found.memory < least[row]:
                    least[row] = found.memory
                    smallest[row, 0], smallest[row, 1] = v, zero
                if found.memory <= run.capacity:
                    counts[row, 1] += 1
                    if found.time < time[row]:
                        time[row] = found.time
                        choice[row, 0], choice[row, 1] = v, zero
    return time, choice, counts, least, smallest


def plan_training(training: Training, devices: int, pricer: Pricer, space: TrainingSpace | None = None) -> TrainingPlan:
    """The fastest split of a training step over a number of devices.

    Parameters
    ----------
    training : Training
    devices : int
    pricer : Pricer
    space : TrainingSpace, optional
        All that the model and the cluster allow, but for one device a sequence.

    Raises
    ------
    LeptonError
        If the cluster has fewer devices, or nothing in the space comes out even.
    """
    if not 1 <= devices <= pricer.cluster.size:
        what = f"{devices} devices of {pricer.cluster.size}"
        raise LeptonError(what, where=pricer.cluster.name, fix="use at least 1 and at most all")
    if min(training.batch, training.sequence) < 1:
        what = f"{training.batch} samples of {training.sequence} tokens"
        raise LeptonError(what, where=training.model.name, fix="use 1 or more of each")
    found = members(training, devices, pricer, space or TrainingSpace())
    run = run_of(training, pricer)
    time, choice, counts, least, smallest = price_all(run, found.costs, found.wires, found.degrees, found.pieces, found.zeros)
    evaluated, feasible = (int(total) for total in counts.sum(0))
    fits = feasible > 0
    if not fits:
        time, choice = least, smallest
    order = np.argsort(time, kind="stable")[: _KEPT if fits else 1]
    best = tuple(_member(found, run, int(row), choice[row]) for row in order if np.isfinite(time[row]))
    strategy, report = best[0]
    violations = () if fits else (_too_large(report, run),)
    search = SearchResult(
        objective="seconds of a step" if fits else "bytes of a device",
        space=_SPACE,
        evaluated=evaluated,
        best=report.time if fits else report.memory,
        lower_bound=report.time if fits else report.memory,
        gap=0.0,
        optimal=True,
    )
    return TrainingPlan(strategy, report, violations, best, feasible, search)


def _member(found: Members, run: Run, row: int, choice: Ints) -> tuple[Strategy, Step]:
    pieces, zero = (int(value) for value in choice)
    strategy = replace(found.strategies[row], interleave=pieces, zero=zero)
    costs, wire = Costs(*found.costs[row]), Wire(*found.wires[row])
    pipeline, data, expert, microbatches = (float(degree) for degree in found.degrees[row])
    return strategy, step(run, costs, wire, pipeline, data, expert, microbatches, float(pieces), float(zero))


def _too_large(report: Step, run: Run) -> Violation:
    levers = ("more devices", "a device with more memory", "shorter sequences", "fewer samples of a microbatch")
    return Violation(what="memory of a device", demand=report.memory, bound=run.capacity, unit="bytes", levers=levers)


# --- the space ------------------------------------------------------------------------------------------------------


def members(training: Training, devices: int, pricer: Pricer, space: TrainingSpace) -> Members:
    """The members of a space.

    Raises
    ------
    LeptonError
        If there is none.
    """
    priced: dict[tuple[object, ...], Costs] = {}
    wired: dict[tuple[int, ...], Wire] = {}
    strategies, costs, wires, degrees, pieces = [], [], [], [], []
    for strategy in _strategies(training, devices, pricer, space):
        microbatches = training.batch // (strategy.data * strategy.microbatch)
        split = _split(strategy)
        if split not in priced:
            priced[split] = costs_of(training, strategy, pricer)
        mesh = (strategy.tensor, strategy.context, strategy.data, strategy.expert)
        if mesh not in wired:
            wired[mesh] = wire_of(strategy, pricer)
        strategies.append(strategy)
        costs.append(priced[split]._replace(send=send_of(training, strategy, pricer)))
        wires.append(wired[mesh])
        degrees.append((strategy.pipeline, strategy.data, strategy.expert, microbatches))
        pieces.append(_pieces(training.model, strategy.pipeline, microbatches, space))
    if not strategies:
        what = f"{training.model.name} does not split evenly over {devices} devices"
        raise LeptonError(what, where="space", fix="choose a number of devices that heads, layers and samples share factors with")
    widest = max(map(len, pieces))
    return Members(
        tuple(strategies),
        np.array(costs),
        np.array(wires),
        np.array(degrees, np.float64),
        np.array([[*row, *[0] * (widest - len(row))] for row in pieces], np.int64),
        np.array(sorted(space.zero), np.int64),
    )


def _split(strategy: Strategy) -> tuple[object, ...]:
    """What the price of a layer and of the ends depends on."""
    layer = (strategy.tensor, strategy.context, strategy.expert, strategy.microbatch, strategy.sequence, strategy.recompute)
    return (*layer, strategy.pipeline > 1)


def _strategies(training: Training, devices: int, pricer: Pricer, space: TrainingSpace) -> Iterator[Strategy]:
    model = training.model
    nearby = pricer.cluster.node_size if pricer.cluster.node_size > 1 else devices
    for tensor in _allowed(_divisors(devices), space.tensor):
        if space.tensor is None and (tensor > nearby or model.heads % tensor or model.intermediate % tensor):
            continue
        for context in _allowed(_divisors(devices // tensor), space.context):
            left = devices // (tensor * context)
            for pipeline in _allowed(_divisors(left), space.pipeline):
                data = left // pipeline
                if pipeline > model.layers or training.batch % data or (space.data and data not in space.data):
                    continue
                samples = training.batch // data
                sizes = [1 << power for power in range(samples.bit_length()) if samples % (1 << power) == 0]
                experts = [degree for degree in _divisors(model.experts) if data % degree == 0]
                ways = [way for way in space.recompute if way is not Recompute.SELECTIVE or not training.software.fused_attention]
                for microbatch, expert, sequence, recompute in itertools.product(
                    _allowed(sizes, space.microbatch), _allowed(experts, space.expert), space.sequence, ways
                ):
                    strategy = Strategy(tensor, context, data, pipeline, expert, microbatch, 1, sequence, recompute)
                    if not split_violations(model, strategy, training.batch, training.sequence):
                        yield strategy


def _pieces(model: Transformer, pipeline: int, microbatches: int, space: TrainingSpace) -> list[int]:
    """Pieces that the layers of a stage divide into; one where the order of work does not allow more."""
    layers = -(-model.layers // pipeline)
    interleaved = pipeline > 1 and microbatches % pipeline == 0
    found = [v for v in _divisors(layers) if v == 1 or (interleaved and pipeline * v <= model.layers)]
    return _allowed(found, space.interleave) or [1]


def _allowed(values: Iterable[int], chosen: tuple[int, ...] | None) -> list[int]:
    return [value for value in values if chosen is None or value in chosen]


def _divisors(number: int) -> list[int]:
    return [value for value in range(1, number + 1) if number % value == 0]
