"""Suites ``fpga-cycles`` and ``fpga-resources``: designs of the digits network, emitted, simulated and synthesised.

The network is quantised on seeded noise, planned for two devices in two formats, emitted as Verilog and run in Verilator, every
word and the cycle of every beat being checked on the way; resources are those that Yosys maps the same files to. Cycles come from
the event graph, resources from closed forms per module (docs/streaming.md).
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from lepton_dse import flow
from lepton_dse.errors import MissingToolError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.plan import Check
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, UnavailableError, row, score

__all__ = ["DESIGNS", "SUITES", "checked"]

DESIGNS = (("amd-zynq-7020", "int8"), ("amd-zynq-7020", "w4a8"), ("lattice-ecp5-85f", "int8"), ("lattice-ecp5-85f", "w4a8"))
"""Target and formats of each design."""
_CYCLES = ("latency_cycles", "interval_cycles")
_SAMPLES = "calibrated on seeded noise, which also makes the samples that are streamed"


@cache
def checked(target: str, form: str, synthesis: bool) -> tuple[Check, ...]:
    """Checks of one design, emitted into a temporary folder; remembered within a process."""
    planned = flow.plan(load_model(data_folder("models") / "digits_cnn.onnx"), target, format=form, minimize="throughput")
    with tempfile.TemporaryDirectory() as folder:
        artefact = flow.emit(planned, Path(folder) / "design")
        return flow.verify(artefact, synthesis=synthesis).checks


def _cycles(suite: Suite, context: Context) -> SuiteResult:
    return _run(suite, context, synthesis=False)


def _resources(suite: Suite, context: Context) -> SuiteResult:
    return _run(suite, context, synthesis=True)


def _run(suite: Suite, context: Context, *, synthesis: bool) -> SuiteResult:
    rows: list[Row] = []
    for target, form in DESIGNS:
        context.progress(f"{suite.name}: {target}, {form}")
        try:
            checks = checked(target, form, synthesis)
        except MissingToolError as absent:
            raise UnavailableError(str(absent)) from absent
        for check in checks:
            if not (check.name.startswith("resource_") if synthesis else check.name in _CYCLES):
                continue
            if not isinstance(check.predicted, int | float) or not isinstance(check.observed, int | float):
                raise UnavailableError(check.reason or f"{check.name} was not observed")
            rows.append(row(f"{target} {form} {check.name}", float(check.predicted), float(check.observed)))
    return score(suite, rows, notes=(_SAMPLES,))


SUITES = (
    Suite("fpga-cycles", "the emitted designs in Verilator", "cycles of latency and of the interval between results", _cycles),
    Suite("fpga-resources", "the emitted designs through Yosys", "LUTs, flip-flops, DSPs and block RAMs", _resources),
)
"""Registered under ``fpga``."""
