"""Trainable modules compute what the graph defines, and training keeps what compression decided."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.compress.codebook import reread, share
from lepton_dse.compress.codebook.sharing import shareable
from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError, InvalidModelError, LeptonError, MissingToolError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import BOOL, FLOAT32, INT32
from lepton_dse.reference import engine
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parent))
from networks import chain, samples
from prune_graphs import Net

if importlib.util.find_spec("torch") is not None or os.environ.get("CI") == "true":
    import torch

    from lepton_dse.compress.trainable.functions import fake_quantize
    from lepton_dse.compress.trainable.module import TrainableGraph, scores_of

    torch.set_num_threads(1)
else:
    pytest.skip("torch is not installed", allow_module_level=True)


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    return np.asarray(engine.run(graph, x)[graph.outputs[0]], np.float64)


def forward(module: TrainableGraph, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(module(torch.tensor(x)).numpy(), np.float64)


def labelled(count: int = 600, seed: int = 3) -> Dataset:
    """Samples labelled by a network of the same shape, so that there is something to learn."""
    x = samples(count, seed)
    return Dataset(x, outputs(chain(11), x).argmax(1).astype(np.int64))


@settings(max_examples=60)
@given(graphs(branches=True), st.integers(0, 2**32 - 1))
def test_a_module_is_its_graph(graph: Graph, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 1, (3, *graph.tensors[graph.inputs[0]].shape[1:])).astype(np.float32)
    scores = scores_of(graph)
    ends = Graph(graph.name, graph.tensors.values(), graph.ops, graph.inputs, (scores,), graph.constants)
    wanted = outputs(ends, x).reshape(3, -1)
    assert np.allclose(forward(TrainableGraph(graph), x), wanted, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(wanted).max()))


def every_operation() -> Graph:
    """Operations that the drawn networks lack."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("every")
    x = builder.input("x", (1, 3, 7, 6))
    x = builder.add(ops.Pad((0, 0, 1, -1), (0, 0, 2, 1), ops.PadMode.REFLECT), [x], output="reflected")
    x = builder.add(ops.Pad((0, 0, 1, 0), (0, 0, -1, 2), ops.PadMode.EDGE), [x], output="edged")
    x = builder.add(ops.Pad((0, 0, 0, 1), (0, 0, 1, 0), ops.PadMode.CONSTANT, 0.5), [x], output="padded")
    scale, shift = (builder.constant(name, rng.normal(1, 0.2, 3).astype(np.float32)) for name in ("scale", "shift"))
    x = builder.add(ops.Affine(), [x, scale, shift], output="affine")
    window = ops.Window((3, 2), (2, 1), (1, 2), (1, 0), (0, 1))
    w = builder.constant("w", rng.normal(0, 1, (6, 1, 3, 2)).astype(np.float32))
    x = builder.add(ops.Conv(window, groups=3), [x, w], output="conv")
    x = builder.add(ops.LeakyRelu(0.1), [x], output="leaky")
    x = builder.add(ops.LocalResponseNorm(3, 0.1, 0.75, 1.0), [x], output="normalised")
    pool = ops.Window((2, 2), (1, 2), (1, 1), (1, 0), (0, 1))
    averaged = builder.add(ops.AveragePool(pool, count_include_pad=True, overhang=(0, 1)), [x], output="averaged")
    peaks = builder.add(ops.MaxPool(pool), [x], output="peaks")
    x = builder.add(ops.Concat(1), [averaged, peaks], output="both")
    x = builder.add(ops.Tanh(), [builder.add(ops.Sigmoid(), [x], output="sigmoid")], output="tanh")
    x = builder.add(ops.Transpose((0, 2, 3, 1)), [x], output="last")
    size = int(np.prod(builder.tensors[x].shape))
    x = builder.add(ops.Reshape((1, size)), [x], output="flat")
    w = builder.constant("dense", rng.normal(0, 0.3, (size, 4)).astype(np.float32))
    x = builder.add(ops.MatMul(), [x, w], output="scores")
    return builder.build([builder.add(ops.Softmax((1,)), [x], output="shares")])


def test_every_operation_with_a_gradient_is_as_defined() -> None:
    graph = every_operation()
    x = np.random.default_rng(1).normal(0, 1, (5, 3, 7, 6)).astype(np.float32)
    found = forward(TrainableGraph(graph), x)
    shares = np.exp(found - found.max(1, keepdims=True))
    assert np.allclose(shares / shares.sum(1, keepdims=True), outputs(graph, x), atol=1e-5)


def transformer() -> Graph:
    """Attention, a gated layer and what is spelt out in functions, choices and indices."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("transformer")

    def constant(*shape: int) -> str:
        return builder.constant(f"c{len(builder.tensors)}", rng.normal(0, 0.5, shape).astype(np.float32))

    def add(attributes: ops.Attributes, *inputs: str) -> str:
        return builder.add(attributes, inputs, output=f"t{len(builder.tensors)}")

    x = builder.input("x", (1, 5, 6))
    x = add(ops.LayerNorm((2,), 1e-5), x, constant(6), constant(6))
    keys = add(ops.Transpose((0, 2, 1)), add(ops.MatMul(), x, constant(6, 6)))
    shares = add(ops.Softmax((2,)), add(ops.MatMul(), x, keys))
    x = add(ops.Add(), x, add(ops.MatMul(), shares, x))
    x = add(ops.Binary(ops.BinaryFunction.MULTIPLY), add(ops.Gelu(), x), add(ops.Gelu(True), x))
    for function in (ops.UnaryFunction.NEGATE, ops.UnaryFunction.ERROR_FUNCTION, ops.UnaryFunction.EXPONENTIAL):
        x = add(ops.Unary(function), x)
    for function in (ops.UnaryFunction.LOGARITHM, ops.UnaryFunction.ABSOLUTE, ops.UnaryFunction.SQUARE_ROOT):
        x = add(ops.Unary(function), x)
    x = add(ops.Binary(ops.BinaryFunction.DIVIDE), x, add(ops.Unary(ops.UnaryFunction.RECIPROCAL), add(ops.Sigmoid(), x)))
    x = add(ops.Binary(ops.BinaryFunction.POWER), x, builder.constant("power", np.asarray(1.5, np.float32)))
    x = add(ops.Binary(ops.BinaryFunction.MAXIMUM), x, add(ops.Binary(ops.BinaryFunction.MINIMUM), x, constant(6)))
    for relation in ops.Relation:
        x = add(ops.Where(), add(ops.Compare(relation), x, constant(5, 1)), x, constant(1, 6))
    x = add(ops.Gather(1), x, builder.constant("picked", np.asarray([[0, -1], [2, 2]])))
    x = add(ops.Slice((0, 0, 1, 5), (1, 2, 1, 3), (1, 1, 1, -2)), x)
    x = add(ops.Expand((1, 2, 4, 3)), x)
    means = [add(ops.Reduce(function, (1, 3), True), x) for function in ops.ReduceFunction]
    truths = add(ops.Cast(BOOL), add(ops.Cast(INT32), x))
    x = add(ops.Binary(ops.BinaryFunction.SUBTRACT), x, add(ops.Cast(FLOAT32), truths))
    for mean in means:
        x = add(ops.Add(), x, mean)
    return builder.build([add(ops.Reduce(ops.ReduceFunction.SUM, (2,), False), x)])


def test_the_operations_of_transformers_are_as_defined() -> None:
    graph = transformer()
    x = np.random.default_rng(1).normal(0, 1, (4, 5, 6)).astype(np.float32)
    wanted = outputs(graph, x).reshape(4, -1)
    assert np.isfinite(wanted).all()
    assert np.allclose(forward(TrainableGraph(graph), x), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("format", ["int8", "w4a8", "w4a4", "w3a6", "w4-float32"])
def test_a_quantised_module_is_its_lowered_graph_up_to_one_step(format: str) -> None:
    """Fake quantisation divides where integers are rescaled by 17 bits, so that now and then a value lands one step away."""
    x = samples(300)
    bundle = ld.quantize(chain(2), format, Dataset(x[:64]))
    found, wanted = forward(TrainableGraph(bundle), x), outputs(lower_bundle(bundle), x)
    if "scores" not in bundle.scales:
        assert np.allclose(found, wanted, rtol=1e-4, atol=1e-4)
        return
    step, zero = bundle.scales["scores"].params.beta[0], bundle.scales["scores"].params.zero
    stored = np.clip(np.rint(found / step), -128 - zero, 127 - zero)
    assert (stored == np.rint(wanted / step)).mean() > 0.98
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.97


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8), st.sampled_from([0.25, 0.5, 1.0]), st.integers(-3, 3))
def test_gradients_pass_inside_the_range_and_stop_outside(values: list[float], beta: float, zero: int) -> None:
    x = torch.tensor(values, requires_grad=True)
    fake_quantize(x, torch.tensor(beta), zero, -8.0, 7.0).sum().backward()
    ratio = x.detach() / beta
    inside = (ratio > -8 - zero) & (ratio < 7 - zero)
    outside = (ratio < -8 - zero) | (ratio > 7 - zero)
    assert x.grad is not None
    assert bool((x.grad[inside] == 1).all())
    assert bool((x.grad[outside] == 0).all())


def test_the_scale_learns_the_slope_of_the_error() -> None:
    """Inside, a scale's gradient is round(r) - r; outside it is the bound."""
    beta = torch.tensor(0.5, requires_grad=True)
    fake_quantize(torch.tensor([0.6, 100.0, -100.0]), beta, 0, -8.0, 7.0).backward(torch.tensor([1.0, 0.0, 0.0]))
    assert beta.grad is not None
    assert float(beta.grad) == pytest.approx(1 - 1.2)
    beta.grad = None
    fake_quantize(torch.tensor([100.0, -100.0]), beta, 0, -8.0, 7.0).sum().backward()
    assert float(beta.grad) == 7 - 8


@pytest.mark.parametrize("kind", ["graph", "bundle"])
def test_training_learns_and_is_deterministic(kind: str) -> None:
    data = labelled()
    student = chain(2) if kind == "graph" else ld.quantize(chain(2), "w4a8", data)
    schedule = ld.Schedule(epochs=12, rate=1e-2, batch=32)
    first, second = (ld.fine_tune(student, data, schedule) for _ in range(2))
    assert first.digest == second.digest
    assert type(first) is type(student)
    assert ld.accuracy(first, data).value > ld.accuracy(student, data).value + 0.1


def test_distillation_needs_no_labels_and_follows_the_teacher() -> None:
    teacher, x = chain(11), samples(600, 4)
    student = ld.quantize(chain(2), "w6a8", Dataset(x))
    told: list[str] = []
    after = ld.distil(student, teacher, Dataset(x), ld.Schedule(epochs=18, rate=5e-3, batch=32, mix=1.0), progress=told.append)
    wanted = outputs(teacher, x).argmax(1)
    before, now = ((outputs(lower_bundle(model), x).argmax(1) == wanted).mean() for model in (student, after))
    assert now > before + 0.2
    assert len(told) == 18
    assert "epoch 18 of 18" in told[-1]


def linear(weights: np.ndarray) -> Graph:
    """Scores that are sums of the inputs and nothing more."""
    net = Net((1, len(weights)))
    graph = net.done(net.dense(net.x, weights.shape[1], name="only"))
    name, bias = graph.op("only").inputs[1:]
    return graph.with_constants({name: weights.astype(np.float32), bias: np.zeros(weights.shape[1], np.float32)})


@pytest.mark.parametrize("blend", [0.0, 0.3])
def test_several_teachers_are_one_that_gives_the_mean_of_their_scores(blend: float) -> None:
    rng = np.random.default_rng(5)
    x = Dataset(rng.normal(0, 1, (300, 6)).astype(np.float32))
    first, second, start = rng.normal(0, 1, (3, 6, 4))
    schedule = ld.Schedule(epochs=4, rate=1e-2, batch=32, mix=1.0, blend=blend)
    found = {
        name: outputs(ld.distil(linear(start), teacher, x, schedule), x.x)
        for name, teacher in {
            "both": [linear(first), linear(second)],
            "mean": linear((first + second) / 2),
            "one": linear(first),
        }.items()
    }
    np.testing.assert_allclose(found["both"], found["mean"], rtol=1e-3, atol=1e-3)
    assert np.abs(found["both"] - found["one"]).max() > 0.1


def test_a_teacher_of_another_task_is_refused() -> None:
    net = Net((1, 3, 8, 8))
    other = net.done(net.dense(net.flat(net.x), 7, name="last"))
    with pytest.raises(LeptonError, match="use a teacher of the same samples and classes"):
        ld.distil(chain(2), other, Dataset(samples(8, 4)))


def test_pruned_weights_stay_pruned() -> None:
    graph, data = ld.prune(chain(2), 0.6), labelled()
    after = ld.fine_tune(graph, data, ld.Schedule(epochs=2, rate=5e-3, batch=64))
    for name in shareable(graph):
        assert ((graph.constants[name] == 0) <= (after.constants[name] == 0)).all()
        assert not np.array_equal(graph.constants[name], after.constants[name])
    free = ld.fine_tune(graph, data, ld.Schedule(epochs=1, rate=5e-3), keep_zeros=False)
    kept, freed = (np.mean([(model.constants[name] != 0).mean() for name in shareable(graph)]) for model in (graph, free))
    assert freed > kept + 0.2


def test_shared_weights_stay_shared_and_zeros_zero() -> None:
    graph, books = share(ld.prune(chain(2), 0.5), 3)
    after = ld.fine_tune(graph, labelled(), ld.Schedule(epochs=2, rate=5e-3, batch=64), codebooks=books)
    again = reread(after, books)
    for name, book in books.items():
        assert (again[name].indices == book.indices).all()
        assert not np.array_equal(again[name].values, book.values)
        assert ((graph.constants[name] == 0) == (after.constants[name] == 0)).all()
    with pytest.raises(LeptonError, match="no longer do"):
        reread(chain(5), books)


@settings(max_examples=40)
@given(graphs(branches=True), st.data())
def test_a_part_is_trained_behind_what_is_computed_once(graph: Graph, data: st.DataObject) -> None:
    able = [op.name for op in graph.ops if isinstance(op.attributes, ops.Conv | ops.MatMul | ops.Affine)]
    layers = data.draw(st.sets(st.sampled_from(able))) if able else set()
    x = np.random.default_rng(5).normal(0, 1, (3, *graph.tensors[graph.inputs[0]].shape[1:])).astype(np.float32)
    part = TrainableGraph(graph, layers=layers)
    assert np.array_equal(forward(part, x), forward(TrainableGraph(graph), x))
    with torch.no_grad():
        before = part.before(torch.tensor(x))
        for parameter in part.parameters():
            parameter.add_(1.0)
        assert all(torch.equal(value, part.before(torch.tensor(x))[name]) for name, value in before.items())
        changed = part.to_model()
        assert isinstance(changed, Graph)
        assert np.array_equal(forward(part, x), forward(TrainableGraph(changed), x))
    own = {name for op in graph.ops if op.name in layers for name in op.inputs[1:]}
    assert {name for name in graph.constants if not np.array_equal(graph.constants[name], changed.constants[name])} <= own


def test_layers_that_are_not_trained_stay_as_they_are() -> None:
    data = labelled()
    student = ld.quantize(chain(2), "w4a8", data)
    last = [op for op in student.graph.ops if isinstance(op.attributes, ops.MatMul)][-1]
    after = ld.fine_tune(student, data, ld.Schedule(epochs=6, rate=1e-2, batch=32), layers=[last.name])
    own = set(last.inputs[1:])
    assert {
        name for name, value in student.graph.constants.items() if not np.array_equal(value, after.graph.constants[name])
    } == own
    changed = {name for name, scale in student.scales.items() if after.scales[name] != scale}
    assert changed == {last.inputs[1]}
    assert ld.accuracy(after, data).value > ld.accuracy(student, data).value + 0.05
    blended = ld.fine_tune(student, data, ld.Schedule(epochs=1, blend=0.3), layers=[last.name])
    assert not np.array_equal(blended.graph.constants[last.inputs[1]], student.graph.constants[last.inputs[1]])
    assert ld.fine_tune(student, data, layers=[]).digest == student.digest
    with pytest.raises(LeptonError, match="no operation with weights"):
        ld.fine_tune(student, data, layers=["nothing"])


def test_without_epochs_nothing_changes() -> None:
    graph = chain(2)
    assert ld.fine_tune(graph, labelled(), ld.Schedule(epochs=0)).digest == graph.digest


def test_what_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = chain(2), labelled(20)
    with pytest.raises(InvalidDataError, match="no labels"):
        ld.fine_tune(graph, Dataset(data.x))
    with pytest.raises(InvalidDataError, match="labels from 0 to 9 for 5 classes"):
        ld.fine_tune(graph, Dataset(data.x[:2], np.asarray([0, 9])))
    with pytest.raises(InvalidDataError, match="shape"):
        ld.fine_tune(graph, Dataset(np.zeros((2, 3), np.float32), np.asarray([0, 1])))
    with pytest.raises(LeptonError, match="epochs"):
        ld.Schedule(epochs=-1)
    with pytest.raises(LeptonError, match="mix"):
        ld.Schedule(mix=2.0)
    with pytest.raises(InvalidModelError, match="Quantize cannot be trained"):
        ld.fine_tune(lower_bundle(ld.quantize(graph, "int8", data)), data)
    with pytest.raises(LeptonError, match="diverged"):
        ld.fine_tune(graph, data, ld.Schedule(epochs=50, rate=1e30))
    monkeypatch.setitem(sys.modules, "lepton_dse.compress.trainable.training", None)
    with pytest.raises(MissingToolError, match=r"lepton_dse\[torch\]"):
        ld.fine_tune(graph, data)
