"""The tpu-v1 suite: its figures are consistent, its shapes follow their rule, and it stays within its errors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.numerics.formats import Precision
from lepton_dse.targets import TpuTarget, load_target
from lepton_dse.validate.figures import figures
from lepton_dse.validate.protocol import Context
from lepton_dse.validate.tpu_v1 import SUITES, UNSCORED, layer_shape, predicted_tops

ENTRIES = {entry["app"]: entry for entry in figures("tpu_v1_jouppi2017")}


def test_the_transcription_adds_up() -> None:
    assert list(ENTRIES) == ["MLP0", "MLP1", "LSTM0", "LSTM1", "CNN0", "CNN1"]
    for entry in ENTRIES.values():
        busy = [float(entry[name]) for name in ("array_active", "weight_stall", "weight_shift", "non_matrix")]
        assert sum(busy) == pytest.approx(100, abs=0.15)  # rounded to a tenth each
        assert float(entry["useful_macs"]) + float(entry["unused_macs"]) == pytest.approx(busy[0], abs=0.15)
    means = [
        sum(float(entry[name]) for entry in ENTRIES.values()) / 6 for name in ("array_active", "useful_macs", "measured_tops")
    ]
    assert means == pytest.approx([28, 23, 21.4], abs=0.6)  # as the paper's last column has them


def test_errors() -> None:
    result = SUITES[0].run(SUITES[0], Context())
    assert result.mape_pct is not None
    assert result.max_pct is not None
    assert result.mape_pct <= 6
    assert result.max_pct <= 10
    assert result.fitted == ()
    assert {row.case for row in result.rows if not row.scored} == set(UNSCORED) == {"LSTM1", "CNN1"}
    assert all(any(app in note for note in result.notes) for app in UNSCORED)
    band = load_target("google-tpu-v1").band(Precision.parse("int8"))
    assert band is not None
    assert (band.suite, band.mape_pct.value) == (result.name, round(result.mape_pct, 1))


@settings(max_examples=200, deadline=None)
@given(st.floats(1e3, 1e8), st.floats(0.05, 1))
def test_shapes_hold_the_weights_at_most_twice_as_long_as_wide(weights: float, occupied: float) -> None:
    k, n = layer_shape(weights, occupied)
    assert k * n == pytest.approx(weights, rel=2 / math.sqrt(weights) + 1e-3)
    deep, across = -(-k // 256), -(-n // 256)
    assert deep <= across <= 2 * deep


def test_the_nearest_grid_by_hand() -> None:
    """4 million weights fill 61.04 tiles; of the grids near 98.4%, 7 x 9 = 63 tiles is nearest (8 x 8 and 6 x 11 hold less)."""
    k, n = layer_shape(4e6, 0.984)
    assert (-(-k // 256), -(-n // 256)) == (7, 9)
    assert layer_shape(65536, 1.0) == (256, 256)
    assert layer_shape(4 * 65536 * 0.7, 0.7) == (428, 428)


def test_a_weight_bound_application_by_hand() -> None:
    """MLP0: five layers of 63 tiles of two microseconds; 200 x 20 million products in that time."""
    target = load_target("google-tpu-v1")
    assert isinstance(target, TpuTarget)
    assert predicted_tops(ENTRIES["MLP0"], target) == pytest.approx(2 * 200 * 20e6 / (5 * 63 * 2e-6) / 1e12)
    # CNN0: 16 layers of eight tiles, the 2888 rows of each streaming past, the first load and the drain exposed.
    cycles = 16 * (256 + 8 * 2888 + 256 - 2 + 1000 - 3 * 256)
    assert predicted_tops(ENTRIES["CNN0"], target) == pytest.approx(2 * 2888 * 8e6 / (cycles / 700e6) / 1e12, rel=1e-3)


def test_faster_memory_helps_what_waits_for_weights() -> None:
    """As in the paper's section 7: MLPs and LSTMs gain by faster weights, CNN0 does not."""
    target = load_target("google-tpu-v1")
    assert isinstance(target, TpuTarget)
    assert target.weight_tile_s is not None
    levels = list(target.levels)
    bandwidth = levels[-1].bandwidth_byte_per_s
    levels[-1] = levels[-1].model_copy(
        update={"bandwidth_byte_per_s": bandwidth.model_copy(update={"value": 4 * bandwidth.value})}
    )
    step = target.weight_tile_s.model_copy(update={"value": target.weight_tile_s.value / 4})
    faster = target.model_copy(update={"levels": tuple(levels), "weight_tile_s": step})
    gain = {app: predicted_tops(entry, faster) / predicted_tops(entry, target) for app, entry in ENTRIES.items()}
    assert all(gain[app] > 2.5 for app in ("MLP0", "MLP1", "LSTM0"))
    assert gain["CNN0"] == pytest.approx(1)
