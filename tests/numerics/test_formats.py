"""Number formats: names, exact ranges, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision

FLOATS = {
    "float64": np.float64,
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
EVERY = [
    *(NumberFormat(FormatKind.INT, bits, signed) for bits in range(1, 65) for signed in (False, True)),
    *(
        NumberFormat(FormatKind.FIXED, bits, signed, fraction)
        for bits in (1, 7, 16, 64)
        for signed in (False, True)
        for fraction in (0, 3, 60)
    ),
    *(NumberFormat.parse(name) for name in FLOATS),
]


@pytest.mark.parametrize("form", EVERY, ids=str)
def test_a_name_reads_back_as_the_format(form: NumberFormat) -> None:
    assert NumberFormat.parse(str(form)) == form


def test_names_are_unique() -> None:
    assert len({str(form) for form in EVERY}) == len(EVERY)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("signed", [False, True])
def test_integer_ranges_are_those_of_numpy(bits: int, signed: bool) -> None:
    form = NumberFormat(FormatKind.INT, bits, signed)
    info = np.iinfo(f"{'i' if signed else 'u'}{bits // 8}")
    assert (form.minimum, form.maximum) == (info.min, info.max)
    assert form.numpy == info.dtype
    assert NumberFormat.from_numpy(info.dtype) == form


@pytest.mark.parametrize("name", FLOATS)
def test_float_ranges_are_those_of_the_type(name: str) -> None:
    form = NumberFormat.parse(name)
    greatest = Fraction(float(ml_dtypes.finfo(FLOATS[name]).max))
    assert (form.minimum, form.maximum) == (-greatest, greatest)
    assert form.numpy == np.dtype(FLOATS[name])
    assert NumberFormat.from_numpy(form.numpy) == form
    assert form.exponent + form.fraction + 1 == form.bits


@given(st.integers(1, 64), st.booleans(), st.integers(0, 70))
def test_a_fixed_point_range_is_that_of_its_integers_scaled(bits: int, signed: bool, fraction: int) -> None:
    form = NumberFormat(FormatKind.FIXED, bits, signed, fraction)
    integers = NumberFormat(FormatKind.INT, bits, signed)
    assert form.minimum * 2**fraction == integers.minimum
    assert form.maximum * 2**fraction == integers.maximum
    assert form.maximum - form.minimum == Fraction(2**bits - 1, 2**fraction)


@given(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_the_format_of_a_range_is_the_narrowest(low: int, high: int) -> None:
    form = NumberFormat.for_range(low, high)
    assert form.minimum <= min(low, high) <= max(low, high) <= form.maximum
    if form.bits > 1:
        narrower = NumberFormat(FormatKind.INT, form.bits - 1)
        assert min(low, high) < narrower.minimum or max(low, high) > narrower.maximum


@pytest.mark.parametrize(
    "text", ["", "int", "int0", "int65", "uint99", "float", "float31", "fixed8", "fixed8.", "int8 ", "INT8", "int-8", "int08"]
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(LeptonError):
        NumberFormat.parse(text)


@pytest.mark.parametrize(
    ("kind", "bits", "signed", "fraction"),
    [
        (FormatKind.INT, 0, True, 0),
        (FormatKind.INT, 8, True, 1),
        (FormatKind.FLOAT, 16, False, 10),
        (FormatKind.FLOAT, 16, True, 15),
    ],
)
def test_contradictory_formats_are_refused(kind: FormatKind, bits: int, signed: bool, fraction: int) -> None:
    with pytest.raises(LeptonError):
        NumberFormat(kind, bits, signed, fraction)


def test_types_without_numbers_have_no_format() -> None:
    with pytest.raises(LeptonError):
        NumberFormat.from_numpy(np.dtype("U3"))


PRECISIONS = [
    *(f"w{weights}a{activations}" for weights in range(2, 17) for activations in range(2, 17) if weights != activations),
    *(f"int{bits}" for bits in range(2, 17)),
    *(f"w{bits}-{name}" for bits in (2, 4, 16) for name in FLOATS),
    *FLOATS,
]


@pytest.mark.parametrize("text", PRECISIONS)
def test_precisions_read_back(text: str) -> None:
    assert str(Precision.parse(text)) == text


def test_int8_is_short_for_w8a8() -> None:
    assert Precision.parse("int8") == Precision.parse("w8a8")
    assert Precision.parse("w4a8").weights == NumberFormat.parse("int4")
    assert Precision.parse("w4a8").activations == NumberFormat.parse("int8")
    assert Precision.parse("w4a8").is_integer
    assert not Precision.parse("w4-float16").is_integer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int1",
        "int17",
        "w1a8",
        "w8a17",
        "w8",
        "a8",
        "w8a",
        "w4-float17",
        "w1-float16",
        "uint8",
        "fixed8.4",
        "float12",
        "int8x",
    ],
)
def test_other_precisions_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(LeptonError, match="for example int8"):
        Precision.parse(text)
