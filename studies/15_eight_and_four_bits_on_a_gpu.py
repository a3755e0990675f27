"""What do eight and four bits change in the kernels of one GPU, and what do they cost in accuracy?

LeNet-5 on Fashion-MNIST, one image a pass. The network is planned for the GPU in each format and written as CUDA. Accuracy is
that of the very integers, on the official test images. Bytes and 32-byte sectors that the warps ask for are predicted from the
tiles alone and then counted while the artefact's own text runs on the CPU, thread by thread; registers and shared memory are
what NVIDIA's assembler reports (with the extra ``cuda``), those of the kernel that takes most.

    python studies/15_eight_and_four_bits_on_a_gpu.py [--target nvidia-a100-sxm-80gb] [--quick] [-o build/eight_and_four_bits]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import lepton_dse as ld
from lepton_dse.emit.cuda.emitter import kernel_identifiers
from lepton_dse.files import write_text
from lepton_dse.plan import CheckStatus
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, share
from lepton_dse.schedule.gpu import arena
from lepton_dse.verify.cuda.compiled import has_compiler, usage

sys.path.insert(0, str(Path(__file__).parent / "models"))
from drawing import bars_svg
from kernels import predicted, program_of

FORMATS = ("float32", "int8", "w4a8")


@dataclass(frozen=True)
class Found:
    """One format: figures of the table, and what each kernel asks for."""

    accuracy: float
    constants: int
    arena: int
    asked: dict[str, int]
    sectors: dict[str, int]
    equal: bool
    checks: str
    most_registers: str
    most_shared: str


def measured(graph: ld.Graph, form: str, target: str, data: tuple[ld.Dataset, ld.Dataset], samples: int, folder: Path) -> Found:
    """Plan, write, run and count the network in a format."""
    calibration, test = data
    planned = ld.plan(graph, target, format=form, data=calibration)
    program = program_of(planned)
    artefact = ld.emit(planned, folder, emitter="cuda", data=test.take(samples))
    judged = {check.name: check.status for check in ld.verify(artefact).checks if check.predicted is not None}
    assert CheckStatus.FAILED not in judged.values(), judged
    wanted = predicted(program)
    names = kernel_identifiers(program)
    asked = {name: entry["load_bytes"] + entry["store_bytes"] for name, entry in zip(names, wanted, strict=True)}
    sectors = {name: entry["load_sectors"] + entry["store_sectors"] for name, entry in zip(names, wanted, strict=True)}
    used = usage(artefact, f"sm_{round(10 * program.capability)}").values() if has_compiler() else ()
    return Found(
        ld.accuracy(planned, test).value,
        (artefact / "weights.bin").stat().st_size,
        arena(program).peak,
        asked,
        sectors,
        judged["global_requests_equal"] is judged["shared_passes_equal"] is CheckStatus.PASSED,
        f"{sum(status is CheckStatus.PASSED for status in judged.values())} passed",
        str(max(entry.registers for entry in used)) if used else "-",
        count(max(entry.shared_bytes for entry in used)) if used else "-",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="nvidia-a100-sxm-80gb", help="a GPU")
    parser.add_argument("--quick", action="store_true", help="the digits network, and fewer samples")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/eight_and_four_bits"))
    asked = parser.parse_args()
    graph, data = network(quick=asked.quick)
    found = {form: measured(graph, form, asked.target, data, 4 if asked.quick else 100, asked.output / form) for form in FORMATS}
    table = plain_table(
        f"{graph.name} on {asked.target}, one image a pass",
        *("format", f"accuracy, {count(len(data[1]))} images", "constants", "arena", "bytes asked for", "sectors", "counted"),
        *("checks", "registers", "shared bytes"),
    )
    for form, entry in found.items():
        table.add_row(
            form,
            f"{entry.accuracy:.4f}",
            scaled(entry.constants, "B"),
            scaled(entry.arena, "B"),
            count(sum(entry.asked.values())),
            count(sum(entry.sectors.values())),
            "as predicted" if entry.equal else "-",
            entry.checks,
            entry.most_registers,
            entry.most_shared,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    real, wide, narrow = (found[form] for form in FORMATS)
    print(
        f"Eight bits: {scaled(wide.constants, 'B')} of constants instead of {scaled(real.constants, 'B')}, "
        f"{share(1 - moved(wide) / moved(real))} fewer sectors, {points(real, wide)} points lost."
    )
    print(
        f"Four-bit weights: {scaled(narrow.constants, 'B')}, {share(1 - moved(narrow) / moved(wide))} fewer sectors again, "
        f"{points(wide, narrow)} points lost more."
    )
    if all(entry.equal for entry in found.values()):
        print("What the kernels ask of memory was counted as predicted, to the last request.")
    groups = {form: {short(name): 32 * sectors for name, sectors in entry.sectors.items()} for form, entry in found.items()}
    inner = {form: {short(name): value for name, value in entry.asked.items()} for form, entry in found.items()}
    title = f"{graph.name} on {asked.target}: bytes of sectors that kernels ask for (dark: of requests)"
    write_text(asked.output / "eight_and_four_bits.svg", bars_svg(title, groups, inner))


def network(*, quick: bool) -> tuple[ld.Graph, tuple[ld.Dataset, ld.Dataset]]:
    """The network, and data to calibrate and to test with."""
    if quick:
        from lepton_dse.demo.digits import load_digits_split

        training, held_out = load_digits_split()
        return ld.load(Path(__file__).parent / "models" / "digits_cnn.onnx"), (training, held_out)
    from fashion import load_fashion, trained

    fashion = load_fashion()
    return trained("lenet-5"), (fashion.train.take(512), fashion.test)


def moved(found: Found) -> int:
    return sum(found.sectors.values())


def points(before: Found, after: Found) -> str:
    return f"{100 * (before.accuracy - after.accuracy):.2f}"


def short(identifier: str) -> str:
    """A kernel's name without its number."""
    return identifier.partition("_")[2]


if __name__ == "__main__":
    main()
