"""Do two devices compute what one computes, whichever way they share it? A worked example by hand, and where it goes wrong.

One layer, x = [1, 2, 3], W = [[0.5, 0.6], [0.7, 0.8]], b = [1, 2], y = f(W x + b), shared "by data" and "by model".
As it stands it cannot be computed: W has two columns, and x three elements. Nor can its two ways of sharing give two results:
both are the same layer, y_i = f(W x_i + b) for the samples of a device or y_i = f(W_i x + b_i) for its rows of W, so that what
they put together must be equal, and equal to the product of one device.

The nearest example that holds: x is cut into samples of as many elements as W takes. Three numbers have two neighbouring pairs,
[1, 2] and [2, 3]; W and b stay as they are, and f is the rectifier. By hand::

    W [1, 2] + b = [0.5 + 1.2 + 1, 0.7 + 1.6 + 2] = [2.7, 4.3]
    W [2, 3] + b = [1.0 + 1.8 + 1, 1.4 + 2.4 + 2] = [3.8, 5.8]

Each way of sharing is written as a StableHLO program for two devices, run on two devices of this host by JAX, and held against
that: by samples, by rows of W (its outputs), and by columns of W (the summed ones), whose halves an all-reduce adds.

    python studies/20_worked_example.py [-o build/worked_example]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import lepton_dse as ld
from lepton_dse.flow import PlannedModel
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.plan import CheckStatus
from lepton_dse.report.tables import plain_table
from lepton_dse.schedule.sharded import Exchange, OpStrategy, Strategies, planned_sharding, sharding_of
from lepton_dse.sim.sharded import run_sharded

W, B = np.array([[0.5, 0.6], [0.7, 0.8]], np.float32), np.array([1, 2], np.float32)
SAMPLES = np.array([[1, 2], [2, 3]], np.float32)
BY_HAND = np.array([[2.7, 4.3], [3.8, 5.8]], np.float32)
MESH = Mesh.parse("devices=2")
WHOLE, BY_SAMPLES, BY_ELEMENTS = Layout(((), ())), Layout((("devices",), ())), Layout(((), ("devices",)))
WAYS = {
    "one device holds all, twice": ({}, WHOLE, WHOLE),
    "by data: y_i = f(W x_i + b)": ({"i": ("devices",)}, BY_SAMPLES, BY_SAMPLES),
    "by model, rows of W: y_i = f(W_i x + b_i)": ({"j": ("devices",)}, WHOLE, BY_ELEMENTS),
    "by model, columns of W: y = f(sum W_i x_i + b)": ({"k": ("devices",)}, BY_ELEMENTS, WHOLE),
}
"""Axes by loop of the product, and how x and y lie."""


def layer() -> ld.Graph:
    """The layer for one sample a pass; W is stored as the product takes it, a row an input."""
    builder = GraphBuilder("worked_example")
    x = builder.input("x", (1, 2))
    product = builder.add(ops.MatMul(), [x, builder.constant("W", W.T.copy()), builder.constant("b", B)], output="product")
    return builder.build([builder.add(ops.Clip(0.0, float("inf")), [product], output="y")])


def planned(shared: dict[str, tuple[str, ...]], arriving: Layout, home: Layout) -> PlannedModel:
    """The layer under one way of sharing, as a plan of two TPUs."""
    found = ld.shard(layer(), "google-v5e-pod", MESH, batch=len(SAMPLES))
    loop = {"i": "d0", "j": "d1"}
    clipped = {loop[name]: axes for name, axes in shared.items() if name in loop}
    product, clip = (op.name for op in found.lowered.ops)
    strategies = Strategies({"x": arriving}, {product: OpStrategy(shared, home), clip: OpStrategy(clipped, home)})
    sharding = sharding_of(strategies, MESH, "google-v5e-pod", len(SAMPLES))
    return PlannedModel(found.plan.model_copy(update={"sharding": sharding}), found.bundle, found.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/worked_example"))
    given = parser.parse_args()
    console = Console()
    table = plain_table(
        "one layer on two devices", "shared", "y of [1, 2]", "y of [2, 3]", "exchanges", "run by JAX on two devices"
    )
    available = True
    for number, (name, (shared, arriving, home)) in enumerate(WAYS.items()):
        plan = planned(shared, arriving, home)
        assert plan.plan.sharding is not None
        program = planned_sharding(plan.lowered, plan.plan.sharding)
        found = run_sharded(program, {"x": SAMPLES})["y"]
        assert np.allclose(found, BY_HAND, rtol=1e-6), found
        exchanged = [step.kind.value for step in program.steps if isinstance(step, Exchange)]
        artefact = ld.emit(plan, given.output / str(number), emitter="xla", data=ld.Dataset(SAMPLES))
        checks = {check.name: check for check in ld.verify(artefact).checks}
        statuses = {check.status for check in checks.values() if check.predicted is not None}
        assert CheckStatus.FAILED not in statuses, checks
        available &= CheckStatus.UNAVAILABLE not in statuses
        ran = "equal" if checks["outputs_equal"].status is CheckStatus.PASSED else "unavailable"
        rows = ("[" + ", ".join(f"{value:.4g}" for value in row) + "]" for row in found)
        table.add_row(name, *rows, ", ".join(exchanged) or "none", ran)
    console.print(table)
    console.print("x = [1, 2, 3] does not fit W, which takes two elements; [1, 2] and [2, 3] do. All ways give one result.")
    if not available:
        sys.exit("JAX is not here: pip install 'lepton_dse[xla]', and run again")


if __name__ == "__main__":
    main()
