"""Times of allocations: 200 layers with 8 choices each, under one and under several budgets.

python studies/bench/allocation.py
"""

from __future__ import annotations

import sys

import numpy as np
from measuring import least_seconds

from lepton_dse.search.allocate.problem import Measure, Problem
from lepton_dse.search.allocate.solve import solve

LAYERS, BITS = 200, (2, 3, 4, 5, 6, 7, 8, 16)
SEEDS = 5


def drawn(seed: int, budgets: dict[Measure, float], minimize: Measure) -> Problem:
    """Layers of drawn sizes whose loss falls by about four for every bit, budgets as shares between the least and the most."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(10, 1.5, LAYERS))
    loss = rng.lognormal(-4, 1, (LAYERS, 1)) * 4.0 ** -np.array(BITS) * rng.lognormal(0, 0.3, (LAYERS, len(BITS)))
    stored = sizes[:, None] * np.array(BITS) / 8
    time = sizes[:, None] * 1e-12 * (1 + np.array(BITS) / 8) * rng.lognormal(0, 0.2, (LAYERS, len(BITS)))
    columns = {Measure.LOSS: loss, Measure.LATENCY: time, Measure.ENERGY: stored * 1e-10, Measure.BYTES: stored}
    amounts = {measure: tuple(map(tuple, rows.tolist())) for measure, rows in columns.items()}
    held = {
        measure: float((1 - share) * columns[measure].min(1).sum() + share * columns[measure].max(1).sum())
        for measure, share in budgets.items()
    }
    names = tuple(f"layer{index}" for index in range(LAYERS))
    return Problem(names, ((tuple(map(str, BITS))),) * LAYERS, amounts, minimize, held)


def main() -> None:
    cases = {
        "bytes under loss": ({Measure.LOSS: 0.01}, Measure.BYTES),
        "loss under bytes": ({Measure.BYTES: 0.25}, Measure.LOSS),
        "latency under loss and bytes": ({Measure.LOSS: 0.05, Measure.BYTES: 0.3}, Measure.LATENCY),
    }
    for name, (budgets, minimize) in cases.items():
        times, gaps = [], []
        for seed in range(SEEDS):
            problem = drawn(seed, budgets, minimize)
            times.append(least_seconds(lambda problem=problem: solve(problem), 1))
            found = solve(problem).result
            gaps.append(found.gap)
        worst = f"{max(times):.2f} s at most of {SEEDS} draws, {float(np.mean(times)):.2f} s on average"
        print(f"{LAYERS} layers, {len(BITS)} choices, {name}: {worst}; greatest gap {max(gaps):.1e}")


if __name__ == "__main__":
    sys.exit(main())
