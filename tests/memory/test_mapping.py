"""Memory maps of graphs, held against a run of the operations in one real arena."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.errors import InvalidPlanError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.semantics import evaluate, run
from lepton_dse.ir.tensors import Tensor
from lepton_dse.lower import lower_bundle
from lepton_dse.memory import MemoryMap, arena_bytes, check_map, map_memory, packed_bytes, stored_bytes
from lepton_dse.numerics.formats import BOOL, FLOAT32, INT32, NumberFormat, Precision
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import arena as oracle


def run_in_arena(graph: Graph, mapped: MemoryMap, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every operation reads its operands from the arena and writes its result there."""
    arena = np.full(mapped.peak, 0xA5, np.uint8)

    def stored(name: str) -> np.ndarray:
        place, tensor = mapped.places[name], graph.tensors[name]
        return arena[place.offset : place.offset + place.bytes].view(tensor.format.numpy).reshape(tensor.shape)

    for name, value in inputs.items():
        stored(name)[...] = value
    for op in graph.ops:
        values = [graph.constants[name] if name in graph.constants else stored(name).copy() for name in op.inputs]
        stored(op.output)[...] = evaluate(op, values, graph.tensors[op.output], [graph.tensors[name] for name in op.inputs])
    return {name: stored(name).copy() for name in graph.outputs if name in mapped.places}


@settings(max_examples=500, deadline=None)
@given(graphs(branches=True), st.booleans(), st.sampled_from([8, 64]), st.integers(0, 2**32 - 1))
def test_a_run_in_the_arena_gives_what_the_graph_defines(graph: Graph, in_place: bool, alignment: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(0, 1, graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}
    mapped = map_memory(graph, in_place=in_place, alignment=alignment)
    found, wanted = run_in_arena(graph, mapped, inputs), run(graph, inputs)
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name])
    assert mapped.bound <= mapped.peak


@st.composite
def pointwise_graphs(draw: st.DrawFn) -> Graph:
    """Functions of one, two and three tensors over one another's results, of several formats, some of them broadcast."""
    builder = GraphBuilder("pointwise")
    reals, flags, whole = (
        [builder.input("x", (2, 3, 4)), builder.input("row", (1, 3, 1))],
        [builder.input("mask", (2, 3, 4), BOOL)],
        [],
    )

    def add(kind: ops.Attributes, *operands: str) -> str:
        return builder.add(kind, operands, output=builder.fresh(type(kind).__name__.lower()))

    for _ in range(draw(st.integers(1, 8))):
        a, b = draw(st.sampled_from(reals)), draw(st.sampled_from(reals))
        match draw(st.sampled_from(["unary", "gelu", "cast", "binary", "where", "compare", "flags"])):
            case "unary":
                reals.append(add(ops.Unary(draw(st.sampled_from([ops.UnaryFunction.NEGATE, ops.UnaryFunction.ABSOLUTE]))), a))
            case "gelu":
                reals.append(add(ops.Gelu(draw(st.booleans())), a))
            case "cast" if whole and draw(st.booleans()):
                reals.append(add(ops.Cast(FLOAT32), draw(st.sampled_from(whole))))
            case "cast":
                whole.append(add(ops.Cast(draw(st.sampled_from([INT32, NumberFormat.parse("int64")]))), a))
            case "binary":
                reals.append(
                    add(ops.Binary(draw(st.sampled_from([ops.BinaryFunction.SUBTRACT, ops.BinaryFunction.MAXIMUM]))), a, b)
                )
            case "where":
                reals.append(add(ops.Where(), draw(st.sampled_from(flags)), a, b))
            case "compare":
                flags.append(add(ops.Compare(ops.Relation.LESS), a, b))
            case _:
                c = draw(st.sampled_from(flags))
                flags.append(add(ops.Where(), draw(st.sampled_from(flags)), c, draw(st.sampled_from(flags))))
    every = [*reals, *flags, *whole]
    outputs = draw(st.lists(st.sampled_from(every[3:] or every), min_size=1, max_size=3, unique=True))
    return builder.build(outputs)


@settings(max_examples=500, deadline=None)
@given(pointwise_graphs(), st.booleans(), st.sampled_from([8, 64]), st.integers(0, 2**32 - 1))
def test_functions_of_several_tensors_in_the_arena(graph: Graph, in_place: bool, alignment: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = {name: graph.tensors[name] for name in graph.inputs}
    inputs = {name: rng.normal(0, 2, tensor.shape).astype(np.float32) for name, tensor in shapes.items()}
    inputs |= {name: value > 0 for name, value in inputs.items() if shapes[name].format == BOOL}
    mapped = map_memory(graph, in_place=in_place, alignment=alignment, bytes_of=stored_bytes)
    found, wanted = run_in_arena(graph, mapped, inputs), run(graph, inputs)
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name])


@settings(max_examples=100, deadline=None)
@given(graphs(branches=True))
def test_nothing_shared_needs_what_is_live_at_once(graph: Graph) -> None:
    mapped = map_memory(graph, in_place=False, alignment=1)
    views = any(isinstance(op.attributes, ops.Reshape) for op in graph.ops)
    counted = oracle.live_bytes(graph, {name: packed_bytes(tensor) for name, tensor in graph.tensors.items()})
    assert mapped.bound <= counted if views else mapped.bound == counted


def chain(*kinds: ops.Attributes, shape: tuple[int, ...] = (1, 4, 8)) -> Graph:
    builder = GraphBuilder("chain")
    x = builder.input("x", shape)
    for kind in kinds:
        x = builder.add(kind, [x], output=builder.fresh("t"))
    return builder.build([x])


def test_elementwise_results_take_the_place_of_what_they_read() -> None:
    graph = chain(ops.Sigmoid(), ops.Tanh(), ops.Sigmoid())
    assert map_memory(graph, alignment=1).peak == 4 * 32
    assert map_memory(graph, alignment=1, in_place=False).peak == 2 * 4 * 32


@pytest.mark.parametrize(
    ("kind", "formats", "taken"),
    [
        (ops.Unary(ops.UnaryFunction.NEGATE), [FLOAT32], "a0"),
        (ops.Gelu(), [FLOAT32], "a0"),
        (ops.Cast(INT32), [FLOAT32], "a0"),
        (ops.Cast(NumberFormat.parse("int64")), [FLOAT32], "y"),
        (ops.Binary(ops.BinaryFunction.SUBTRACT), [FLOAT32, FLOAT32], "a0"),
        (ops.Where(), [BOOL, FLOAT32, FLOAT32], "a1"),
        (ops.Where(), [BOOL, BOOL, BOOL], "a0"),
        (ops.Compare(ops.Relation.LESS), [INT32, INT32], "y"),
    ],
)
def test_functions_take_the_place_of_an_operand_of_as_many_bytes(
    kind: ops.Attributes, formats: list[NumberFormat], taken: str
) -> None:
    builder = GraphBuilder("place")
    operands = [builder.input(f"a{index}", (2, 3), form) for index, form in enumerate(formats)]
    graph = builder.build([builder.add(kind, operands, output="y")])
    assert map_memory(graph, bytes_of=stored_bytes).places["y"].block == taken
    assert map_memory(graph, bytes_of=stored_bytes, in_place=False).places["y"].block == "y"


def test_an_operand_that_is_read_elsewhere_in_the_same_operation_is_not_overwritten() -> None:
    builder = GraphBuilder("row")
    x = builder.input("x", (3, 1))
    seen = builder.add(ops.Reshape((1, 3)), [x], output="seen")
    wide = builder.input("wide", (3, 3))
    mask = builder.input("mask", (3, 3), BOOL)
    product = builder.add(ops.Where(), [mask, seen, wide], output="product")
    assert map_memory(builder.build([product])).places[product].block == "wide"
    builder = GraphBuilder("square")
    x = builder.input("x", (1, 1, 4))
    seen = builder.add(ops.Reshape((1, 4, 1)), [x], output="seen")
    less = builder.add(ops.Binary(ops.BinaryFunction.SUBTRACT), [x, seen], output="less")
    assert map_memory(builder.build([less])).places[less].block == "less"


def test_a_view_keeps_its_block_alive() -> None:
    builder = GraphBuilder("view")
    x = builder.input("x", (1, 4, 8))
    seen = builder.add(ops.Reshape((1, 32)), [x], output="seen")
    moved = builder.add(ops.Tanh(), [x], output="moved")
    again = builder.add(ops.Reshape((1, 32)), [moved], output="again")
    mapped = map_memory(builder.build([again, seen]), alignment=1)
    assert mapped.places[seen].offset == mapped.places[x].offset != mapped.places[moved].offset
    assert mapped.peak == 2 * 4 * 32


def test_an_operand_that_is_broadcast_is_not_overwritten() -> None:
    builder = GraphBuilder("broadcast")
    x, y = builder.input("x", (1, 4, 1)), builder.input("y", (1, 4, 8))
    total = builder.add(ops.Add(), [x, y], output="total")
    mapped = map_memory(builder.build([total]), alignment=1)
    assert mapped.places[total].block == "y"


@pytest.mark.parametrize("in_place", [True, False])
def test_a_real_network_is_mapped_to_its_bound(in_place: bool) -> None:
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    mapped = map_memory(graph, in_place=in_place)
    assert mapped.peak == mapped.bound


@settings(max_examples=60, deadline=None)
@given(graphs(branches=True), st.integers(1, 3))
def test_the_peak_alone_is_that_of_the_map(graph: Graph, batch: int) -> None:
    batched = graph.with_batch(batch)
    assert arena_bytes(batched) == map_memory(batched).peak


@settings(max_examples=60, deadline=None)
@given(graphs(branches=True), st.sampled_from(["int8", "w4a4", "float32", "bfloat16"]))
def test_a_map_belongs_to_its_graph_alone(graph: Graph, form: str) -> None:
    lowered = lower_bundle(quantize(graph, Recipe(Precision.parse(form)), noise(graph, 0, 2))[0])
    mapped = map_memory(lowered, bytes_of=stored_bytes)
    check_map(mapped, lowered, bytes_of=stored_bytes)
    for other in (lowered.with_batch(2), chain(ops.Sigmoid(), shape=(1, 4, 8, 3))):
        with pytest.raises(InvalidPlanError, match="not that of the model, see tensor"):
            check_map(mapped, other, bytes_of=stored_bytes)
    with pytest.raises(InvalidPlanError, match="plan again"):
        check_map(mapped, lowered, bytes_of=lambda tensor: stored_bytes(tensor) + 1)


def test_a_map_with_nothing_in_place_is_another() -> None:
    graph = chain(ops.Sigmoid(), ops.Tanh())
    with pytest.raises(InvalidPlanError, match="chain: the memory map is not that of the model, see tensor 't"):
        check_map(map_memory(graph, in_place=False), graph, bytes_of=packed_bytes)


def test_elements_narrower_than_a_byte_are_stored_in_one() -> None:
    tensor = Tensor("x", (1, 3), NumberFormat.for_range(-8, 7))
    assert (packed_bytes(tensor), stored_bytes(tensor)) == (2, 3)
