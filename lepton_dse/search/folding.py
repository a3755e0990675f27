"""Exact search of the foldings of a streaming design.

Space: for each matrix layer PE over the divisors of its output channels, SIMD over the divisors of its input channels,
products in DSPs or in LUTs; for each pool or argmax its lanes over the divisors of its channels.

Every option has a number of cycles a frame and an amount of each resource, both closed-form. The least slowest stage under
the device's resources is found by bisection over the cycles that options have: whether a bound on the cycles can be met
is a multiple-choice knapsack over four resources, decided exactly by mixed-integer programming. The answer is optimal when
the next smaller bound is infeasible, and that is what the certificate says. Width converters between stages depend on two
neighbours; each option carries the registers of a converter on its own side, and the finished design is counted again as
built (:mod:`lepton_dse.search.stream_planner`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from lepton_dse import rtl_library as rtl
from lepton_dse.errors import LeptonError
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.schedule.layers import Chain, Layer, MatrixLayer
from lepton_dse.schedule.stream import Folding, Stage, stage_instances
from lepton_dse.sim.stream import stage_cycles
from lepton_dse.targets.schema import FpgaTarget

__all__ = ["FoldingSearch", "Option", "layer_options", "next_faster", "search_foldings"]

_RESOURCES = ("LUT", "FF", "DSP", "BRAM18")
_OPTIMALITY = 1e-9  # HiGHS' relative gap; choices are integral, so any larger true gap is a different choice
_EVENNESS = 0.02  # among equally fast designs, how near to the most even use of resources is near enough
_SUM_WEIGHT = 0.05
SPACE = "PE | outputs, SIMD | inputs of every matrix layer, lanes | channels of every pool, products in DSP or LUT"


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


def layer_options(layer: Layer, family: rtl.Family, elements: int) -> tuple[Option, ...]:
    """All foldings of a layer.

    Parameters
    ----------
    layer : Layer
    family : Family
        Counts resources.
    elements : int
        Elements a frame at the layer's input.
    """
    found = []
    matrix = isinstance(layer, MatrixLayer)
    for simd in divisors(layer.channels):
        for pe in divisors(layer.out_channels) if matrix else (1,):
            for multiplier in rtl.Multiplier if matrix else (rtl.Multiplier.DSP,):
                folding = Folding(pe, simd, multiplier=multiplier)
                try:
                    instances, lanes, bits = stage_instances("x", layer, folding, simd)
                    total = sum((instance.resources(family) for instance in instances), rtl.Resources())
                except LeptonError:
                    continue  # words wider, or memories deeper, than a module of the library can be
                cycles, _ = stage_cycles(Stage(layer, folding, instances), elements // simd)
                # The registers of a converter on either side: a word of each.
                edges = simd * layer.input_bits + lanes * bits
                amounts = (float(total.lut + edges), float(total.ff + edges), float(total.dsp), float(total.bram18))
                found.append(Option(folding, cycles, amounts))
    return tuple(found)


def search_foldings(chain: Chain, target: FpgaTarget, *, share: float = 1.0, slack: float = 1.0) -> FoldingSearch:
    """Foldings with the least slowest stage that fit the device; among those, the most even use of its resources.

    Parameters
    ----------
    chain : Chain
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
    family = rtl.Family(target.fabric)
    budget = np.array([max(target.resources()[name] * share, 1e-9) for name in _RESOURCES])
    options = [layer_options(layer, family, elements) for layer, elements in zip(chain.layers, _elements(chain), strict=True)]
    bounds = sorted({option.cycles for layer in options for option in layer})
    # No bound below the fastest option of every layer can be met.
    floor = max(min(option.cycles for option in layer) for layer in options)
    bounds = [bound for bound in bounds if bound >= floor]
    low, high = 0, len(bounds) - 1
    best = _choose(options, bounds[high], budget)
    evaluated = 1
    if best is None:
        return _infeasible(options, target, budget, sum(map(len, options)))
    while low < high:
        middle = (low + high) // 2
        found = _choose(options, bounds[middle], budget)
        evaluated += 1
        if found is None:
            low = middle + 1
        else:
            high, best = middle, found
    best = _most_even(options, int(bounds[high] * slack), budget) or best
    reached = max(option.cycles for option in best)
    result = SearchResult(
        objective="cycles of the slowest stage",
        space=SPACE,
        evaluated=sum(map(len, options)),
        best=reached,
        lower_bound=bounds[high],
        gap=(reached - bounds[high]) / reached,
        optimal=reached == bounds[high],
    )
    return FoldingSearch(tuple(option.folding for option in best), result)


def _elements(chain: Chain) -> list[int]:
    """Elements a frame at each layer's input."""
    found, elements = [], len(chain.input_layout)
    for layer in chain.layers:
        found.append(elements)
        elements = layer.out_channels * layer.pixels
    return found


def _efficient(layer: Sequence[Option], bound: int) -> list[Option]:
    """Options within the bound that no other beats in every resource."""
    kept: list[Option] = []
    for option in sorted((entry for entry in layer if entry.cycles <= bound), key=lambda entry: entry.resources):
        if not any(all(a <= b for a, b in zip(other.resources, option.resources, strict=True)) for other in kept):
            kept.append(option)
    return kept


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


def _infeasible(
    options: Sequence[Sequence[Option]], target: FpgaTarget, budget: NDArray[np.float64], evaluated: int
) -> FoldingSearch:
    """Why nothing fits, however slow."""
    slowest = max(option.cycles for layer in options for option in layer)
    result = SearchResult(
        objective="cycles of the slowest stage", space=SPACE, evaluated=evaluated, best=0, lower_bound=0, gap=0, optimal=False
    )
    return FoldingSearch((), result, _overdrawn(options, slowest, target, budget))


def _overdrawn(
    options: Sequence[Sequence[Option]], bound: int, target: FpgaTarget, budget: NDArray[np.float64]
) -> tuple[Violation, ...]:
    """What the choice within `bound` lacks whose most overdrawn resource is overdrawn least; empty if one fits."""
    efficient = [_efficient(layer, bound) for layer in options]
    flat = [option for layer in efficient for option in layer]
    amounts = np.array([option.resources for option in flat]).T / budget[:, None]
    cost = np.append(np.zeros(len(flat)), 1.0)
    overdraft = LinearConstraint(np.hstack([amounts, -np.ones((len(_RESOURCES), 1))]), -np.inf, 0)
    rows = _membership(efficient)
    once = LinearConstraint(np.hstack([rows, np.zeros((len(rows), 1))]), 1, 1)
    integrality = np.append(np.ones(len(flat)), 0.0)
    upper = np.append(np.ones(len(flat)), np.inf)
    solution = milp(cost, integrality=integrality, bounds=Bounds(0, upper), constraints=[once, overdraft])
    used = (amounts * budget[:, None]) @ np.round(solution.x[:-1])
    levers = ("choose a larger device", "use narrower weights", "prune the model", "emit it as cpp")
    return tuple(
        Violation(what=f"{name} of {target.name}", demand=float(amount), bound=float(limit), unit=name, levers=levers)
        for name, amount, limit in zip(_RESOURCES, used, budget, strict=True)
        if amount > limit
    )


def next_faster(chain: Chain, target: FpgaTarget, cycles: int) -> tuple[int, tuple[Violation, ...]] | None:
    """The greatest number of cycles below `cycles` that a slowest stage can have, and what the device lacks for it.

    Returns
    -------
    tuple of int and violations, or None
        No violations where it fits; None where no folding in the space is faster.
    """
    family = rtl.Family(target.fabric)
    budget = np.array([max(target.resources()[name], 1e-9) for name in _RESOURCES])
    options = [layer_options(layer, family, elements) for layer, elements in zip(chain.layers, _elements(chain), strict=True)]
    floor = max(min(option.cycles for option in layer) for layer in options)
    faster = [option.cycles for layer in options for option in layer if floor <= option.cycles < cycles]
    return (max(faster), _overdrawn(options, max(faster), target, budget)) if faster else None
