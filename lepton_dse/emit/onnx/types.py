"""Which ONNX type stores which number format, and constants packed for it.

==============================  ============================================
format                          stored as
==============================  ============================================
weights of 2 to 4 bits          INT4 (UINT4 without a sign), two to a byte
integers of up to 8 bits        INT8 (UINT8), their own range kept
integers of 9 to 16 bits        INT16 (UINT16), their own range kept
accumulator constants           INT32
float8_e4m3, float8_e5m2        FLOAT8E4M3FN, FLOAT8E5M2
other floats, indices           the type of the same name
==============================  ============================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import BOOL, FormatKind, NumberFormat

__all__ = ["activation_type", "is_stored_wider", "packed", "type_name", "weight_type"]

_WIDEST_QUANTISED = 16
_FLOATS: dict[str, int] = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float8_e4m3": TensorProto.FLOAT8E4M3FN,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
}
_INTEGERS: dict[tuple[int, bool], int] = {
    (4, True): TensorProto.INT4,
    (4, False): TensorProto.UINT4,
    (8, True): TensorProto.INT8,
    (8, False): TensorProto.UINT8,
    (16, True): TensorProto.INT16,
    (16, False): TensorProto.UINT16,
    (32, True): TensorProto.INT32,
    (32, False): TensorProto.UINT32,
    (64, True): TensorProto.INT64,
    (64, False): TensorProto.UINT64,
}
_WIDTHS = {kind: bits for (bits, _), kind in _INTEGERS.items()}


def activation_type(form: NumberFormat) -> int:
    """The ONNX type of a tensor that is computed: never one of 4 bits, in which no runtime computes.

    Raises
    ------
    LeptonError
        For fixed-point formats, which ONNX lacks.
    """
    if form == BOOL:
        return int(TensorProto.BOOL)
    return _type(form, (8, 16, 32, 64))


def weight_type(form: NumberFormat) -> int:
    """The ONNX type of a constant that DequantizeLinear or Cast makes real.

    Raises
    ------
    LeptonError
        For integers wider than 16 bits, which QuantizeLinear lacks, and for fixed-point formats.
    """
    if form.is_integer and form.bits > _WIDEST_QUANTISED:
        raise LeptonError(f"ONNX quantises to at most {_WIDEST_QUANTISED} bits, not to {form}", fix="use narrower formats")
    return _type(form, (4, 8, 16))


def _type(form: NumberFormat, widths: tuple[int, ...]) -> int:
    if form.kind is FormatKind.FIXED:
        raise LeptonError(f"ONNX has no fixed-point type for {form}", fix="use integers or floats")
    if form.is_float:
        return int(_FLOATS[str(form)])
    return int(_INTEGERS[next(bits for bits in widths if form.bits <= bits), form.signed])


def is_stored_wider(form: NumberFormat, kind: int) -> bool:
    """Whether an integer format leaves part of its ONNX type unused."""
    return form.is_integer and form.bits < _WIDTHS.get(kind, form.bits)


def type_name(kind: int) -> str:
    """Name of an ONNX type, for people."""
    return str(TensorProto.DataType.Name(kind))


def packed(name: str, value: NDArray[Any], kind: int) -> TensorProto:
    """A constant in raw little-endian bytes; of 4-bit integers the first of a byte is the low half."""
    if kind in (TensorProto.INT4, TensorProto.UINT4):
        nibbles = np.resize(value.reshape(-1).astype(np.int64) & 0xF, value.size + value.size % 2)
        if value.size % 2:
            nibbles[-1] = 0
        data = (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()
    else:
        wide = value.astype(_dtype(kind)) if kind in _WIDTHS else value
        data = np.ascontiguousarray(wide, wide.dtype.newbyteorder("<")).tobytes()
    return TensorProto(name=name, dims=value.shape, data_type=kind, raw_data=data)


def _dtype(kind: int) -> np.dtype[Any]:
    unsigned = kind in (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64)
    return np.dtype(f"{'u' if unsigned else 'i'}{_WIDTHS[kind] // 8}")
