"""Exact search of the foldings of a streaming design.

Space: for each matrix layer PE over the divisors of its output channels, SIMD over the divisors of its input channels,
products in DSPs, two of them in a DSP (even PE), or in LUTs; for every other layer its lanes over the divisors of its channels,
and for depthwise convolutions products in DSPs or in LUTs. Foldings whose memories
are deeper or whose words are wider than a module of the library allows are not in it.

Every option has a number of cycles a frame and an amount of each resource, both closed-form. The least slowest stage under
the device's resources is found by bisection over the cycles that options have: whether a bound on the cycles can be met
is a multiple-choice knapsack over four resources, decided exactly by mixed-integer programming. The answer is optimal when
the next smaller bound is infeasible, and that is what the certificate says. Width converters between stages depend on two
neighbours; each option carries the registers of a converter on its own side, and the finished design is counted again as
built (:mod:`lepton_dse.search.stream_planner`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint

from lepton_dse import rtl_library as rtl
from lepton_dse.errors import LeptonError
from lepton_dse.milp import milp
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.schedule.stream import DepthwiseLayer, Folding, Layer, MatrixLayer, StreamGraph, stage_of
from lepton_dse.sim.stream import stage_cycles
from lepton_dse.targets.fpga import FpgaTarget

__all__ = ["FoldingSearch", "FoldingSpace", "Option", "layer_options", "next_faster", "search_foldings"]

_RESOURCES = ("LUT", "FF", "DSP", "BRAM18")
_OPTIMALITY = 1e-9  # HiGHS' relative gap; choices are integral, so any larger true gap is a different choice
_EVENNESS = 0.02  # among equally fast designs, how near to the most even use of resources is near enough
_SUM_WEIGHT = 0.05
_TRACE = 1e-3
SPACE = (
    "PE | outputs, SIMD | inputs of every matrix layer, lanes | channels of every other layer, products in DSP, two a DSP or "
    "LUT, as far as memories and words are within those of the RTL library"
)


@dataclass(frozen=True)
class Option:
    """One folding of one layer: cycles a frame and resources, in the order LUT, FF, DSP, BRAM18."""

    folding: Folding
    cycles: int
    resources: tuple[float, float, float, float]


@dataclass(frozen=True)
class FoldingSearch:
    """Foldings found, and the certificate; without foldings, why nothing fits."""

    foldings: tuple[Folding, ...]
    result: SearchResult
    violations: tuple[Violation, ...] = ()


def divisors(value: int) -> tuple[int, ...]:
    """Divisors of a positive integer, ascending."""
    return tuple(candidate for candidate in range(1, value + 1) if value % candidate == 0)


def layer_options(layer: Layer, family: rtl.Family) -> tuple[Option, ...]:
    """All foldings of a layer.

    Parameters
    ----------
    layer : Layer
    family : Family
        Counts resources.
    """
    found = []
    matrix, multiplies = isinstance(layer, MatrixLayer), isinstance(layer, MatrixLayer | DepthwiseLayer)
    operands = layer.operands
    for simd in divisors(layer.lanes_limit):
        for pe in divisors(layer.out_channels) if matrix else (1,):
            for multiplier in rtl.Multiplier if multiplies else (rtl.Multiplier.DSP,):
                folding = Folding(pe, simd, multiplier=multiplier)
                try:
                    stage = stage_of("x", layer, folding, (simd,) * len(operands))
                    total = sum((instance.resources(family) for instance in stage.instances), rtl.Resources())
                except LeptonError:
                    continue  # words wider, or memories deeper, than a module of the library can be
                cycles, _ = stage_cycles(stage, [operand.elements // simd for operand in operands])
                # The registers of a converter on either side: a word of each.
                edges = simd * sum(operand.bits for operand in operands) + stage.lanes * layer.output_bits
                amounts = (float(total.lut + edges), float(total.ff + edges), float(total.dsp), float(total.bram18))
                found.append(Option(folding, cycles, amounts))
    return tuple(found)


class FoldingSpace:
    """All foldings of the layers of a design on a device, counted once for any number of searches.

    Parameters
    ----------
    streams : StreamGraph
    target : FpgaTarget
    """

    def __init__(self, streams: StreamGraph, target: FpgaTarget) -> None:
        self.target = target
        family = rtl.Family(target.fabric)
        self.options = [layer_options(layer, family) for layer in streams.layers]
        self.unbuildable = tuple(layer.name for layer, found in zip(streams.layers, self.options, strict=True) if not found)
        self.size = sum(map(len, self.options))
        self._least: dict[float, tuple[int, list[Option]] | None] = {}

    def budget(self, share: float = 1.0) -> NDArray[np.float64]:
        """The part `share` of the usable resources, in the order of an option's."""
        usable = self.target.resources()
        return np.array([max(usable[name] * share, 1e-9) for name in _RESOURCES])

    def least(self, share: float) -> tuple[int, list[Option]] | None:
        """The least cycles of a slowest stage within a share of the device, with one choice that has them; None if none fits."""
        if share not in self._least:
            self._least[share] = _bisect(self.options, self.budget(share))
        return self._least[share]

    def first_frame(self, shares: Sequence[Fraction]) -> int:
        """Cycles that no design on the device undercuts from a frame's first word to its last result.

        Parameters
        ----------
        shares : sequence of Fraction
            Of each layer the part of a frame's steps that the last result waits for.
        """
        if all(share == 1 for share in shares):
            least = self.least(1.0)
        else:
            waited = [
                [replace(option, cycles=math.floor(option.cycles * share)) for option in layer]
                for layer, share in zip(self.options, shares, strict=True)
            ]
            least = _bisect(waited, self.budget(1.0))
        return max(least[0] - 1, 0) if least else 0

    def search(self, *, share: float = 1.0, slack: float = 1.0) -> FoldingSearch:
        """See :func:`search_foldings`."""
        if self.unbuildable:
            return FoldingSearch((), self._result(0, 0), _unbuildable(self.unbuildable))
        least = self.least(share)
        if least is None:
            slowest = max(option.cycles for layer in self.options for option in layer)
            return FoldingSearch((), self._result(0, 0), _overdrawn(self.options, slowest, self.target, self.budget(share)))
        bound, best = least
        best = _most_even(self.options, int(bound * slack), self.budget(share)) or best
        reached = max(option.cycles for option in best)
        return FoldingSearch(tuple(option.folding for option in best), self._result(reached, bound))

    def quickest(self, *, share: float = 1.0) -> FoldingSearch:
        """The foldings of least summed cycles within a share of the device: what one frame alone passes through soonest.

        The sum stands for the latency, which stages that overlap make shorter; the certificate is still that of the slowest
        stage.
        """
        least = None if self.unbuildable else self.least(share)
        if least is None:
            return self.search(share=share)
        efficient = [_undominated(layer) for layer in self.options]
        flat = [option for layer in efficient for option in layer]
        cycles = np.array([option.cycles for option in flat], np.float64)
        amounts = np.array([option.resources for option in flat]).T / self.budget(share)[:, None]
        solution = milp(
            cycles / cycles.max() + _TRACE / cycles.max() * amounts.sum(axis=0),
            integrality=np.ones(len(flat)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(_membership(efficient), 1, 1), LinearConstraint(amounts, -np.inf, 1)],
            options={"mip_rel_gap": _OPTIMALITY},
        )
        if solution.x is None:
            return self.search(share=share)
        best = [flat[index] for index in np.flatnonzero(solution.x > 0.5)]
        reached = max(option.cycles for option in best)
        return FoldingSearch(tuple(option.folding for option in best), self._result(reached, least[0]))

    def _result(self, reached: int, bound: int) -> SearchResult:
        return SearchResult(
            objective="cycles of the slowest stage",
            space=SPACE,
            evaluated=self.size,
            best=reached,
            lower_bound=bound,
            gap=(reached - bound) / reached if reached else 0,
            optimal=0 < reached == bound,
        )


def search_foldings(streams: StreamGraph, target: FpgaTarget, *, share: float = 1.0, slack: float = 1.0) -> FoldingSearch:
    """Foldings with the least slowest stage that fit the device; among those, the most even use of its resources.

    Parameters
    ----------
    streams : StreamGraph
    target : FpgaTarget
    share : float
        Part of the usable resources that the search may plan with.
    slack : float
        Cycles that the chosen foldings may take, relative to the optimum; above 1 trades speed for resources.

    Returns
    -------
    FoldingSearch
        With violations, and no foldings, if no folding in the space fits.
    """
    return FoldingSpace(streams, target).search(share=share, slack=slack)


def _bisect(options: Sequence[Sequence[Option]], budget: NDArray[np.float64]) -> tuple[int, list[Option]] | None:
    """The least cycles of a slowest layer within the budget, with one choice that has them; None if none fits."""
    # No bound below the fastest option of every layer can be met.
    floor = max(min(option.cycles for option in layer) for layer in options)
    bounds = sorted({option.cycles for layer in options for option in layer if option.cycles >= floor})
    low, high = 0, len(bounds) - 1
    best = _choose(options, bounds[high], budget)
    if best is None:
        return None
    while low < high:
        middle = (low + high) // 2
        found = _choose(options, bounds[middle], budget)
        if found is None:
            low = middle + 1
        else:
            high, best = middle, found
    return bounds[high], best


def _efficient(layer: Sequence[Option], bound: int) -> list[Option]:
    """Options within the bound that no other beats in every resource."""
    within = sorted((option for option in layer if option.cycles <= bound), key=lambda option: option.resources)
    amounts = np.array([option.resources for option in within]).reshape(-1, len(_RESOURCES))
    kept: list[int] = []
    for place, amount in enumerate(amounts):
        # In ascending order nothing later can beat this one in every resource.
        if not np.all(amounts[kept] <= amount, axis=1).any():
            kept.append(place)
    return [within[place] for place in kept]


def _undominated(layer: Sequence[Option]) -> list[Option]:
    """Options that no other beats in cycles and in every resource."""
    ordered = sorted(layer, key=lambda option: (option.cycles, option.resources))
    amounts = np.array([(option.cycles, *option.resources) for option in ordered], np.float64)
    kept: list[int] = []
    for place, amount in enumerate(amounts):
        if not np.all(amounts[kept] <= amount, axis=1).any():
            kept.append(place)
    return [ordered[place] for place in kept]


def _choose(options: Sequence[Sequence[Option]], bound: int, budget: NDArray[np.float64]) -> list[Option] | None:
    """One option a layer within the bound and the budget, of least summed shares; None if there is none."""
    efficient = [_efficient(layer, bound) for layer in options]
    if not all(efficient):
        return None
    flat = [option for layer in efficient for option in layer]
    amounts = np.array([option.resources for option in flat]).T / budget[:, None]
    solution = milp(
        amounts.sum(axis=0),
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(_membership(efficient), 1, 1), LinearConstraint(amounts, -np.inf, 1)],
        options={"mip_rel_gap": _OPTIMALITY},
    )
    if solution.x is None:
        return None
    return [flat[index] for index in np.flatnonzero(solution.x > 0.5)]


def _most_even(options: Sequence[Sequence[Option]], bound: int, budget: NDArray[np.float64]) -> list[Option] | None:
    """Of the choices within the bound and the budget, one whose fullest resource is about the least full; ties by the sum."""
    efficient = [_efficient(layer, bound) for layer in options]
    flat = [option for layer in efficient for option in layer]
    amounts = np.array([option.resources for option in flat]).T / budget[:, None]
    rows = _membership(efficient)
    solution = milp(
        np.append(_SUM_WEIGHT * amounts.sum(axis=0), 1.0),
        integrality=np.append(np.ones(len(flat)), 0.0),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.hstack([rows, np.zeros((len(rows), 1))]), 1, 1),
            LinearConstraint(np.hstack([amounts, -np.ones((len(_RESOURCES), 1))]), -np.inf, 0),
        ],
        options={"mip_rel_gap": _EVENNESS},
    )
    if solution.x is None:
        return None
    return [flat[index] for index in np.flatnonzero(solution.x[:-1] > 0.5)]


def _membership(layers: Sequence[Sequence[Option]]) -> NDArray[np.float64]:
    rows = np.zeros((len(layers), sum(map(len, layers))))
    start = 0
    for index, layer in enumerate(layers):
        rows[index, start : start + len(layer)] = 1
        start += len(layer)
    return rows


def _unbuildable(layers: Sequence[str]) -> tuple[Violation, ...]:
    """For each layer without a folding that the library can build: its memories are too deep or its words too wide."""
    levers = ("make the layer smaller", "prune the model", "emit it as cpp")
    return tuple(
        Violation(
            what=f"'{name}': every folding needs a deeper memory or a wider word than there is",
            demand=1,
            bound=0,
            unit="folding",
            levers=levers,
        )
        for name in layers
    )


def _overdrawn(
    options: Sequence[Sequence[Option]], bound: int, target: FpgaTarget, budget: NDArray[np.float64]
) -> tuple[Violation, ...]:
    """Why no choice within `bound` fits; empty if one does.

    A resource of which even the most frugal options need too much is reason enough. Where there is none it is the
    combination, and the answer is what a choice lacks whose overdrafts, relative to the budgets, have about the least sum:
    that one overdraws few resources, where the least of the greatest overdraft would overdraw all alike.
    """
    efficient = [_efficient(layer, bound) for layer in options]
    frugal = np.sum([np.min([option.resources for option in layer], axis=0) for layer in efficient], axis=0)
    if np.any(frugal > budget):
        return _violations(frugal, budget, target)
    flat = [option for layer in efficient for option in layer]
    amounts = np.array([option.resources for option in flat]).T
    rows, count = _membership(efficient), len(_RESOURCES)
    shares = amounts / budget[:, None]
    # Behind the choices stands one overdraft a resource; a trace of the sum of shares breaks ties.
    solution = milp(
        np.concatenate([_TRACE * shares.sum(axis=0), np.ones(count)]),
        integrality=np.concatenate([np.ones(len(flat)), np.zeros(count)]),
        bounds=Bounds(0, np.concatenate([np.ones(len(flat)), np.full(count, np.inf)])),
        constraints=[
            LinearConstraint(np.hstack([rows, np.zeros((len(rows), count))]), 1, 1),
            LinearConstraint(np.hstack([shares, -np.eye(count)]), -np.inf, 1),
        ],
        options={"mip_rel_gap": _EVENNESS},
    )
    assert solution.x is not None, "without a limit every choice is possible"
    return _violations(amounts @ np.round(solution.x[:-count]), budget, target)


def _violations(used: NDArray[np.float64], budget: NDArray[np.float64], target: FpgaTarget) -> tuple[Violation, ...]:
    levers = ("choose a larger device", "use narrower weights", "prune the model", "emit it as cpp")
    return tuple(
        Violation(what=f"{name} of {target.name}", demand=float(amount), bound=float(limit), unit=name, levers=levers)
        for name, amount, limit in zip(_RESOURCES, used, budget, strict=True)
        if amount > limit
    )


def next_faster(streams: StreamGraph, target: FpgaTarget, cycles: int) -> tuple[int, tuple[Violation, ...]] | None:
    """The greatest number of cycles below `cycles` that a slowest stage can have, and what the device lacks for it.

    Returns
    -------
    tuple of int and violations, or None
        No violations where it fits; None where no folding in the space is faster.
    """
    space = FoldingSpace(streams, target)
    options = space.options
    if space.unbuildable:
        return None
    floor = max(min(option.cycles for option in layer) for layer in options)
    faster = [option.cycles for layer in options for option in layer if floor <= option.cycles < cycles]
    return (max(faster), _overdrawn(options, max(faster), target, space.budget())) if faster else None
