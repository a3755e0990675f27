"""What every artefact has in common: the request it is made from, the files that travel in all of them, and the manifest.

An artefact is a self-contained folder. Its manifest lists the SHA-256 of every file, so that a changed byte is refused; the
same plan gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.serialize import graph_to_files
from lepton_dse.plan import Plan
from lepton_dse.reference.vectors import Vectors
from lepton_dse.schedule.gpu import GpuProgram
from lepton_dse.schedule.sharded import ShardedProgram, StagedProgram
from lepton_dse.schedule.stream import StreamSchedule
from lepton_dse.schedule.stream.stalls import StallCase

__all__ = ["GRAPH_FOLDER", "MANIFEST", "PLAN_FILE", "EmitRequest", "Emitter", "finish"]

MANIFEST = "manifest.json"
PLAN_FILE = "plan.json"
GRAPH_FOLDER = "graph"


@dataclass(frozen=True)
class EmitRequest:
    """All that an emitter may look at.

    Parameters
    ----------
    plan : Plan
        The decisions and their predicted cost.
    graph : LoweredGraph
        What the plan and its bundle were lowered to.
    vectors : Vectors
        Samples and reference values of the graph's outputs and of the tensors at the design's ends.
    stream : StreamSchedule or None
        The schedule of a streaming plan.
    stalls : tuple of StallCase
        Stall traces with the predicted cycle of every beat.
    fabric : str
        Synthesis family of an FPGA target.
    gpu : GpuProgram or None
        The kernels of a plan for a GPU.
    sharded : ShardedProgram or None
        What every device of the plan's mesh runs; one device is a mesh too.
    staged : StagedProgram or None
        The stages of a pipeline, in place of `sharded`.
    """

    plan: Plan
    graph: LoweredGraph
    vectors: Vectors
    stream: StreamSchedule | None = None
    stalls: tuple[StallCase, ...] = ()
    fabric: str = ""
    gpu: GpuProgram | None = None
    sharded: ShardedProgram | None = None
    staged: StagedProgram | None = None


@dataclass(frozen=True)
class Emitter:
    """A kind of artefact.

    Parameters
    ----------
    name : str
        As in ``lepton emit --as``.
    families : tuple of str
        Target families that it serves.
    emit : callable
        Pure function from a request to files by name, without the common ones.
    shards : bool
        Whether it writes programs of several devices.
    on_request : bool
        Whether it is no family's own: it serves whoever asks for it by name.
    """

    name: str
    families: tuple[str, ...]
    emit: Callable[[EmitRequest], Mapping[str, bytes]]
    shards: bool = False
    on_request: bool = False


def finish(emitter: Emitter, request: EmitRequest) -> dict[str, bytes]:
    """All files of an artefact by name: the emitter's, the plan, the lowered graph and the manifest."""
    files = dict(emitter.emit(request))
    files[PLAN_FILE] = request.plan.to_json().encode()
    files.update({f"{GRAPH_FOLDER}/{name}": data for name, data in graph_to_files(request.graph).items()})
    manifest = {
        "schema_version": 1,
        "emitter": emitter.name,
        "made_by": f"lepton_dse {version('lepton_dse')}",
        "model": request.plan.model,
        "target": request.plan.target,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    files[MANIFEST] = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    return files
