"""Runs a small network of nearly all modules: a padded convolution, a pooling and a dense layer with an argmax."""

from pathlib import Path

import numpy as np
import pytest
from rtl_cases import declaration_of, run_design, skip_without, source

from lepton_dse.rtl_library import (
    Argmax,
    Direction,
    MatrixVectorUnit,
    MaxPool,
    MemoryStyle,
    Multiplier,
    Parameters,
    Requantize,
    Rom,
    SlidingWindow,
    StreamFifo,
    WidthConverter,
    WindowShape,
)
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

DISTRIBUTED, BLOCK = MemoryStyle.DISTRIBUTED, MemoryStyle.BLOCK
CONVOLUTION = WindowShape(1, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1, 6, 6)
POOLING = WindowShape(2, 6, 6, 2, 2, 2, 2, 1, 1, 0, 0, 3, 3)


def window(shape: WindowShape, element: int, lanes: int, slack: int) -> SlidingWindow:
    return SlidingWindow(**vars(shape), element=element, lanes=lanes, pad=-1, buffer=shape.minimum_buffer + slack, style=BLOCK)


STAGES: list[Parameters] = [
    window(CONVOLUTION, 5, 2, 1),
    MatrixVectorUnit(5, 4, 14, 2, 2, 2, 9, Multiplier.LUT, DISTRIBUTED),
    Requantize(14, 9, 10, 5, -1, -16, 15, 2, 2),
    window(POOLING, 5, 2, 0),
    MaxPool(5, 2, 2, 4),
    StreamFifo(10, 3),
    WidthConverter(5, 2, 4),
    MatrixVectorUnit(5, 6, 20, 5, 4, 2, 9, Multiplier.DSP, BLOCK),
    Argmax(20, 5, 2, 4),
]


def memory(name: str, prefix: str, words: np.ndarray, width: int, folder: Path, stage: int) -> str:
    """Write a memory image (rows of signed elements of ``width`` bits) and return the instance that holds it."""
    image = [sum((int(e) & ((1 << width) - 1)) << (i * width) for i, e in enumerate(row)) for row in words]
    (folder / f"{name}.hex").write_text("".join(f"{word:x}\n" for word in image))
    rom = Rom(width * words.shape[1], len(image), f"{name}.hex", DISTRIBUTED)
    enable = "1'b1" if prefix == "b" else f"{prefix}_en_{stage}"
    values = ", ".join(
        f'.{key}("{value}")' if isinstance(value, str) else f".{key}({value})" for key, value in rom.verilog_parameters().items()
    )
    ports = f".clk(clk), .en({enable}), .addr({prefix}_addr_{stage}), .data({prefix}_data_{stage})"
    return f"rom #({values}) {name} ({ports});"


def top(folder: Path, rng: np.random.Generator) -> tuple[str, dict[str, list[list[int]]]]:
    """Return the Verilog of the network and the numbers in its memories."""
    lines: list[str] = []
    numbers: dict[str, list[list[int]]] = {}
    first, last = STAGES[0], STAGES[-1]
    widths = [{port.name: port.width for port in declaration_of(stage).ports(stage)} for stage in STAGES]
    lines += [
        "module network (input wire clk, input wire rst, input wire s_valid, output wire s_ready,",
        f"input wire [{widths[0]['s_data'] - 1}:0] s_data, output wire m_valid, input wire m_ready,",
        f"output wire [{widths[-1]['m_data'] - 1}:0] m_data);",
    ]
    for place, stage in enumerate(STAGES):
        declaration = declaration_of(stage)
        connections = []
        for port in declaration.ports(stage):
            stream, _, signal = port.name.partition("_")
            if stream in ("clk", "rst") or (stage is first and stream == "s") or (stage is last and stream == "m"):
                wire = port.name
            elif stream in ("s", "m"):
                wire = f"{signal}_{place - 1 if stream == 's' else place}"
                if stream == "m":
                    lines.append(f"wire [{port.width - 1}:0] {wire};")
            else:
                wire = f"{port.name}_{place}"
                lines.append(f"wire [{port.width - 1}:0] {wire};")
                assert port.direction in Direction
            connections.append(f".{port.name}({wire})")
        values = ", ".join(
            f'.{name}("{value}")' if isinstance(value, str) else f".{name}({value})"
            for name, value in stage.verilog_parameters().items()
        )
        lines.append(f"{declaration.name} #({values}) stage_{place} ({', '.join(connections)});")
        if isinstance(stage, MatrixVectorUnit):
            limit = 1 << (stage.w_width - 1)
            weights = rng.integers(1 - limit, limit, (stage.nf * stage.pe, stage.sf * stage.simd))
            bias = rng.integers(-200, 200, (stage.nf * stage.pe,))
            numbers[f"weights_{place}"] = weights.tolist()
            numbers[f"bias_{place}"] = [bias.tolist()]
            steps = weights.reshape(stage.nf, stage.pe, stage.sf, stage.simd).transpose(0, 2, 1, 3)
            words = steps.reshape(stage.nf * stage.sf, -1)
            lines.append(memory(f"weights_{place}", "w", words, stage.w_width, folder, place))
            lines.append(memory(f"bias_{place}", "b", bias.reshape(stage.nf, -1), stage.acc_width, folder, place))
        if isinstance(stage, Requantize):
            multipliers = rng.integers(100, 1 << stage.m_width, (stage.nf, stage.pe))
            numbers[f"multipliers_{place}"] = multipliers.tolist()
            lines.append(memory(f"multipliers_{place}", "p", multipliers, stage.m_width, folder, place))
    return "\n".join([*lines, "endmodule", ""]), numbers


@pytest.mark.parametrize("simulator", list(Simulator))
@skip_without
def test_values_and_cycles(simulator: Simulator, tmp_path: Path) -> None:
    text, numbers = top(tmp_path, np.random.default_rng(11))
    (tmp_path / "network.v").write_text(text)
    names = sorted({declaration_of(stage).name for stage in STAGES} | {"rom", "signed_product"})
    network = chain([declaration_of(stage).timing(stage) for stage in STAGES], 36)
    run_design(
        "network",
        [tmp_path / "network.v", *map(source, names)],
        {},
        network,
        simulator,
        Path(__file__).with_name("bench_network.py"),
        tmp_path,
        seed=5,
        extra={"numbers": numbers},
    )
