"""Element types of StableHLO, tensor types, and literals that read back as the very same numbers."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import BOOL, FormatKind, NumberFormat

__all__ = ["NARROW_FLOATS", "dense", "element_type", "is_float", "number", "tensor_type", "width"]

_FLOATS: dict[str, tuple[str, Any]] = {
    "float64": ("f64", np.float64),
    "float32": ("f32", np.float32),
    "float16": ("f16", np.float16),
    "bfloat16": ("bf16", ml_dtypes.bfloat16),
    "float8_e4m3": ("f8E4M3FN", ml_dtypes.float8_e4m3fn),
    "float8_e5m2": ("f8E5M2", ml_dtypes.float8_e5m2),
}
_DTYPES = dict(_FLOATS.values())
NARROW_FLOATS = ("f16", "bf16", "f8E4M3FN", "f8E5M2")
"""Floats that are computed with in float32."""


def element_type(form: NumberFormat) -> str:
    """The element type that holds a format in as many bytes as NumPy does.

    Raises
    ------
    LeptonError
        For fixed-point formats, which StableHLO lacks.
    """
    if form == BOOL:
        return "i1"
    if form.kind is FormatKind.FIXED:
        raise LeptonError(f"StableHLO has no fixed-point type for {form}", fix="use integers or floats")
    if form.is_float:
        return _FLOATS[str(form)][0]
    return f"{'' if form.signed else 'u'}i{8 * form.numpy.itemsize}"


def is_float(kind: str) -> bool:
    """Whether an element type is a float."""
    return kind in _DTYPES


def width(kind: str) -> int:
    """Bits of an integer type."""
    return int(kind.removeprefix("u").removeprefix("i"))


def tensor_type(shape: tuple[int, ...], kind: str) -> str:
    """A ranked tensor's type, as ``tensor<2x3xf32>``."""
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{kind}>"


def number(value: float, kind: str) -> str:
    """A literal of an element type."""
    if kind == "i1":
        return "true" if value else "false"
    if not is_float(kind):
        return str(int(value))
    stored = np.asarray(value).astype(_DTYPES[kind])
    if math.isfinite(float(stored)):
        return f"{float(stored):.{16 if kind == 'f64' else 9}e}"
    return f"0x{int(stored.view(f'u{stored.dtype.itemsize}')):0{2 * stored.dtype.itemsize}X}"


def dense(value: NDArray[Any], kind: str) -> str:
    """A literal of a whole array: one number where all are alike, else its bytes, or numbers where they are truth values."""
    dtype = _DTYPES.get(kind) or (np.bool_ if kind == "i1" else np.dtype(f"{'u' if kind[0] == 'u' else 'i'}{width(kind) // 8}"))
    stored = np.ascontiguousarray(value).astype(dtype)
    flat = stored.reshape(-1)
    if flat.size == 1 or flat.tobytes() == np.repeat(flat[:1], flat.size).tobytes():
        return f"dense<{number(flat[0], kind)}>"
    if kind == "i1":
        return f"dense<{_nested(stored)}>"
    return f'dense<"0x{stored.astype(stored.dtype.newbyteorder("<")).tobytes().hex().upper()}">'


def _nested(value: NDArray[Any]) -> str:
    if not value.ndim:
        return "true" if value else "false"
    return f"[{', '.join(_nested(entry) for entry in value)}]"
