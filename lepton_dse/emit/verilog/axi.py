"""The shell module: the design behind AXI4-Lite registers, wiring only."""

from __future__ import annotations

from lepton_dse import rtl_library as rtl
from lepton_dse.emit.streams import axis_width
from lepton_dse.emit.verilog.top import TOP, instantiate
from lepton_dse.emit.writer import Writer
from lepton_dse.schedule.stream import StreamSchedule

__all__ = ["SHELL", "register_table", "shell_module", "shell_parameters"]

SHELL = "lepton_axi"
_INNER = ("core_rst", "core_in_valid", "core_in_ready", "core_in_data")
_OUTER = ("core_out_valid", "core_out_ready", "core_out_data", "core_out_last")


def shell_parameters(schedule: StreamSchedule, design: int) -> rtl.AxiWrapper:
    """Parameters of the wrapper around a design.

    Parameters
    ----------
    schedule : StreamSchedule
    design : int
        What software reads to know the design.
    """
    return rtl.AxiWrapper(
        in_width=axis_width(schedule.input_lanes, schedule.input_bits),
        out_width=axis_width(schedule.output_lanes, schedule.output_bits),
        beats=schedule.input_beats,
        design=design,
    )


def shell_module(parameters: rtl.AxiWrapper, title: str) -> str:
    """Verilog text of the module ``lepton_axi``: the wrapper and ``lepton_top``.

    Parameters
    ----------
    parameters : AxiWrapper
    title : str
        First comment line, one line of printable ASCII.
    """
    wrapper = rtl.MODULES["axi_wrapper"]
    ports = wrapper.ports(parameters)
    inside = {port.name: port.width for port in ports if port.name in (*_INNER, *_OUTER)}
    outside = [port for port in ports if port.name not in inside]
    out = Writer()
    out.line(f"// {title}")
    out.line("// Wiring only: AXI-Stream in and out, one word a beat, and the AXI4-Lite slave of rtl/axi_wrapper.v.")
    out.lines(["`default_nettype none", "", f"module {SHELL} ("])
    for port in outside:
        kind = f"{port.direction.value:6} wire {'' if port.width == 1 else f'[{port.width - 1}:0] '}"
        out.line(f"    {kind}{port.name}{'' if port is outside[-1] else ','}")
    out.lines([");", ""])
    out.lines(f"    wire {'' if width == 1 else f'[{width - 1}:0] '}{name};" for name, width in inside.items())
    out.line()
    instantiate(out, wrapper.name, parameters, "shell", {port.name: port.name for port in ports})
    out.line()
    out.line(f"    {TOP} core (")
    out.line(f"        .clk(aclk), .rst({_INNER[0]}),")
    out.line("        " + "".join(f".s_axis_t{name.rpartition('_')[2]}({name}), " for name in _INNER[1:]).rstrip())
    out.line("        " + ", ".join(f".m_axis_t{name.rpartition('_')[2]}({name})" for name in _OUTER))
    out.lines(["    );", "", "endmodule", "", "`default_nettype wire"])
    return out.text()


def register_table() -> list[str]:
    """The registers as lines of a Markdown table."""
    rows = [f"| `{one.offset:#04x}` | {one.name} | {one.access} | {one.meaning} |" for one in rtl.AXI_REGISTERS]
    return ["| offset | register | access | |", "|---|---|---|---|", *rows]
