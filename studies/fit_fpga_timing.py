"""How long is a path through the fabric: per look-up table, carry chain, memory, multiplier and load?

Single modules of ``rtl/`` are synthesised by Yosys and placed and routed by nextpnr-ecp5, each between registers of its own; the
script fits the figures of ``[timing]`` of the ECP5's hardware model to the clocks that they reach, by least squares of the
relative error over non-negative figures. Which of a module's declared paths is the longest depends on the figures, so that fit
and choice alternate until neither changes. ``--check`` holds the band against whole designs that took no part in the fit: the
networks of study 25, planned with the figures that the model has.

    python studies/fit_fpga_timing.py [--check] [--designs 12] [--share 0.08] [--seeds 2] [--cache build/fpga_timing]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.optimize import nnls

import lepton_dse as ld
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.report.tables import plain_table
from lepton_dse.rtl_library import (
    MODULES,
    AddRequantize,
    Argmax,
    AveragePool,
    Depth,
    DepthwiseUnit,
    Direction,
    Family,
    Lookup,
    MatrixVectorUnit,
    MaxPool,
    MemoryStyle,
    ModuleDeclaration,
    Multiplier,
    Parameters,
    Requantize,
    SlidingWindow,
    StreamConcat,
    StreamFifo,
    StreamFork,
    StreamRegister,
    WidthConverter,
    WindowShape,
)
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.verify.artefact import Artefact, open_artefact
from lepton_dse.verify.place import place_and_route
from lepton_dse.verify.simulators import run_yosys
from lepton_dse.verify.synthesis import synthesis_command, synthesise

DEVICE = "lattice-ecp5-85f"
NAMES = ("register_s", "level_s", "chain_s", "carry_s", "out_s", "lookup_s", "block_s", "product_s", "load_s")
SMALL, BLOCK = MemoryStyle.DISTRIBUTED, MemoryStyle.BLOCK
DSP, LUT = Multiplier.DSP, Multiplier.LUT
Table = NDArray[np.float64]


def window(shape: WindowShape, slack: int, lanes: int, style: MemoryStyle) -> SlidingWindow:
    return SlidingWindow(**vars(shape), element=8, lanes=lanes, pad=0, buffer=shape.minimum_buffer + slack, style=style)


MODULES_IN_PLACE: tuple[Parameters, ...] = (
    StreamRegister(16),
    StreamRegister(96),
    StreamRegister(400),
    StreamFifo(24, 1),
    StreamFifo(16, 2),
    StreamFifo(64, 2),
    StreamFifo(12, 30),
    StreamFifo(24, 100),
    StreamFifo(18, 500, BLOCK),
    StreamFifo(36, 1500, BLOCK),
    StreamFork(32, 2),
    StreamFork(64, 3),
    StreamConcat(24, 4, 9),
    Lookup(8, 8, 4),
    WidthConverter(8, 2, 8),
    WidthConverter(8, 8, 2),
    WidthConverter(6, 32, 4),
    MaxPool(8, 4, 1, 4),
    MaxPool(4, 8, 1, 9),
    MaxPool(8, 2, 16, 9),
    AveragePool(8, 4, 1, 49, 16, 0),
    AveragePool(8, 2, 16, 9, 13, 3),
    Argmax(8, 1, 10, 4),
    Argmax(8, 2, 5, 4),
    Argmax(16, 1, 100, 7),
    Argmax(8, 10, 1, 4),
    Requantize(24, 17, 20, 8, 0, -128, 127, 4, 1),
    Requantize(18, 17, 21, 8, -128, -128, 127, 2, 8),
    Requantize(16, 17, 15, 4, 0, -7, 7, 4, 4),
    Requantize(20, 17, 18, 8, 10, -128, 127, 8, 1),
    AddRequantize(8, 8, 0, 0, 81234, 65001, 17, 18, 8, 0, -128, 127, 4),
    AddRequantize(8, 8, -128, -128, 71234, 95001, 17, 18, 8, -128, -128, 127, 2),
    AddRequantize(4, 4, 0, 0, 111234, 80001, 17, 17, 4, 0, -8, 7, 4),
    DepthwiseUnit(8, 8, 20, 4, 1, 9, DSP),
    DepthwiseUnit(4, 4, 14, 4, 1, 9, LUT),
    DepthwiseUnit(8, 8, 21, 2, 8, 9, DSP),
    DepthwiseUnit(8, 3, 16, 4, 4, 9, LUT),
    MatrixVectorUnit(8, 8, 20, 1, 1, 8, 9, DSP, SMALL),
    MatrixVectorUnit(8, 8, 22, 2, 4, 1, 18, DSP, SMALL),
    MatrixVectorUnit(8, 8, 24, 4, 2, 4, 144, DSP, BLOCK),
    MatrixVectorUnit(8, 8, 22, 4, 4, 8, 16, DSP, SMALL),
    MatrixVectorUnit(4, 4, 16, 4, 4, 4, 9, LUT, SMALL),
    MatrixVectorUnit(8, 2, 16, 4, 4, 1, 9, LUT, SMALL),
    MatrixVectorUnit(8, 8, 22, 2, 2, 4, 9, LUT, SMALL),
    MatrixVectorUnit(8, 4, 18, 8, 3, 2, 12, LUT, SMALL),
    window(WindowShape(1, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 8), 8, 1, SMALL),
    window(WindowShape(1, 28, 28, 3, 3, 1, 1, 1, 1, 0, 0, 26, 26), 28, 1, SMALL),
    window(WindowShape(1, 24, 24, 2, 2, 2, 2, 1, 1, 0, 0, 12, 12), 24, 8, SMALL),
    window(WindowShape(16, 12, 12, 5, 5, 1, 1, 1, 1, 0, 0, 8, 8), 192, 1, BLOCK),
    window(WindowShape(8, 14, 14, 3, 3, 1, 1, 1, 1, 1, 1, 14, 14), 112, 2, BLOCK),
    window(WindowShape(4, 16, 16, 3, 3, 2, 2, 1, 1, 1, 1, 8, 8), 100, 4, BLOCK),
    window(WindowShape(3, 20, 20, 3, 3, 1, 1, 1, 1, 1, 1, 20, 20), 61, 2, SMALL),
)
"""Each synthesises in a second and is placed in a few; none is among the sets that the tests check paths at."""


@dataclass(frozen=True)
class Sample:
    """A module in place."""

    parameters: Parameters
    paths: Table
    """A row a path that may be the longest, a column a figure."""
    seconds: float


def declaration_of(parameters: Parameters) -> ModuleDeclaration[Parameters]:
    return next(entry for entry in MODULES.values() if entry.parameters is type(parameters))


def between_registers(parameters: Parameters) -> str:
    """A top module that holds every port of a module in a register."""
    declaration = declaration_of(parameters)
    values = ", ".join(
        f'.{key}("{value}")' if isinstance(value, str) else f".{key}({value})"
        for key, value in parameters.verilog_parameters().items()
    )
    heads, lines, wires = ["input clk"], [], [".clk(clk)"]
    for port in declaration.ports(parameters):
        name, bits, into = port.name, f"[{port.width - 1}:0]", port.direction is Direction.INPUT
        if name != "clk":
            held, given = (f"held_{name}", name) if into else (name, f"next_{name}")
            heads.append(f"input {bits} {name}" if into else f"output reg {bits} {name}")
            lines.append(f"reg {bits} {held};" if into else f"wire {bits} {given};")
            lines.append(f"always @(posedge clk) {held} <= {given};")
            wires.append(f".{name}({held if into else given})")
    head = f"module top ({', '.join(heads)});"
    return "\n".join([head, *lines, f"{declaration.name} #({values}) dut ({', '.join(wires)});", "endmodule", ""])


def features(depth: Depth) -> list[float]:
    counts = (depth.levels, depth.chains, depth.carry, depth.outs, depth.lookups, depth.blocks, depth.products)
    return [1.0, *map(float, counts), math.log2(depth.loads)]


def clock_of(cache: Path, key: str, seeds: int, netlist: Callable[[Path], Path]) -> list[float]:
    """Greatest clocks of a design under some seeds, remembered under a digest of what makes it."""
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:20]
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "clocks.json"
    found: dict[str, float] = json.loads(known.read_text()) if known.is_file() else {}
    missing = [seed for seed in range(1, seeds + 1) if str(seed) not in found]
    if missing:
        made = netlist(folder)
        for seed in missing:
            found[str(seed)] = place_and_route(made, seed=seed).clock_hz
        known.write_text(json.dumps(found))
    return [found[str(seed)] for seed in range(1, seeds + 1)]


def samples(console: Console, cache: Path, seeds: int) -> Iterator[Sample]:
    sources = sorted(data_folder("rtl").glob("*.v"))
    for parameters in MODULES_IN_PLACE:
        text = between_registers(parameters)
        used = [path for path in sources if path.stem in text or path.stem in declaration_of(parameters).uses]

        def netlist(folder: Path, text: str = text, used: list[Path] = used) -> Path:
            (folder / "top.v").write_text(text)
            reading = f"read_verilog -defer {' '.join(map(str, used))}; read_verilog top.v"
            run_yosys(f"{reading}; {synthesis_command(Family.ECP5, 'top')}; write_json top.json", folder)
            return folder / "top.json"

        key = text + "".join(path.read_text() for path in used)
        clocks = clock_of(cache, key, seeds, netlist)
        declared = declaration_of(parameters).paths(parameters, Family.ECP5)
        yield Sample(
            parameters, np.asarray([features(path.depth) for path in declared]), float(np.mean([1 / hz for hz in clocks]))
        )
        console.print(f"{declaration_of(parameters).name}: {', '.join(f'{hz / 1e6:.1f}' for hz in clocks)} MHz", soft_wrap=True)


def fitted(rows: list[Sample]) -> Table:
    """Figures in nanoseconds, from a start that any path of a module may win."""
    seen = np.asarray([1e9 * row.seconds for row in rows])
    figures = np.asarray([1.5, 1.0, 2.0, 0.04, 1.0, 1.0, 4.0, 4.0, 0.1])
    for _ in range(100):
        longest = np.asarray([row.paths[np.argmax(row.paths @ figures)] for row in rows])
        found, _ = nnls(longest / seen[:, None], np.ones(len(rows)))
        if np.allclose(found, figures):
            break
        figures = (figures + found) / 2
    return figures


def fit(console: Console, rows: list[Sample]) -> None:
    figures = fitted(rows)
    table = plain_table("Longest paths of single modules", "module", "predicted", "placed", "ratio")
    ratios = []
    for row in rows:
        predicted = float(np.max(row.paths @ figures))
        ratios.append(1e9 * row.seconds / predicted)
        name = str(row.parameters)
        table.add_row(name[:60], f"{predicted:.2f} ns", f"{1e9 * row.seconds:.2f} ns", f"{ratios[-1]:.2f}")
    console.print(table)
    for name, value in zip(NAMES, figures, strict=True):
        console.print(f"{name} = {value * 1e-9:.3g}")
    errors = np.abs(np.asarray(ratios) - 1)
    console.print(
        f"{len(rows)} modules: placed / predicted from {min(ratios):.2f} to {max(ratios):.2f}, mean absolute error "
        f"{np.mean(errors):.1%}, median {np.median(errors):.1%}"
    )


def study_25() -> ModuleType:
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module("25_counted_by_yosys")


def check(console: Console, cache: Path, target: FpgaTarget, designs: int, seed: int, share: float) -> None:
    table = plain_table("Whole designs", "design", "format", "LUTs", "band", "placed", "ratio", "through", "seconds")
    ratios = []
    logic = {name: getattr(target, name) for name in ("lut", "ff", "dsp")}
    part = target.model_copy(
        update={name: whole.model_copy(update={"value": share * whole.value}) for name, whole in logic.items()}
    )
    for case in study_25().cases(designs, seed):
        planned = ld.plan(case.graph, part, format=case.format, data=case.data, minimize=case.minimize, overrides=case.overrides)
        cycles = planned.predicted.cycles
        if not planned.predicted.feasible or cycles is None or cycles.band is None:
            console.print(f"{case.name}: not planned")
            continue
        started = time.perf_counter()
        folder = ld.emit(planned, cache / "designs" / f"{case.name.replace(' ', '_')}_{seed}", data=case.data.take(1))
        artefact = open_artefact(folder)

        def netlist(place: Path, artefact: Artefact = artefact) -> Path:
            synthesise(artefact, place / "top.json")
            return place / "top.json"

        text = "".join(path.read_text() for path in sorted(folder.glob("**/*.v")))
        try:
            (clock,) = clock_of(cache, text, 1, netlist)
        except LeptonError as error:
            console.print(f"{case.name}: {error}")
            continue
        band = cycles.band
        timing = target.timing
        assert timing is not None, "a band follows from timing"
        ratios.append(band.low_hz * timing.slower.value / clock)
        console.print(f"{case.name}: {ratios[-1]:.2f}, {clock / 1e6:.1f} MHz", soft_wrap=True)
        table.add_row(
            case.name,
            case.format,
            f"{planned.predicted.resources['LUT']:.0f}",
            f"{band.low_hz / 1e6:.0f} to {band.high_hz / 1e6:.0f} MHz",
            f"{clock / 1e6:.1f} MHz",
            f"{ratios[-1]:.2f}",
            " ".join(band.through),
            f"{time.perf_counter() - started:.0f}",
        )
    console.print(table)
    console.print(f"{len(ratios)} designs: placed / predicted from {min(ratios):.2f} to {max(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="place whole designs instead")
    parser.add_argument("--designs", type=int, default=12, help="drawn networks")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn networks")
    parser.add_argument("--share", type=float, default=0.08, help="of the device's logic, for a network")
    parser.add_argument("--seeds", type=int, default=2, help="of the placer, a module")
    parser.add_argument("--cache", type=Path, default=Path("build/fpga_timing"), help="where runs are remembered")
    asked = parser.parse_args()
    console = Console()
    target = load_target(DEVICE)
    assert isinstance(target, FpgaTarget), "a name of an FPGA"
    if asked.check:
        check(console, asked.cache.resolve(), target, asked.designs, asked.seed, asked.share)
    else:
        fit(console, list(samples(console, asked.cache.resolve(), asked.seeds)))


if __name__ == "__main__":
    main()
