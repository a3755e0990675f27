"""Runs the testbench of ``rtl/rom.v`` in both simulators, and checks the cutting of images into block memories."""

import json
import random
from pathlib import Path

import pytest
from rtl_cases import skip_without, source

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library import MODULES, Family, MemoryStyle, Resources, Rom, rom_resources, rom_slices
from lepton_dse.verify.simulators import Simulator, run_cocotb

CASES = [(7, 1, Simulator.ICARUS), (12, 37, Simulator.ICARUS), (33, 64, Simulator.VERILATOR)]


@pytest.mark.rtl
@pytest.mark.parametrize(("width", "depth", "simulator"), CASES)
@skip_without
def test_reads_the_image(width: int, depth: int, simulator: Simulator, tmp_path: Path) -> None:
    rng = random.Random(depth)
    image = [rng.getrandbits(width) for _ in range(depth)]
    (tmp_path / "image.hex").write_text("".join(f"{word:x}\n" for word in image))
    (tmp_path / "case.json").write_text(json.dumps({"image": image, "seed": 3}))
    parameters = Rom(width, depth, "image.hex", MemoryStyle.BLOCK).verilog_parameters()
    result = run_cocotb(
        simulator,
        [source("rom")],
        "rom",
        parameters,
        "bench_rom",
        [Path(__file__).parent, Path(__file__).parents[1]],
        tmp_path,
        {"LEPTON_CASE": str(tmp_path / "case.json")},
    )
    assert result.passed, "\n".join(result.failures)


@pytest.mark.parametrize("depth", [1, 127, 128, 512, 1024, 1025, 2048, 4096, 8192, 16384])
@pytest.mark.parametrize("width", [1, 4, 18, 37, 72])
def test_slices_cover_the_word_and_fit_one_block(width: int, depth: int) -> None:
    slices = rom_slices(width, depth)
    columns = [s.lowest_bit + bit for s in slices for bit in range(s.width)]
    assert columns == list(range(width))
    for family in Family:
        images = (Rom(width=part.width, depth=depth, init="", style=part.style) for part in slices)
        counted = sum((MODULES["rom"].resources(image, family) for image in images), Resources())
        assert rom_resources(width, depth, family) == counted
    if depth < 128:
        assert [s.style for s in slices] == [MemoryStyle.DISTRIBUTED]
        return
    shapes = {(36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)}
    for part in slices:
        assert part.style is MemoryStyle.BLOCK
        assert any(part.width <= columns_ and depth <= words for columns_, words in shapes)
    # No fewer blocks of any one shape would do.
    widest = max(columns_ for columns_, words in shapes if depth <= words)
    assert len(slices) == -(-width // widest)


def test_refuses_a_memory_deeper_than_any_block() -> None:
    with pytest.raises(LeptonError, match="deeper than any block memory; fold less"):
        rom_slices(8, 16385)
