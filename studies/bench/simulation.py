"""Event graph against Icarus Verilog on the demo's design, both given the same frames.

The Verilog driver holds valid and ready high, counts cycles, and calls no foreign code: what is timed is the simulation of
the design itself.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from measuring import Row, least_seconds

from lepton_dse import flow
from lepton_dse.demo.digits import load_digits_split
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.schedule.stream import StreamGraph, StreamSchedule, foldings_of, stream_graph, stream_schedule
from lepton_dse.sim.event_graph import Times, simulate
from lepton_dse.sim.event_graph import chain as network_of
from lepton_dse.sim.stream import run_stream
from lepton_dse.verify.simulators import iverilog_binary

DEVICE, FRAMES = "amd-zynq-7020", 8

DRIVER = """\
`timescale 1ns/1ns
module driver;
    reg clk = 0, rst = 1;
    reg [{in_high}:0] beats [0:{in_last}];
    reg [{out_high}:0] expected [0:{out_last}];
    integer taken = 0, sent = 0, cycle = 0, wrong = 0;
    wire s_ready, m_valid, m_last;
    wire [{out_high}:0] m_data;
    wire s_valid = !rst && taken <= {in_last};
    {top} dut (
        .clk(clk), .rst(rst),
        .s_axis_tvalid(s_valid), .s_axis_tready(s_ready), .s_axis_tdata(beats[taken]),
        .m_axis_tvalid(m_valid), .m_axis_tready(1'b1), .m_axis_tdata(m_data), .m_axis_tlast(m_last)
    );
    always #1 clk = !clk;
    initial begin
        $readmemh("vectors/input.hex", beats);
        $readmemh("vectors/expected.hex", expected);
    end
    always @(posedge clk) begin
        rst <= 0;
        if (!rst) begin
            cycle <= cycle + 1;
            if (s_valid && s_ready) taken <= taken + 1;
            if (m_valid) begin
                if (m_data !== expected[sent]) wrong = wrong + 1;
                sent <= sent + 1;
                if (sent == {out_last}) begin
                    $display("%0d %0d", cycle, wrong);
                    $finish;
                end
            end
        end
    end
endmodule
"""


def demo_design() -> tuple[flow.PlannedModel, StreamSchedule]:
    """The demo's int8 design for the Zynq."""
    training, _ = load_digits_split()
    planned = flow.plan(
        load_model(data_folder("models") / "digits_cnn.onnx"), DEVICE, data=training.take(256), minimize="throughput"
    )
    streams = stream_graph(planned.lowered)
    assert isinstance(streams, StreamGraph), "the demo's model streams"
    return planned, stream_schedule(streams, foldings_of(planned.plan, streams))


def rows(repetitions: int) -> list[Row]:
    """Emission of the demo's design, and cycles a second of both simulators on it."""
    planned, schedule = demo_design()
    _, held_out = load_digits_split()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "design"
        emission = least_seconds(lambda: flow.emit(planned, folder, data=held_out.take(FRAMES)), repetitions)
        design = json.loads((folder / "design.json").read_text())
        text = DRIVER.format(
            top=TOP,
            in_high=(design["input_lanes"] * design["input_bits"] + 7) // 8 * 8 - 1,
            out_high=(design["output_lanes"] * design["output_bits"] + 7) // 8 * 8 - 1,
            in_last=FRAMES * design["input_beats"] - 1,
            out_last=FRAMES * design["output_beats"] - 1,
        )
        driver = Path(scratch) / "driver.v"
        driver.write_text(text)
        program = Path(scratch) / "driver.vvp"
        sources = [driver, folder / f"{TOP}.v", *sorted((folder / "rtl").glob("*.v"))]
        subprocess.run([iverilog_binary(), "-g2005", "-s", "driver", "-o", program, *sources], check=True)

        def icarus() -> tuple[int, int]:
            done = subprocess.run(["vvp", "-n", program], cwd=folder, check=True, capture_output=True, text=True)
            cycle, wrong = done.stdout.split()[:2]
            return int(cycle), int(wrong)

        last_cycle, wrong = icarus()
        icarus_s = least_seconds(icarus, min(repetitions, 2))
    times = run_stream(schedule, FRAMES)
    assert isinstance(times, Times), "the demo's design does not deadlock"
    predicted = int(times.output_cycles[-1])
    assert (last_cycle, wrong) == (predicted, 0), (
        f"Icarus ends in cycle {last_cycle} with {wrong} wrong words, not in {predicted}"
    )
    whole_s = least_seconds(lambda: run_stream(schedule, FRAMES), repetitions)
    network = network_of(schedule.timings(), schedule.input_beats)
    kernel_s = least_seconds(lambda: simulate(network, FRAMES), repetitions)
    where = f"digits CNN, {DEVICE}, int8, {FRAMES} frames = {predicted + 1} cycles"
    return [
        Row("emission of the demo's design", where, emission, "s"),
        Row("Icarus Verilog, no cocotb, all words right", where, (predicted + 1) / icarus_s, "cycles/s"),
        Row("event graph, tables built anew", where, (predicted + 1) / whole_s, "cycles/s"),
        Row("event graph, tables at hand", where, (predicted + 1) / kernel_s, "cycles/s"),
        Row("event graph over Icarus, tables built anew", where, icarus_s / whole_s, "times"),
        Row("event graph over Icarus, tables at hand", where, icarus_s / kernel_s, "times"),
    ]
