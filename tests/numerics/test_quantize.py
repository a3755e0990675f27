"""Quantised arithmetic against exact fractions, and exact products against integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.accumulate import exact_block, exact_block_of, exact_matmul
from lepton_dse.numerics.formats import FormatKind, NumberFormat
from lepton_dse.numerics.quantize import (
    MULTIPLIER_BITS,
    QuantParams,
    dequantize,
    integer_bounds,
    quantize,
    requantization_for,
    requantize,
)

float32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
scales = st.floats(2.0**-20, 2.0**20, width=32)


def bounds(bits: int) -> tuple[int, int]:
    return integer_bounds(NumberFormat(FormatKind.INT, bits))


def clamped(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


@given(st.lists(float32, min_size=1, max_size=20), scales, st.integers(2, 16), st.data())
def test_quantize_is_the_exact_definition(values: list[float], beta: float, bits: int, data: st.DataObject) -> None:
    low, high = bounds(bits)
    zero = data.draw(st.integers(low, high))
    found = quantize(np.asarray(values, np.float32), QuantParams((beta,), zero), low, high)
    for value, q in zip(values, found.tolist(), strict=True):
        with np.errstate(over="ignore"):
            ratio = np.float32(value) / np.float32(beta)  # the division is IEEE float32, and all behind it exact
        rounded = round(Fraction(float(ratio))) if np.isfinite(ratio) else int(np.sign(ratio)) * 10**40
        assert q == clamped(rounded + zero, low, high)


@given(st.integers(-1000, 1000), st.integers(-20, 20))
def test_halves_go_to_the_even_integer(integer: int, power: int) -> None:
    beta = 2.0**power
    found = quantize(np.asarray([(integer + 0.5) * beta]), QuantParams((beta,)), -2000, 2000)
    assert found[0] % 2 == 0
    assert abs(found[0] - (integer + 0.5)) == 0.5


@given(st.lists(float32, min_size=1, max_size=20), scales, st.integers(2, 16), st.data())
def test_what_was_quantised_once_stays(values: list[float], beta: float, bits: int, data: st.DataObject) -> None:
    low, high = bounds(bits)
    params = QuantParams((beta,), data.draw(st.integers(low, high)))
    once = quantize(np.asarray(values, np.float32), params, low, high)
    assert np.array_equal(quantize(dequantize(once, params), params, low, high), once)


@given(st.integers(-(2**15), 2**15), scales, st.integers(-128, 127))
def test_dequantize_is_the_rounded_product(q: int, beta: float, zero: int) -> None:
    found = dequantize(np.asarray([q]), QuantParams((beta,), zero))[0]
    exact = (q - zero) * Fraction(beta)
    assert abs(Fraction(float(found)) - exact) <= abs(exact) / 2**24


def test_each_channel_has_its_own_scale() -> None:
    params = QuantParams((1.0, 0.5), 0, 1)
    assert quantize(np.ones((2, 2), np.float32), params, -8, 7).tolist() == [[1, 2], [1, 2]]
    assert dequantize(np.ones((2, 2), np.int64), params).tolist() == [[1.0, 0.5], [1.0, 0.5]]


@pytest.mark.parametrize("beta", [(), (0.0,), (-1.0,), (float("nan"),), (float("inf"),), (1.0, 2.0)])
def test_scales_that_mean_nothing_are_refused(beta: tuple[float, ...]) -> None:
    with pytest.raises(LeptonError):
        QuantParams(beta)


@given(st.integers(-(2**44), 2**44 - 1), st.integers(0, 2**17 - 1), st.integers(1, 46), st.integers(2, 16), st.data())
def test_requantize_is_the_exact_definition(acc: int, multiplier: int, shift: int, bits: int, data: st.DataObject) -> None:
    low, high = bounds(bits)
    zero = data.draw(st.integers(low, high))
    found = requantize(np.asarray([acc]), np.asarray([multiplier]), shift, zero, low, high)[0]
    half_up = (Fraction(acc * multiplier, 2**shift) + Fraction(1, 2)).__floor__()
    assert found == clamped(half_up + zero, low, high)


@given(st.integers(-100, 100), st.integers(1, 20))
def test_halves_of_a_requantisation_round_up(integer: int, shift: int) -> None:
    acc = np.asarray([(2 * integer + 1) << (shift - 1)])
    assert requantize(acc, np.asarray([1]), shift, 0, -1000, 1000)[0] == integer + 1


ratios = st.lists(st.floats(1e-9, 60000.0), min_size=1, max_size=8).map(lambda values: np.asarray(values, np.float64))


@given(ratios, st.integers(17, 20))
def test_multipliers_fit_and_the_shift_is_the_largest(values: np.ndarray, width: int) -> None:
    found = requantization_for(values, width)
    assert 1 <= found.shift <= 46
    assert all(0 <= multiplier < 2**width for multiplier in found.multipliers)
    assert found.shift == 46 or round(Fraction(float(values.max())) * 2 ** (found.shift + 1)) >= 2**width
    for ratio, multiplier in zip(values.tolist(), found.multipliers, strict=True):
        assert abs(Fraction(multiplier, 2**found.shift) - Fraction(ratio)) <= Fraction(1, 2 ** (found.shift + 1))
    if found.shift < 46:
        largest = Fraction(found.multipliers[int(values.argmax())], 2**found.shift)
        assert abs(largest / Fraction(float(values.max())) - 1) <= Fraction(1, 2 ** (width - 1))


def test_the_default_multiplier_is_one_dsp_operand() -> None:
    assert MULTIPLIER_BITS == 17
    assert requantization_for(np.asarray([1.0])).multipliers == (2**16,)
    assert requantization_for(np.asarray([1.0])).shift == 16


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf"), 65535.8, 1e300])
def test_ratios_without_a_multiplier_are_refused(ratio: float) -> None:
    with pytest.raises(LeptonError):
        requantization_for(np.asarray([ratio]))


@pytest.mark.parametrize(("x_bits", "w_bits"), [(x, w) for x in (2, 4, 8, 12, 16) for w in (2, 4, 8, 12, 16)])
@given(inner=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), extreme=st.booleans())
def test_exact_products_equal_integer_products(x_bits: int, w_bits: int, inner: int, seed: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    (x_low, x_high), (w_low, w_high) = bounds(x_bits), bounds(w_bits)
    if extreme:  # all products of one sign and of the greatest magnitude, but for one that must not be lost
        x, w = np.full((2, inner), x_low), np.full((inner, 3), w_low)
        x[:, rng.integers(inner)] = 1
        w[rng.integers(inner)] = 1
    else:
        x, w = rng.integers(x_low, x_high + 1, (2, inner)), rng.integers(w_low, w_high + 1, (inner, 3))
    dtype, block = exact_block(-x_low, -w_low)
    assert np.array_equal(exact_matmul(x.astype(dtype), w.astype(dtype), block).astype(np.int64), x @ w)


@pytest.mark.parametrize(("x_peak", "w_peak"), [(128, 128), (32768, 32768), (8, 128), (2048, 1), (1, 1)])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_block_is_exact_up_to_its_end(x_peak: int, w_peak: int, more: int) -> None:
    dtype, block = exact_block(x_peak, w_peak)
    inner = min(block, 1 << 20) + more
    w = np.full((inner, 1), w_peak, np.int64)
    w[0] = 1 if w_peak > 1 else 0  # an odd sum, which a mantissa too short would lose
    x = np.full((1, inner), x_peak, np.int64)
    x[0, 0] = 1
    found = exact_matmul(x.astype(dtype), w.astype(dtype), block)
    assert int(found[0, 0]) == int((x @ w)[0, 0])
    assert x_peak * w_peak * block <= 2 ** (24 if dtype is np.float32 else 53)


@given(
    x_peak=st.sampled_from([1, 2, 8, 128, 2048, 32768]),
    spread=st.floats(0, 15),
    inner=st.integers(1, 2000),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_for_given_weights_are_exact(x_peak: int, spread: float, inner: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = np.rint(rng.normal(0, 2.0**spread, (inner, 3))).astype(np.int64).clip(-32768, 32767)
    dtype, block = exact_block_of(x_peak, w)
    # The input that makes every partial sum of a column as large as it gets, and a random one.
    x = np.concatenate([np.where(w < 0, -x_peak, x_peak).T, rng.integers(-x_peak, x_peak + 1, (2, inner))])
    assert np.array_equal(exact_matmul(x.astype(dtype), w.astype(dtype), block).astype(np.int64), x @ w)
