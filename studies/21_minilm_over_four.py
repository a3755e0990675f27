"""A sentence embedding over four devices: is it still the model's, in reals and in integers?

paraphrase-MiniLM-L3 (its weights as published, 17 million parameters) for one sentence of 64 tokens, its mask bound, over four
devices of a TPU v5e pod. Two ways: what the search finds cheapest, and the textbook's: columns into the attention heads and the
feed-forward part, rows out of them (M. Shoeybi et al., arXiv:1909.08053). Each in float32 and in int8, written as StableHLO and
as JAX source, and run by JAX on four devices of this host: outputs against the reference, every exchange with its bytes against
the prediction.

    python studies/21_minilm_over_four.py [--quick] [-o build/minilm_over_four]     # --quick: the textbook's way in int8 alone
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console

import lepton_dse as ld
from lepton_dse.flow import PlannedModel
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.parallel.splitting import layouts_of, splittable
from lepton_dse.plan import CheckStatus
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds
from lepton_dse.schedule.sharded import Exchange, OpStrategy, Strategies, planned_sharding, sharding_of
from lepton_dse.search.sharded import prices_of

sys.path.insert(0, str(Path(__file__).parent / "models"))
from published import published

TOKENS, DEVICES, CLUSTER = 64, 4, "google-v5e-pod"
MESH = Mesh.parse(f"x={DEVICES}")
HEADS = 12


def embedding() -> ld.Graph:
    """The network for one sentence of 50 words and a filled-up rest."""
    mask = np.ones((1, TOKENS), np.int64)
    mask[:, 50:] = 0
    dims = {"batch_size": 1, "sequence_length": TOKENS}
    return ld.load(published("minilm"), dims=dims, bind={"attention_mask": mask})


def textbook(graph: ld.Graph) -> Strategies:
    """Products by columns where their operand is whole, by rows where it comes cut; what is between as its operand lies."""
    homes = {name: Layout(((),) * len(graph.tensors[name].shape)) for name in graph.inputs}
    chosen: dict[str, OpStrategy] = {}
    for op in graph.ops:
        best = None
        loops = {loop.name: loop for loop in splittable(graph, op)}
        for shared in ({}, *({name: ("x",)} for name in loops)):
            layouts = layouts_of(graph, op, shared, MESH)
            if layouts is None:
                continue
            operands = [(homes[name], wanted) for name, wanted in zip(op.inputs, layouts.inputs, strict=True) if name in homes]
            fits = all(have == wanted for have, wanted in operands)
            weights = any(name in graph.constants and len(graph.tensors[name].shape) > 1 for name in op.inputs)
            columns = bool(shared) and op.kind == "MatMul" and weights and "j" in shared
            wide = graph.tensors[op.output].shape[-1] >= graph.tensors[op.inputs[0]].shape[-1]
            rank = (not fits, not (columns and wide) if op.kind == "MatMul" and weights else bool(shared), len(best or ""))
            if best is None or rank[:2] < best[0]:
                best = (rank[:2], shared, layouts)
        assert best is not None
        home = Layout(best[2].output.cuts)
        chosen[op.name] = OpStrategy(best[1], home)
        homes[op.output] = home
    return Strategies({name: homes[name] for name in graph.inputs}, chosen)


def with_strategies(found: PlannedModel, strategies: Strategies) -> PlannedModel:
    """The same model under other strategies, priced alike."""
    sharding = sharding_of(strategies, MESH, CLUSTER, 1)
    program = planned_sharding(found.lowered, sharding)
    latency = prices_of(ld.load_cluster(CLUSTER)).program(program)
    predicted = found.predicted.model_copy(update={"latency_s": latency, "search": None})
    plan = found.plan.model_copy(update={"sharding": sharding, "predicted": predicted})
    return PlannedModel(plan, found.bundle, found.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/minilm_over_four"))
    given = parser.parse_args()
    graph = embedding()
    words = np.random.default_rng(0).integers(1000, 30000, (8, TOKENS)).astype(np.float32)
    data = ld.Dataset(words)
    table = plain_table(
        f"MiniLM-L3 over {DEVICES} devices of {CLUSTER}",
        "format",
        "way",
        "predicted",
        "exchanges",
        "bytes",
        "text, source, archive",
    )
    for form in ("int8",) if given.quick else ("float32", "int8"):
        found = ld.shard(graph, CLUSTER, MESH, format=form, data=data)
        ways = {"textbook": with_strategies(found, textbook(found.lowered))}
        if not given.quick:
            ways = {"cheapest": found, **ways}
        for name, plan in ways.items():
            assert plan.plan.sharding is not None
            program = planned_sharding(plan.lowered, plan.plan.sharding)
            kinds = Counter(step.kind.value for step in program.steps if isinstance(step, Exchange))
            artefact = ld.emit(plan, given.output / f"{name}-{form}", emitter="xla", data=data.take(2))
            checks = {check.name: check for check in ld.verify(artefact).checks}
            wrong = [check for check in checks.values() if check.status is CheckStatus.FAILED]
            assert not wrong, wrong
            if checks["outputs_equal"].status is CheckStatus.UNAVAILABLE:
                sys.exit("JAX is not here: pip install 'lepton_dse[xla]'")
            exchanged = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "none"
            assert all(checks[key].status is CheckStatus.PASSED for key in ("source_outputs_equal", "archive_outputs_equal"))
            sent = scaled(float(checks["collective_bytes_equal"].observed or 0), "B")
            table.add_row(form, name, seconds(plan.predicted.latency_s), exchanged, sent, "equal")
    console = Console()
    console.print(table)
    console.print(f"{count(graph.macs)} multiply-accumulates a sentence; integers equal bit for bit, reals within their bound")


if __name__ == "__main__":
    main()
