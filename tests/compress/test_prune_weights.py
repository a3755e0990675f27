"""Weights that become zero: which, how many, and what their scores mean."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lepton_dse.compress.prune import masked, prune, report
from lepton_dse.compress.prune.scores import batch_norm, hessian, inputs, taylor, variance
from lepton_dse.compress.prune.scores.protocol import Score
from lepton_dse.compress.prune.scoring import lowest, ranked_scores
from lepton_dse.compress.prune.settings import Settings
from lepton_dse.compress.prune.sites import sites
from lepton_dse.compress.prune.weights import zeroed
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.semantics import evaluate, run
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import pruning_choices as oracle
from prune_graphs import Net, nets

KINDS = ["weights", "block", "n:m", "channels"]


def named(graph: Graph) -> list[tuple[str, np.ndarray]]:
    return [(site.name, np.asarray(graph.constants[site.name])) for site in sites(graph)]


def small_net(seed: int = 0) -> Graph:
    net = Net((1, 4, 4, 4), seed)
    x = net.relu(net.conv(net.relu(net.conv(net.x, 8, 3, name="first")), 8, 3, 2, name="grouped"))
    return net.done(net.dense(net.flat(x), 6, name="last"))


def samples(graph: Graph, count: int = 5, seed: int = 1) -> Dataset:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, *graph.tensors[graph.inputs[0]].shape[1:])).astype(np.float32)
    return Dataset(x, rng.integers(0, 6, count))


# --- which weights ----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(graphs(branches=True), st.floats(0, 0.999))
def test_single_weights_of_every_layer(graph: Graph, ratio: float) -> None:
    assume(sites(graph))
    after = prune(graph, ratio)
    for name, value in named(graph):
        found = np.asarray(after.constants[name])
        count = min(math.floor(ratio * value.size + 1e-9), value.size - 1)
        order = sorted(range(value.size), key=lambda index: (abs(value.flat[index]), index))
        expected = value.copy().reshape(-1)
        expected[order[:count]] = 0
        np.testing.assert_array_equal(found.reshape(-1), expected)


@settings(max_examples=50)
@given(graphs(branches=True), st.floats(0, 0.999))
def test_single_weights_of_the_whole_network(graph: Graph, ratio: float) -> None:
    assume(sites(graph))
    after = prune(graph, ratio, scope="global")
    zeros = kept_least = 0
    cut, spared = [], []
    for name, value in named(graph):
        gone = np.asarray(after.constants[name]) == 0
        least = math.ceil(min(0.1, 1 - ratio) * value.size - 1e-9)
        assert value.size - gone.sum() >= max(least, 1)
        zeros += int(gone.sum())
        kept_least += max(least, 1)
        cut.append(np.abs(value[gone]).max(initial=0))
        if value.size - gone.sum() > max(least, 1):
            spared.append(np.abs(value[~gone]).min())
    total = sum(value.size for _, value in named(graph))
    assert zeros == min(math.floor(ratio * total + 1e-9), total - kept_least)
    # Nothing that stays is smaller than what went, but for layers that are down to their least share.
    assert max(cut) <= min(spared, default=np.inf)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (1, 8)]), st.booleans())
def test_n_of_m_is_the_oracles_choice(seed: int, pattern: tuple[int, int], ties: bool) -> None:
    rng = np.random.default_rng(seed)
    net = Net((1, 8, 3, 3), seed)
    graph = net.done(net.dense(net.flat(net.conv(net.conv(net.x, 16, 3), 8, 1, 2)), 3))
    if ties:
        graph = graph.with_constants({name: rng.integers(-1, 2, value.shape).astype(np.float32) for name, value in named(graph)})
    n, m = pattern
    after = prune(graph, 1 - n / m, kind="n:m", n=n, m=m)
    for name, value in named(graph):
        expected = np.where(oracle.n_of_m(np.abs(value), n, m), 0, value)
        np.testing.assert_array_equal(after.constants[name], expected)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7), st.floats(0, 0.99), st.booleans())
def test_blocks_are_the_oracles_choice(seed: int, rows: int, columns: int, ratio: float, equal: bool) -> None:
    net = Net((1, 3, 3, 3), seed)
    graph = net.done(net.dense(net.flat(net.conv(net.x, 6, 2)), 5))
    if equal:
        graph = graph.with_constants({name: np.ones_like(value) for name, value in named(graph)})
    after = prune(graph, ratio, kind="block", block=(rows, columns))
    for name, value in named(graph):
        matrix = value.reshape(len(value), -1) if value.ndim > 2 else value.T
        number = math.ceil(matrix.shape[0] / rows) * math.ceil(matrix.shape[1] / columns)
        gone = oracle.blocks(np.abs(matrix), (rows, columns), min(math.floor(ratio * number + 1e-9), number - 1))
        found = np.asarray(after.constants[name])
        np.testing.assert_array_equal(found.reshape(len(value), -1) if value.ndim > 2 else found.T, np.where(gone, 0, matrix))


@settings(max_examples=40)
@given(nets(), st.sampled_from(["weights", "block"]), st.sampled_from(["layer", "global"]))
def test_zeros_grow_with_the_ratio(graph: Graph, kind: str, scope: str) -> None:
    before: dict[str, np.ndarray] = {}
    for ratio in (0.0, 0.2, 0.5, 0.8):
        after = prune(graph, ratio, kind=kind, scope=scope, block=(1, 2))
        assert after.digest == prune(graph, ratio, kind=kind, scope=scope, block=(1, 2)).digest
        for name, _ in named(graph):
            zero = np.asarray(after.constants[name]) == 0
            assert scope == "global" or not (before.get(name, zero) & ~zero).any()
            assert not zero.all()
            before[name] = zero


@settings(max_examples=30)
@given(nets(), st.sampled_from(["weights", "block"]))
def test_pruning_twice_changes_nothing(graph: Graph, kind: str) -> None:
    once = prune(graph, 0.5, kind=kind, block=(2, 2))
    assert prune(once, 0.5, kind=kind, block=(2, 2)).digest == once.digest
    assert masked(graph, 0.5, kind=kind, block=(2, 2)).digest == once.digest


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 30))
def test_lowest(values: list[int], count: int) -> None:
    order = sorted(range(len(values)), key=lambda index: (values[index], index))[:count]
    assert np.flatnonzero(lowest(np.array(values, float), count)).tolist() == sorted(order)


def test_zeros_go_before_what_a_score_calls_worthless() -> None:
    net = Net((1, 2, 1, 1))
    graph = net.done(net.conv(net.x, 2))
    ((name, _),) = named(graph)
    graph = graph.with_constants({name: np.array([5, 0, 1, 2], np.float32).reshape(2, 2, 1, 1)})
    after = prune(graph, 0.25, score="batch_norm")  # the channel of 5 and 0 has the greater norm
    assert after.constants[name].reshape(-1).tolist() == [5, 0, 1, 2]


def test_narrow_floats() -> None:
    net = Net((1, 4, 3, 3))
    graph = net.done(net.conv(net.x, 4))
    half = {name: np.asarray(value, np.float16) for name, value in graph.constants.items()}
    tensors = [net.builder.tensors[name] for name in graph.tensors]
    narrow = Graph("half", tensors, graph.ops, graph.inputs, graph.outputs, half)
    after = prune(narrow, 0.5)
    (value,) = (value for _, value in named(after))
    assert value.dtype == np.float16
    assert (value == 0).sum() == 8


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "moved"), [(hessian.SCORE, False), (variance.SCORE, True)])
def test_a_score_is_the_rise_of_the_squared_output_error(score: Score, moved: bool) -> None:
    """Each weight in turn set to zero, the layer's own output computed again, with or without its mean moved back."""
    graph = small_net()
    data = samples(graph)
    scores = score(graph, data)
    whole = graph.with_batch(len(data))
    values = {**graph.constants, "x": data.x}
    for op in whole.ops:
        tensors, output = [whole.tensors[name] for name in op.inputs], whole.tensors[op.output]
        values[op.output] = evaluate(op, [values[name] for name in op.inputs], output, tensors)
        if not isinstance(op.attributes, ops.Conv | ops.MatMul):
            continue
        weights = np.asarray(graph.constants[op.inputs[1]], np.float64)
        places = values[op.output].size / values[op.output].shape[1]
        for index in list(np.ndindex(weights.shape))[::11]:
            without = weights.copy()
            without[index] = 0
            x = np.asarray(values[op.inputs[0]], np.float64)
            pair = [evaluate(op, [x, w], output, tensors[:2]).astype(np.float64) for w in (weights, without)]
            change = np.moveaxis(pair[0] - pair[1], 1, 0).reshape(output.shape[1], -1)
            if moved:
                change -= change.mean(axis=1, keepdims=True)
            assert scores(op.inputs[1])[index] == pytest.approx(np.square(change).sum() / places, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("score", [hessian.SCORE, variance.SCORE])
def test_a_score_does_not_depend_on_how_samples_are_walked(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_net()
    data = samples(graph, 6)
    together = [score(graph, data)(name) for name, _ in named(graph)]
    monkeypatch.setattr(inputs, "_BYTES", 1)
    for found, (name, _) in zip(together, named(graph), strict=True):
        np.testing.assert_allclose(score(graph, data)(name), found, rtol=1e-5)


def test_an_input_that_never_moves_costs_nothing_to_lose() -> None:
    net = Net((1, 4))
    graph = net.done(net.dense(net.x, 3, name="only"))
    x = np.random.default_rng(0).normal(0, 1, (30, 4)).astype(np.float32)
    x[:, 2] = 1.5
    ((name, weights),) = named(graph)
    found = variance.SCORE(graph, Dataset(x))(name)
    assert not found[2].any()
    assert (np.delete(found, 2, axis=0) > 0).all()
    left = prune(graph, 0.25, score="variance", data=Dataset(x)).constants[name]
    np.testing.assert_array_equal(left, np.where(np.arange(4)[:, None] == 2, 0, weights))


def test_batch_norm_is_the_norm_of_the_folded_channel() -> None:
    net = Net((1, 3, 4, 4))
    first = net.conv(net.x, 4, name="first")
    graph = net.done(net.dense(net.flat(net.affine(first)), 2, name="last"))
    _, w, b = graph.op("first").inputs
    scale = graph.constants[next(op for op in graph.ops if isinstance(op.attributes, ops.Affine)).inputs[1]]
    found = batch_norm.SCORE(graph, None)(w)
    for channel in range(4):
        norm = math.hypot(*graph.constants[w][channel].reshape(-1), graph.constants[b][channel]) * abs(scale[channel])
        np.testing.assert_allclose(found[channel], norm, rtol=1e-5)


def test_taylor_is_the_slope_of_the_loss() -> None:
    """Against central differences of the cross-entropy that the definition of every operation gives."""
    pytest.importorskip("torch")
    graph = small_net()
    data = samples(graph)
    scores = taylor.SCORE(graph, data)

    def loss(changed: Graph) -> float:
        (logits,) = run(changed.with_batch(len(data)), {"x": data.x}).values()
        wide = logits.astype(np.float64)
        shifted = wide - wide.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        assert data.y is not None
        return float(-logs[np.arange(len(data)), data.y].mean())

    for name, value in named(graph):
        for index in list(np.ndindex(value.shape))[::37]:
            ends = []
            for step in (1e-2, -1e-2):
                moved = value.copy()
                moved[index] += step
                ends.append(loss(graph.with_constants({name: moved})))
            slope = (ends[0] - ends[1]) / 2e-2
            assert scores(name)[index] == pytest.approx(abs(value[index] * slope), rel=0.05, abs=2e-3)


def test_taylor_prunes_and_needs_labels() -> None:
    pytest.importorskip("torch")
    graph = small_net()
    data = samples(graph)
    for kind in KINDS:
        assert prune(graph, 0.5, kind=kind, score="taylor", data=data).digest != graph.digest
    with pytest.raises(LeptonError, match="needs labels"):
        prune(graph, 0.5, score="taylor", data=Dataset(data.x))
    with pytest.raises(LeptonError, match="labels"):
        prune(graph, 0.5, score="taylor", data=Dataset(data.x, np.full(5, 6)))


def test_taylor_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    graph = small_net()
    with pytest.raises(LeptonError, match=r"pip install 'lepton_dse\[torch\]'"):
        prune(graph, 0.5, score="taylor", data=samples(graph))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_unusable_scores(bad: float) -> None:
    graph = small_net()
    wrong = ranked_scores(graph, "mine", lambda name: np.full(graph.tensors[name].shape, bad))
    with pytest.raises(LeptonError, match="the score 'mine' gives NaN, infinity or negative numbers"):
        zeroed(graph, Settings.of(0.5, kind="weights", score="mine", scope="layer"), wrong)
    with pytest.raises(LeptonError, match="has shape"):
        ranked_scores(graph, "mine", lambda _: np.zeros(3))(named(graph)[0][0])


# --- bad input, and what stays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [prune, masked])
@pytest.mark.parametrize(
    ("ratio", "given", "message"),
    [
        (1.0, {}, "ratio"),
        (1, {}, "ratio"),
        (-0.1, {}, "ratio"),
        (1.5, {}, "ratio"),
        (math.nan, {}, "ratio"),
        (math.inf, {}, "ratio"),
        (True, {}, "ratio"),
        ("half", {}, "ratio"),
        (0.5, {"kind": "rows"}, "kind"),
        (0.5, {"scope": "net"}, "scope"),
        (0.5, {"score": "guess"}, "no 'guess' among lepton_dse.scores"),
        (0.0, {"score": "guess"}, "no 'guess' among lepton_dse.scores"),
        (0.4, {"kind": "n:m"}, "use 0.5 or 0"),
        (0.5, {"kind": "n:m", "n": 4, "m": 4}, "1 <= n < m"),
        (0.5, {"kind": "n:m", "n": 0, "m": 4}, "1 <= n < m"),
        (0.5, {"kind": "n:m", "scope": "global"}, "scope"),
        (2 / 3, {"kind": "n:m", "n": 1, "m": 3}, "3 does not divide"),
        (0.5, {"kind": "block", "block": (0, 4)}, "block"),
        (0.5, {"kind": "block", "block": (4,)}, "block"),
        (0.5, {"kind": "block", "block": (2.0, 4)}, "block"),
        (0.5, {"kind": "block", "block": 4}, "block"),
        (0.5, {"kind": "block", "block": (10**6, 10**6)}, "one block covers"),
        (0.5, {"score": "hessian"}, "needs samples"),
        (0.5, {"score": "variance"}, "needs samples"),
        (0.5, {"score": "hessian", "data": Dataset(np.zeros((2, 3), np.float32))}, "samples of shape"),
    ],
)
def test_bad_arguments(function: object, ratio: float, given: dict[str, object], message: str) -> None:
    assert callable(function)
    with pytest.raises(LeptonError) as caught:
        function(small_net(), ratio, **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lowered_graphs_are_refused() -> None:
    graph = small_net()
    lowered = LoweredGraph("low", graph.tensors.values(), graph.ops, graph.inputs, graph.outputs, graph.constants)
    with pytest.raises(LeptonError, match="prune the float graph"):
        prune(lowered, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_ratio_zero_changes_nothing(kind: str) -> None:
    graph = small_net()
    assert prune(graph, 0.0, kind=kind).digest == masked(graph, 0.0, kind=kind).digest == graph.digest


def test_one_weight_and_no_weights() -> None:
    net = Net((1, 1, 3, 3))
    graph = net.done(net.conv(net.x, 1))
    assert prune(graph, 0.999).digest == graph.digest
    assert "1 weights" in report(graph, graph)[0].reason
    bare = Net((1, 1, 3, 3))
    with pytest.raises(LeptonError, match="multiplies with no weights"):
        prune(bare.done(bare.relu(bare.x)), 0.5)


def test_report_of_weights() -> None:
    net = Net((1, 3, 4, 4))
    x = net.conv(net.conv(net.x, 8, 3, name="odd"), 8, 3, name="even")
    graph = net.done(net.add(ops.MatMul(), x, net.relu(x)))
    odd, even, computed = report(graph, prune(graph, 0.5, kind="n:m"), kind="n:m")
    assert odd.reason == "4 does not divide the 3 input channels that each output channel sums"
    assert (even.zeros, even.reason, even.channels, even.weights) == ((0.0, 0.5), "", (8, 8), (576, 576))
    assert "computed" in computed.reason
    assert [line.zeros for line in report(graph, prune(graph, 0.25))] == [(0.0, 0.25), (0.0, 0.25), (0.0, 0.0)]
