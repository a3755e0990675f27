"""The checks of an ONNX artefact: operations are judged one by one, whole passes are reported.

Each operation reads and writes tensors by name, and so does the cut model: when all of them hold, so does their composition, up
to what a difference within the bounds grows to on its way. How far that is nothing predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lepton_dse.emit.onnx.emitter import INPUT_FILE, MODEL_FILE, expected_file
from lepton_dse.errors import InvalidPlanError, MissingToolError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.verify.artefact import Artefact, Verifier, VerifyOptions, compare, unavailable
from lepton_dse.verify.onnx.operations import FLOAT_BOUND, Difference, differences
from lepton_dse.verify.onnx.session import Session

__all__ = ["VERIFIER"]

_BATCH = 64


def run(artefact: Artefact, options: VerifyOptions) -> list[Check]:
    """Run an ONNX artefact in onnxruntime.

    Raises
    ------
    LeptonError
        If onnxruntime refuses the model.
    """
    graph, folder = artefact.graph, artefact.folder
    data = (folder / MODEL_FILE).read_bytes()
    options.progress("loading the model in onnxruntime")
    try:
        session = Session(data)
    except MissingToolError as error:
        return [unavailable(name, 0, str(error)) for name in ("operations_within_one_unit", "real_operations_within_bound")]
    model = onnx.ModelProto()
    model.ParseFromString(data)
    source = graph.tensors[graph.inputs[0]]
    x = np.fromfile(folder / INPUT_FILE, "<f4").reshape(-1, *source.shape[1:]).astype(source.format.numpy)
    options.progress("running every operation on the reference's operands")
    found, samples = differences(model, graph, x)
    options.progress("running every sample through the model")
    return [*_operations(found, samples), *_outputs(graph, folder, session, x)]


VERIFIER = Verifier("onnx", run)


def _operations(found: Sequence[Difference], samples: int) -> list[Check]:
    checks = []
    for name, kind, bound in (
        ("operations_within_one_unit", [entry for entry in found if entry.counts_units], "one unit"),
        ("real_operations_within_bound", [entry for entry in found if not entry.counts_units], f"{FLOAT_BOUND:g} of the peak"),
    ):
        if not kind:
            continue
        worst = max(kind, key=lambda entry: entry.beyond)
        reason = f"tensor '{worst.tensor.name}': {worst.beyond} of {worst.values} values beyond {bound}, by up to {worst.worst:g}"
        checks.append(compare(name, 0, sum(entry.beyond for entry in kind), reason=reason))
        if kind[0].counts_units:
            equal, values = sum(entry.equal for entry in kind), sum(entry.values for entry in kind)
            checks.append(_reported("operations_equal", values - equal, f"values that differ, of {values} in {samples} samples"))
    return checks


def _reported(name: str, observed: float | str, reason: str) -> Check:
    """An observation that nothing predicts: one unit of one operation may grow in the next."""
    return Check(name=name, predicted=None, observed=observed, status=CheckStatus.REPORTED, reason=reason)


def _outputs(graph: LoweredGraph, folder: Path, session: Session, x: NDArray[Any]) -> list[Check]:
    parts = [session.run(graph.outputs, {graph.inputs[0]: x[start : start + _BATCH]}) for start in range(0, len(x), _BATCH)]
    checks = []
    for position, name in enumerate(graph.outputs):
        tensor = graph.tensors[name]
        observed = np.concatenate([part[position] for part in parts]).reshape(len(x), -1)
        expected = np.fromfile(folder / expected_file(position), tensor.format.numpy.newbyteorder("<"))
        if expected.size != observed.size:
            raise InvalidPlanError(
                f"{expected.size} reference values of output {name}, the model gives {observed.size}",
                where=str(folder),
                fix="emit it again",
            )
        suffix = f"[{position}]" if len(graph.outputs) > 1 else ""
        checks += _output(graph, name, expected.reshape(observed.shape), observed, suffix)
    return checks


def _output(graph: LoweredGraph, name: str, expected: NDArray[Any], observed: NDArray[Any], suffix: str) -> list[Check]:
    tensor, samples = graph.tensors[name], len(expected)
    differing = int(np.count_nonzero(expected != observed))
    equal = _reported(f"outputs_equal{suffix}", differing, f"values that differ, of {expected.size} in {samples} samples")
    if not tensor.format.is_float:
        return [equal]
    wide, found = expected.astype(np.float64), observed.astype(np.float64)
    unit = _unit(graph, name)
    with np.errstate(invalid="ignore"):  # equal infinities have no difference
        apart = np.where(wide == found, 0.0, np.abs(wide - found))
    if unit is None:
        bound = FLOAT_BOUND * (float(np.abs(wide[np.isfinite(wide)]).max(initial=0)) or 1.0)
        beyond = int(np.count_nonzero(~(apart <= bound)))
        checks = [_reported(f"outputs_beyond_bound{suffix}", beyond, f"of {expected.size} values; the bound is {bound:g}")]
    else:
        units = int(np.count_nonzero(~(np.rint(apart / unit) <= 1)))
        checks = [equal, _reported(f"outputs_beyond_one_unit{suffix}", units, f"a unit is {unit:g}")]
    if expected.shape[1] > 1:
        alike = int(np.count_nonzero(wide.argmax(axis=1) == found.argmax(axis=1)))
        checks.append(_reported(f"top1_equal{suffix}", samples - alike, f"samples with another greatest element, of {samples}"))
    lengths = float(np.linalg.norm(wide) * np.linalg.norm(found))
    if lengths:
        distance = 1 - float(np.vdot(wide, found)) / lengths
        shown = max(0.0, distance) if np.isfinite(distance) else "not finite"
        checks.append(_reported(f"outputs_cosine_distance{suffix}", shown, "one less the cosine of all values"))
    return checks


def _unit(graph: LoweredGraph, name: str) -> float | None:
    """Scale of the integers that an output was; None where it never was one."""
    producer = graph.producer(name)
    if producer is None or not isinstance(producer.attributes, ops.Dequantize):
        return None
    tensor = graph.tensors[producer.inputs[0]]
    return tensor.quant.beta[0] if tensor.quant is not None and tensor.format.is_integer else None
