"""Widths of coupled channels among the choices: priced on networks that shrink, chosen as enumeration would, and as built."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lepton_dse.compress.prune import prune
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.allocate.channels import Widths, covering
from lepton_dse.search.allocate.choice import Choice
from lepton_dse.search.allocate.driver import Budgets, allocate
from lepton_dse.search.allocate.problem import Measure
from lepton_dse.search.allocate.solve import solve
from lepton_dse.search.allocate.space import Costs, Space, space_of
from lepton_dse.search.sensitivity import sensitivities, width_losses
from lepton_dse.sim.mixed import Prices, mixed_cost
from lepton_dse.targets import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
from allocation import least

INT8 = Recipe(Precision.parse("int8"))
TARGET = load_target("nvidia-jetson-orin-nano")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def network(*, joined: int = 0) -> Graph:
    """A residual pair, a layer on its own and a dense layer; or several branches that one concatenation joins."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("net")
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))

    def conv(x: str, name: str, outputs: int) -> str:
        inputs = builder.tensors[x].shape[1]
        weights = builder.constant(f"{name}.w", rng.normal(0, 0.2, (outputs, inputs, 3, 3)).astype(np.float32))
        bias = builder.constant(f"{name}.b", rng.normal(0, 0.1, outputs).astype(np.float32))
        y = builder.add(ops.Conv(window), [x, weights, bias], output=f"{name}.y", name=name)
        return builder.add(ops.Clip(0.0, np.inf), [y], output=f"{name}.r", name=f"{name}.relu")

    x = builder.input("x", (1, 4, 6, 6))
    if joined:
        branches = [conv(x, f"branch{index}", 8) for index in range(joined)]
        x = conv(builder.add(ops.Concat(1), branches, output="joined", name="concat"), "last", 8)
    else:
        first = conv(x, "first", 16)
        x = builder.add(ops.Add(), [first, conv(first, "second", 16)], output="sum", name="add")
        x = conv(x, "third", 8)
    channels = builder.tensors[x].shape[1]
    x = builder.add(ops.Reshape((1, channels * 36)), [x], output="flat", name="flatten")
    weights = builder.constant("fc.w", rng.normal(0, 0.1, (channels * 36, 5)).astype(np.float32))
    return builder.build([builder.add(ops.MatMul(), [x, weights], output="z", name="fc")])


def samples(count: int = 96) -> Dataset:
    return Dataset(np.random.default_rng(1).normal(0, 1, (count, 4, 6, 6)).astype(np.float32))


def space(graph: Graph, choices: list[str], budgets: Budgets, minimize: Measure, ratios: tuple[float, ...]) -> Space:
    data, widths = samples(), Widths(graph, ratios)
    found = sensitivities(graph, data, choices, recipe=INT8, calibration=data)
    lost = width_losses(graph, data, widths, recipe=INT8, calibration=data)
    costs = Costs(graph, TARGET, INT8, 1, widths)
    return space_of(graph, found, costs, INT8, minimize, budgets.costs, widths, lost)


def test_groups_are_what_must_shrink_together() -> None:
    widths = Widths(network(), (0.5, 0.25))
    assert [(group.name, group.ops) for group in widths.groups] == [("first", ("first", "second")), ("third", ("third",))]
    assert [group.ratios for group in widths.groups] == [(0.0, 0.25, 0.5)] * 2
    assert widths.touching["third"] == (0, 1)
    assert widths.touching["fc"] == (1,)
    assert widths.touching["add"] == (0,)
    assert widths.graph(widths.full).digest == network().digest
    shrunk = widths.graph((1, 2))
    assert [shrunk.tensors[f"{name}.w"].shape[:2] for name in ("first", "second", "third")] == [(12, 4), (12, 12), (4, 12)]
    assert widths.graph((2, 2)).digest == prune(network(), 0.5, kind="channels").digest
    # The ratio of one group says nothing of the channels of another.
    assert np.array_equal(widths.graph((0, 1)).constants["first.w"], network().constants["first.w"])


def test_many_groups_that_meet_in_one_operation_are_one_decision() -> None:
    widths = Widths(network(joined=3), (0.25, 0.5))
    assert max(len(places) for places in widths.touching.values()) <= 2
    assert [group.ops for group in widths.groups] == [("branch0", "branch1", "branch2", "last")]
    both = Widths(network(joined=2), (0.5,))
    assert [group.ops for group in both.groups] == [("branch0", "branch1", "last")]  # the last layer meets all three


def test_widths_that_are_none_are_refused() -> None:
    for ratios in ((0.0,), (1.0,), (0.5, 0.5), (-0.5,), (float("nan"),)):
        with pytest.raises(LeptonError, match="shares"):
            Widths(network(), ratios)
    with pytest.raises(LeptonError, match="no channel can leave"):
        Widths(network(), (0.01,))


def test_every_pair_of_widths_is_covered() -> None:
    needs = [(pair, combined) for pair in ((0, 1), (1, 2), (2, 3), (3, 4)) for combined in product(range(3), range(3))]
    found = covering(needs, 5)
    assert set(found) == set(needs)
    for (places, widths), whole in found.items():
        assert tuple(whole[place] for place in places) == widths
    assert len(set(found.values())) < 2 * 9  # 9 at least, 36 one by one


@pytest.mark.parametrize("minimize", [Measure.LATENCY, Measure.BYTES])
def test_the_joint_choice_is_that_of_enumeration(minimize: Measure) -> None:
    built = space(network(), ["int8", "w4a8"], Budgets(), minimize, (0.25, 0.5))
    problem = built.problem
    base = problem.others[Measure.LOSS]
    everything = sum(max(row) for row in problem.amounts[Measure.LOSS])
    for share in (0.02, 0.1, 0.4):
        bounded = type(problem)(
            problem.layers, problem.choices, problem.amounts, minimize, {Measure.LOSS: base + share * everything}, problem.others,
            problem.loss_unit, problem.settings,
        )  # fmt: skip
        best, found = _enumerated(bounded), solve(bounded)
        assert found.result.optimal
        assert found.result.best == pytest.approx(best, rel=1e-9)
        assert bounded.fits(found.chosen)


def _enumerated(problem) -> float:  # type: ignore[no-untyped-def]
    """The least over all widths and, for each, over all formats of the layers, row by row."""
    values = sorted({pair for rows in problem.settings for row in rows for pair in row})
    decisions = sorted({decision for decision, _ in values})
    best = float("inf")
    for widths in product(*([value for decision, value in values if decision == wanted] for wanted in decisions)):
        made = dict(zip(decisions, widths, strict=True))
        rows = [
            [index for index, row in enumerate(options) if all(made[decision] == value for decision, value in row)]
            for options in problem.settings
        ]
        for chosen in product(*rows):
            if problem.total(Measure.LOSS, chosen) <= problem.budgets[Measure.LOSS]:
                best = min(best, problem.total(problem.minimize, chosen))
    return best


def test_small_problems_agree_with_the_oracle() -> None:
    built = space(network(), ["int8"], Budgets(bytes=3000), Measure.LOSS, (0.5,))
    assert solve(built.problem).result.best == pytest.approx(least(built.problem), rel=1e-9)


def test_pairs_of_widths_are_priced_on_the_network_that_has_them() -> None:
    """The sum of the rows is the cost of the whole network at any widths, which no sum of single changes is."""
    graph = network()
    built, widths = space(graph, ["int8"], Budgets(), Measure.LATENCY, (0.25, 0.5)), Widths(graph, (0.25, 0.5))
    problem = built.problem
    for whole in product(range(3), range(3)):
        chosen = [
            next(index for index, row in enumerate(rows) if all(whole[place] == width for place, width in row))
            for rows in problem.settings
        ]
        assert problem.agrees(chosen)
        assert built.widths(chosen) == whole
        report = Prices(widths.graph(whole), TARGET, INT8.precision).report(INT8.precision)
        assert problem.total(Measure.LATENCY, chosen) == pytest.approx(report.latency_s, rel=1e-12)
        small = widths.graph(whole)
        stored = sum(small.constants[f"{name}.w"].size for name in ("first", "second", "third", "fc"))
        assert problem.total(Measure.BYTES, chosen) == stored


def test_a_pattern_that_no_longer_divides_is_not_offered() -> None:
    graph = network()
    built = space(graph, ["int8", "int8+2:4"], Budgets(), Measure.LATENCY, (0.25, 0.4))
    row = built.problem.layers.index("third")
    options = list(zip(built.offers[row], built.problem.settings[row], strict=True))
    patterned = {made for choice, made in options if choice.pattern}
    # 16 channels become 12, which four divides, or 10, which it does not.
    assert {dict(made)[0] for made in patterned} == {0, 1}
    assert {dict(made)[0] for choice, made in options if not choice.pattern} == {0, 1, 2}


def test_channels_and_formats_from_end_to_end() -> None:
    graph, data = network(), samples()
    found = allocate(
        graph, TARGET, data, ["int8", "w4a8"], budgets=Budgets(divergence=0.5), minimize="bytes", channels=(0.25, 0.5)
    )
    assert found.bundle is not None
    assert found.measured is not None
    assert found.measured.divergence.value <= 0.5
    assert any(entry.ratio for entry in found.channels)
    again = quantize(found.graph, found.recipe, data.take(256))[0]
    assert again.digest == found.bundle.digest
    assert found.cost == mixed_cost(found.bundle, TARGET, default=INT8.precision)  # as built, not as added up
    assert found.totals[Measure.LATENCY] == found.cost.latency_s
    ratios = {entry.group.name: entry.ratio for entry in found.channels}
    assert found.graph.constants["first.w"].shape[0] == 16 - int(16 * ratios["first"])
    assert found.graph.constants["third.w"].shape[:2] == (8 - int(8 * ratios["third"]), 16 - int(16 * ratios["first"]))
    stored = sum(
        found.graph.tensors[entry.layer.weights].elements * found.bundle.scales[entry.layer.weights].format.bits / 8
        for entry in found.table
    )
    assert found.totals[Measure.BYTES] == pytest.approx(stored)
    added = [*(entry.added for entry in found.table), *(entry.added for entry in found.channels)]
    assert found.predicted == pytest.approx(found.sensitivities.baseline.divergence.value + sum(added))
    alone = allocate(graph, TARGET, data, ["int8", "w4a8"], budgets=Budgets(divergence=0.5), minimize="bytes")
    assert found.totals[Measure.BYTES] <= alone.totals[Measure.BYTES]


def test_a_budget_of_time_is_kept_by_the_network_as_it_is_built() -> None:
    graph, data = network(), samples()
    whole = mixed_cost(quantize(graph, INT8, data)[0], TARGET).latency_s
    held = Budgets(latency_s=whole * 0.999)
    found = allocate(graph, TARGET, data, ["int8"], budgets=held, minimize="loss", channels=(0.25, 0.5), batch=1)
    assert found.cost is not None
    assert found.cost.latency_s <= whole * 0.999
    assert any(entry.ratio for entry in found.channels)
    impossible = allocate(graph, TARGET, data, ["int8"], budgets=Budgets(bytes=10), minimize="loss", channels=(0.25,))
    assert impossible.bundle is None
    assert [(entry.what, entry.unit) for entry in impossible.violations] == [("bytes", "B")]
    widths = Widths(graph, (0.25,))
    small = sum(widths.graph((1, 1)).constants[f"{name}.w"].size for name in ("first", "second", "third", "fc"))
    assert impossible.violations[0].demand == small  # the least that agreeing widths reach


@pytest.mark.slow
def test_two_of_four_is_chosen_where_it_is_priced() -> None:
    """A large layer on a device whose tensor cores skip zeros: half its weights leave because that is faster there."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("large")
    x = builder.input("x", (1, 2048))
    weights = rng.normal(0, 0.02, (2048, 2048)).astype(np.float32)
    graph = builder.build([builder.add(ops.MatMul(), [x, builder.constant("w", weights)], output="y", name="fc")])
    data = Dataset(rng.normal(0, 1, (16, 2048)).astype(np.float32))
    chosen = {}
    for name in ("nvidia-a100-sxm-80gb", "nvidia-t4", "raspberry-pi-5"):
        target = load_target(name)
        found = allocate(
            graph,
            target,
            data,
            ["int8", "int8+2:4"],
            budgets=Budgets(divergence=5),
            minimize="latency",
            batch=4096,
            calibration=data,
        )
        chosen[name] = str(found.table[0].choice)
        assert found.cost is not None
        zeros = found.cost.ops[0].zeros
        assert (zeros is not None and zeros.skipped) == (name == "nvidia-a100-sxm-80gb")
    assert chosen == {"nvidia-a100-sxm-80gb": "int8+2:4", "nvidia-t4": "int8", "raspberry-pi-5": "int8"}
    assert Choice.parse("int8+2:4").pattern == (2, 4)
