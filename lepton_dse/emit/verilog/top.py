"""The top module: instances and wires of a streaming schedule, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_dse import rtl_library as rtl
from lepton_dse.emit.images import hex_lines, words
from lepton_dse.emit.streams import axis_width
from lepton_dse.emit.writer import Writer
from lepton_dse.schedule.stream import Instance, Memory, StreamSchedule
from lepton_dse.schedule.stream.layers import OUTPUT

__all__ = ["MEMORY_FOLDER", "TOP", "design_modules", "instantiate", "memory_files", "top_module"]

TOP = "lepton_top"
MEMORY_FOLDER = "mem"
Wires = tuple[str, str, str]
"""Names of the wires of a stream: valid, ready, data."""
_CLOCK = {"clk": "clk", "rst": "rst"}


def design_modules(schedule: StreamSchedule) -> tuple[str, ...]:
    """Names of the modules that a design instantiates, sorted."""
    names = {instance.module.name for instance in schedule.instances} | {"frame_last"}
    names |= {name for instance in schedule.instances for name in instance.module.uses}
    if any(instance.memories for instance in schedule.instances):
        names.add("rom")
    return tuple(sorted(names))


def memory_files(schedule: StreamSchedule) -> dict[str, bytes]:
    """Images of all memories by file name, cut into the slices that the top module instantiates."""
    files = {}
    for instance in schedule.instances:
        for memory in instance.memories:
            packed = words(memory.values, memory.field_bits)
            for part in rtl.rom_slices(memory.width, memory.depth):
                mask = (1 << part.width) - 1
                values = ((word >> part.lowest_bit) & mask for word in packed)
                files[_image(instance, memory, part.lowest_bit)] = hex_lines(values, part.width)
    return files


def _image(instance: Instance, memory: Memory, bit: int) -> str:
    return f"{MEMORY_FOLDER}/{instance.name}_{memory.port.value}{bit}.hex"


def top_module(schedule: StreamSchedule, title: str) -> str:
    """Verilog text of the top module ``lepton_top``.

    Parameters
    ----------
    schedule : StreamSchedule
    title : str
        First comment line, one line of printable ASCII.
    """
    out = Writer()
    width_in = schedule.input_lanes * schedule.input_bits
    width_out = schedule.output_lanes * schedule.output_bits
    axis_in, axis_out = (
        axis_width(schedule.input_lanes, schedule.input_bits),
        axis_width(schedule.output_lanes, schedule.output_bits),
    )
    out.line(f"// {title}")
    out.line("// Wiring only: AXI-Stream in and out, one word a beat, element 0 in the least significant bits. Paths of memory")
    out.line("// images are relative to the folder that holds this file.")
    out.lines(["`default_nettype none", "", f"module {TOP} ("])
    ports = [
        "    input  wire clk,",
        "    input  wire rst,",
        "    input  wire s_axis_tvalid,",
        "    output wire s_axis_tready,",
    ]
    if axis_in != width_in:
        ports.append("    /* verilator lint_off UNUSEDSIGNAL */")
    ports.append(f"    input  wire [{axis_in - 1}:0] s_axis_tdata,")
    if axis_in != width_in:
        ports.append("    /* verilator lint_on UNUSEDSIGNAL */")
    ports += [
        "    output wire m_axis_tvalid,",
        "    input  wire m_axis_tready,",
        f"    output wire [{axis_out - 1}:0] m_axis_tdata,",
        "    output wire m_axis_tlast",
        ");",
        "",
    ]
    out.lines(ports)
    arriving: dict[int, list[Wires]] = {0: [("s_axis_tvalid", "s_axis_tready", f"s_axis_tdata[{width_in - 1}:0]")]}
    for link in schedule.links:
        arriving.setdefault(link.sink, []).append(_behind(schedule.instances[link.source], link.copy))
    for position, instance in enumerate(schedule.instances):
        _place(out, instance, arriving[position])
        out.line()
    (upstream,) = arriving[OUTPUT]
    last = rtl.FrameLast(width=width_out, beats=schedule.output_beats)
    data = "m_axis_tdata" if axis_out == width_out else f"m_axis_tdata[{width_out - 1}:0]"
    if axis_out != width_out:
        out.line(f"    assign m_axis_tdata[{axis_out - 1}:{width_out}] = {axis_out - width_out}'d0;")
    downstream = "m_axis_tvalid", "m_axis_tready", data
    connections = _CLOCK | _stream("s", upstream) | _stream("m", downstream) | {"m_last": "m_axis_tlast"}
    instantiate(out, "frame_last", last, "last", connections)
    out.lines(["", "endmodule", "", "`default_nettype wire"])
    return out.text()


def _stream(prefix: str, wires: Wires) -> dict[str, str]:
    return {f"{prefix}_{name}": wire for name, wire in zip(("valid", "ready", "data"), wires, strict=True)}


def _behind(instance: Instance, copy: int) -> Wires:
    """The wires of the stream that leaves an instance; of a fork those of one consumer."""
    ports = {port.name: port for port in instance.module.ports(instance.parameters)}
    bit = f"[{copy}]" if ports["m_valid"].width > 1 else ""
    return f"{instance.name}_valid{bit}", f"{instance.name}_ready{bit}", f"{instance.name}_data"


def _place(out: Writer, instance: Instance, arriving: Sequence[Wires]) -> None:
    """Declare the wires behind an instance, instantiate it and its memories."""
    name = instance.name
    ports = {port.name: port for port in instance.module.ports(instance.parameters)}
    for signal in ("valid", "ready", "data"):
        width = ports[f"m_{signal}"].width
        out.line(f"    wire {'' if width == 1 and signal != 'data' else f'[{width - 1}:0] '}{name}_{signal};")
    connections = _CLOCK | _stream("m", (f"{name}_valid", f"{name}_ready", f"{name}_data"))
    for prefix, wires in zip(_inputs(ports), arriving, strict=True):
        connections |= _stream(prefix, wires)
    for memory in instance.memories:
        prefix = memory.port.value
        for signal in ("en", "addr", "data"):
            port = ports.get(f"{prefix}_{signal}")
            if port is not None:
                out.line(f"    wire [{port.width - 1}:0] {name}_{port.name};")
                connections[port.name] = f"{name}_{port.name}"
        _memory(out, instance, memory, enabled=f"{prefix}_en" in ports)
    instantiate(out, instance.module.name, instance.parameters, name, {port: connections[port] for port in ports})


def _inputs(ports: Mapping[str, rtl.Port]) -> list[str]:
    """Prefixes of the streams that a module takes, in order."""
    return [name.removesuffix("_valid") for name in ports if name.endswith("_valid") and name != "m_valid"]


def _memory(out: Writer, instance: Instance, memory: Memory, *, enabled: bool) -> None:
    """The parts of a memory, and of every copy of it, side by side."""
    prefix = f"{instance.name}_{memory.port.value}"
    parts = rtl.rom_slices(memory.width, memory.depth)
    enable = f"{prefix}_en" if enabled else "1'b1"
    address = rtl.address_bits(memory.depth)
    words = []
    for copy in range(memory.copies):
        lane = f"_{copy}" if memory.copies > 1 else ""
        where = f"{prefix}_addr[{(copy + 1) * address - 1}:{copy * address}]" if memory.copies > 1 else f"{prefix}_addr"
        for part in parts:
            rom = rtl.Rom(width=part.width, depth=memory.depth, init=_image(instance, memory, part.lowest_bit), style=part.style)
            word = f"{prefix}_data"
            if len(parts) * memory.copies > 1:
                # A wire of its own: Icarus resolves a bus that many drivers share bit by bit, whenever one of them changes.
                word = f"{prefix}{part.lowest_bit}{lane}_data"
                out.line(f"    wire [{part.width - 1}:0] {word};")
            words.append(word)
            connections = {"clk": "clk", "en": enable, "addr": where, "data": word}
            instantiate(out, "rom", rom, f"{prefix}{part.lowest_bit}{lane}", connections)
    if len(words) > 1:
        words.reverse()
        out.line(f"    assign {prefix}_data = {{")
        for start in range(0, len(words), 6):
            out.line(f"        {', '.join(words[start : start + 6])}{',' if start + 6 < len(words) else ''}")
        out.line("    };")


def instantiate(out: Writer, module: str, parameters: rtl.Parameters, name: str, connections: Mapping[str, str]) -> None:
    """Write one instance of a library module, its parameters and its ports by name."""
    pairs = [f".{key}({_value(value)})" for key, value in parameters.verilog_parameters().items()]
    out.line(f"    {module} #({', '.join(pairs)}) {name} (")
    wires = [f".{port}({wire})" for port, wire in connections.items()]
    for start in range(0, len(wires), 4):
        end = "," if start + 4 < len(wires) else ""
        out.line(f"        {', '.join(wires[start : start + 4])}{end}")
    out.line("    );")


def _value(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
