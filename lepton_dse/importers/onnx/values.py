"""Constants: stored tensors as arrays, and arithmetic that keeps repeated values repeated.

A ``ConstantOfShape`` of a billion elements is one number seen through zero strides. What follows here never writes such
a constant out, so that a file of a few kilobytes cannot ask for gigabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.files import inside
from lepton_dse.ir.shapes import MAX_ELEMENTS

__all__ = [
    "Array",
    "NotSupported",
    "as_float32",
    "check_size",
    "filled",
    "numpy_type",
    "repeated",
    "spread",
    "stored",
    "tensor_value",
    "text",
    "type_name",
]

Array = NDArray[Any]

_AGAIN = "export the model again"
_MAX_RANK = 32  # of NumPy 1; a graph's own tensors are held to fewer
_FREE = 1 << 22  # elements that folding may always produce; beyond, only as many as its largest input holds

# TensorProto.DataType: name, NumPy type, and the field that holds the values when raw_data does not.
_TYPES: dict[int, tuple[str, Any, str]] = {
    1: ("float", np.float32, "float_data"),
    2: ("uint8", np.uint8, "int32_data"),
    3: ("int8", np.int8, "int32_data"),
    4: ("uint16", np.uint16, "int32_data"),
    5: ("int16", np.int16, "int32_data"),
    6: ("int32", np.int32, "int32_data"),
    7: ("int64", np.int64, "int64_data"),
    9: ("bool", np.bool_, "int32_data"),
    10: ("float16", np.float16, "int32_data"),
    11: ("double", np.float64, "double_data"),
    12: ("uint32", np.uint32, "uint64_data"),
    13: ("uint64", np.uint64, "uint64_data"),
    16: ("bfloat16", ml_dtypes.bfloat16, "int32_data"),
}
_OTHER_TYPES = {8: "string", 14: "complex64", 15: "complex128"}


class NotSupported(Exception):  # noqa: N818 - a finding about one node that is collected, not an error that a person sees
    """Valid, but beyond what a graph can express; the importer collects these over the whole file."""


def text(value: str | bytes) -> str:
    """A text field of a file; protocol buffers hand out bytes where it is not UTF-8.

    Raises
    ------
    InvalidModelError
        If it is not.
    """
    if isinstance(value, bytes):
        raise InvalidModelError("a name in it is not UTF-8 text", where=repr(value[:40]), fix=_AGAIN)
    return value


def type_name(code: int) -> str:
    """Name of a TensorProto data type."""
    return _TYPES[code][0] if code in _TYPES else _OTHER_TYPES.get(code, f"type {code}")


def numpy_type(code: int) -> np.dtype[Any]:
    """NumPy type of a TensorProto data type.

    Raises
    ------
    NotSupported
        For strings, complex numbers and the types of fewer than 8 bits.
    """
    if code not in _TYPES:
        raise NotSupported(f"holds {type_name(code)} values")
    dtype: np.dtype[Any] = np.dtype(_TYPES[code][1])
    return dtype


def tensor_value(tensor: Any, folder: Path | None) -> Array:
    """The array of a TensorProto.

    Parameters
    ----------
    tensor : TensorProto
        The stored tensor.
    folder : Path or None
        Where external data may lie; None where none is allowed.

    Raises
    ------
    InvalidModelError
        If shape and data disagree, or external data is missing or outside the folder.
    NotSupported
        If the type is not supported.
    """
    where = f"tensor '{text(tensor.name)}'"
    shape = tuple(tensor.dims)
    if len(shape) > _MAX_RANK or any(extent < 0 for extent in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise InvalidModelError(f"has the impossible shape {list(shape)[:8]}", where=where, fix=_AGAIN)
    dtype = numpy_type(tensor.data_type)
    count = math.prod(shape)
    if tensor.HasField("segment"):
        raise NotSupported("is stored in segments")
    if tensor.data_location == tensor.EXTERNAL:
        raw = _external(tensor, count * dtype.itemsize, folder, where)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        field = getattr(tensor, _TYPES[tensor.data_type][2])
        if len(field) != count:
            raise InvalidModelError(f"holds {len(field)} values for shape {list(shape)}", where=where, fix=_AGAIN)
        return _from_field(field, dtype).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise InvalidModelError(
            f"holds {len(raw)} bytes, its shape {list(shape)} takes {count * dtype.itemsize}",
            where=where,
            fix=_AGAIN,
        )
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _from_field(field: Any, dtype: np.dtype[Any]) -> Array:
    if dtype in (np.float16, ml_dtypes.bfloat16):  # bit patterns in the low 16 bits of an integer
        return np.asarray(field, np.int32).astype(np.uint16).view(dtype)
    return np.asarray(field).astype(dtype)


def _external(tensor: Any, size: int, folder: Path | None, where: str) -> bytes:
    entries = {text(entry.key): text(entry.value) for entry in tensor.external_data}
    location = entries.get("location", "")
    refusal = InvalidModelError(
        f"its external data '{location}' cannot be read from the model's folder",
        where=where,
        fix="keep the data file beside the model, by a relative path",
    )
    if folder is None or not location:
        raise refusal
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", size))
        path = inside(folder, location)
        if not path.is_file():
            raise refusal
        available = path.stat().st_size
        if length != size or offset < 0 or offset + size > available:
            raise InvalidModelError(
                f"takes {size} bytes at {offset}, the file says {length} and '{location}' holds {available}",
                where=where,
                fix=_AGAIN,
            )
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)
    except InvalidModelError:
        raise
    except (LeptonError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise refusal from error


def stored(value: Array) -> Array:
    """The part of a broadcast array that is really in memory: repeated axes cut to extent 1."""
    return value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.strides)] if value.ndim else value


def repeated(value: Array) -> bool:
    """Whether every element is one and the same stored number."""
    return value.size > 0 and stored(value).size == 1


def check_size(elements: int, inputs: Sequence[Array]) -> None:
    """Refuse to write out a constant far larger than what it is made of.

    The largest input counts, not their sum: a chain of constants joined with themselves would double at every step.

    Raises
    ------
    InvalidModelError
        If `elements` exceed both a fixed allowance and the stored elements of the largest of `inputs`.
    """
    if elements > max(_FREE, *(stored(value).size for value in inputs)):
        raise InvalidModelError(f"would fold into a constant of {elements} elements", fix="fold it when the model is exported")


def spread(function: Callable[..., Array], *values: Array) -> Array:
    """Apply an elementwise function with broadcasting, computing each repeated value once.

    Raises
    ------
    InvalidModelError
        If the stored part of the result would be out of proportion to its inputs.
    """
    shape = np.broadcast_shapes(*(value.shape for value in values))
    parts = [stored(value) for value in values]
    check_size(math.prod(np.broadcast_shapes(*(part.shape for part in parts))), values)
    return np.broadcast_to(function(*parts), shape)


def filled(value: float, like: Array) -> Array:
    """One float64 number in the shape of another constant, stored once."""
    return np.broadcast_to(np.float64(value), like.shape)


def as_float32(value: Array) -> Array:
    """A real constant in float32, in row-major order unless it is repeated.

    Raises
    ------
    NotSupported
        If it holds no reals.
    """
    if value.dtype.kind != "f" and value.dtype != ml_dtypes.bfloat16:
        raise NotSupported(f"reads a constant of {value.dtype} where reals are expected")
    if value.dtype != np.float32:
        value = spread(lambda part: part.astype(np.float32), value)
    return value if 0 in value.strides else np.ascontiguousarray(value)
