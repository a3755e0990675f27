"""Verification of Verilog artefacts: every word and the cycle of every beat, in two simulators, and resources by synthesis."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_dse import rtl_library as rtl
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.verify import first_wrong
from lepton_dse.verify.artefact import Artefact, Verifier, VerifyOptions, compare, unavailable
from lepton_dse.verify.place import place_and_route
from lepton_dse.verify.synthesis import RESOURCE_BANDS, synthesise
from lepton_dse.verify.verilated import build_verilated

__all__ = ["VERIFIER", "clock_checks"]

_TESTBENCH = {"DESIGN_FRAMES": "2", "DESIGN_CASES": "stalls_0 stalls_1"}
"""The four-state simulator is slow, and there to show unknown bits: two frames, without stalls and with."""
_LARGE_TESTBENCH = {"DESIGN_FRAMES": "1", "DESIGN_CASES": "stalls_1"}
"""Of designs that take long for a frame: one, with stalls."""
_PLACE_LIMIT_S = 600.0  # for placing and routing; a design of 10,000 look-up tables takes a minute or two
_LARGE = 10_000  # cycles of two frames from which a design is large: at some hundred a second, minutes


@dataclass(frozen=True)
class _Run:
    """Transfers that the fast path recorded."""

    inputs: list[int]
    outputs: list[tuple[int, int, int]]
    """Cycle, last mark and word of each output beat."""


def run(artefact: Artefact, options: VerifyOptions) -> list[Check]:
    """Simulate a Verilog artefact.

    Checks: ``outputs_equal`` (words that differ over all samples), ``latency_cycles``, ``interval_cycles``, ``stalls_<seed>``
    (beats at either end whose cycle differs from the prediction), ``testbench`` (the artefact's own cocotb bench in Icarus
    Verilog, which knows unknown bits), and with ``synthesis`` one check a resource; with ``placement`` these and
    ``clock_in_band`` (the clock of the placed design, on ecp5).
    """
    design = json.loads((artefact.folder / "design.json").read_text(encoding="utf-8"))
    checks = _fast_path(artefact, design, options)
    checks.append(_testbench(artefact, options))
    if options.synthesis or options.placement:
        checks += _synthesised(artefact, design["fabric"], options)
    return checks


VERIFIER = Verifier("verilog", run)


def _fast_path(artefact: Artefact, design: dict[str, Any], options: VerifyOptions) -> list[Check]:
    stalls = sorted(artefact.folder.glob("vectors/stalls_*.json"))
    names = ["outputs_equal", "latency_cycles", "interval_cycles", *(path.stem for path in stalls)]
    with tempfile.TemporaryDirectory(prefix="lepton-verilated-") as scratch:
        folder = Path(scratch)
        options.progress("building the Verilated model")
        try:
            sources = [*sorted(artefact.folder.glob("rtl/*.v")), artefact.folder / f"{TOP}.v"]
            binary = build_verilated(sources, artefact.folder / "tb" / "sim_main.cpp", TOP, folder)
        except MissingToolError as error:
            return [unavailable(name, None, str(error)) for name in names]
        options.progress("streaming every sample through the Verilated model")
        expected = (artefact.folder / "vectors" / "expected.hex").read_text(encoding="utf-8").split()
        free = _stream(artefact, binary, folder, len(expected), "1", "1")
        checks = _outputs(artefact, design, expected, free)
        checks += _pace(artefact, design, free)
        for path in stalls:
            options.progress(f"streaming under {path.stem}")
            checks.append(_stalled(artefact, design, binary, folder, path))
        return checks


def _stream(
    artefact: Artefact, binary: Path, folder: Path, beats: int, source: str, sink: str, words: Path | None = None
) -> _Run:
    (folder / "source.bits").write_text(source + "\n", encoding="utf-8")
    (folder / "sink.bits").write_text(sink + "\n", encoding="utf-8")
    words = words or artefact.folder / "vectors" / "input.hex"
    result = folder / "result.txt"
    command = [str(binary), str(words), str(beats), str(folder / "source.bits"), str(folder / "sink.bits"), str(result)]
    # Memory images are named relative to the artefact's folder.
    done = subprocess.run(command, cwd=artefact.folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise LeptonError(f"the simulation failed: {done.stderr.strip() or done.returncode}", where=str(artefact.folder))
    inputs, outputs = [], []
    for line in result.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if fields[0] == "i":
            inputs.append(int(fields[1]))
        else:
            outputs.append((int(fields[1]), int(fields[2]), int(fields[3], 16)))
    return _Run(inputs, outputs)


def _outputs(artefact: Artefact, design: dict[str, Any], expected: list[str], observed: _Run) -> list[Check]:
    beats = design["output_beats"]
    wrong = [
        index
        for index, (text, (_, last, word)) in enumerate(zip(expected, observed.outputs, strict=False))
        if int(text, 16) != word or last != int((index + 1) % beats == 0)
    ]
    missing = len(expected) - len(observed.outputs)
    reason = ""
    if missing:
        reason = f"the design stopped after {len(observed.outputs)} of {len(expected)} words"
    elif wrong:
        reason = first_wrong.explain(artefact, wrong[0] // beats)
    return [compare("outputs_equal", 0, len(wrong) + missing, reason=reason)]


def _pace(artefact: Artefact, design: dict[str, Any], observed: _Run) -> list[Check]:
    cycles = artefact.plan.predicted.cycles
    beats = design["output_beats"]
    if cycles is None or len(observed.outputs) < 3 * beats:
        reason = "at least three samples show a steady state"
        return [unavailable(name, None, reason) for name in ("latency_cycles", "interval_cycles")]
    latency = observed.outputs[beats - 1][0] - observed.inputs[0]
    interval = observed.outputs[-1][0] - observed.outputs[-1 - beats][0]
    return [compare("latency_cycles", cycles.latency, latency), compare("interval_cycles", cycles.interval, interval)]


def _stalled(artefact: Artefact, design: dict[str, Any], binary: Path, folder: Path, path: Path) -> Check:
    case = json.loads(path.read_text(encoding="utf-8"))
    beats = case["frames"] * design["output_beats"]
    words = folder / "input.hex"
    lines = (artefact.folder / "vectors" / "input.hex").read_text(encoding="utf-8").splitlines(keepends=True)
    words.write_text("".join(lines[: case["frames"] * design["input_beats"]]), encoding="utf-8")
    observed = _stream(artefact, binary, folder, beats, case["source"], case["sink"], words)
    wrong, reason = 0, ""
    for end, predicted, seen in (
        ("input", case["input_cycles"], observed.inputs),
        ("output", case["output_cycles"], [cycle for cycle, _, _ in observed.outputs]),
    ):
        different = [index for index, pair in enumerate(zip(predicted, seen, strict=False)) if pair[0] != pair[1]]
        wrong += len(different) + abs(len(predicted) - len(seen))
        if different and not reason:
            index = different[0]
            reason = f"{end} beat {index} in cycle {seen[index]}, predicted {predicted[index]}"
    return compare(path.stem, 0, wrong, reason=reason)


def _testbench(artefact: Artefact, options: VerifyOptions) -> Check:
    options.progress("running the cocotb testbench in Icarus Verilog")
    with tempfile.TemporaryDirectory(prefix="lepton-cocotb-") as scratch:
        try:
            cycles = artefact.plan.predicted.cycles
            large = cycles is not None and cycles.latency + cycles.interval >= _LARGE
            picked = _LARGE_TESTBENCH if large else _TESTBENCH
            tests, failures = first_wrong.run_testbench(artefact, Path(scratch), picked)
        except MissingToolError as error:
            return unavailable("testbench", "passed", str(error))
    status = CheckStatus.FAILED if failures or not tests else CheckStatus.PASSED
    observed = f"{tests - len(failures)} of {tests} cases"
    return Check(name="testbench", predicted="passed", observed=observed, status=status, reason="; ".join(failures)[:500])


def _synthesised(artefact: Artefact, fabric: str, options: VerifyOptions) -> list[Check]:
    predicted = artefact.plan.predicted.resources
    options.progress("synthesising with Yosys; this can take minutes")
    with tempfile.TemporaryDirectory(prefix="lepton-synthesis-") as scratch:
        netlist = Path(scratch) / f"{TOP}.json"
        try:
            observed = synthesise(artefact, netlist)
        except MissingToolError as error:
            checks = [unavailable(f"resource_{name}", predicted[name], str(error)) for name in sorted(predicted)]
        else:
            checks = [
                compare(f"resource_{name}", predicted[name], observed[name], RESOURCE_BANDS[name]) for name in sorted(observed)
            ]
        return [*checks, *(clock_checks(artefact, fabric, netlist, options) if options.placement else [])]


def clock_checks(artefact: Artefact, fabric: str, netlist: Path, options: VerifyOptions) -> list[Check]:
    """``clock_in_band``: the clock of a design for ecp5 where nextpnr puts it, beside the plan's band.

    Parameters
    ----------
    artefact : Artefact
    fabric : str
        Of the plan's target; others than ecp5 are not placed.
    netlist : Path
        The design as Yosys wrote it; where it is missing, so is the check.
    options : VerifyOptions
    """
    cycles = artefact.plan.predicted.cycles
    name = "clock_in_band"
    if cycles is None or cycles.band is None:
        return [unavailable(name, None, "the plan has no band for the clock of its fabric")]
    band = cycles.band
    expected = f"{band.low_hz / 1e6:.1f} to {band.high_hz / 1e6:.1f} MHz"
    if fabric != rtl.Family.ECP5.value:
        return [unavailable(name, expected, f"designs for {fabric} are not placed here, only those for ecp5")]
    if not netlist.is_file():
        return [unavailable(name, expected, "there is no netlist without Yosys")]
    options.progress("placing and routing with nextpnr; this can take minutes")
    try:
        placed = place_and_route(netlist, limit_s=_PLACE_LIMIT_S)
    except (MissingToolError, TimeoutError) as error:
        return [unavailable(name, expected, str(error))]
    inside = band.low_hz <= placed.clock_hz <= band.high_hz
    status = CheckStatus.PASSED if inside else CheckStatus.FAILED
    reason = "" if inside else f"the longest path runs through {', '.join(placed.cells[:4])}"
    return [Check(name=name, predicted=expected, observed=f"{placed.clock_hz / 1e6:.1f} MHz", status=status, reason=reason)]
