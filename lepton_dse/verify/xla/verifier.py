"""The checks of an XLA artefact.

What is run is the text in the folder, on as many devices of the processor as the mesh has. Outputs are compared with the
reference's vectors, the compiled program's collectives, argument bytes and products with those that the steps predict. Once more
the text's steps are run with every device's part of every result handed out, and each is held against its definition on the
recorded operands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.xla.emitter import ARGUMENTS_FILE, MODEL_FILE, described, expected_file
from lepton_dse.emit.xla.module import interpreted_text
from lepton_dse.emit.xla.recording import recorded
from lepton_dse.emit.xla.signature import arguments
from lepton_dse.emit.xla.steps import steps_of
from lepton_dse.emit.xla.tiles import TiledProduct, tiled_products
from lepton_dse.errors import LeptonError
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.schedule.sharded import (
    FoldedProgram,
    ShardedProgram,
    fold,
    planned_sharding,
    planned_stages,
    result_of,
    unshared_program,
)
from lepton_dse.schedule.sharded.traffic import predicted_collectives
from lepton_dse.verify.artefact import Artefact, Verifier, VerifyOptions, compare, unavailable
from lepton_dse.verify.xla.hlo import collectives, compiled_form, difference
from lepton_dse.verify.xla.kernels import KERNEL_CHECKS, kernel_checks
from lepton_dse.verify.xla.process import Observation, call, observe
from lepton_dse.verify.xla.stages import staged_checks
from lepton_dse.verify.xla.steps import allowed, beyond, judge
from lepton_dse.verify.xla.work import argument_bytes, compiled_macs, predicted_macs

__all__ = ["VERIFIER"]

_CHECKS = (
    "outputs_equal",
    "steps_equal",
    "collectives_equal",
    "collective_bytes_equal",
    "argument_bytes_equal",
    "flops_equal",
    "source_outputs_equal",
    "archive_outputs_equal",
)
_DEVICES = 64
_VALUES = 1 << 26  # recorded at once: every device's part of every result
_INTERPRETED = 1 << 21  # products that the interpreter takes in seconds
_PLAIN = ("f32", "f64", "i8", "i16", "i32", "i64")


def run(artefact: Artefact, options: VerifyOptions) -> list[Check]:
    """Run an XLA artefact and look through what it compiles to.

    Raises
    ------
    LeptonError
        If the program does not compile or does not end normally.
    """
    sharding = artefact.plan.sharding
    program = unshared_program(artefact.graph) if sharding is None else planned_sharding(artefact.graph, sharding)
    devices = program.mesh.devices * (1 if sharding is None else len(sharding.stages) + 1)
    reason = "" if find_spec("jax") else "jax is not installed: pip install 'lepton_dse[xla]'"
    if devices > _DEVICES:
        reason = f"{devices} devices are more than the {_DEVICES} that a processor stands for: verify the model on a smaller mesh"
    tiles = tiled_products(artefact.plan, fold(program))
    if reason:
        return [unavailable(name, 0, reason) for name in (*_CHECKS, *(KERNEL_CHECKS if tiles else ()))]
    with tempfile.TemporaryDirectory(prefix="lepton-xla-") as scratch:
        if sharding is not None and sharding.stages:
            staged = planned_stages(artefact.graph, sharding)
            return list(staged_checks(artefact, staged, program, Path(scratch), options, _checked))
        return list(_Verification(artefact.folder, program, Path(scratch), options, tiles).checks())


def _checked(folder: Path, program: ShardedProgram, scratch: Path, options: VerifyOptions) -> Iterator[Check]:
    yield from _Verification(folder, program, scratch, options).checks()


VERIFIER = Verifier("xla", run)


@dataclass
class _Verification:
    folder: Path
    program: ShardedProgram
    scratch: Path
    options: VerifyOptions
    tiles: Mapping[str, TiledProduct] = field(default_factory=dict)
    folded: FoldedProgram = field(init=False)
    expected: list[NDArray[Any]] = field(init=False)
    feeds: dict[str, NDArray[Any]] = field(init=False)
    bounds: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        graph, self.folded = self.program.graph, fold(self.program)
        forms = [graph.tensors[name].format.numpy for name in graph.outputs]
        self.expected = [
            np.fromfile(self.folder / expected_file(position), form.newbyteorder("<")) for position, form in enumerate(forms)
        ]
        self.feeds = {}
        for position, name in enumerate(graph.inputs):
            tensor = graph.tensors[name]
            samples = np.fromfile(self.folder / f"vectors/input_{position}.bin", tensor.format.numpy.newbyteorder("<"))
            samples = samples.reshape(-1, *tensor.shape[1:])[: tensor.shape[0]]
            filled = [samples, np.repeat(samples[-1:], tensor.shape[0] - len(samples), axis=0)]
            self.feeds[name] = np.concatenate(filled)

    def checks(self) -> Iterator[Check]:
        """All of them, in order."""
        self.options.progress("bounding what rounding may do to the outputs")
        self.bounds = allowed(self.program, self.feeds)
        self.options.progress(f"compiling the program for {self.program.mesh.devices} devices and running every sample")
        text = observe(self.folder, self.scratch / "text")
        yield self._outputs("outputs_equal", text)
        yield self._steps()
        yield from self._compiled(text)
        self.options.progress("running the JAX source")
        source = observe(self.folder, self.scratch / "source", "--source")
        yield self._outputs("source_outputs_equal", source)
        yield self._collectives("source_collectives_equal", source)
        if self.tiles:
            self.options.progress("running the JAX source with its kernels interpreted")
            yield from kernel_checks(self.folder, self.folded, self.tiles, self.scratch, self._outputs)
        yield self._archive()
        if self._is_interpretable():
            yield self._interpreted()

    def _outputs(self, name: str, found: Observation) -> Check:
        """Elements that differ: at all, or by more than rounding explains."""
        graph, wrong, reason = self.program.graph, 0, ""
        for position, (output, expected) in enumerate(zip(graph.outputs, self.expected, strict=True)):
            observed = found.result(position, graph.tensors[output].format.numpy)
            if observed.size < expected.size:
                return compare(
                    name, 0, expected.size, reason=f"{observed.size} values of output {output}, expected {expected.size}"
                )
            far = beyond(expected, observed[: expected.size], self.bounds[output])
            if far.any() and not wrong:
                place = int(np.flatnonzero(far)[0])
                reason = f"output '{output}' element {place} is {observed[place]}, expected {expected[place]}"
                reason += f" within {self.bounds[output]:.3g}" if self.bounds[output] else ""
            wrong += int(np.count_nonzero(far))
        return compare(name, 0, wrong, reason=reason)

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _steps(self) -> Check:
        program = self.program
        names = [result_of(step) for step in program.steps]
        count = program.mesh.devices * sum(program.shards[name].tensor.elements for name in names)
        if count > _VALUES:
            return unavailable("steps_equal", 0, f"{count} results of a pass are more than the {_VALUES} that are recorded")
        self.options.progress("running every step on the operands that were recorded")
        place = self.scratch / "recorded"
        place.mkdir()
        batch = len(next(iter(self.feeds.values())))
        try:
            kept = recorded(self.folded, _lines((self.folder / MODEL_FILE).read_text()))
            (place / MODEL_FILE).write_text(kept.text)
            (place / ARGUMENTS_FILE).write_text(described(self.folded, kept.results, batch))
            chosen = ("--model", str(place / MODEL_FILE), "--arguments", str(place / ARGUMENTS_FILE))
            found = observe(self.folder, place / "found", *chosen)
        except LeptonError as error:
            return Check(
                name="steps_equal",
                predicted=0,
                observed=None,
                status=CheckStatus.FAILED,
                reason=f"not the steps of the plan: {error}",
            )
        values: dict[str, list[NDArray[Any]]] = {}
        for position, shards in enumerate(kept.shards):
            tensor = program.shards[shards[0]].tensor
            whole = found.result(position, tensor.format.numpy).reshape(program.mesh.devices, len(shards), *tensor.shape)
            values |= {shard: list(whole[:, turn]) for turn, shard in enumerate(shards)}
        judged = judge(program, self.feeds, values)
        first = next((entry for entry in judged if entry.wrong), None)
        reason = "" if first is None else f"'{first.shard}' {first.first}"
        return compare("steps_equal", 0, sum(entry.wrong for entry in judged), reason=reason)

    # --- the compiled program ----------------------------------------------------------------------------------------

    def _compiled(self, found: Observation) -> Iterator[Check]:
        yield self._collectives("collectives_equal", found)
        wanted = compiled_form(predicted_collectives(self.program))
        seen = collectives(found.hlo, self.program.mesh.devices)
        predicted, observed = (sum(size * count for (_, _, size), count in group.items()) for group in (wanted, seen))
        yield compare("collective_bytes_equal", predicted, observed)
        yield compare("argument_bytes_equal", argument_bytes(self.program), found.argument_bytes)
        yield compare("flops_equal", 2 * predicted_macs(self.program), 2 * compiled_macs(found.hlo))
        reason = "by the compiler's cost analysis: of every operation, not only of contractions"
        yield Check(name="flops", predicted=None, observed=found.flops, status=CheckStatus.REPORTED, reason=reason)

    def _collectives(self, name: str, found: Observation) -> Check:
        wanted = compiled_form(predicted_collectives(self.program))
        seen = collectives(found.hlo, self.program.mesh.devices)
        status = CheckStatus.PASSED if wanted == seen else CheckStatus.FAILED
        return Check(name=name, predicted=wanted.total(), observed=seen.total(), status=status, reason=difference(wanted, seen))

    # --- other forms -------------------------------------------------------------------------------------------------

    def _archive(self) -> Check:
        name = "archive_outputs_equal"
        if find_spec("flatbuffers") is None:
            return unavailable(name, 0, "flatbuffers is not installed: pip install 'lepton_dse[xla]'")
        self.options.progress("writing an archive of jax.export and running it")
        archive = self.scratch / "model.jax_export"
        call(self.folder, "export.py", str(archive))
        found = observe(self.folder, self.scratch / "archive", "--archive", str(archive))
        if "lepton_dse" in found.imported:
            return compare(name, 0, 1, reason="the process that ran the archive imported lepton_dse")
        return self._outputs(name, found)

    def _is_interpretable(self) -> bool:
        program = self.program
        kinds = {entry.kind for entry in arguments(self.folded)} | steps_of(self.folded).kinds
        small = predicted_macs(program) * -(-self._samples // program.graph.batch) <= _INTERPRETED
        return program.mesh.devices == 1 and small and kinds <= {*_PLAIN, "ui8", "ui16", "ui32"}

    @property
    def _samples(self) -> int:
        output = self.program.graph.tensors[self.program.graph.outputs[0]]
        return max(1, self.expected[0].size * self.program.graph.batch // max(output.elements, 1))

    def _interpreted(self) -> Check:
        self.options.progress("running the program in the reference interpreter of StableHLO")
        text = self.scratch / "interpreted.mlir"
        text.write_text(interpreted_text(self.folded))
        found = observe(self.folder, self.scratch / "interpreted", "--interpret", "--model", str(text))
        return self._outputs("interpreter_outputs_equal", found)


def _lines(text: str) -> list[str]:
    """The lines of the steps in a module's text: from behind what opens the body to what returns from it."""
    lines = text.splitlines()
    opening = next((number for number, line in enumerate(lines) if "sdy.manual_computation" in line), None)
    if opening is None:
        opening = next((number for number, line in enumerate(lines) if "func.func" in line), 0)
    end = next((number for number, line in enumerate(lines) if line.lstrip().startswith(("sdy.return", "return"))), len(lines))
    return [line.strip() for line in lines[opening + 1 : end]]
