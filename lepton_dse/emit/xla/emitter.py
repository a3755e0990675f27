"""The XLA artefact: StableHLO text, the same as JAX source, weights, vectors, and scripts that run them without this package."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from lepton_dse.emit.artefact import EmitRequest, Emitter
from lepton_dse.emit.writer import Writer
from lepton_dse.emit.xla.module import module_text
from lepton_dse.emit.xla.signature import Argument, Result, arguments, results
from lepton_dse.emit.xla.source import source_text
from lepton_dse.emit.xla.tiles import tiled_products
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.reference.engine import as_fed
from lepton_dse.schedule.sharded import FoldedProgram, ShardedProgram, StagedProgram, fold
from lepton_dse.schedule.sharded.traffic import predicted_collectives

__all__ = [
    "ARGUMENTS_FILE",
    "EMITTER",
    "MODEL_FILE",
    "RUN_FILE",
    "STAGES_SCRIPT",
    "TILED_FILE",
    "described",
    "expected_file",
    "program_files",
    "stage_folder",
]

MODEL_FILE = "model.mlir"
SOURCE_FILE = "model.py"
ARGUMENTS_FILE = "arguments.json"
WEIGHTS_FILE = "weights.safetensors"
RUN_FILE = "run.py"
TILED_FILE = "tiled.py"
KERNELS_FILE = "kernels.py"
STAGES_FILE = "stages.json"
STAGES_SCRIPT = "run_stages.py"
_FOREIGN = 2  # what NumPy calls the types that other packages register with it
_TEMPLATES = ("run.py", "export.py", "operations.py")


def expected_file(position: int) -> str:
    """Name of the file with the reference values of the output at `position`."""
    return f"vectors/expected_{position}.bin"


def emit(request: EmitRequest) -> Mapping[str, bytes]:
    """Files of the XLA artefact.

    Raises
    ------
    LeptonError
        If the request has no sharded program, it is one of another graph, or a format has no form in StableHLO.
    """
    if request.staged is not None:
        return _staged_files(request, request.staged)
    program = request.sharded
    if program is None:
        raise LeptonError("no program of a mesh was planned", where=request.plan.model, fix="plan again")
    if program.graph is not request.graph:
        raise LeptonError("the program is one of another graph", where=request.plan.model, fix="plan again")
    graph = program.graph
    samples = {graph.inputs[0]: np.asarray(as_fed(request.vectors.x, graph.tensors[graph.inputs[0]]))}
    files = program_files(program, samples, request.vectors.tensors)
    folded = fold(program)
    tiles = tiled_products(request.plan, folded)
    if tiles:
        files[TILED_FILE] = source_text(folded, tiles).encode()
        files[KERNELS_FILE] = (package_files("lepton_dse.emit.xla") / "templates" / KERNELS_FILE).read_bytes()
    files["README.md"] = _readme(request, program, tiled=bool(tiles)).encode()
    return files


def _staged_files(request: EmitRequest, staged: StagedProgram) -> dict[str, bytes]:
    """A folder a stage, each an artefact of its own, and the script that joins them."""
    graph, source = staged.graph, staged.graph.inputs[0]
    values = {source: np.asarray(as_fed(request.vectors.x, graph.tensors[source])), **request.vectors.tensors}
    files: dict[str, bytes] = {}
    for number, program in enumerate(staged.stages):
        given = {name: values[name] for name in program.graph.inputs}
        made = {name: values[name] for name in program.graph.outputs}
        own = program_files(program, given, made)
        own["README.md"] = _readme(request, program, f", stage {number + 1} of {len(staged.stages)}").encode()
        files |= {f"{stage_folder(number)}/{name}": data for name, data in own.items()}
    document = {
        "schema_version": 1,
        "stages": [stage_folder(number) for number in range(len(staged.stages))],
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "transfers": [[entry.tensor, entry.source, entry.sink, entry.device_bytes] for entry in staged.transfers],
    }
    files[STAGES_FILE] = (json.dumps(document, indent=1) + "\n").encode()
    files[STAGES_SCRIPT] = (package_files("lepton_dse.emit.xla") / "templates" / STAGES_SCRIPT).read_bytes()
    return files


def stage_folder(number: int) -> str:
    """Name of the folder of a stage."""
    return f"stage_{number}"


# Behind the families' own emitters: what a family emits by default is settled by the position of its name here.
EMITTER = Emitter("xla", ("tpu", "gpu"), emit, shards=True)


def program_files(
    program: ShardedProgram, samples: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> dict[str, bytes]:
    """All files of a program but those that every artefact has.

    Parameters
    ----------
    program : ShardedProgram
    samples : mapping of str to ndarray
        Values of every input, samples along axis 0.
    expected : mapping of str to ndarray
        Values of every output.
    """
    graph = program.graph
    templates = package_files("lepton_dse.emit.xla") / "templates"
    files = {name: (templates / name).read_bytes() for name in _TEMPLATES}
    folded = fold(program)
    files[MODEL_FILE] = module_text(folded).encode()
    files[SOURCE_FILE] = source_text(folded).encode()
    count = len(next(iter(samples.values())))
    files[ARGUMENTS_FILE] = described(folded, results(folded), count).encode()
    stored = _stored(arguments(folded))
    files[WEIGHTS_FILE] = save({name: _patterns(graph, sources) for sources, name in stored.items()})
    for position, name in enumerate(graph.inputs):
        files[f"vectors/input_{position}.bin"] = _bytes(samples[name], graph.tensors[name].format.numpy)
    for position, name in enumerate(graph.outputs):
        files[expected_file(position)] = _bytes(expected[name], graph.tensors[name].format.numpy)
    return files


def described(folded: FoldedProgram, given: Sequence[Result], samples: int) -> str:
    """What a module takes and gives, for the scripts that run it."""
    program, taken = folded.program, arguments(folded)
    shards = [*(entry.shards[0] for entry in taken), *(entry.shard for entry in given)]
    dtypes = {shard: program.shards[shard].tensor.format.numpy.name for shard in shards}
    stored = _stored(taken)
    document = {
        "schema_version": 1,
        "mesh": [list(axis) for axis in program.mesh.axes],
        "samples": samples,
        "arguments": [
            {
                "name": entry.label,
                "constant": entry.constant,
                "stored": stored.get(entry.sources) if entry.constant else None,
                "shape": list(entry.shape),
                "dtype": dtypes[entry.shards[0]],
                "cuts": [list(axes) for axes in entry.cuts],
            }
            for entry in taken
        ],
        "results": [
            {
                "name": entry.source or entry.shard,
                "shape": list(entry.shape),
                "dtype": dtypes[entry.shard],
                "cuts": [list(axes) for axes in entry.cuts],
            }
            for entry in given
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _stored(taken: Sequence[Argument]) -> dict[tuple[str, ...], str]:
    """Key of each weight in the file of weights, which a weight that stands twice shares."""
    weights = dict.fromkeys(entry.sources for entry in taken if entry.constant)
    return {sources: f"w{number}" for number, sources in enumerate(weights)}


def _patterns(graph: Graph, sources: tuple[str, ...]) -> NDArray[Any]:
    """A weight, or those of all rounds, in the type of its format; floats that NumPy lacks, such as bfloat16, as the unsigned
    integers of their bits."""
    dtype = graph.tensors[sources[0]].format.numpy
    values = [np.asarray(graph.constants[name], dtype, order="C") for name in sources]
    value = values[0] if len(values) == 1 else np.stack(values)
    return value.view(f"u{dtype.itemsize}") if dtype.isbuiltin == _FOREIGN else value


def _bytes(value: NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(value, dtype.newbyteorder("<")).tobytes()


def _readme(request: EmitRequest, program: ShardedProgram, stage: str = "", *, tiled: bool = False) -> str:
    plan, mesh, folded = request.plan, program.mesh, fold(program)
    out = Writer()
    out.line(f"# {_cell(plan.model)} for {plan.target}, {plan.precision}, on {mesh.devices} devices ({mesh}){stage}")
    out.line()
    out.lines(_FILES)
    if tiled:
        out.line()
        out.lines(_KERNELS)
    out.line()
    out.line(f"`vectors/` holds {len(request.vectors.x)} samples and the reference's results; `graph/` is the lowered graph.")
    tables: tuple[tuple[str, Sequence[Argument | Result]], ...] = (
        ("Arguments", arguments(folded)),
        ("Results", results(folded)),
    )
    for title, rows in tables:
        out.line()
        out.line(f"## {title}")
        out.line()
        out.line("| position | name | shape | type | cut by |")
        out.line("|---|---|---|---|---|")
        for position, entry in enumerate(rows):
            cuts = ", ".join("+".join(axes) or "-" for axes in entry.cuts) or "-"
            shape = " x ".join(map(str, entry.shape)) or "scalar"
            out.line(f"| {position} | `{_cell(entry.label)}` | {shape} | {entry.kind} | {cuts} |")
    out.line()
    out.line("## Collectives")
    out.line()
    sent = Counter(predicted_collectives(program))
    if not sent:
        out.line("None.")
    else:
        out.line("| times | kind | bytes | devices |")
        out.line("|---|---|---|---|")
        for one, times in sent.items():
            groups = " ".join("{" + ",".join(map(str, group)) + "}" for group in one.groups)
            out.line(f"| {times} | {one.kind} | {one.message_bytes} | {groups} |")
    return out.text()


_FILES = (
    "    python run.py             # runs model.mlir on the vectors: needs jax, numpy and safetensors",
    "    python run.py --source    # runs model.py, the same program as JAX source",
    "    python export.py FILE     # writes an archive of jax.export",
    "    lepton verify .           # compares both with the reference, and the compiled program with what was predicted",
    "",
    f"`{MODEL_FILE}` is StableHLO with Shardy annotations. Its body is one manual computation: each device runs these operations",
    "on its own part, and every collective is written out. Weights are arguments, kept in the file of weights; those of a loop",
    "lie behind one another, and each round takes its own.",
    "",
    "`run.py` sets `XLA_FLAGS=--xla_allow_excess_precision=false`: narrow floats stay as narrow as the program says.",
)

_KERNELS = (
    "    python run.py --tiled     # runs tiled.py: model.py with matrix products as Pallas kernels",
    "",
    f"`{KERNELS_FILE}` has the kernel; the tiles are the plan's. Where there is no TPU it is interpreted.",
)


def _cell(text: str) -> str:
    """A name from a model file as it may stand in a table."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable.replace("|", "\\|").replace("`", "'")
