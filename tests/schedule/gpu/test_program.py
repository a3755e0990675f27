"""Kernels of a graph: what becomes one, what joins which, what is a view, and when a copy comes before."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.compress.quantize import noise
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, NumberFormat
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.schedule.gpu import Contraction, Engine, GpuProgram, Nest, Packed4, Tile, Windows, arena, gpu_program
from lepton_dse.testing.strategies import graphs

ONE = QuantParams((1.0,))


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def window(*kernel: int) -> ops.Window:
    return ops.Window(kernel, (1,) * len(kernel), (1,) * len(kernel), (0,) * len(kernel), (0,) * len(kernel))


class Net(GraphBuilder):
    """A builder whose results are named after what they are, and whose formats follow from the kinds."""

    def __init__(self, shape: tuple[int, ...], form: NumberFormat = FLOAT32) -> None:
        super().__init__("net")
        self.input("x", shape, form, ONE if form.is_float and form != FLOAT32 else None)

    def then(self, output: str, attributes: ops.Attributes, *inputs: str, **given: Any) -> Net:
        self.add(attributes, inputs, output=output, **given)
        return self

    def weights(self, name: str, *shape: int, form: NumberFormat = FLOAT32) -> Net:
        self.constant(name, ones(*shape).astype(form.numpy), form, ONE if form.is_float and form != FLOAT32 else None)
        return self

    def program(self, *outputs: str, capability: float = 8.0, **given: Any) -> GpuProgram:
        return gpu_program(self.build_lowered(list(outputs)), capability, **given)


def chains(program: GpuProgram) -> list[list[str]]:
    """Results of the operations of every kernel."""
    return [[op.output for op in kernel.ops] for kernel in program.kernels]


# --- what joins ---------------------------------------------------------------------------------------------------


def test_elements_join_the_product_that_makes_them() -> None:
    net = Net((4, 8)).weights("w", 8, 6).weights("s", 6)
    net.then("y", ops.MatMul(), "x", "w").then("b", ops.Add(), "y", "s").then("c", ops.Clip(0.0, math.inf), "b")
    program = net.program("c")
    assert chains(program) == [["y", "b", "c"]]
    assert list(program.buffers) == ["x", "c"]


@pytest.mark.parametrize("outputs", [("c", "y"), ("c", "d")])
def test_what_others_need_stays(outputs: tuple[str, ...]) -> None:
    net = Net((4, 8)).weights("w", 8, 6)
    net.then("y", ops.MatMul(), "x", "w").then("c", ops.Clip(0.0, 1.0), "y").then("d", ops.Sigmoid(), "y")
    found = chains(net.program(*outputs))
    assert found == ([["y"], ["c"], ["d"]] if "d" in outputs else [["y"], ["c"]])


def test_a_sum_with_itself_is_a_kernel_of_its_own() -> None:
    net = Net((4, 8)).weights("w", 8, 6)
    net.then("y", ops.MatMul(), "x", "w").then("z", ops.Add(), "y", "y")
    assert chains(net.program("z")) == [["y"], ["z"]]


def test_the_later_of_two_operands_is_joined() -> None:
    net = Net((4, 8)).weights("w", 8, 6).weights("v", 8, 6)
    net.then("a", ops.MatMul(), "x", "w").then("b", ops.MatMul(), "x", "v").then("z", ops.Add(), "a", "b")
    assert chains(net.program("z")) == [["a"], ["b", "z"]]


def test_a_wider_result_does_not_join() -> None:
    net = Net((4, 8)).weights("w", 8, 6).weights("s", 3, 4, 6)
    net.then("y", ops.MatMul(), "x", "w").then("z", ops.Add(), "y", "s")
    assert chains(net.program("z")) == [["y"], ["z"]]


def test_nothing_joins_a_warp_that_works_along_a_row() -> None:
    net = Net((4, 8)).then("y", ops.Softmax((1,)), "x").then("z", ops.Sigmoid(), "y")
    assert chains(net.program("z")) == [["y"], ["z"]]


def test_elements_join_pools_and_movers() -> None:
    net = Net((1, 3, 4, 4)).then("p", ops.MaxPool(window(2, 2)), "x").then("z", ops.Sigmoid(), "p")
    net.then("t", ops.Transpose((0, 2, 3, 1)), "z").then("u", ops.Tanh(), "t")
    assert chains(net.program("u")) == [["p", "z"], ["t", "u"]]


def test_a_table_joins_elements_and_no_product() -> None:
    """A product's epilogue knows what it reads before it has a value."""
    net = Net((4, 16), INT8).weights("w", 16, 6, form=INT8)
    net.constant("m", np.asarray(3, np.int32))
    net.constant("t", np.arange(-128, 128).astype(np.int8))
    net.then("y", ops.MatMul(), "x", "w", form=INT32).then("q", ops.Requantize(8, 0, -128, 127), "y", "m", form=INT8)
    net.then("l", ops.Lookup(-128), "q", "t").then("c", ops.Clip(0, 9), "l").then("k", ops.Lookup(-128), "c", "t")
    assert chains(net.program("k")) == [["y", "q"], ["l", "c", "k"]]


@pytest.mark.parametrize(("batch", "joined"), [(1, True), (2, False)])
def test_a_residual_joins_where_its_rows_are_one_step_apart(batch: int, joined: bool) -> None:
    """An input lies row-major: of several images, neither rows nor pixels are one step apart in both."""
    net = Net((batch, 4, 3, 3)).weights("w", 4, 4, 1, 1)
    net.then("y", ops.Conv(window(1, 1)), "x", "w").then("z", ops.Add(), "y", "x")
    found = [[op.output for op in kernel.ops] for kernel in net.program("z").kernels if kernel.ops]
    assert found == ([["y", "z"]] if joined else [["y"], ["z"]])


def test_channels_of_a_product_are_not_its_columns() -> None:
    """Affine runs along axis 1, which rows of a product of three axes run along."""
    net = Net((2, 3, 8)).weights("w", 8, 6).weights("s", 3)
    net.then("y", ops.MatMul(), "x", "w").then("z", ops.Affine(), "y", "s", "s")
    assert [chain[0] for chain in chains(net.program("z"))][:1] == ["y"]
    assert ["y", "z"] not in chains(net.program("z"))


# --- stored numbers and reals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "engine"), [(FLOAT16, Engine.HALF), (BFLOAT16, Engine.BFLOAT16)])
def test_reals_are_made_where_they_are_read(form: NumberFormat, engine: Engine) -> None:
    net = Net((4, 8), form).then("xr", ops.Dequantize(), "x", form=FLOAT32)
    net.constant("w", np.arange(1, 49).reshape(8, 6).astype(form.numpy), form, ONE)
    net.then("wr", ops.Dequantize(), "w", form=FLOAT32).then("y", ops.MatMul(), "xr", "wr")
    (kernel,) = net.program("y").kernels
    assert isinstance(kernel.work, Contraction)
    assert kernel.work.engine is engine
    assert kernel.operands["xr"].scaled is not None


def test_reals_that_a_caller_sees_are_stored() -> None:
    net = Net((4, 8), FLOAT16).then("xr", ops.Dequantize(), "x", form=FLOAT32).then("y", ops.Sigmoid(), "xr")
    assert chains(net.program("xr", "y")) == [["xr"], ["y"]]
    assert chains(net.program("y")) == [["y"]]


@pytest.mark.parametrize(("beta", "contracts"), [(1.0, True), (0.5, False)])
def test_scaled_halves_are_no_operand_of_tensor_cores(beta: float, contracts: bool) -> None:
    net = Net((4, 8))
    net.input("h", (4, 8), FLOAT16, QuantParams((beta,)))
    net.then("xr", ops.Dequantize(), "h", form=FLOAT32).weights("w", 8, 6, form=FLOAT16)
    net.then("wr", ops.Dequantize(), "w", form=FLOAT32).then("y", ops.MatMul(), "xr", "wr")
    (kernel,) = net.program("y").kernels
    assert isinstance(kernel.work, Contraction) == contracts


def test_weights_of_several_scales_become_reals_once() -> None:
    net = Net((4, 8))
    net.constant("w", np.full((8, 2), 3, np.int8), INT8, QuantParams((0.5, 0.25), 0, 1))
    net.then("wr", ops.Dequantize(), "w", form=FLOAT32).then("y", ops.MatMul(), "x", "wr")
    program = net.program("y")
    assert chains(program) == [["y"]]
    np.testing.assert_array_equal(program.constants["y.packed"][0], np.repeat([[1.5], [0.75]], 8, axis=1))


# --- views and copies ---------------------------------------------------------------------------------------------


def test_a_reshape_is_a_view() -> None:
    net = Net((4, 8)).then("s", ops.Sigmoid(), "x").then("v", ops.Reshape((2, 16)), "s").then("z", ops.Tanh(), "v")
    program = net.program("z", "v")
    assert chains(program) == [["s"], ["z"]]
    assert [(buffer.name, buffer.owner) for buffer in program.outputs] == [("z", "z"), ("v", "s")]


def test_an_image_is_copied_once_before_it_is_seen_otherwise() -> None:
    net = Net((1, 3, 4, 4)).then("p", ops.MaxPool(window(2, 2)), "x")
    net.then("v", ops.Reshape((1, 27)), "p").then("a", ops.Sigmoid(), "v").then("u", ops.Reshape((27,)), "p")
    net.then("b", ops.Tanh(), "u")
    program = net.program("a", "b", "p")
    assert [kernel.reordered for kernel in program.kernels] == ["", "p", "", ""]
    (copy,) = (kernel for kernel in program.kernels if kernel.reordered)
    assert isinstance(copy.work, Nest)
    assert {buffer.owner for buffer in program.outputs} == {"a", "b", copy.result.name}


def test_one_channel_or_one_pixel_needs_no_copy() -> None:
    for shape in ((2, 1, 4, 4), (2, 5, 1, 1)):
        net = Net(shape).then("p", ops.MaxPool(window(1, 1)), "x")
        net.then("v", ops.Reshape((2, math.prod(shape[1:]))), "p").then("z", ops.Sigmoid(), "v")
        assert chains(net.program("z")) == [["p"], ["z"]]


def test_an_input_of_a_convolution_is_copied_channels_innermost() -> None:
    net = Net((2, 3, 4, 4)).weights("w", 5, 3, 2, 2)
    net.then("y", ops.Conv(window(2, 2)), "x", "w").then("z", ops.Conv(window(2, 2)), "x", "w")
    program = net.program("y", "z")
    assert [kernel.reordered for kernel in program.kernels].count("x") == 1
    works = [kernel.work for kernel in program.kernels if isinstance(kernel.work, Contraction)]
    assert [type(work.a) for work in works] == [Windows, Windows]
    assert {"y.packed", "z.packed"} <= set(program.constants)
    assert "w" not in program.constants


def test_outputs_and_inputs_lie_row_major() -> None:
    net = Net((1, 3, 4, 4)).then("p", ops.MaxPool(window(2, 2)), "x")
    program = net.program("p")
    assert all(buffer.layout.order == (0, 1, 2, 3) for buffer in (*program.inputs, *program.outputs))


# --- contractions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "filters", "contracts"), [(1, 2, True), (4, 4, False), (4, 12, False), (4, 16, True), (4, 20, True)]
)
def test_narrow_groups_leave_most_of_a_tile_empty(groups: int, filters: int, contracts: bool) -> None:
    net = Net((1, 8, 3, 3)).weights("w", filters, 8 // groups, 1, 1)
    net.then("y", ops.Conv(window(1, 1), groups), "x", "w")
    works = [kernel.work for kernel in net.program("y").kernels if not kernel.reordered]
    assert [isinstance(work, Contraction) for work in works] == [contracts]
    if contracts:
        (work,) = works
        assert isinstance(work, Contraction)
        assert (work.products, work.columns) == (groups, filters // groups)


@pytest.mark.parametrize(
    ("left", "right", "products"),
    [((4, 8), (8, 5), 1), ((2, 3, 8), (8, 5), 1), ((2, 3, 8), (2, 8, 5), 2), ((2, 3, 4, 8), (2, 3, 8, 5), 6)],
)
def test_products_of_activations(left: tuple[int, ...], right: tuple[int, ...], products: int) -> None:
    net = Net(left)
    net.input("w", right)
    (kernel,) = net.then("y", ops.MatMul(), "x", "w").program("y").kernels
    assert isinstance(kernel.work, Contraction)
    assert kernel.work.products == products
    assert kernel.work.rows * products == math.prod(left[:-1])
    assert kernel.work.columns == 5


@pytest.mark.parametrize(("left", "right"), [((8,), (8, 5)), ((2, 1, 3, 8), (1, 5, 8, 4)), ((3, 8), (2, 8, 5))])
def test_other_products_have_a_thread_for_each_result(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    net = Net(left)
    net.input("w", right)
    (kernel,) = net.then("y", ops.MatMul(), "x", "w").program("y").kernels
    assert isinstance(kernel.work, Nest)


@pytest.mark.parametrize(
    ("activations", "weights", "capability", "engine"),
    [
        ("int8", "int8", 8.0, Engine.INT8),
        ("int8", "int8", 7.5, Engine.DOT4),
        ("int8", "int8", 6.0, None),
        ("int8", "int4", 8.0, Engine.INT8),
        ("int8", "int16", 8.0, None),
        ("int8", "uint8", 8.0, None),
        ("uint8", "int8", 8.0, None),
        ("int4", "int8", 8.0, None),
        ("float32", "float32", 5.0, Engine.FLOAT32),
    ],
)
def test_formats_that_a_kernel_multiplies(activations: str, weights: str, capability: float, engine: Engine | None) -> None:
    net = Net((4, 16), NumberFormat.parse(activations)).weights("w", 16, 6, form=NumberFormat.parse(weights))
    net.then("y", ops.MatMul(), "x", "w", form=FLOAT32 if activations == "float32" else INT32)
    (kernel,) = net.program("y", capability=capability).kernels
    assert (kernel.work.engine if isinstance(kernel.work, Contraction) else None) is engine
    if weights == "int4":
        assert isinstance(kernel.work, Contraction)
        assert isinstance(kernel.work.b, Packed4)


def test_sums_of_more_than_32_bits_have_a_thread_each() -> None:
    net = Net((4, 16), INT8).weights("w", 16, 6, form=INT8)
    net.then("y", ops.MatMul(), "x", "w", form=NumberFormat.parse("int40"))
    (kernel,) = net.program("y").kernels
    assert isinstance(kernel.work, Nest)


@given(values=st.lists(st.integers(-8, 7), min_size=12, max_size=12), columns=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_nibbles_are_packed_low_half_first(values: list[int], columns: int) -> None:
    depth = 12 // columns
    net = Net((4, depth), INT8)
    net.constant("w", np.asarray(values, np.int8).reshape(depth, columns), NumberFormat.parse("int4"))
    program = net.then("y", ops.MatMul(), "x", "w", form=INT32).program(
        "y", choose=lambda op, problem, engine: Tile(16, 8, 32, 1, 1)
    )
    (kernel,) = program.kernels
    assert isinstance(kernel.work, Contraction)
    packed = program.constants["y.packed"]
    if not isinstance(kernel.work.b, Packed4):  # all zero: nothing is stored
        assert not any(values)
        return
    for column in range(columns):
        for k in range(16):
            byte = int(packed[0, column, k // 2])
            nibble = byte >> 4 if k % 2 else byte & 15
            assert (nibble ^ 8) - 8 == (values[k * columns + column] if k < depth else 0)


def test_a_tile_that_is_no_kernel_is_one_line() -> None:
    net = Net((4, 8)).weights("w", 8, 6).then("y", ops.MatMul(), "x", "w")
    with pytest.raises(LeptonError, match=r"^y: tile 128x128, 128 bytes a step, 2x2 warps, 4 stages: .*; ") as caught:
        net.program("y", choose=lambda op, problem, engine: Tile(128, 128, 128, 2, 2, 4))
    assert "\n" not in str(caught.value)


# --- the arena ----------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(graph=graphs(branches=True), form=st.sampled_from(["int8", "float32"]))
def test_what_a_kernel_needs_at_once_does_not_overlap(graph: Graph, form: str) -> None:
    lowered = lower_bundle(flow.quantize(graph, form, noise(graph, 2, 1)))
    program = gpu_program(lowered, 8.0)
    placed = arena(program)
    sizes = {buffer.owner: buffer.bytes for buffer in program.buffers.values()}
    assert set(placed.places) == set(sizes)
    assert all(entry.offset % 256 == 0 for entry in placed.places.values())
    readers: dict[str, int] = {}
    for step, kernel in enumerate(program.kernels):
        readers |= {source.buffer.owner: step for source in kernel.operands.values()}
    readers |= {buffer.owner: len(program.kernels) for buffer in program.outputs}
    alive = {buffer.owner for buffer in program.inputs}
    for step, kernel in enumerate(program.kernels):
        needed = {owner for owner in alive if readers.get(owner, -1) >= step} | {kernel.result.owner}
        starts = {owner: placed.places[owner].offset for owner in needed}
        spans = sorted((start, start + sizes[owner]) for owner, start in starts.items())
        for (_, end), (begin, _) in pairwise(spans):
            assert end <= begin
        assert all(end <= placed.peak for _, end in spans)
        alive.add(kernel.result.owner)


def test_every_kernel_reads_what_is_stored_before() -> None:
    net = Net((2, 3, 6, 6)).weights("w", 8, 3, 3, 3).weights("v", 128, 10)
    net.then("y", ops.Conv(window(3, 3)), "x", "w").then("c", ops.Clip(0.0, 1.0), "y")
    net.then("f", ops.Reshape((2, 128)), "c").then("z", ops.MatMul(), "f", "v").then("s", ops.Softmax((1,)), "z")
    program = net.program("s")
    there = {buffer.owner for buffer in program.inputs} | set(program.constants) | {"w", "v"}
    for kernel in program.kernels:
        assert {source.buffer.owner for source in kernel.operands.values()} <= there
        there.add(kernel.result.owner)
    assert chains(program) == [[], ["y", "c"], [], ["z"], ["s"]]


def test_what_no_engine_multiplies_is_not_copied_for_one() -> None:
    builder = GraphBuilder("net")
    half, one = NumberFormat.parse("float16"), QuantParams((1.0,))
    builder.input("x", (1, 8, 6, 6), half, one)
    builder.constant("w", np.ones((8, 8, 3, 3), np.float16), half, one)
    real = [builder.add(ops.Dequantize(), [name], output=f"{name}.real", form=FLOAT32) for name in ("x", "w")]
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    graph = builder.build_lowered([builder.add(ops.Conv(window), real, output="y")])
    newer, older = (gpu_program(graph, capability).kernels for capability in (8.0, 7.0))
    assert any(kernel.reordered == "x.real" for kernel in newer)
    assert [kernel.reordered for kernel in older if kernel.reordered] == ["y"]
