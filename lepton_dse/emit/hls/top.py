"""The top function: processes of a streaming schedule and the streams between them, nothing else.

Every instance of the schedule is a call of the function of the same name in the library; the FIFOs are the depths of streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lepton_dse import rtl_library as rtl
from lepton_dse.emit.hls.tables import array_name, table_file
from lepton_dse.emit.streams import axis_width
from lepton_dse.emit.writer import Writer, comment
from lepton_dse.errors import LeptonError
from lepton_dse.schedule.stream import Instance, Stage, StreamSchedule
from lepton_dse.schedule.stream.layers import OUTPUT

__all__ = ["TOP", "Channel", "channels", "library_headers", "stream_behind", "top_header", "top_source"]

TOP = "lepton_top"
_WIDEST = 4096  # bits of an integer
_SHALLOWEST = 2  # words between two processes that no FIFO stands between
_FORKED = 8  # more words behind a fork: the registers of the Verilog modules on a branch hold them, and processes have none
_INCLUDES = {
    "rounding": ("words",),
    "products": ("words",),
    "requantize": ("rounding", "words"),
    "add_requantize": ("rounding", "words"),
    "matrix_vector_unit": ("products", "words"),
    "depthwise_unit": ("products", "words"),
}
_PRODUCTS = {multiplier.value: f"lepton::{multiplier.value.capitalize()}" for multiplier in rtl.Multiplier}


@dataclass(frozen=True)
class Channel:
    """A stream between two processes.

    Parameters
    ----------
    name : str
        Its identifier.
    width : int
        Bits of a word.
    depth : int
        Words that it holds: those of all FIFOs between the two.
    words : int
        A frame.
    """

    name: str
    width: int
    depth: int
    words: int


@dataclass(frozen=True)
class _Process:
    """An instance that is no FIFO, its streams, and how often a frame it repeats."""

    instance: Instance
    arriving: tuple[Channel, ...]
    leaving: tuple[Channel, ...]
    periods: int


def channels(schedule: StreamSchedule) -> tuple[Channel, ...]:
    """All streams of the design, in the order of their producers."""
    first, processes = _network(schedule)
    return (first, *(channel for process in processes for channel in process.leaving))


def stream_behind(stage: Stage) -> str:
    """Name of the stream that holds what a stage gives."""
    *_, last = (instance for instance in stage.body if not _is_fifo(instance))
    return f"{last.name}_words"


def library_headers(schedule: StreamSchedule) -> tuple[str, ...]:
    """Names of the library's headers that a design includes, without the suffix, sorted."""
    _, processes = _network(schedule)
    names = {process.instance.module.name for process in processes} | {"forward", "words"}
    return tuple(sorted(names | {inner for name in names for inner in _INCLUDES.get(name, ())}))


def top_header(schedule: StreamSchedule, title: str) -> str:
    """Text of ``lepton_top.h``: the words at both ends and the top function."""
    out = Writer()
    out.line(f"// {comment(title)}")
    out.line(
        "// One call takes one frame. Element 0 of a word is in the least significant bits; the bits above the last are zero."
    )
    out.lines(["#ifndef LEPTON_TOP_H", "#define LEPTON_TOP_H", "", '#include "hls/words.h"', ""])
    out.line(f"typedef ap_uint<{axis_width(schedule.input_lanes, schedule.input_bits)}> InputWord;")
    out.line(f"typedef ap_uint<{axis_width(schedule.output_lanes, schedule.output_bits)}> OutputWord;")
    out.line(f"static const size_t INPUT_BEATS = {schedule.input_beats};")
    out.line(f"static const size_t OUTPUT_BEATS = {schedule.output_beats};")
    out.line()
    out.line(f"void {TOP}(hls::stream<InputWord>& input, hls::stream<OutputWord>& output);")
    out.lines(["", "#endif"])
    return out.text()


def top_source(schedule: StreamSchedule, title: str) -> str:
    """Text of ``lepton_top.cpp``: the parameters of every process and the top function.

    Parameters
    ----------
    schedule : StreamSchedule
    title : str
        First comment line.

    Raises
    ------
    LeptonError
        If a word is wider than the integers of the library.
    """
    first, processes = _network(schedule)
    _check(schedule, first, processes)
    out = Writer()
    out.line(f"// {comment(title)}")
    out.line("// Wiring only: the logic is in hls/, weights and scales are in tables/.")
    out.line(f'#include "{TOP}.h"')
    out.line()
    out.lines(f'#include "hls/{name}.h"' for name in library_headers(schedule))
    out.lines(f'#include "{table_file(process.instance)}"' for process in processes if process.instance.memories)
    out.lines(["", "namespace {", ""])
    for process in processes:
        _parameters(out, process)
        out.line()
    out.lines(["}  // namespace", ""])
    with out.block(f"void {TOP}(hls::stream<InputWord>& input, hls::stream<OutputWord>& output) {{"):
        out.lines(
            f"#pragma HLS INTERFACE {pragma}" for pragma in ("axis port=input", "axis port=output", "ap_ctrl_none port=return")
        )
        out.line("#pragma HLS DATAFLOW")
        for process in processes:
            for memory in process.instance.memories:
                if memory.fields > 1:
                    out.line(f"#pragma HLS ARRAY_RESHAPE variable={array_name(process.instance, memory)} complete dim=2")
        for channel in (first, *(channel for process in processes for channel in process.leaving)):
            out.line(f'hls::stream<ap_uint<{channel.width}> > {channel.name}("{channel.name}");')
            out.line(f"#pragma HLS STREAM variable={channel.name} depth={channel.depth}")
        out.line()
        before = axis_width(schedule.input_lanes, schedule.input_bits)
        out.line(f"lepton::forward<{before}, {first.width}, {first.words}>(input, {first.name});")
        layers = {instance.name: stage.layer.name for stage in schedule.stages for instance in stage.instances}
        named = ""
        for process in processes:
            layer = layers.get(process.instance.name, named)
            if layer != named:
                out.line(f"// {comment(layer)}")
                named = layer
            _call(out, process)
        last = _last(schedule, first, processes)
        behind = axis_width(schedule.output_lanes, schedule.output_bits)
        out.line(f"lepton::forward<{last.width}, {behind}, {last.words}>({last.name}, output);")
    return out.text()


def _network(schedule: StreamSchedule) -> tuple[Channel, tuple[_Process, ...]]:
    """The stream behind the input, and the processes in the schedule's order."""
    instances = schedule.instances
    behind: dict[tuple[int, int], int] = {}
    before: dict[int, list[tuple[int, int]]] = {}
    for link in schedule.links:
        behind[link.source, link.copy] = link.sink
        before.setdefault(link.sink, []).append((link.source, link.copy))
    # By the instance and copy that a link starts from; FIFOs hand on the stream that enters them.
    carried: dict[tuple[int, int], Channel] = {}

    def depth(sink: int) -> int:
        """Words of the FIFOs from an instance on."""
        total = 0
        while sink != OUTPUT and _is_fifo(instances[sink]):
            total += int(instances[sink].parameters.verilog_parameters()["DEPTH"])
            sink = behind[sink, 0]
        return max(total, _SHALLOWEST)

    first = Channel("input_words", schedule.input_lanes * schedule.input_bits, depth(0), schedule.input_beats)
    processes = []
    for position, instance in enumerate(instances):
        arriving = tuple(carried[source] for source in before[position]) if position else (first,)
        if _is_fifo(instance):
            carried[position, 0] = arriving[0]
            continue
        pace = instance.module.pace
        assert pace is not None, "instances of a schedule are stages of a stream"
        taken = pace(instance.parameters)
        periods = arriving[0].words // taken.input_beats
        ports = {port.name: port for port in instance.module.ports(instance.parameters)}
        copies = ports["m_valid"].width
        width, words = ports["m_data"].width, periods * taken.output_beats
        leaving = []
        for copy in range(copies):
            name = f"{instance.name}_words{copy if copies > 1 else ''}"
            slack = _FORKED if copies > 1 else 0
            leaving.append(Channel(name, width, depth(behind[position, copy]) + slack, words))
            carried[position, copy] = leaving[-1]
        processes.append(_Process(instance, arriving, tuple(leaving), periods))
    return first, tuple(processes)


def _is_fifo(instance: Instance) -> bool:
    return instance.module.name == "stream_fifo"


def _last(schedule: StreamSchedule, first: Channel, processes: tuple[_Process, ...]) -> Channel:
    """The stream that nobody takes: the design's output."""
    taken = {channel.name for process in processes for channel in process.arriving}
    (found,) = (
        channel
        for channel in (first, *(entry for process in processes for entry in process.leaving))
        if channel.name not in taken
    )
    return found


def _check(schedule: StreamSchedule, first: Channel, processes: tuple[_Process, ...]) -> None:
    layers = {instance.name: stage.layer.name for stage in schedule.stages for instance in stage.instances}
    for process in processes:
        for channel in (*process.arriving, *process.leaving):
            if channel.width > _WIDEST:
                raise LeptonError(
                    f"words of {channel.width} bits, and integers of high-level synthesis have at most {_WIDEST}",
                    where=layers.get(process.instance.name, process.instance.name),
                    fix="plan with fewer elements at once, or emit it as verilog",
                )


def _parameters(out: Writer, process: _Process) -> None:
    given: Mapping[str, int | str] = process.instance.parameters.verilog_parameters()
    with out.block(f"struct {process.instance.name} {{", "};"):
        for name, value in given.items():
            if name == "MULT":
                out.line(f"typedef {_PRODUCTS[str(value)]} Product;")
            elif name != "STYLE":  # synthesis chooses memories by itself
                out.line(f"static const int {name} = {value};")
        out.line(f"static const int PERIODS = {process.periods};")


def _call(out: Writer, process: _Process) -> None:
    instance = process.instance
    names = [channel.name for channel in (*process.arriving, *process.leaving)]
    names += [array_name(instance, memory) for memory in instance.memories]
    out.line(f"lepton::{instance.module.name}<{instance.name}>({', '.join(names)});")
