"""How long does it take to share a model over many devices?

Complete training configurations a second, memory check included; the best split of Llama-3 405B over 1,024 devices, from its
configuration to its certificate; a graph over a mesh, to a gap of zero.

    python studies/bench/sharding.py
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from measuring import least_seconds
from rich.console import Console

from lepton_dse.importers import load_model
from lepton_dse.importers.transformer import transformer_of
from lepton_dse.parallel.layout import Mesh
from lepton_dse.report.tables import plain_table
from lepton_dse.search.sharded import plan_sharding, prices_of
from lepton_dse.search.transformer.costs import Training, run_of
from lepton_dse.search.transformer.pricing import pricer_of
from lepton_dse.search.transformer.training import TrainingPlan, TrainingSpace, members, plan_training, price_all
from lepton_dse.targets import load_cluster

# meta-llama/Llama-3.1-405B, config.json
CONFIG = {
    "model_type": "llama",
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_attention_heads": 128,
    "num_hidden_layers": 126,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
DEVICES, REPEATED = 1024, 128


def configured(space: TrainingSpace) -> TrainingPlan:
    training = Training(transformer_of(CONFIG, name="llama-3.1-405b", where="config.json"), 2048, 8192)
    return plan_training(training, DEVICES, pricer_of(load_cluster("dgx-h100")), space)


def rate() -> float:
    """Configurations a second, in the space of the run above with sequences shared too, repeated."""
    training = Training(transformer_of(CONFIG, name="llama-3.1-405b", where="config.json"), 2048, 8192)
    pricer = pricer_of(load_cluster("dgx-h100"))
    found, run = members(training, DEVICES, pricer, TrainingSpace(context=None)), run_of(training, pricer)
    arrays = [np.tile(array, (REPEATED, 1)) for array in (found.costs, found.wires, found.degrees, found.pieces)]
    price_all(run, found.costs, found.wires, found.degrees, found.pieces, found.zeros)
    begin = time.perf_counter()
    count = int(price_all(run, *arrays, found.zeros)[2][:, 0].sum())
    return count / (time.perf_counter() - begin)


def main() -> None:
    console = Console()
    console.print(f"{rate() / 1e6:.1f} million complete configurations a second, memory check included")
    table = plain_table("sharing models", "what", "seconds", "members", "gap")
    for name, space in (("one device a sequence", TrainingSpace()), ("sequences shared too", TrainingSpace(context=None))):
        plan = configured(space)
        seconds = least_seconds(partial(configured, space), 3)
        row = (f"Llama-3.1 405B on {DEVICES:,}, {name}", f"{seconds:.2f}", f"{plan.search.evaluated:,}", f"{plan.search.gap:g}")
        table.add_row(*row)
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    prices = prices_of(load_cluster("google-v5e-pod"))
    for model, mesh in (("squeezenet", "x=4"), ("resnet50", "x=4"), ("squeezenet", "x=2,y=2")):
        graph = load_model(light / f"light_{model}.onnx", batch=16)
        begin = time.perf_counter()
        found = plan_sharding(graph, Mesh.parse(mesh), prices)
        taken = time.perf_counter() - begin
        table.add_row(f"{model} over {mesh}", f"{taken:.2f}", f"{found.search.evaluated:,}", f"{found.search.gap:g}")
    console.print(table)


if __name__ == "__main__":
    main()
