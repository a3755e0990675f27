"""Channels that leave: shapes shrink, what depends on them follows, and the outputs are those of the graph with zeros instead."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lepton_dse.compress.prune import masked, prune, report
from lepton_dse.compress.prune.dependencies import dependencies
from lepton_dse.compress.prune.scoring import ranked_scores
from lepton_dse.compress.prune.selection import unit_scores
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parent))
from prune_graphs import Net, assert_close, nets, outputs

ratios = st.sampled_from([0.1, 0.3, 0.5, 0.75, 0.99])
scopes = st.sampled_from(["layer", "global"])


def cut(graph: Graph, ratio: float = 0.5, **given: object) -> Graph:
    return prune(graph, ratio, kind="channels", **given)


def weights(graph: Graph, op: str) -> np.ndarray:
    return np.asarray(graph.constants[graph.op(op).inputs[1]])


def with_rows(graph: Graph, op: str, sizes: list[float]) -> Graph:
    """The graph with the output channels of a layer of these magnitudes."""
    value = weights(graph, op)
    factors = np.array(sizes, np.float32)
    rows = np.ones_like(value) * (factors if value.ndim == 2 else factors.reshape(-1, *[1] * (value.ndim - 1)))
    return graph.with_constants({graph.op(op).inputs[1]: rows})


def before_argmax(graph: Graph) -> Graph:
    """What a final ArgMax reads: scores close to one another may have either index."""
    last = graph.ops[-1]
    if not isinstance(last.attributes, ops.ArgMax):
        return graph
    tensors = [tensor for tensor in graph.tensors.values() if tensor.name != last.output]
    return Graph(graph.name, tensors, graph.ops[:-1], graph.inputs, (last.inputs[0],), graph.constants)


# --- on any network ---------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(nets(), ratios, scopes, st.sampled_from(["magnitude", "batch_norm"]))
def test_cut_equals_masked(graph: Graph, ratio: float, scope: str, score: str) -> None:
    if all(group.reason for group in dependencies(graph).groups):
        with pytest.raises(LeptonError, match="no channel can be removed"):
            cut(graph, ratio)
        return
    small = cut(graph, ratio, scope=scope, score=score)
    zeros = masked(graph, ratio, kind="channels", scope=scope, score=score)
    assert {name: tensor.shape for name, tensor in zeros.tensors.items()} == {
        name: tensor.shape for name, tensor in graph.tensors.items()
    }
    assert_close(small, zeros)
    assert small.parameters <= graph.parameters
    assert (small.parameters == graph.parameters) == (small.digest == graph.digest) == (zeros.digest == graph.digest)
    for line in report(graph, small, kind="channels"):
        assert line.channels[1] >= 1
        assert bool(line.reason) == (line.channels[0] == line.channels[1])


@settings(max_examples=60)
@given(graphs(branches=True), ratios)
def test_cut_equals_masked_on_drawn_networks(drawn: Graph, ratio: float) -> None:
    graph = before_argmax(drawn)
    if all(group.reason for group in dependencies(graph).groups):
        with pytest.raises(LeptonError, match="no channel can be removed"):
            cut(graph, ratio)
    else:
        assert_close(cut(graph, ratio), masked(graph, ratio, kind="channels"))


@settings(max_examples=40)
@given(nets(), scopes)
def test_deterministic_and_monotone(graph: Graph, scope: str) -> None:
    assume(any(not group.reason for group in dependencies(graph).groups))
    sizes = []
    for ratio in (0.0, 0.2, 0.4, 0.6, 0.8):
        small = cut(graph, ratio, scope=scope)
        assert small.digest == cut(graph, ratio, scope=scope).digest
        sizes.append(sum(line.channels[1] for line in report(graph, small, kind="channels")))
    assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=40)
@given(nets())
def test_removed_channels_give_zero(graph: Graph) -> None:
    """In the masked graph, the weights and bias that produce a removed channel, and the weights that read it, are all zero."""
    assume(any(not group.reason for group in dependencies(graph).groups))
    small, zeros = cut(graph), masked(graph, 0.5, kind="channels")
    for op in graph.ops:
        if isinstance(op.attributes, ops.Conv | ops.MatMul):
            axis = 0 if isinstance(op.attributes, ops.Conv) else 1
            value = np.moveaxis(weights(zeros, op.name), axis, 0).reshape(weights(zeros, op.name).shape[axis], -1)
            kept = weights(small, op.name).shape[axis]
            silent = ~value.any(axis=1)
            assert silent.sum() >= len(value) - kept
            for bias in op.inputs[2:]:
                assert (np.asarray(zeros.constants[bias]) == 0).sum() == len(value) - kept


# --- one dependency at a time -----------------------------------------------------------------------------------------


def test_chain_loses_the_least_channels() -> None:
    net = Net((1, 3, 4, 4))
    first = net.conv(net.x, 4, 3, name="first")
    graph = with_rows(net.done(net.conv(net.relu(first), 2, name="last")), "first", [4.0, 1.0, 3.0, 2.0])
    small = cut(graph)
    assert weights(small, "first").shape == (2, 3, 3, 3)
    assert weights(small, "first")[:, 0, 0, 0].tolist() == [4.0, 3.0]
    np.testing.assert_array_equal(weights(small, "last"), weights(graph, "last")[:, [0, 2]])
    np.testing.assert_array_equal(
        small.constants[small.op("first").inputs[2]], graph.constants[graph.op("first").inputs[2]][[0, 2]]
    )
    assert small.tensors["first"].shape == (1, 2, 4, 4)


def test_equal_scores_lose_the_first() -> None:
    net = Net((1, 3, 4, 4))
    graph = with_rows(net.done(net.conv(net.conv(net.x, 4, name="first"), 2, name="last")), "first", [1.0] * 4)
    np.testing.assert_array_equal(weights(cut(graph), "last"), weights(graph, "last")[:, 2:])


def test_residual_stream_loses_the_same_channels_of_all_its_producers() -> None:
    net = Net((1, 3, 4, 4))
    trunk = net.conv(net.x, 4, name="trunk")
    branch = net.conv(net.relu(net.conv(trunk, 6, name="inner")), 4, name="branch")
    graph = net.done(net.conv(net.add(ops.Add(), trunk, branch), 2, name="last"))
    graph = with_rows(with_rows(graph, "trunk", [9.0, 0.0, 1.0, 1.0]), "branch", [1.0, 9.0, 2.0, 1.0])
    small = cut(graph)
    # Means over the 3 weights of a trunk channel and the 6 of a branch channel: 11/3, 6, 5/3 and 1.
    assert weights(small, "trunk")[:, 0, 0, 0].tolist() == [9.0, 0.0]
    assert weights(small, "branch")[:, 0, 0, 0].tolist() == [1.0, 9.0]
    assert weights(small, "inner").shape == (3, 2, 1, 1)


def test_concat_shifts_what_it_joins() -> None:
    net = Net((1, 3, 4, 4))
    a, b = net.conv(net.x, 4, name="a"), net.conv(net.x, 2, name="b")
    graph = net.done(net.conv(net.add(ops.Concat(1), a, b), 2, name="last"))
    graph = with_rows(with_rows(graph, "a", [1.0, 4.0, 2.0, 3.0]), "b", [5.0, 1.0])
    np.testing.assert_array_equal(weights(cut(graph), "last"), weights(graph, "last")[:, [1, 3, 4]])


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_follows_its_input(multiplier: int) -> None:
    net = Net((1, 3, 4, 4))
    deep = net.conv(net.conv(net.x, 4, name="first"), 4 * multiplier, 3, 4, name="deep")
    graph = net.done(net.conv(deep, 2))
    small = cut(graph)
    assert small.op("deep").attributes.groups == 2
    assert weights(small, "deep").shape == (2 * multiplier, 1, 3, 3)
    assert small.tensors["deep"].shape[1] == 2 * multiplier


def test_groups_lose_equally_many() -> None:
    net = Net((1, 3, 4, 4))
    grouped = net.conv(net.conv(net.x, 8, name="first"), 6, 3, 2, name="grouped")
    graph = net.done(net.conv(grouped, 2, name="last"))
    graph = with_rows(with_rows(graph, "first", [1.0, 2, 3, 4, 5, 6, 7, 8]), "grouped", [3.0, 1, 2, 9, 8, 7])
    small = cut(graph)
    assert small.op("grouped").attributes.groups == 2
    # The four least of the first would all be in one group: two go from each. Of 6 channels 3 may go, one from each group does.
    assert weights(small, "first")[:, 0, 0, 0].tolist() == [3, 4, 7, 8]
    assert weights(small, "grouped")[:, 0, 0, 0].tolist() == [3, 2, 9, 8]
    assert weights(small, "grouped").shape == (4, 2, 3, 3)
    assert small.tensors["grouped"].shape[1] == 4


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_what_an_activation_makes_of_zero_is_not_read(groups: int) -> None:
    net = Net((1, 3, 4, 4))
    half = net.pool(net.add(ops.Sigmoid(), net.affine(net.conv(net.x, 8, name="first"))))
    graph = net.done(net.conv(net.conv(half, 8, 3, groups, name="reader"), 2))
    small, zeros = cut(graph), masked(graph, 0.5, kind="channels")
    assert weights(small, "first").shape[0] == 4
    assert_close(small, zeros)
    assert np.abs(outputs(small)[0] - outputs(graph)[0]).max() > 0.1


def test_grouped_choice_is_the_best_of_all() -> None:
    """Two grouped convolutions after one another and a residual, against every choice there is."""
    net = Net((1, 4, 3, 3), 5)
    trunk = net.conv(net.x, 8, name="trunk")
    graph = net.done(net.conv(net.add(ops.Add(), trunk, net.conv(trunk, 8, 1, 2, name="two")), 4, 1, 4, name="four"))
    size = np.abs(weights(graph, "trunk")).reshape(8, -1).sum(1) + np.abs(weights(graph, "two")).reshape(8, -1).sum(1)
    choices = [[c for c in range(8) if number >> c & 1] for number in range(256)]
    halves = [c for c in choices if len(c) == 4 and all(len([i for i in c if i // 2 == block]) == 1 for block in range(4))]
    best = min(halves, key=lambda choice: size[choice].sum())
    kept = [channel for channel in range(8) if channel not in best]
    np.testing.assert_array_equal(weights(cut(graph), "trunk"), weights(graph, "trunk")[kept])


def test_flattened_channel_is_a_run_of_rows() -> None:
    net = Net((2, 3, 3, 2))
    graph = net.done(net.dense(net.flat(net.conv(net.x, 4, name="first")), 5, name="last"))
    graph = with_rows(graph, "first", [1.0, 4.0, 2.0, 3.0])
    small = cut(graph)
    np.testing.assert_array_equal(weights(small, "last"), weights(graph, "last")[[*range(6, 12), *range(18, 24)]])


def test_neurons_of_dense_layers_and_of_tokens() -> None:
    net = Net((1, 5, 6))
    graph = net.done(net.dense(net.relu(net.dense(net.x, 8, name="first")), 3, name="last"))
    small = cut(graph)
    assert weights(small, "first").shape == (6, 4)
    assert weights(small, "last").shape == (4, 3)
    assert_close(small, masked(graph, 0.5, kind="channels"))


def test_shuffle_loses_the_same_places_of_each_group() -> None:
    net = Net((1, 4, 4, 4))
    middle = net.conv(net.x, 12, 1, 2, name="first")
    graph = net.done(net.conv(net.conv(net.shuffle(middle, 2), 12, 3, 12, name="deep"), 4, 1, 2, name="last"))
    sizes = [6.0, 5, 4, 3, 2, 1]
    small = cut(with_rows(with_rows(graph, "first", sizes * 2), "deep", [1.0] * 12), 0.4)
    # Places 0 to 2 of the six are read by the first group of the last convolution, 3 to 5 by the second: one of each goes.
    assert weights(small, "first")[:, 0, 0, 0].tolist() == [6, 5, 3, 2] * 2
    assert small.op("deep").attributes.groups == 8
    assert weights(small, "last").shape[1] == 4


def test_shared_weights_lose_the_same_channels() -> None:
    net = Net((1, 4, 3, 3))
    trunk = net.conv(net.x, 4, name="trunk")
    shared, window = net.normal(4, 4, 1, 1), ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    twice = net.add(ops.Conv(window), net.add(ops.Conv(window), trunk, shared), shared)
    graph = net.done(net.conv(twice, 2))
    small = cut(graph)
    assert small.constants[shared].shape == (2, 2, 1, 1)
    assert_close(small, masked(graph, 0.5, kind="channels"))


def test_zeros_added_to_channels_stay() -> None:
    net = Net((1, 3, 4, 4))
    padded = net.add(ops.Pad((0, 1, 0, 0), (0, 2, 0, 0)), net.conv(net.x, 4, name="first"))
    graph = net.done(net.conv(padded, 2, name="last"))
    graph = with_rows(graph, "first", [1.0, 4.0, 2.0, 3.0])
    np.testing.assert_array_equal(weights(cut(graph), "last"), weights(graph, "last")[:, [0, 2, 4, 5, 6]])


def test_members_say_where_a_channel_lies() -> None:
    net = Net((1, 3, 2, 2))
    first = net.conv(net.x, 4, name="first")
    graph = net.done(net.dense(net.flat(first), 5, name="last"))
    (group,) = [group for group in dependencies(graph).groups if not group.reason]
    places = {(member.tensor, member.axis): member.indices for member in group.members}
    assert places[graph.op("first").inputs[1], 0].tolist() == [[0], [1], [2], [3]]
    assert places[graph.op("first").inputs[2], 0].tolist() == [[0], [1], [2], [3]]
    assert places["first", 1].tolist() == [[0], [1], [2], [3]]
    assert places[graph.op("last").inputs[1], 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


# --- what stays, and why ----------------------------------------------------------------------------------------------


def reasons(graph: Graph, ratio: float = 0.5) -> dict[str, str]:
    return {line.op: line.reason for line in report(graph, cut(graph, ratio), kind="channels")}


def test_reasons() -> None:
    net = Net((1, 3, 6, 6))
    x = net.relu(net.conv(net.x, 8, name="free"))
    x = net.conv(net.add(ops.LocalResponseNorm(3, 1e-4, 0.75, 1.0), net.conv(x, 8, name="lrn")), 8, name="edge")
    x = net.conv(net.add(ops.Pad((0, -1, 0, 0), (0, 0, 0, 0)), x), 1, name="one")
    x = net.conv(net.add(ops.Softmax((1,)), net.conv(x, 8, name="soft")), 2, name="last")
    found = reasons(net.done(x))
    assert found["free"] == ""
    assert "mixes neighbouring channels" in found["lrn"]
    assert "changes its extent" in found["edge"]
    assert found["one"] == "the ratio leaves each of its 1 free channels"
    assert "normalises over it" in found["soft"]
    assert found["last"] == "an output of the graph"


def test_the_graphs_ends_are_the_first_reason() -> None:
    net = Net((1, 3, 6, 6))
    last = net.conv(net.conv(net.x, 8), 4, name="last")
    assert reasons(net.done(net.add(ops.LocalResponseNorm(3, 1e-4, 0.75, 1.0), last)))["last"] == "an output of the graph"


def test_products_of_two_activations_are_locked() -> None:
    net = Net((1, 5, 6))
    q, k, v = (net.dense(net.x, 4, name=name) for name in "qkv")
    mixed = net.add(ops.Softmax((2,)), net.add(ops.MatMul(), q, net.add(ops.Transpose((0, 2, 1)), k)))
    graph = net.done(net.dense(net.relu(net.dense(net.add(ops.MatMul(), mixed, v), 4, name="up")), 6, name="down"))
    found = reasons(graph)
    assert found["up"] == ""
    assert all("computed" in found[name] for name in "qkv")


def test_only_outputs() -> None:
    net = Net((1, 3, 4, 4))
    graph = net.done(net.conv(net.x, 4))
    with pytest.raises(LeptonError, match="no channel can be removed: an output of the graph"):
        cut(graph)
    assert cut(graph, 0.0).digest == graph.digest


def test_report_of_another_graph() -> None:
    one, two = Net((1, 3, 4, 4)), Net((1, 3, 4, 4))
    with pytest.raises(LeptonError, match="no such layer"):
        report(one.done(one.conv(one.x, 4, name="a")), two.done(two.conv(two.x, 4, name="b")))


# --- scores and scope -------------------------------------------------------------------------------------------------


def test_channel_of_zeros_goes_first_whatever_the_score() -> None:
    net = Net((1, 3, 4, 4))
    graph = net.done(net.conv(net.relu(net.conv(net.x, 4, name="first")), 2, name="last"))
    value = weights(graph, "first").copy()
    value[2] = 0
    bias = np.array([0, 0, 100, 0], np.float32)
    graph = graph.with_constants(dict(zip(graph.op("first").inputs[1:], (value, bias), strict=True)))
    for score in ("magnitude", "batch_norm"):
        small = cut(graph, 0.25, score=score)
        np.testing.assert_array_equal(weights(small, "last"), weights(graph, "last")[:, [0, 1, 3]])


def test_channel_of_zeros_is_below_one_of_no_worth() -> None:
    net = Net((1, 3, 4, 4))
    graph = net.done(net.conv(net.relu(net.conv(net.x, 3, name="first")), 2))
    graph = with_rows(graph, "first", [1.0, 0.0, 1.0])
    found = dependencies(graph)
    worthless = ranked_scores(graph, "mine", lambda name: np.zeros(graph.tensors[name].shape))
    scores = unit_scores(graph, found, worthless)
    assert scores[found.units("first", 1)].tolist() == [0.0, -1.0, 0.0]


def test_all_zero_network() -> None:
    net = Net((1, 3, 4, 4))
    graph = net.done(net.conv(net.conv(net.conv(net.x, 6), 6, 1, 2), 2))
    graph = graph.with_constants({name: np.zeros_like(value) for name, value in graph.constants.items()})
    for scope in ("layer", "global"):
        small = cut(graph, 0.5, scope=scope)
        assert small.parameters < graph.parameters
        assert not outputs(small)[0].any()


def test_global_scope_takes_from_what_matters_least_and_keeps_a_tenth() -> None:
    net = Net((1, 3, 4, 4))
    first = net.conv(net.x, 20, name="first")
    graph = net.done(net.conv(net.conv(first, 20, name="second"), 2))
    # Over the mean of its group: most channels of the first are far below it, those of the second all equal.
    graph = with_rows(with_rows(graph, "first", [1.0] * 19 + [1000.0]), "second", [1.0] * 20)
    small = cut(graph, 0.5, scope="global")
    assert weights(small, "first").shape[0] == 2
    assert weights(small, "second").shape[0] == 18
    for ratio in (0.3, 0.5, 0.9, 0.95):
        kept = cut(graph, ratio, scope="global")
        total = weights(kept, "first").shape[0] + weights(kept, "second").shape[0]
        assert total == 40 - math.floor(ratio * 40 + 1e-9)


def test_hessian_score_finds_the_channel_that_sees_nothing() -> None:
    net = Net((1, 2, 4, 4))
    graph = net.done(net.conv(net.conv(net.x, 4, name="first", bias=False), 2, name="last"))
    value = np.ones((4, 2, 1, 1), np.float32)
    value[1] = [[[0.1]], [[5.0]]]  # greatest, but of an input that is always zero
    graph = graph.with_constants({graph.op("first").inputs[1]: value})
    x = np.random.default_rng(0).normal(0, 1, (8, 2, 4, 4)).astype(np.float32)
    x[:, 1] = 0
    small = cut(graph, 0.25, score="hessian", data=Dataset(x))
    np.testing.assert_array_equal(weights(small, "last"), weights(graph, "last")[:, [0, 2, 3]])
