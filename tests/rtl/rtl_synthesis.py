"""Synthesises one module with given parameters and counts the primitives."""

from __future__ import annotations

import json
from pathlib import Path

from rtl_cases import declaration_of, source

from lepton_dse.rtl_library import Direction, Family, Parameters, Resources
from lepton_dse.verify.simulators import run_yosys

COMMANDS = {Family.XC7: "synth_xilinx -family xc7 -flatten -top top", Family.ECP5: "synth_ecp5 -top top"}

# LUTs that each primitive occupies: a carry chain of ecp5 runs through its two LUTs, memory lies in LUTs (and, in ecp5,
# blocks two more for its write port).
LUTS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    "SRL16E": 1, "SRLC32E": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4,
    "CCU2C": 2, "TRELLIS_DPR16X4": 6,
}  # fmt: skip
FLIP_FLOPS = {"FDRE", "FDSE", "FDCE", "FDPE", "TRELLIS_FF"}
MULTIPLIERS = {"DSP48E1", "MULT18X18D"}
BLOCKS = {"RAMB18E1": 1, "RAMB36E1": 2, "DP16KD": 1, "PDPW16KD": 1}
# No logic of their own: buffers, the multiplexers and carries beside the LUTs, and inverters that a pin absorbs.
FREE = {"IBUF", "OBUF", "BUFG", "MUXF7", "MUXF8", "CARRY4", "PFUMX", "L6MUX21", "INV", "GND", "VCC", "VLO", "VHI"}


def wrapper(parameters: Parameters) -> str:
    """Return a module ``top`` that instantiates the module; Yosys does not take strings as parameters otherwise."""
    declaration = declaration_of(parameters)
    ports = declaration.ports(parameters)
    values = ", ".join(
        f'.{name}("{value}")' if isinstance(value, str) else f".{name}({value})"
        for name, value in parameters.verilog_parameters().items()
    )
    lines = [f"module top ({', '.join(port.name for port in ports)});"]
    for port in ports:
        lines.append(f"{'input' if port.direction is Direction.INPUT else 'output'} [{port.width - 1}:0] {port.name};")
    lines.append(f"{declaration.name} #({values}) dut ({', '.join(f'.{p.name}({p.name})' for p in ports)});")
    return "\n".join([*lines, "endmodule", ""])


def synthesise(parameters: Parameters, family: Family, folder: Path) -> Resources:
    """Return what Yosys makes of a module; an unknown primitive is an error, so that none goes uncounted."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.v").write_text(wrapper(parameters))
    name = declaration_of(parameters).name
    run_yosys(
        f"read_verilog -defer {source(name)}; read_verilog top.v; {COMMANDS[family]}; tee -q -o stat.json stat -json",
        folder,
    )
    text = (folder / "stat.json").read_text()
    cells: dict[str, int] = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    total = Resources()
    for cell, count in cells.items():
        known = cell in LUTS or cell in FLIP_FLOPS or cell in MULTIPLIERS or cell in BLOCKS or cell in FREE
        assert known, f"{name}: primitive {cell} is not counted"
        total += Resources(
            lut=LUTS.get(cell, 0) * count,
            ff=count if cell in FLIP_FLOPS else 0,
            dsp=count if cell in MULTIPLIERS else 0,
            bram18=BLOCKS.get(cell, 0) * count,
        )
    return total
