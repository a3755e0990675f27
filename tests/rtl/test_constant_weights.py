"""A matrix in logic whose weights are wires: what synthesis leaves of it, and what a design counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtl_cases import skip_without, sources_of
from rtl_synthesis import side_by_side

from lepton_dse.ir import ops
from lepton_dse.rtl_library import MODULES, Family, MatrixVectorUnit, MemoryStyle, Multiplier, Resources
from lepton_dse.rtl_library.constants import constant_matrix, is_shift
from lepton_dse.schedule.stream import Folding, MatrixLayer, Rounding, stage_of
from lepton_dse.verify.simulators import run_yosys
from lepton_dse.verify.synthesis import cells_by_module, count_primitives, synthesis_command

# Weights of other widths and another spread than those that the terms were fitted to.
WIDTHS = ((8, 5), (6, 4), (7, 7))
ROWS, COLUMNS = 6, 5


def unit(widths: tuple[int, int]) -> MatrixVectorUnit:
    a, w = widths
    return MatrixVectorUnit(a, w, a + w + 4, ROWS, COLUMNS, 1, 1, Multiplier.LUT, MemoryStyle.DISTRIBUTED)


def weights_of(bits: int, seed: int) -> np.ndarray:
    most = 2 ** (bits - 1) - 1
    drawn = np.random.default_rng(seed).laplace(0, most / 4, (ROWS, COLUMNS))
    return np.clip(np.rint(drawn), -most, most).astype(np.int64)


def wired(parameters: MatrixVectorUnit, weights: np.ndarray, name: str) -> str:
    """A module that gives a unit its weights."""
    mask = (1 << parameters.w_width) - 1
    word = sum((int(value) & mask) << (place * parameters.w_width) for place, value in enumerate(weights.reshape(-1)))
    declared = MODULES["matrix_vector_unit"].ports(parameters)
    ports = [port for port in declared if port.name != "w_data"]
    values = ", ".join(
        f'.{key}("{value}")' if isinstance(value, str) else f".{key}({value})"
        for key, value in parameters.verilog_parameters().items()
    )
    lines = [f"(* keep_hierarchy *) module {name} ({', '.join(port.name for port in ports)});"]
    lines += [f"{port.direction.value} [{port.width - 1}:0] {port.name};" for port in ports]
    joined = ", ".join(f".{port.name}({port.name})" for port in ports)
    width = ROWS * COLUMNS * parameters.w_width
    return "\n".join([*lines, f"matrix_vector_unit #({values}) dut ({joined}, .w_data({width}'h{word:x}));", "endmodule", ""])


@pytest.mark.rtl
@pytest.mark.slow
@pytest.mark.parametrize("family", [Family.XC7, Family.ECP5])
@skip_without
def test_known_weights_take_what_synthesis_leaves_of_them(family: Family, tmp_path: Path) -> None:
    cases = [(unit(widths), weights_of(widths[1], seed)) for seed, widths in enumerate(WIDTHS)]
    names = [f"case_{index}" for index in range(len(cases))]
    text = "".join(wired(p, weights, name) for (p, weights), name in zip(cases, names, strict=True))
    (tmp_path / "top.v").write_text(text + side_by_side(names, [p for p, _ in cases], without="w_data"))
    files = " ".join(sorted({str(path) for p, _ in cases for path in sources_of(p)}))
    log = run_yosys(f"read_verilog -defer {files}; read_verilog top.v; {synthesis_command(family, 'top')}; stat -json", tmp_path)
    modules = cells_by_module(log)
    for (p, weights), name in zip(cases, names, strict=True):
        counted, predicted = count_primitives(modules[name]), constant_matrix(p, weights, family)
        assert (predicted.dsp, predicted.bram18) == (counted.dsp, counted.bram18) == (0, 0)
        assert predicted.lut == pytest.approx(counted.lut, rel=0.3), p
        assert predicted.ff == pytest.approx(counted.ff, rel=0.25), p


@given(st.integers(-(1 << 12), 1 << 12))
def test_a_shift_is_a_product_that_has_one_bit(value: int) -> None:
    assert is_shift(value) == (value == 0 or bin(abs(value)).count("1") == 1)


def test_weights_of_zero_take_nothing_but_the_bias() -> None:
    p = unit((8, 4))
    found = constant_matrix(p, np.zeros((ROWS, COLUMNS), np.int64), Family.XC7)
    assert found.ff == p.pe * p.acc_width + p.stages + 1
    assert found.lut < MODULES["matrix_vector_unit"].resources(p, Family.XC7).lut


@given(data=st.data(), columns=st.integers(1, 7))
def test_a_column_of_zeros_adds_no_logic(data: st.DataObject, columns: int) -> None:
    weights = np.array([[data.draw(st.integers(-7, 7)) for _ in range(columns)] for _ in range(2)], np.int64)
    wider = np.hstack([weights, np.zeros((2, 8 - columns), np.int64)])
    found = [
        constant_matrix(MatrixVectorUnit(8, 4, 18, 2, part.shape[1], 1, 1, Multiplier.LUT, MemoryStyle.DISTRIBUTED), part, family)
        for family in (Family.XC7, Family.ECP5)
        for part in (weights, wider)
    ]
    assert found[0].lut == found[1].lut
    assert found[2].lut == found[3].lut


def test_a_design_that_unrolls_a_layer_in_logic_counts_its_weights() -> None:
    weights = np.zeros((4, 1, 1, 4), np.int64)
    weights[0, 0, 0] = (3, -3, 4, 0)
    rounding = Rounding(np.full(4, 70001, np.int64), 16, 0, -128, 127)
    window = ops.Window.full((1, 1))
    layer = MatrixLayer("fc", "y", 8, 4, (1, 1), window, 8, 0, weights, np.zeros(4, np.int64), 8, 18, rounding)

    def resources(pe: int, multiplier: Multiplier) -> Resources:
        (found,) = (
            instance.resources(Family.XC7)
            for instance in stage_of("l0", layer, Folding(pe, 4, multiplier=multiplier), (4,)).instances
            if instance.module.name == "matrix_vector_unit"
        )
        return found

    # Almost all of the weights are zero; a unit that reads them from a memory of two words has to make whole products.
    assert resources(4, Multiplier.LUT).lut < resources(2, Multiplier.LUT).lut / 2
    assert resources(4, Multiplier.DSP).dsp == 16
    assert resources(4, Multiplier.PACKED).dsp == 8
