"""The checks of a pipeline: every stage as a program of its own, then all of them joined on devices of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lepton_dse.emit.xla.emitter import STAGES_SCRIPT, expected_file, stage_folder
from lepton_dse.plan import Check
from lepton_dse.schedule.sharded import ShardedProgram, StagedProgram
from lepton_dse.verify.artefact import Artefact, VerifyOptions, compare
from lepton_dse.verify.xla.process import call
from lepton_dse.verify.xla.steps import allowed, beyond

__all__ = ["staged_checks"]

Verification = Callable[[Path, ShardedProgram, Path, VerifyOptions], Iterator[Check]]


def staged_checks(
    artefact: Artefact, staged: StagedProgram, whole: ShardedProgram, scratch: Path, options: VerifyOptions, each: Verification
) -> Iterator[Check]:
    """Checks of every stage, their names beginning with it, and of the whole.

    Parameters
    ----------
    artefact : Artefact
    staged : StagedProgram
    whole : ShardedProgram
        The graph without stages, for the bound of its outputs.
    scratch : Path
    options : VerifyOptions
    each : callable
        Checks of one folder with one program.
    """
    for number, program in enumerate(staged.stages):
        place = scratch / stage_folder(number)
        place.mkdir()
        for check in each(artefact.folder / stage_folder(number), program, place, options):
            yield check.model_copy(update={"name": f"{stage_folder(number)}_{check.name}"})
    options.progress(f"running {len(staged.stages)} stages on {staged.devices} devices")
    out = scratch / "joined"
    call(artefact.folder, STAGES_SCRIPT, "--observe", str(out))
    said = json.loads((out / "observed.json").read_text())
    yield _outputs(artefact, staged, whole, out)
    sent = staged.mesh.devices * sum(transfer.device_bytes for transfer in staged.transfers)
    yield compare("stages_sent_bytes", sent, int(said["sent_bytes"]))


def _outputs(artefact: Artefact, staged: StagedProgram, whole: ShardedProgram, out: Path) -> Check:
    """Elements of the pipeline's outputs that differ from the reference's by more than rounding explains."""
    graph = staged.graph
    bounds, wrong = allowed(whole, _first_batch(artefact, staged)), 0
    for position, name in enumerate(graph.outputs):
        form = graph.tensors[name].format.numpy.newbyteorder("<")
        stage, place = next(
            (stage, program.graph.outputs.index(name))
            for stage, program in enumerate(staged.stages)
            if name in program.graph.outputs
        )
        expected = np.fromfile(artefact.folder / stage_folder(stage) / expected_file(place), form)
        observed = np.fromfile(out / f"result_{position}.bin", form)
        if observed.size < expected.size:
            return compare("stages_outputs_equal", 0, expected.size, reason=f"{observed.size} values of '{name}'")
        wrong += int(np.count_nonzero(beyond(expected, observed[: expected.size], bounds[name])))
    return compare("stages_outputs_equal", 0, wrong)


def _first_batch(artefact: Artefact, staged: StagedProgram) -> dict[str, np.ndarray]:
    """The whole graph's inputs of the first pass."""
    found = {}
    for number, program in enumerate(staged.stages):
        for position, name in enumerate(program.graph.inputs):
            if name in staged.graph.inputs:
                tensor = staged.graph.tensors[name]
                path = artefact.folder / stage_folder(number) / f"vectors/input_{position}.bin"
                samples = np.fromfile(path, tensor.format.numpy.newbyteorder("<")).reshape(-1, *tensor.shape[1:])
                samples = samples[: tensor.shape[0]]
                found[name] = np.concatenate([samples, np.repeat(samples[-1:], tensor.shape[0] - len(samples), axis=0)])
    return found
