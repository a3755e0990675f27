"""Resources of an emitted design as Yosys counts them."""

from __future__ import annotations

import json
import re

from lepton_dse import rtl_library as rtl
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.errors import LeptonError
from lepton_dse.verify.artefact import Artefact
from lepton_dse.verify.simulators import run_yosys

__all__ = ["RESOURCE_BANDS", "count_cells", "synthesis_command", "synthesise"]

RESOURCE_BANDS = {"LUT": 0.25, "FF": 0.15, "DSP": 0.0, "BRAM18": 0.0}
"""Relative error that an estimate may have: block primitives are counted exactly, logic by closed forms."""

# What one cell of a type takes, in the units of :class:`lepton_dse.rtl_library.Resources`. A LUT that serves as memory or
# stands beside a carry chain is a LUT in use.
_LUTS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    **{"SRL16E": 1, "SRLC32E": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4},
    **{"CCU2C": 2, "TRELLIS_DPR16X4": 6},
}
_FLIP_FLOPS = re.compile(r"FD[RSCP]E(_1)?|TRELLIS_FF")
_DSPS = {"DSP48E1": 1, "MULT18X18D": 1}
_BLOCKS = {"RAMB18E1": 1, "RAMB36E1": 2, "DP16KD": 1}


def synthesis_command(family: rtl.Family, top: str) -> str:
    """The Yosys command that maps a design to a family."""
    if family is rtl.Family.XC7:
        return f"synth_xilinx -family xc7 -flatten -top {top}"
    return f"synth_ecp5 -top {top}"


def count_cells(statistics: str) -> dict[str, int]:
    """LUT, FF, DSP and BRAM18 of a design from the JSON that ``stat -json`` prints somewhere in a log.

    Raises
    ------
    LeptonError
        If the log holds no statistics.
    """
    start = statistics.rfind('{\n   "creator"')
    try:
        document, _ = json.JSONDecoder().raw_decode(statistics[start:])
        cells: dict[str, int] = document["design"]["num_cells_by_type"]
    except (ValueError, KeyError) as error:
        raise LeptonError("Yosys printed no statistics", where="stat -json") from error
    found = {"LUT": 0, "FF": 0, "DSP": 0, "BRAM18": 0}
    for name, count in cells.items():
        found["LUT"] += _LUTS.get(name, 0) * count
        found["DSP"] += _DSPS.get(name, 0) * count
        found["BRAM18"] += _BLOCKS.get(name, 0) * count
        found["FF"] += count if _FLIP_FLOPS.fullmatch(name) else 0
    return found


def synthesise(artefact: Artefact) -> dict[str, int]:
    """Synthesise an artefact for the fabric of its target and count primitives.

    Raises
    ------
    MissingToolError
        If Yosys is not installed.
    LeptonError
        If synthesis fails.
    """
    design = json.loads((artefact.folder / "design.json").read_text(encoding="utf-8"))
    family = rtl.Family(design["fabric"])
    sources = " ".join(str(path.relative_to(artefact.folder)) for path in sorted(artefact.folder.glob("rtl/*.v")))
    # Deferred reading: memory images are opened when a module is instantiated, not when its file is read.
    script = f"read_verilog -defer {sources} {TOP}.v; {synthesis_command(family, TOP)}; stat -json"
    return count_cells(run_yosys(script, artefact.folder))
