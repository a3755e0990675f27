"""The ONNX artefact: one model file, what became of each operation, and vectors to check it with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from lepton_dse.emit.artefact import EmitRequest, Emitter
from lepton_dse.emit.onnx.exporter import Exported, export_graph
from lepton_dse.emit.onnx.writer import BATCH
from lepton_dse.emit.writer import Writer

__all__ = ["APPLIED_FILE", "EMITTER", "INPUT_FILE", "MODEL_FILE", "expected_file"]

MODEL_FILE = "model.onnx"
APPLIED_FILE = "applied.json"
INPUT_FILE = "vectors/input.bin"


def expected_file(position: int) -> str:
    """Name of the file with the reference values of the output at `position`."""
    return f"vectors/expected_{position}.bin"


def emit(request: EmitRequest) -> Mapping[str, bytes]:
    """Files of the ONNX artefact.

    Raises
    ------
    LeptonError
        If a format or an operation has no ONNX form, or the constants outgrow one file.
    """
    exported = export_graph(request.graph)
    applied = [asdict(entry) for entry in exported.applied]
    files = {
        MODEL_FILE: exported.to_bytes(),
        APPLIED_FILE: (json.dumps({"schema_version": 1, "applied": applied}, indent=1) + "\n").encode(),
        "README.md": _readme(request, exported).encode(),
        INPUT_FILE: np.ascontiguousarray(request.vectors.x, "<f4").tobytes(),
    }
    for position, name in enumerate(request.graph.outputs):
        form = request.graph.tensors[name].format
        files[expected_file(position)] = np.ascontiguousarray(
            request.vectors.tensors[name], form.numpy.newbyteorder("<")
        ).tobytes()
    return files


# Behind the families' own emitters: what a family emits by default is settled by the position of its name here.
EMITTER = Emitter("onnx", ("gpu", "tpu", "cpu", "fpga"), emit)


def _readme(request: EmitRequest, exported: Exported) -> str:
    graph, plan, opset = request.graph, request.plan, exported.model.opset_import[0].version
    out = Writer()
    out.line(f"# {_cell(plan.model)} for {plan.target}, {plan.precision}")
    out.line()
    out.line(f"`{MODEL_FILE}` is an ONNX model of opset {opset} without custom operators or external data.")
    out.line()
    out.line("    lepton verify .        # runs it in onnxruntime and compares it with the reference")
    out.line()
    for kind, names in (("input", graph.inputs), ("output", graph.outputs)):
        for name in names:
            tensor = graph.tensors[name]
            shape = " x ".join(map(str, tensor.shape)) or "scalar"
            out.line(f"- {kind} `{_cell(name)}`: {shape} of {tensor.format}")
    out.line()
    out.lines(_SETTINGS)
    out.line()
    out.line("## Operations")
    out.line()
    out.line("| operation | kind | ONNX | weights | stored | zeros | result | stored | remarks |")
    out.line("|---|---|---|---|---|---|---|---|---|")
    for entry in exported.applied:
        zeros = "" if entry.sparsity is None else f"{100 * entry.sparsity:.1f}%"
        cells = (
            entry.op,
            entry.kind,
            ", ".join(entry.onnx),
            entry.weights,
            entry.weights_stored,
            zeros,
            entry.activations,
            entry.activations_stored,
            "; ".join(entry.notes),
        )
        out.line(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    out.line()
    out.line(f"`{APPLIED_FILE}` holds the same table for programs.")
    out.line(f"`vectors/` holds {len(request.vectors.x)} samples and the reference's results; `graph/` is the lowered graph.")
    return out.text()


_SETTINGS = (
    f"Axis 0 is open and named `{BATCH}` where no operation mixes samples. Weights keep their zeros: pruned ones stay in place.",
    "",
    "Integers agree with the reference to one unit in the last place of each operation's result: the reference rounds halves up,",
    "ONNX to even, and a unit may grow from one operation to the next. Weight scales are those that the reference's integer",
    "multipliers stand for.",
    "",
    "Settings of onnxruntime that keep its arithmetic the one written here:",
    "",
    "- `session.qdq_matmulnbits_accuracy_level = 1`: the default, 4, rounds what 4-bit weights are multiplied by to 8 bits.",
    "- `session.x64quantprecision = 1`: on x86 without VNNI its 8-bit products otherwise saturate at 16 bits.",
)


def _cell(text: str) -> str:
    """A name from a model file as it may stand in a table."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable.replace("|", "\\|").replace("`", "'")
