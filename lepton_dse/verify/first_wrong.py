"""Where a streaming design first goes wrong: the layer, the word and the cycle."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.images import words
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.errors import LeptonError
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.reference import fast
from lepton_dse.reference.engine import Array, steps
from lepton_dse.schedule.stream import Stage, StreamGraph, channels_last, foldings_of, stream_graph, stream_schedule
from lepton_dse.verify.artefact import Artefact
from lepton_dse.verify.simulators import Simulator, run_cocotb

__all__ = ["expected_words", "explain", "probe", "run_testbench"]


def run_testbench(artefact: Artefact, folder: Path, environment: dict[str, str]) -> tuple[int, tuple[str, ...]]:
    """Run the artefact's cocotb bench in Icarus Verilog; returns the number of tests and the failures."""
    mem = folder / "mem"
    if (artefact.folder / "mem").is_dir() and not mem.exists():
        mem.symlink_to((artefact.folder / "mem").resolve())
    result = run_cocotb(
        Simulator.ICARUS,
        [*sorted(artefact.folder.glob("rtl/*.v")), artefact.folder / f"{TOP}.v"],
        TOP,
        {},
        "test_design",
        [artefact.folder / "tb"],
        folder,
        environment,
    )
    return result.tests, result.failures


def explain(artefact: Artefact, frame: int) -> str:
    """Name the first wrong layer, word and cycle for the frame in which an output first differed.

    Frames before it are streamed too, since a fault may depend on what came before; the record of every transfer inside the
    design is compared, stage by stage, with the tensors that the reference computes.
    """
    try:
        record = probe(artefact, frame + 1)
    except LeptonError as error:
        return f"sample {frame} differs; the design could not be probed: {error.what}"
    for stage, expected in expected_words(artefact, frame + 1):
        observed = record.get(stage.body[-1].name, [])
        for index, (cycle, word) in enumerate(observed):
            if index < len(expected) and word != expected[index]:
                place = f"layer '{stage.layer.name}' word {index} (sample {index * (frame + 1) // len(expected)})"
                shown = "unknown bits" if word < 0 else f"{word:#x}"
                return f"{place} in cycle {cycle}: {shown}, expected {expected[index]:#x}"
        if len(observed) < len(expected):
            return f"layer '{stage.layer.name}' stopped after {len(observed)} of {len(expected)} words"
    return f"sample {frame}: every stage agrees with the reference in Icarus Verilog"


def probe(artefact: Artefact, frames: int) -> dict[str, list[tuple[int, int]]]:
    """Cycle and word of every transfer behind each instance, for a run of `frames` frames without stalls."""
    with tempfile.TemporaryDirectory(prefix="lepton-probe-") as scratch:
        folder = Path(scratch)
        record = folder / "probe.json"
        environment = {"DESIGN_FRAMES": str(frames), "DESIGN_PROBE": str(record), "DESIGN_CASES": "stalls_0"}
        run_testbench(artefact, folder, environment)
        if not record.is_file():
            raise LeptonError("the testbench left no record")
        found: dict[str, list[tuple[int, int]]] = {}
        for name, cycle, word in json.loads(record.read_text(encoding="utf-8")):
            found.setdefault(name, []).append((cycle, word))
        return found


def expected_words(artefact: Artefact, frames: int) -> list[tuple[Stage, list[int]]]:
    """Words behind each stage whose stream is a tensor of the graph."""
    graph = artefact.graph
    streams = stream_graph(graph)
    if not isinstance(streams, StreamGraph):
        raise LeptonError("the graph is no stream", where=str(artefact.folder))
    schedule = stream_schedule(streams, foldings_of(artefact.plan, streams))
    samples = _samples(artefact, streams, frames)
    wanted = {stage.layer.tensor for stage in schedule.stages}
    # The walk starts behind the Quantize, whose results the vectors hold.
    values: dict[str, NDArray[np.generic]] = {}
    batched = graph.with_batch(frames)
    reals = {graph.inputs[0]: np.zeros(batched.tensors[graph.inputs[0]].shape, np.float32)}

    def evaluate(op: Op, inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array:
        return samples if output.name == streams.input.name else fast.evaluate(op, inputs, output, tensors)

    for name, value in steps(batched, reals, evaluate):
        if name in wanted:
            values[name] = value
    found = []
    for stage in schedule.stages:
        if stage.layer.tensor:
            layout, _ = channels_last(graph.tensors[stage.layer.tensor].shape)
            ordered = values[stage.layer.tensor].reshape(frames, -1)[:, layout].astype(np.int64)
            found.append((stage, words(ordered.reshape(-1, stage.lanes), stage.layer.output_bits)))
    return found


def _samples(artefact: Artefact, streams: StreamGraph, frames: int) -> NDArray[np.generic]:
    """The design's input tensor for the first frames, unpacked from the vectors."""
    design = json.loads((artefact.folder / "design.json").read_text(encoding="utf-8"))
    bits, lanes = design["input_bits"], design["input_lanes"]
    lines = (artefact.folder / "vectors" / "input.hex").read_text(encoding="utf-8").split()[: frames * design["input_beats"]]
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    fields = [(int(line, 16) >> (bits * lane)) & mask for line in lines for lane in range(lanes)]
    stream = np.array([field - 2 * half if field >= half else field for field in fields], np.int64).reshape(frames, -1)
    values = np.empty_like(stream)
    values[:, streams.input_layout] = stream
    return values.reshape(frames, *streams.input.shape[1:]).astype(streams.input.format.numpy)
