"""Synthesises modules with given parameters and counts the primitives of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtl_cases import declaration_of, sources_of

from lepton_dse.rtl_library import Direction, Family, Parameters, Resources
from lepton_dse.verify.simulators import run_yosys
from lepton_dse.verify.synthesis import cells_by_module, count_primitives, synthesis_command


def wrapper(parameters: Parameters, name: str = "top") -> str:
    """Return a module that instantiates the module; Yosys does not take strings as parameters otherwise."""
    declaration = declaration_of(parameters)
    ports = declaration.ports(parameters)
    values = ", ".join(
        f'.{key}("{value}")' if isinstance(value, str) else f".{key}({value})"
        for key, value in parameters.verilog_parameters().items()
    )
    lines = [f"module {name} ({', '.join(port.name for port in ports)});"]
    for port in ports:
        lines.append(f"{'input' if port.direction is Direction.INPUT else 'output'} [{port.width - 1}:0] {port.name};")
    lines.append(f"{declaration.name} #({values}) dut ({', '.join(f'.{p.name}({p.name})' for p in ports)});")
    return "\n".join([*lines, "endmodule", ""])


def side_by_side(names: Sequence[str], configurations: Sequence[Parameters], without: str = "") -> str:
    """Return a top module with every wrapper side by side, all their ports led out but those named `without`."""
    ports, lines = [], []
    for name, parameters in zip(names, configurations, strict=True):
        declared = [port for port in declaration_of(parameters).ports(parameters) if port.name != without]
        ports += [f"{port.direction.value} [{port.width - 1}:0] {name}_{port.name}" for port in declared]
        lines.append(f"{name} place_{name} ({', '.join(f'.{port.name}({name}_{port.name})' for port in declared)});")
    return "\n".join([f"module top ({', '.join(ports)});", *lines, "endmodule", ""])


def synthesise(configurations: Sequence[Parameters], family: Family, folder: Path) -> list[Resources]:
    """Return what Yosys makes of each module; ``netlist.json`` in the folder has them all, by the names of :func:`names_of`.

    All are synthesised in one run, since most of a run is the start of Yosys; each stays a module of its own.
    """
    names = names_of(configurations)
    wrappers = [
        "(* keep_hierarchy *)\n" + wrapper(parameters, name) for name, parameters in zip(names, configurations, strict=True)
    ]
    (folder / "top.v").write_text("".join([*wrappers, side_by_side(names, configurations)]))
    files = " ".join(sorted({str(path) for parameters in configurations for path in sources_of(parameters)}))
    reading = f"read_verilog -defer {files}; read_verilog top.v"
    log = run_yosys(f"{reading}; {synthesis_command(family, 'top')}; stat -json; write_json netlist.json", folder)
    modules = cells_by_module(log)
    return [count_primitives(modules[name]) for name in names]


def names_of(configurations: Sequence[Parameters]) -> list[str]:
    """Return the names of the modules that hold them."""
    return [f"case_{index}" for index in range(len(configurations))]
