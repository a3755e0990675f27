"""Resources of an emitted design as Yosys counts them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lepton_dse import rtl_library as rtl
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.errors import LeptonError
from lepton_dse.verify.artefact import Artefact
from lepton_dse.verify.simulators import run_yosys

__all__ = [
    "RESOURCE_BANDS",
    "cells_by_module",
    "count_cells",
    "count_primitives",
    "synthesis_command",
    "synthesise",
]

RESOURCE_BANDS = {"LUT": 0.25, "FF": 0.15, "DSP": 0.0, "BRAM18": 0.0}
"""Relative error that an estimate may have: block primitives are counted exactly, logic by closed forms."""

# What one cell of a type takes, in the units of :class:`lepton_dse.rtl_library.Resources`. A LUT that serves as memory or
# stands beside a carry chain is a LUT in use; a carry chain of ecp5 runs through its two LUTs, and a memory in LUTs blocks
# two more for its write port.
_PRIMITIVES = {
    **{f"LUT{inputs}": rtl.Resources(lut=1) for inputs in range(1, 7)},
    **{name: rtl.Resources(lut=1) for name in ("SRL16E", "SRLC32E", "RAM32X1S", "RAM64X1S")},
    **{name: rtl.Resources(lut=2) for name in ("RAM128X1S", "RAM32X1D", "RAM64X1D", "CCU2C")},
    **{name: rtl.Resources(lut=4) for name in ("RAM256X1S", "RAM128X1D", "RAM32M", "RAM64M")},
    **{name: rtl.Resources(lut=8) for name in ("RAM32M16", "RAM64M8", "RAM64X8SW", "RAM512X1S", "RAM256X1D")},
    "TRELLIS_DPR16X4": rtl.Resources(lut=6),
    **{name: rtl.Resources(ff=1) for name in ("FDRE", "FDSE", "FDCE", "FDPE", "TRELLIS_FF")},
    **{name: rtl.Resources(dsp=1) for name in ("DSP48E1", "DSP48E2", "MULT18X18D")},
    **{name: rtl.Resources(bram18=1) for name in ("RAMB18E1", "RAMB18E2", "DP16KD", "PDPW16KD")},
    **{name: rtl.Resources(bram18=2) for name in ("RAMB36E1", "RAMB36E2")},
    # No logic of their own: buffers, the multiplexers and carries beside the LUTs, and inverters that a pin absorbs.
    **{name: rtl.Resources() for name in ("IBUF", "OBUF", "BUFG", "INV", "GND", "VCC", "VLO", "VHI")},
    **{name: rtl.Resources() for name in ("MUXF7", "MUXF8", "MUXF9", "CARRY4", "CARRY8", "PFUMX", "L6MUX21")},
}


def synthesis_command(family: rtl.Family, top: str) -> str:
    """The Yosys command that maps a design to a family."""
    if family.amd:
        return f"synth_xilinx -family {family.value} -flatten -top {top}"
    return f"synth_ecp5 -top {top}"


def cells_by_module(log: str) -> dict[str, dict[str, int]]:
    """Cells of each module by type, the whole design under the name ``""``, from what ``stat -json`` prints in a log.

    Raises
    ------
    LeptonError
        If the log holds no statistics.
    """
    start = log.rfind('{\n   "creator"')
    try:
        document, _ = json.JSONDecoder().raw_decode(log[start:])
        modules = {name.lstrip("\\"): module["num_cells_by_type"] for name, module in document["modules"].items()}
        return {**modules, "": document["design"]["num_cells_by_type"]}
    except (ValueError, KeyError) as error:
        raise LeptonError("Yosys printed no statistics", where="stat -json") from error


def count_primitives(cells: Mapping[str, int]) -> rtl.Resources:
    """Resources of cells by type.

    Raises
    ------
    LeptonError
        If a type is unknown, so that no primitive goes uncounted.
    """
    total = rtl.Resources()
    for name, count in cells.items():
        if name not in _PRIMITIVES:
            raise LeptonError(f"primitive {name} is not counted", where="stat -json", fix="use the Yosys that is supported")
        one = _PRIMITIVES[name]
        total += rtl.Resources(one.lut * count, one.ff * count, one.dsp * count, one.bram18 * count)
    return total


def count_cells(statistics: str) -> dict[str, int]:
    """LUT, FF, DSP and BRAM18 of a design from the JSON that ``stat -json`` prints somewhere in a log.

    Raises
    ------
    LeptonError
        If the log holds no statistics, or a primitive that is unknown.
    """
    total = count_primitives(cells_by_module(statistics)[""])
    return {"LUT": total.lut, "FF": total.ff, "DSP": total.dsp, "BRAM18": total.bram18}


def synthesise(artefact: Artefact, netlist: Path | None = None) -> dict[str, int]:
    """Synthesise an artefact for the fabric of its target and count primitives.

    Parameters
    ----------
    artefact : Artefact
    netlist : Path, optional
        Where to write the netlist, in the JSON that nextpnr reads.

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
    written = "" if netlist is None else f"; write_json {netlist.resolve()}"
    script = f"read_verilog -defer {sources} {TOP}.v; {synthesis_command(family, TOP)}; stat -json{written}"
    return count_cells(run_yosys(script, artefact.folder))
