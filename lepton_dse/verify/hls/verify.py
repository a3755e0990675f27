"""The checks of an artefact for high-level synthesis."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from lepton_dse.emit.hls.top import stream_behind
from lepton_dse.errors import MissingToolError
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.verify import first_wrong
from lepton_dse.verify.artefact import Artefact, Verifier, VerifyOptions, compare, unavailable
from lepton_dse.verify.hls.headers import ap_types
from lepton_dse.verify.hls.simulation import STUCK, Simulation, build, build_bounded, simulate

__all__ = ["VERIFIER"]

_CHECKS = ("outputs_equal", "streams_drained", "testbench", "depths_suffice")
_FREE = "no deadlock"


def run(artefact: Artefact, options: VerifyOptions) -> list[Check]:
    """Compile and run the C simulation of an artefact.

    Checks: ``outputs_equal`` (words that differ over all samples), ``streams_drained`` (times that a stream was read empty or
    held words at the end of a frame), ``testbench`` (the verdict of the artefact's own bench), ``depths_suffice`` (whether a
    frame gets through streams of the depths that the pragmas say).

    Raises
    ------
    LeptonError
        If the program does not compile.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        return [unavailable(name, None, "g++ is not installed: install the system package 'g++'") for name in _CHECKS]
    try:
        headers = ap_types()
    except MissingToolError as error:
        return [unavailable(name, None, str(error)) for name in _CHECKS]
    with tempfile.TemporaryDirectory(prefix="lepton-hls-") as scratch:
        folder = Path(scratch)
        options.progress("compiling the C simulation")
        plain = build(compiler, headers, artefact.folder, folder)
        options.progress("streaming every sample through the C simulation")
        observed = simulate(plain, artefact.folder / "vectors")
        options.progress("streaming one sample through streams of the planned depths")
        bounded = build_bounded(compiler, headers, artefact.folder, folder)
        alone = simulate(bounded, _one_frame(artefact, folder, 0))
        return [*_checks(artefact, observed, bounded, folder), _depths(alone)]


VERIFIER = Verifier("hls", run)


def _checks(artefact: Artefact, observed: Simulation, bounded: Path, folder: Path) -> list[Check]:
    expected = (artefact.folder / "vectors" / "expected.hex").read_text(encoding="utf-8").split()
    pairs = list(zip(expected, observed.words, strict=False))
    wrong = [index for index, (want, have) in enumerate(pairs) if int(want, 16) != int(have, 16)]
    missing = abs(len(expected) - len(observed.words))
    reason = ""
    if wrong:
        design = json.loads((artefact.folder / "design.json").read_text(encoding="utf-8"))
        reason = _first_wrong(artefact, bounded, folder, wrong[0] // design["output_beats"])
    elif missing:
        reason = f"{len(observed.words)} words, expected {len(expected)}"
    warnings = [line for line in observed.text.splitlines() if "hls::stream" in line.lower()]
    passed = observed.code == 0
    bench = Check(
        name="testbench",
        predicted="passed",
        observed=f"exit code {observed.code}",
        status=CheckStatus.PASSED if passed else CheckStatus.FAILED,
        reason="" if passed else "the bench found a difference or ended early",
    )
    return [
        compare("outputs_equal", 0, len(wrong) + missing, reason=reason),
        compare("streams_drained", 0, len(warnings), reason=warnings[0] if warnings else ""),
        bench,
    ]


def _depths(alone: Simulation) -> Check:
    stuck = alone.code == STUCK
    return Check(
        name="depths_suffice",
        predicted=_FREE,
        observed="deadlock" if stuck else _FREE if alone.code in (0, 1) else f"exit code {alone.code}",
        status=CheckStatus.PASSED if alone.code in (0, 1) else CheckStatus.FAILED,
        reason=alone.text.strip().rpartition("\n")[2] if stuck else "",
    )


def _one_frame(artefact: Artefact, folder: Path, frame: int) -> Path:
    """A folder with the vectors of one frame; frames do not depend on one another."""
    design = json.loads((artefact.folder / "design.json").read_text(encoding="utf-8"))
    place = folder / f"frame{frame}"
    place.mkdir(exist_ok=True)
    for name, beats in (("input.hex", design["input_beats"]), ("expected.hex", design["output_beats"])):
        lines = (artefact.folder / "vectors" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (place / name).write_text("".join(lines[frame * beats : (frame + 1) * beats]), encoding="utf-8")
    return place


def _first_wrong(artefact: Artefact, bounded: Path, folder: Path, frame: int) -> str:
    """Name the first layer and word that differ from the reference."""
    observed = simulate(bounded, _one_frame(artefact, folder, frame), recording=True)
    for stage, expected in first_wrong.expected_words(artefact, frame + 1):
        wanted = expected[frame * len(expected) // (frame + 1) :]
        given = observed.record.get(stream_behind(stage), [])
        for index, (want, have) in enumerate(zip(wanted, given, strict=False)):
            if want != have:
                return f"sample {frame}: layer '{stage.layer.name}' word {index} is {have:#x}, expected {want:#x}"
        if len(given) < len(wanted):
            return f"sample {frame}: layer '{stage.layer.name}' gave {len(given)} of {len(wanted)} words"
    return f"sample {frame}: every layer agrees with the reference alone"
