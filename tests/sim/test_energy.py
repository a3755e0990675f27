"""Energy: the sum by hand on unit devices, the law between process nodes, and power that is reported and never clamped."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport
from lepton_dse.search.gpu import gpu_cost
from lepton_dse.search.tpu import tpu_cost
from lepton_dse.sim.energy import between_nodes, power_note
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.roofline import roofline
from lepton_dse.targets import AnyTarget, load_target

INT8 = Precision.parse("int8")
positive = st.floats(1e-15, 1e3)


def product(depth: int = 6, columns: int = 5) -> Graph:
    builder = GraphBuilder("product")
    x = builder.input("x", (1, depth))
    w = builder.constant("w", np.ones((depth, columns), np.float32))
    return builder.build([builder.add(ops.MatMul(), [x, w], output="y")])


def with_power(target: AnyTarget, watts: float) -> AnyTarget:
    quantity = next(quantity for _, quantity in target.quantities())
    return target.model_copy(update={"power_w": quantity.model_copy(update={"value": watts})})


@pytest.mark.parametrize(("name", "model"), [("unit-tpu", tpu_cost), ("unit-gpu", gpu_cost), ("unit-cpu", roofline)])
def test_energy_is_macs_and_bytes_on_unit_devices(name: str, model: CostModel) -> None:
    """Every multiply-accumulate and every byte at every level costs a joule."""
    report = model(product(), load_target(name), INT8, 4)
    assert report.energy_j == pytest.approx(4 * 6 * 5 + sum(report.traffic_bytes.values()))
    assert report.energy_j == pytest.approx(sum(op.energy_j or 0.0 for op in report.ops))


def test_the_roofline_of_a_product_by_hand() -> None:
    """X of 24, W of 30 and Y of 20 bytes cross each level of a unit device once, and 120 products are made."""
    target = load_target("unit-tpu")
    report = roofline(product(), target, INT8, 4)
    assert report.energy_j == 120 + 2 * (24 + 30 + 20)


@given(positive, positive)
def test_the_published_nodes_keep_their_figures(old: float, new: float) -> None:
    assert between_nodes(45, (45, old), (7, new)) == pytest.approx(old)
    assert between_nodes(7, (45, old), (7, new)) == pytest.approx(new)
    middle = between_nodes(math.sqrt(45 * 7), (45, old), (7, new))
    assert middle == pytest.approx(math.sqrt(old * new))


@given(positive, positive, st.floats(7, 45), st.floats(7, 45))
def test_the_law_is_monotone(old: float, new: float, first: float, second: float) -> None:
    small, large = sorted((first, second))
    energies = [between_nodes(node, (45, old), (7, new)) for node in (small, large)]
    slack = 1e-9 * max(energies)
    assert energies[0] <= energies[1] + slack if new <= old else energies[0] >= energies[1] - slack


@pytest.mark.parametrize(
    ("node", "first", "second"),
    [
        (0.0, (45.0, 1.0), (7.0, 1.0)),
        (28.0, (45.0, 0.0), (7.0, 1.0)),
        (28.0, (45.0, 1.0), (45.0, 2.0)),
        (math.nan, (45.0, 1.0), (7.0, 1.0)),
        (28.0, (math.inf, 1.0), (7.0, 1.0)),
    ],
)
def test_figures_that_tell_no_trend_are_refused(node: float, first: tuple[float, float], second: tuple[float, float]) -> None:
    with pytest.raises(LeptonError):
        between_nodes(node, first, second)


def unit_report() -> CostReport:
    return roofline(product(), load_target("unit-tpu"), INT8, 4)


def test_power_above_the_device_is_reported_and_nothing_is_clamped() -> None:
    report = unit_report()
    assert report.energy_j is not None
    implied = report.energy_j / report.latency_s
    above, below = (power_note(report, with_power(load_target("unit-tpu"), implied * share)) for share in (0.5, 2.0))
    assert above is not None
    assert below is not None
    assert above.implied_w == below.implied_w == implied
    assert (above.share, below.share) == (pytest.approx(2), pytest.approx(0.5))
    assert above.exceeds
    assert not below.exceeds
    assert "200%" in str(above)
    assert "wrong" in str(above)
    assert "50%" in str(below)
    assert "wrong" not in str(below)
    assert report == unit_report()


def test_no_note_without_energy_latency_or_power() -> None:
    report, target = unit_report(), load_target("unit-tpu")
    assert power_note(report, target) is None  # the unit device states no power
    powered = with_power(target, 10)
    assert power_note(report.model_copy(update={"energy_j": None}), powered) is None
    assert power_note(report.model_copy(update={"latency_s": 0.0}), powered) is None
    assert power_note(report, with_power(target, 0)) is None
    with pytest.raises(LeptonError, match="unit-gpu"):
        power_note(report, load_target("unit-gpu"))


def test_formats_without_a_figure_have_no_energy() -> None:
    """An absent figure is absent, not 0."""
    target = load_target("nvidia-h100-sxm")
    assert gpu_cost(product(), target, Precision.parse("float8_e4m3"), 1).energy_j is None
    energy = gpu_cost(product(), target, Precision.parse("bfloat16"), 1).energy_j
    assert energy is not None
    assert energy > 0
