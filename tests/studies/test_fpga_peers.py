"""The comparison with other FPGA tools, as far as it goes without them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper, save

ROOT = Path(__file__).parents[2]
LETTERS = "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda"


def script(name: str) -> ModuleType:
    """A script of the comparison as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "studies" / "peers" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


theirs = script("fpga_theirs")
numbers = arrays(np.float64, 5, elements=st.floats(-100, 100)).filter(lambda values: np.abs(values).max() > 1e-3)


@given(numbers)
def test_integer_bits_are_the_fewest(values: np.ndarray) -> None:
    bits = theirs.integer_bits(values)
    assert 2.0 ** (bits - 1) <= np.abs(values).max() < 2.0**bits


@given(numbers, st.integers(-3, 10))
def test_rounded_is_the_nearest(values: np.ndarray, fraction: int) -> None:
    found = theirs.rounded(values, fraction)
    assert np.all(np.abs(found - values) <= 2.0 ** (-fraction - 1))
    assert np.all(found * 2.0**fraction == np.round(found * 2.0**fraction))


@given(numbers)
def test_eight_bits_hold_the_range(values: np.ndarray) -> None:
    fraction = theirs.BITS - 1 - theirs.integer_bits(values)
    found = theirs.rounded(values, fraction, theirs.BITS) * 2.0**fraction
    assert found.min() >= -128
    assert found.max() <= 127
    # Half a step, or a whole one where the largest number itself had to be cut.
    assert np.all(np.abs(found / 2.0**fraction - values) <= 2.0**-fraction)


def small_network(folder: Path) -> np.ndarray:
    """Files of two layers, as the comparison hands them over; the calibration rows."""
    rng = np.random.default_rng(0)
    nodes, weights, name = [], [], "image"
    for index, (inputs, outputs) in enumerate(((4, 6), (6, 3))):
        for part, array in (("w", rng.normal(size=(outputs, inputs))), ("b", rng.normal(size=outputs))):
            weights.append(numpy_helper.from_array(array.astype(np.float32), f"{part}{index}"))
        nodes.append(helper.make_node("Gemm", [name, f"w{index}", f"b{index}"], [f"g{index}"], transB=1))
        name = f"g{index}"
        if index == 0:
            nodes.append(helper.make_node("Relu", [name], ["r0"]))
            name = "r0"
    ends = [helper.make_tensor_value_info(label, TensorProto.FLOAT, ["batch", size]) for label, size in (("image", 4), (name, 3))]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    rows = rng.normal(size=(64, 4)).astype(np.float32)
    np.savez(folder / "data.npz", x=rows, calibration=rows)
    return rows


def test_fixed_point_follows_the_network(tmp_path: Path) -> None:
    rows = small_network(tmp_path)
    network = theirs.Network(tmp_path / "net.onnx", rows)
    values = {entry.name: numpy_helper.to_array(entry) for entry in network.model.graph.initializer}
    exact = np.maximum(rows @ values["w0"].T + values["b0"], 0) @ values["w1"].T + values["b1"]
    found = theirs.rounded(rows.astype(float), network.fractions[0], theirs.BITS)
    for index, (matrix, bias) in enumerate(network.layers, 1):
        found = found @ matrix + bias
        found = theirs.rounded(np.maximum(found, 0) if index == 1 else found, network.fractions[index])
        left = np.abs(found).max() * 2.0 ** network.fractions[index]
        assert left <= (256 if index == 1 else 128), "the range holds the rows that it was chosen on"
    assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 0.05


@pytest.fixture
def fpga() -> ModuleType:
    pytest.importorskip("torch")
    return script("fpga")


def test_missing_tools_are_told_in_a_line(fpga: ModuleType, tmp_path: Path) -> None:
    small_network(tmp_path)
    answer = fpga.theirs(str(tmp_path / "python"), "da4ml", "", tmp_path)
    assert "No such file" in answer
    answer = fpga.theirs(sys.executable, "nngen", "1", tmp_path)
    assert answer == "ModuleNotFoundError: No module named 'nngen'"


@pytest.mark.rtl
def test_rows_in_consecutive_cycles(fpga: ModuleType, tmp_path: Path, needs_tool) -> None:
    needs_tool("iverilog")
    (tmp_path / "wrapper.v").write_text(
        "module model_wrapper (input clk, input [7:0] model_inp, output reg [7:0] model_out);\n"
        "reg [7:0] held; always @(posedge clk) begin held <= model_inp + 8'd1; model_out <= held; end endmodule\n"
    )
    rows = np.random.default_rng(1).integers(0, 256, 20)
    (tmp_path / "stimulus.hex").write_text("".join(f"{row:02x}\n" for row in rows))
    (tmp_path / "expected.hex").write_text("".join(f"{(row + 1) % 256:02x}\n" for row in rows))
    assert fpga.streamed(tmp_path, ["wrapper.v"], [8, 8]) == 2
    (tmp_path / "expected.hex").write_text("".join(f"{row:02x}\n" for row in rows))
    assert fpga.streamed(tmp_path, ["wrapper.v"], [8, 8]) is None


@pytest.mark.slow
@pytest.mark.rtl
def test_smallest_design(tmp_path: Path, needs_tool) -> None:
    for module in ("torch", "pyreadr"):
        pytest.importorskip(module)
    for tool in ("iverilog", "yosys"):
        needs_tool(tool)
    if not any((root / LETTERS).exists() for root in (Path("/"), ROOT / "build" / "data" / "mlbench")):
        pytest.skip("the letters are not here")
    command = [sys.executable, str(ROOT / "studies/peers/fpga.py"), "--quick", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    quality, design = ([cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line)
    assert float(quality[2]) > 0.95
    assert quality[-1] == "0 words of 50 frames differ"
    for cycles in design[5:7]:
        predicted, observed = cycles.split(" / ")
        assert predicted == observed
    assert (tmp_path / "fpga_peers.svg").read_text().startswith("<svg")
