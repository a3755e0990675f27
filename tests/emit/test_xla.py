"""StableHLO and JAX source: every kind of operation, networks shared by hand and at random, bytes, hostile names."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load

from lepton_dse.emit.xla import arguments, module_text
from lepton_dse.emit.xla.emitter import program_files
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import run
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.schedule.sharded import OpStrategy, ShardedProgram, Strategies, fold, sharded_program, unshared_program
from lepton_dse.schedule.sharded.traffic import predicted_collectives
from lepton_dse.sim.sharded import run_sharded
from lepton_dse.verify.xla.hlo import collectives, compiled_form, difference
from lepton_dse.verify.xla.steps import allowed, judge
from lepton_dse.verify.xla.work import argument_bytes, compiled_macs, predicted_macs

sys.path.insert(0, str(Path(__file__).parent))
from xla_cases import Found, run_cases
from xla_networks import convolutional, integers, lowered, perceptron, residual, transformer
from xla_programs import kinds, randomly_shared, reals

NETWORKS = {"perceptron": perceptron, "convolutional": convolutional, "transformer": transformer}
FORMATS = ("float32", "int8", "w4a8", "bfloat16", "float16")
MESHES = ("x=2", "x=2,y=2", "x=8", "a=2,b=4", "a=2,b=2,c=2")
SETTINGS = settings(max_examples=1, phases=(Phase.generate,))  # a batch of programs is one example: a process of JAX
Cuts = tuple[tuple[str, ...], ...]


@pytest.fixture(scope="module")
def needs_jax() -> None:
    """Skip without JAX, which is optional; fail in continuous integration, which installs it."""
    if find_spec("jax") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("jax is not installed")


def graph_of(network: str, form: str) -> Graph:
    graph = NETWORKS[network]()
    return graph if form == "float32" else lowered(graph, form)


def feeds_of(graph: Graph, seed: int = 0) -> dict[str, NDArray[Any]]:
    return {name: reals(*graph.tensors[name].shape, seed=seed).astype(graph.tensors[name].format.numpy) for name in graph.inputs}


def check(program: ShardedProgram, feeds: dict[str, NDArray[Any]], found: Found) -> None:
    """Outputs of the reference, the collectives and arguments that the steps say, and every product."""
    expected, bounds = run(program.graph, feeds), allowed(program, feeds)
    for (name, value), observed in zip(expected.items(), found.results, strict=True):
        apart = np.abs(value.astype(np.float64) - observed.astype(np.float64)).max()
        assert apart <= bounds[name], f"{name} is off by {apart}, allowed {bounds[name]}"
    wanted = compiled_form(predicted_collectives(program))
    assert difference(wanted, collectives(found.hlo, program.mesh.devices)) == ""
    assert argument_bytes(program) == found.said["argument_bytes"]
    assert predicted_macs(program) == compiled_macs(found.hlo)
    assert "lepton_dse" not in found.said["imported"]


# --- every kind -----------------------------------------------------------------------------------------------------


def test_every_kind_of_operation_is_among_the_cases() -> None:
    assert {op.kind for _, (graph, _) in kinds() for op in graph.ops} == set(ops.ATTRIBUTES)


@pytest.mark.slow
def test_every_kind_means_what_the_reference_says(needs_jax: None, tmp_path: Path) -> None:
    cases = [(name, unshared_program(graph), feeds) for name, (graph, feeds) in kinds()]
    found = run_cases(tmp_path, [(program, feeds) for _, program, feeds in cases], ("text", "source", "interpret"))
    wrong = []
    for (name, program, feeds), forms in zip(cases, found, strict=True):
        for form, result in forms.items():
            (judged,) = judge(program, feeds, {"y": result.results})
            wrong += [f"{name} as {form}: {judged.wrong} elements, {judged.first}"] if judged.wrong else []
    assert wrong == []
    assert sum("interpret" in forms for forms in found) > 100


# --- shared networks ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@SETTINGS
@given(data=st.data())
def test_networks_shared_at_random_compute_and_send_what_their_steps_say(
    needs_jax: None, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cases = []
    for network in NETWORKS:
        for form in FORMATS:
            graph = graph_of(network, form)
            mesh = Mesh.parse(data.draw(st.sampled_from(MESHES)))
            seed = data.draw(st.integers(0, 1 << 30))
            cases.append((randomly_shared(graph, mesh, seed), feeds_of(graph, seed)))
    for (program, feeds), forms in zip(
        cases, run_cases(tmp_path_factory.mktemp("drawn"), cases, ("text", "source")), strict=True
    ):
        for found in forms.values():
            check(program, feeds, found)


def shared(graph: Graph, mesh: str, inputs: Cuts, loops: dict[str, dict[str, tuple[str, ...]]], homes: dict[str, Cuts]) -> Any:
    """A program in which operations without an entry are whole on every device."""
    strategies = {}
    for op in graph.ops:
        whole = ((),) * len(graph.tensors[op.output].shape)
        strategies[op.name] = OpStrategy(loops.get(op.name, {}), Layout(homes.get(op.name, whole)))
    return sharded_program(graph, Mesh.parse(mesh), Strategies({graph.inputs[0]: Layout(inputs)}, strategies))


def everywhere(graph: Graph, loop: str, axes: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Cuts]]:
    """Every operation shared along the loop of samples, its results left where they are made."""
    loops, homes = {}, {}
    for op in graph.ops:
        name = "v0" if isinstance(op.attributes, ops.Reshape) else "n" if type(op.attributes) in WINDOWED else loop
        loops[op.name] = {name: axes}
        homes[op.name] = (axes, *[()] * (len(graph.tensors[op.output].shape) - 1))
    return loops, homes


WINDOWED = (ops.Conv, ops.MaxPool, ops.AveragePool)
X, Y = ("x",), ("y",)


def by_batch(graph: Graph) -> ShardedProgram:
    loops, homes = everywhere(graph, "d0", X)
    for op in graph.ops:
        if isinstance(op.attributes, ops.MatMul):
            loops[op.name] = {"b0" if len(graph.tensors[op.output].shape) > 2 else "i": X}
    return shared(graph, "x=4", (X, *[()] * (len(graph.tensors["x"].shape) - 1)), loops, homes)


def perceptron_by_columns() -> ShardedProgram:
    """Every product cut by outputs, and gathered."""
    return shared(perceptron(), "x=4", ((), ()), {f"dense{number}": {"j": X} for number in range(3)}, {})


def perceptron_by_rows() -> ShardedProgram:
    """Every product cut by what is summed over, and added up."""
    return shared(perceptron(), "x=4", ((), ()), {f"dense{number}": {"k": X} for number in range(3)}, {})


def perceptron_by_both() -> ShardedProgram:
    """By columns and then by rows, as transformers are: one sum for two products; samples on the other axis."""
    cut = (Y, X)
    loops = {"dense0": {"i": Y, "j": X}, "relu0": {"d0": Y, "d1": X}, "dense1": {"i": Y, "k": X}}
    return shared(perceptron(), "x=4,y=2", (Y, ()), loops, {"dense0": cut, "relu0": cut})


def rows_of_an_image() -> ShardedProgram:
    """Convolutions and pools with rows from their neighbours."""
    graph, cut = convolutional(), ((), (), X, ())
    loops: dict[str, Any] = {name: {"o0": X} for name in ("conv0", "pool0", "conv1", "pool1")}
    loops |= {name: {"d2": X} for name in ("relu0", "skip", "relu1")}
    return shared(graph, "x=4", cut, loops, dict.fromkeys(loops, cut))


def heads() -> ShardedProgram:
    """Attention cut by heads: queries, keys and values by columns, the projection by rows."""
    graph = transformer()
    loops: dict[str, Any] = {f"{name} product": {"j": X} for name in "qkv"} | {f"{name} heads": {"v2": X} for name in "qkv"}
    loops |= {f"{name} turned": {"d1": X} for name in "qkv"} | {name: {"d1": X} for name in ("scaling", "softmax")}
    loops |= {"scores product": {"b1": X}, "mixing": {"b1": X}, "mixed turned": {"d2": X}, "joined heads": {"v2": X}}
    loops |= {"o product": {"k": X}, "up product": {"j": X}, "gelu": {"d2": X}, "down product": {"k": X}}
    homes: dict[str, Cuts] = {f"{name} product": ((), (), X) for name in "qkv"}
    homes |= {f"{name} heads": ((), (), X, ()) for name in "qkv"} | {f"{name} turned": ((), X, (), ()) for name in "qkv"}
    homes |= dict.fromkeys(("scores product", "scaling", "softmax", "mixing"), ((), X, (), ()))
    homes |= {"mixed turned": ((), (), X, ()), "joined heads": ((), (), X), "up product": ((), (), X), "gelu": ((), (), X)}
    return shared(graph, "x=4", ((), (), ()), loops, homes)


def sequence() -> ShardedProgram:
    """Everything cut by tokens; keys and values are gathered."""
    graph, cut = transformer(), ((), X, ())
    names = ("q", "k", "v", "o", "up", "down")
    loops: dict[str, Any] = {f"{name} product": {"i": X} for name in names} | {f"{name} heads": {"v1": X} for name in "qkv"}
    loops |= {"q turned": {"d2": X}, "k turned": {"d3": X}, "v turned": {"d2": X}, "scores product": {"i": X}, "mixing": {"i": X}}
    loops |= {name: {"d2": X} for name in ("scaling", "softmax")} | {"mixed turned": {"d1": X}, "joined heads": {"v1": X}}
    loops |= {name: {"d1": X} for name in ("n0 norm", "n1 norm", "skip0", "skip1", "gelu")}
    homes: dict[str, Cuts] = {f"{name} product": cut for name in names} | {f"{name} heads": ((), X, (), ()) for name in "qkv"}
    homes |= {"q turned": ((), (), X, ()), "k turned": ((), (), (), X), "v turned": ((), (), X, ())}
    homes |= dict.fromkeys(("scores product", "scaling", "softmax", "mixing"), ((), (), X, ()))
    homes |= {"mixed turned": ((), X, (), ()), "joined heads": cut}
    homes |= dict.fromkeys(("n0 norm", "n1 norm", "skip0", "skip1", "gelu"), cut)
    return shared(graph, "x=4", cut, loops, homes)


BY_HAND = {
    "perceptron by samples": (lambda: by_batch(perceptron()), {}),
    "perceptron by columns": (perceptron_by_columns, {"all_gather": 3}),
    "perceptron by rows": (perceptron_by_rows, {"all_reduce": 3}),
    "perceptron by both": (perceptron_by_both, {"all_reduce": 1, "all_gather": 1}),
    "images by samples": (lambda: by_batch(convolutional()), {}),
    "images by rows": (rows_of_an_image, {"point_to_point": 5, "all_gather": 1}),
    "transformer by heads": (heads, {"all_reduce": 2}),
    "transformer by tokens": (sequence, {"all_gather": 2}),
}


def kinds_sent(program: ShardedProgram) -> dict[str, int]:
    sent = [entry.kind.value for entry in predicted_collectives(program)]
    return {kind: sent.count(kind) for kind in sent}


@pytest.mark.parametrize("name", BY_HAND)
def test_known_sharings_send_what_the_literature_says(name: str) -> None:
    build, expected = BY_HAND[name]
    assert kinds_sent(build()) == expected


@pytest.mark.slow
def test_known_sharings_compute_and_send_what_their_steps_say(needs_jax: None, tmp_path: Path) -> None:
    programs = [build() for build, _ in BY_HAND.values()]
    cases = [(program, feeds_of(program.graph)) for program in programs]
    for (program, feeds), forms in zip(cases, run_cases(tmp_path, cases, ("text", "source")), strict=True):
        for found in forms.values():
            check(program, feeds, found)


# --- loops ----------------------------------------------------------------------------------------------------------


def deep(network: str, form: str) -> Graph:
    graph = {"transformer": lambda: transformer(layers=5), "residual": residual, "integers": integers}[network]()
    return graph if form == "float32" or network == "integers" else lowered(graph, form)


@pytest.mark.slow
@SETTINGS
@given(data=st.data())
def test_loops_compute_and_send_what_their_steps_say(
    needs_jax: None, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cases = []
    for network, form in (("transformer", "float32"), ("transformer", "bfloat16"), ("residual", "float32"), ("integers", "")):
        for meshes in (("x=1", "x=2"), ("x=4", "x=2,y=2")):
            graph, seed = deep(network, form), data.draw(st.integers(0, 1 << 30))
            program = randomly_shared(graph, Mesh.parse(data.draw(st.sampled_from(meshes))), seed, alike=True)
            assert fold(program).loops
            values = reals(*graph.tensors["x"].shape, seed=seed) * (40 if network == "integers" else 1)
            cases.append((program, {"x": values.astype(graph.tensors["x"].format.numpy)}))
    folder = tmp_path_factory.mktemp("loops")
    for (program, feeds), forms in zip(cases, run_cases(folder, cases, ("text", "source", "interpret")), strict=True):
        for form, found in forms.items():
            if form != "interpret":
                check(program, feeds, found)
                continue
            (expected,), (bound,) = run(program.graph, feeds).values(), allowed(program, feeds).values()
            apart = np.abs(expected.astype(np.float64) - found.results[0].astype(np.float64)).max()
            assert apart <= bound


def test_the_text_of_a_loop_does_not_depend_on_its_rounds() -> None:
    sizes = []
    for layers in (11, 32):
        program = unshared_program(transformer(layers=layers))
        feeds = feeds_of(program.graph)
        dummy = {name: np.zeros(program.graph.tensors[name].shape, np.float32) for name in program.graph.outputs}
        files = program_files(program, feeds, dummy)
        sizes.append([len(files[name]) for name in ("model.mlir", "model.py", "arguments.json")])
    assert sizes[0] == sizes[1]
    assert sizes[1][0] < 20_000


def test_weights_of_a_loop_stand_behind_one_another() -> None:
    graph = transformer(layers=6)
    entries = arguments(fold(unshared_program(graph)))
    assert [entry.label for entry in entries[:3]] == ["x", "0.n0.s and 5 more", "0.n0.t and 5 more"]
    assert entries[3].sources == tuple(f"{number}.q.w" for number in range(6))
    assert entries[3].shape == (6, 16, 16)
    feeds = feeds_of(graph)
    weights = load(program_files(unshared_program(graph), feeds, run(graph, feeds))["weights.safetensors"])
    np.testing.assert_array_equal(weights["w2"], np.stack([graph.constants[f"{number}.q.w"] for number in range(6)]))
    assert sum(value.nbytes for value in weights.values()) == sum(value.nbytes for value in graph.constants.values())


# --- steps ----------------------------------------------------------------------------------------------------------


def diamond() -> Graph:
    """Two readers of one result."""
    tensors = [Tensor(name, (8, 8)) for name in ("x", "a", "b", "c", "y")]
    made = [Op(f"make {name}", ops.Tanh(), (source,), name) for name, source in (("a", "x"), ("b", "a"), ("c", "a"))]
    return Graph("diamond", tensors, [*made, Op("join", ops.Add(), ("b", "c"), "y")], ["x"], ["y"], {})


def test_nothing_is_sent_twice_or_for_nobody() -> None:
    cut: Cuts = (("x",), ())
    loops = {name: {"d1": ("x",)} for name in ("make b", "make c", "join")} | {"make a": {"d0": ("x",)}}
    other: Cuts = ((), ("x",))
    homes = {"make a": cut, "make b": other, "make c": other, "join": other}
    assert kinds_sent(shared(diamond(), "x=4", cut, loops, homes)) == {"all_to_all": 1}
    # Brought home to every device, and wanted as it was made.
    by_rows = {name: {"d0": ("x",)} for name in loops}
    again = shared(diamond(), "x=4", cut, by_rows, dict.fromkeys(homes, cut) | {"make a": ((), ())})
    assert kinds_sent(again) == {}
    feeds = feeds_of(diamond())
    np.testing.assert_allclose(run_sharded(again, feeds)["y"], run(diamond(), feeds)["y"], rtol=1e-6)


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_the_same_program_gives_the_same_bytes(form: str) -> None:
    files = []
    for _ in range(2):
        graph = graph_of("convolutional", form)
        feeds = feeds_of(graph)
        files.append(program_files(randomly_shared(graph, Mesh.parse("x=2,y=2"), 5), feeds, run(graph, feeds)))
    assert files[0] == files[1]


def test_weights_are_arguments_in_the_order_of_their_use_and_stand_once_in_the_file() -> None:
    program = heads()
    entries = arguments(fold(program))
    assert [entry.label for entry in entries if not entry.constant] == ["x"]
    assert entries[1].label == "n0.s"
    feeds = feeds_of(program.graph)
    data = program_files(program, feeds, run(program.graph, feeds))["weights.safetensors"]
    weights = sum(value.nbytes for value in program.graph.constants.values())
    assert weights <= len(data) <= weights + 4096
    assert len(module_text(fold(program))) < 60_000


HOSTILE = ['a\nb"c', "*/ %v0 = stablehlo.undefined", '"""\nimport os', "dense<1> : tensor<f32>\\", "\x00\x1b[2J{}é\u2028"]


def hostile() -> tuple[ShardedProgram, dict[str, NDArray[Any]]]:
    tensors = [Tensor(name, (4, 4)) for name in HOSTILE]
    first, second, third, fourth, fifth = HOSTILE
    made = [Op(f"{fifth} {first}", ops.Tanh(), (first,), second), Op(third, ops.Sigmoid(), (second,), third)]
    made.append(Op(fourth, ops.MatMul(), (third, fourth), fifth))
    graph = Graph(first, tensors, made, [first], [fifth], {fourth: reals(4, 4)})
    loops = {op.name: {"i" if isinstance(op.attributes, ops.MatMul) else "d0": ("x",)} for op in graph.ops}
    return shared(graph, "x=2", (("x",), ()), loops, {op.name: ((), ()) for op in graph.ops}), feeds_of(graph)


@pytest.mark.slow
def test_hostile_names_stay_names(needs_jax: None, tmp_path: Path) -> None:
    program, feeds = hostile()
    ((found),) = run_cases(tmp_path, [(program, feeds)], ("text", "source"))
    for form in found.values():
        check(program, feeds, form)


def test_hostile_names_are_comments_of_one_line() -> None:
    program, feeds = hostile()
    files = program_files(program, feeds, run(program.graph, feeds))
    for name in ("model.mlir", "model.py"):
        text = files[name].decode()
        assert text.isascii()
        assert "undefined" not in "".join(line.partition("//")[0].partition("#")[0] for line in text.splitlines())
    compile(files["model.py"], "model.py", "exec")


def test_fixed_point_is_refused() -> None:
    form = NumberFormat.parse("fixed16.8")
    tensors = [Tensor("x", (2, 2), form), Tensor("y", (2, 2), form)]
    graph = LoweredGraph("fixed", tensors, [Op("move", ops.Transpose((1, 0)), ("x",), "y")], ["x"], ["y"], {})
    with pytest.raises(LeptonError, match="no fixed-point type"):
        module_text(fold(unshared_program(graph)))


def test_a_constant_that_is_an_output_is_handed_out() -> None:
    tensors = [Tensor("x", (2, 2)), Tensor("y", (2, 2)), Tensor("c", (2,))]
    graph = Graph("constant", tensors, [Op("move", ops.Tanh(), ("x",), "y")], ["x"], ["y", "c"], {"c": reals(2)})
    program = unshared_program(graph)
    feeds = feeds_of(graph)
    np.testing.assert_array_equal(run_sharded(program, feeds)["c"], graph.constants["c"])
    assert [entry.label for entry in arguments(fold(program))] == ["x", "c"]
