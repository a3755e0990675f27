"""Is our arena as small as onnxruntime's? Both place the results of the same model, one sample, one thread.

python studies/peers/arenas.py [MODEL.onnx ...]

Without models: those in build/models and the networks that onnx carries. onnxruntime (1.32 or later) runs each three times and
profiles memory: the bytes that are asked for and not yet given back in the arena of the CPU, after every operation. Figures are
differences to what is in use before the first run, so that weights, packed or not, do not count:

- planned: what the second run has in use before its first operation, the block in which the memory pattern of the first run has
  an offset for every result but the outputs;
- first run: the most after any operation of the first run, in which each result is allocated by itself. Outputs count, scratch
  within an operation does not.

Both once with all of its optimisations, which fuse operations and block channels for its kernels, and once with the basic ones
alone, whose graph is nearest to ours. The input is its caller's, so that the arena of all but the input is what compares, with
the bytes that are proved necessary for it in the order in which its operations run. Ours holds outputs too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import lepton_dse as ld
from lepton_dse.cli.console import out
from lepton_dse.errors import LeptonError
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import MemoryMap, in_less_memory, packed_bytes
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import scaled

try:
    import onnxruntime
except ImportError:
    sys.exit("onnxruntime is not here: pip install onnxruntime")

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
IN_USE, CHANGE = "mem_bytes_requested_in_use", "mem_requested_in_use_delta"


@dataclass(frozen=True)
class Theirs:
    """Bytes of onnxruntime's planned block, and the most that its first run has in use."""

    planned: int
    first_run: int


def measured(path: Path, graph: ld.Graph, level: onnxruntime.GraphOptimizationLevel) -> Theirs:
    """What onnxruntime needs for the results of a model on inputs of the graph's shapes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {
            entry.name: np.zeros(graph.tensors[entry.name].shape, TYPES.get(entry.type, np.float32))
            for entry in session.get_inputs()
        }
        for _ in range(3):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    runs: list[list[tuple[int, int]]] = [[]]
    for event in events:
        if event["name"] == "model_run":
            runs.append([])
        elif event["cat"] == "Node" and IN_USE in event["args"]:
            runs[-1].append((int(event["args"][IN_USE]), int(event["args"][CHANGE])))
    first, second, third = runs[:3]
    if not first:
        sys.exit(f"onnxruntime {onnxruntime.__version__} profiles no memory: use 1.32 or later")

    def before(run: list[tuple[int, int]]) -> int:
        return run[0][0] - run[0][1]

    assert before(second) == before(third), "the pattern is known after one run"
    return Theirs(before(second) - before(first), max(in_use for in_use, _ in first) - before(first))


def ours(graph: ld.Graph, *, with_input: bool = True, ordered: bool = True) -> MemoryMap:
    """Our map, with the input in the arena or with its caller, in the order that needs less or in the model's."""

    def bytes_of(tensor: Tensor) -> int:
        return packed_bytes(tensor) if with_input or tensor.name not in graph.inputs else 0

    return ld.map_memory(in_less_memory(graph, bytes_of=bytes_of) if ordered else graph, bytes_of=bytes_of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help="ONNX files; all that are known by default")
    chosen = parser.parse_args().models or [*sorted(Path("build/models").glob("*.onnx")), *sorted(LIGHT.glob("light_*.onnx"))]
    levels = onnxruntime.GraphOptimizationLevel
    table = plain_table(
        f"Bytes for results of one sample, float32; onnxruntime {onnxruntime.__version__}, one thread",
        *("model", "in the model's order", "arena", "without input", "at least"),
        *("planned", "first run", "basic: planned", "basic: first run"),
    )
    smaller = compared = 0
    for path in chosen:
        try:
            graph = ld.load(path).with_batch(1)
        except LeptonError as error:
            print(f"{path.name}: not compared: {error.what}", file=sys.stderr)
            continue
        full, basic = (measured(path, graph, level) for level in (levels.ORT_ENABLE_ALL, levels.ORT_ENABLE_BASIC))
        kept, whole, compares = ours(graph, ordered=False), ours(graph), ours(graph, with_input=False)
        figures = (kept.peak, whole.peak, compares.peak, compares.bound)
        theirs = (full.planned, full.first_run, basic.planned, basic.first_run)
        table.add_row(path.stem.removeprefix("light_"), *(scaled(figure, "B") for figure in (*figures, *theirs)))
        compared += 1
        smaller += compares.peak <= min(full.planned, basic.planned)
    out().print(table)
    print(f"Ours is no larger than what onnxruntime plans in {smaller} of {compared} models.")


if __name__ == "__main__":
    main()
