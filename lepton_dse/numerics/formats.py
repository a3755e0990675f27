"""Number formats: how wide a value is and exactly which values it can hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

from lepton_dse.errors import LeptonError

__all__ = [
    "BFLOAT16",
    "BOOL",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "INT8",
    "INT32",
    "INT64",
    "FormatKind",
    "NumberFormat",
    "Precision",
]


class FormatKind(Enum):
    """What the bits of a number mean."""

    INT = "int"
    FIXED = "fixed"
    FLOAT = "float"


@dataclass(frozen=True)
class NumberFormat:
    """A scalar number format.

    Parameters
    ----------
    kind : FormatKind
        Integer, fixed point or binary floating point.
    bits : int
        Storage width in bits, 1 to 64.
    signed : bool
        Two's complement when true (floats are always signed).
    fraction : int
        Fixed point: bits right of the point. Float: explicit mantissa bits. Integers: 0.
    """

    kind: FormatKind
    bits: int
    signed: bool = True
    fraction: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 64:
            raise LeptonError(f"a number format of {self.bits} bits", fix="use 1 to 64 bits")
        if self.kind is FormatKind.INT and self.fraction:
            raise LeptonError("an integer format with fraction bits", fix="use a fixed format")
        if self.kind is FormatKind.FLOAT and not (self.signed and 1 <= self.exponent <= 11):
            raise LeptonError("a float format needs a sign and 1 to 11 exponent bits")

    @classmethod
    def parse(cls, text: str) -> NumberFormat:
        """Read a format's name: ``int8``, ``uint4``, ``fixed16.8``, ``float32``, ``bfloat16``, ``float8_e4m3`` ...

        Raises
        ------
        LeptonError
            If the name is none of these.
        """
        if text in _FLOAT_NAMES:
            bits, mantissa = _FLOAT_NAMES[text]
            return cls(FormatKind.FLOAT, bits, True, mantissa)
        if text == "bool":
            return BOOL
        match = re.fullmatch(r"(u?)int([1-9]\d?)", text)
        if match:
            return cls(FormatKind.INT, int(match[2]), not match[1])
        match = re.fullmatch(r"(u?)fixed([1-9]\d?)\.(\d{1,2})", text)
        if match:
            return cls(FormatKind.FIXED, int(match[2]), not match[1], int(match[3]))
        raise LeptonError(f"'{text}' is not a number format", fix="for example int8, uint4, fixed16.8, float32 or bfloat16")

    def __str__(self) -> str:
        if self == BOOL:
            return "bool"
        if self.kind is FormatKind.FLOAT:
            for name, (bits, mantissa) in _FLOAT_NAMES.items():
                if (bits, mantissa) == (self.bits, self.fraction):
                    return name
            raise LeptonError(f"no name for a float of {self.bits} bits with {self.fraction} mantissa bits")
        sign = "" if self.signed else "u"
        return f"{sign}int{self.bits}" if self.kind is FormatKind.INT else f"{sign}fixed{self.bits}.{self.fraction}"

    @property
    def exponent(self) -> int:
        """Exponent bits of a float format; 0 for the others."""
        return self.bits - 1 - self.fraction if self.kind is FormatKind.FLOAT else 0

    @property
    def is_integer(self) -> bool:
        """Whether values are plain integers."""
        return self.kind is FormatKind.INT

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self.kind is FormatKind.FLOAT

    @property
    def minimum(self) -> Fraction:
        """Least representable finite value, exactly."""
        if self.kind is FormatKind.FLOAT:
            return -self.maximum
        low = -(1 << (self.bits - 1)) if self.signed else 0
        return Fraction(low, 1 << self.fraction)

    @property
    def maximum(self) -> Fraction:
        """Greatest representable finite value, exactly."""
        if self.kind is FormatKind.FLOAT:
            info: Any = ml_dtypes.finfo
            return Fraction(float(info(self.numpy).max))
        high = (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1
        return Fraction(high, 1 << self.fraction)

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The narrowest NumPy type that stores every value of the format."""
        if self == BOOL:
            return np.dtype(np.bool_)
        if self.kind is FormatKind.FLOAT:
            dtype: np.dtype[np.generic] = np.dtype(_FLOAT_DTYPES[str(self)])
            return dtype
        for width in (8, 16, 32, 64):
            if self.bits <= width:
                return np.dtype(f"{'i' if self.signed else 'u'}{width // 8}")
        raise LeptonError(f"no NumPy type holds {self.bits} bits")

    @classmethod
    def for_range(cls, low: int, high: int) -> NumberFormat:
        """The narrowest signed integer format that holds both `low` and `high`."""
        bits = max((value if value >= 0 else ~value).bit_length() for value in (low, high)) + 1
        return cls(FormatKind.INT, bits)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[np.generic]) -> NumberFormat:
        """The format that a NumPy type stores.

        Raises
        ------
        LeptonError
            For types that hold no numbers.
        """
        name = {"float8_e4m3fn": "float8_e4m3"}.get(dtype.name, dtype.name)
        return cls.parse(name)


# Widths of the IEEE and OCP formats: total bits, mantissa bits (IEEE 754-2019; OCP 8-bit Floating Point Specification 1.0).
_FLOAT_NAMES = {
    "float64": (64, 52),
    "float32": (32, 23),
    "bfloat16": (16, 7),
    "float16": (16, 10),
    "float8_e4m3": (8, 3),
    "float8_e5m2": (8, 2),
}
_FLOAT_DTYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}

BOOL = NumberFormat(FormatKind.INT, 1, False)
INT8 = NumberFormat(FormatKind.INT, 8)
INT32 = NumberFormat(FormatKind.INT, 32)
INT64 = NumberFormat(FormatKind.INT, 64)
FLOAT16 = NumberFormat(FormatKind.FLOAT, 16, True, 10)
BFLOAT16 = NumberFormat(FormatKind.FLOAT, 16, True, 7)
FLOAT32 = NumberFormat(FormatKind.FLOAT, 32, True, 23)
FLOAT64 = NumberFormat(FormatKind.FLOAT, 64, True, 52)


@dataclass(frozen=True)
class Precision:
    """The formats of an operation's weights and activations.

    Parameters
    ----------
    weights, activations : NumberFormat
        Formats of stored weights and of the tensors that flow between operations.
    """

    weights: NumberFormat
    activations: NumberFormat

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Read ``int8`` (= ``w8a8``), ``w4a8``, ``w4-float16``, or a float format's name.

        Raises
        ------
        LeptonError
            If the text is none of these or a width lies outside 2 to 16 bits.
        """
        match = re.fullmatch(r"w(\d+)a(\d+)", text) or re.fullmatch(r"int(\d+)", text)
        if match:
            widths = [int(group) for group in match.groups()]
            if not all(2 <= width <= 16 for width in widths):
                raise LeptonError(f"'{text}' asks for integers outside 2 to 16 bits", fix="for example int8, w4a8 or w4a4")
            return cls(NumberFormat(FormatKind.INT, widths[0]), NumberFormat(FormatKind.INT, widths[-1]))
        match = re.fullmatch(r"w(\d+)-(\w+)", text)
        if match and 2 <= int(match[1]) <= 16 and match[2] in _FLOAT_NAMES:
            return cls(NumberFormat(FormatKind.INT, int(match[1])), NumberFormat.parse(match[2]))
        if text in _FLOAT_NAMES:
            return cls(NumberFormat.parse(text), NumberFormat.parse(text))
        raise LeptonError(
            f"'{text}' is not a format", fix="for example int8, w4a8, w4a4, w4-float16, float32, bfloat16, float8_e4m3"
        )

    def __str__(self) -> str:
        if self.weights.is_float:
            return str(self.weights)
        if self.activations.is_float:
            return f"w{self.weights.bits}-{self.activations}"
        return (
            f"int{self.weights.bits}"
            if self.weights.bits == self.activations.bits
            else f"w{self.weights.bits}a{self.activations.bits}"
        )

    @property
    def is_integer(self) -> bool:
        """Whether both weights and activations are integers, so that execution is exact."""
        return self.weights.is_integer and self.activations.is_integer
