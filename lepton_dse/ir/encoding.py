"""Tensors and operations as plain JSON values and back; the base of the graph file and of the content digest."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from enum import Enum
from functools import cache
from typing import Any

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir.ops import ATTRIBUTES, Attributes, Op, Window
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.numerics.quantize import QuantParams

__all__ = ["decode_op", "decode_quant", "decode_tensor", "encode_op", "encode_quant", "encode_tensor"]

Json = dict[str, Any]


def encode_tensor(tensor: Tensor) -> Json:
    """A tensor as a JSON object."""
    encoded: Json = {"name": tensor.name, "shape": list(tensor.shape), "format": str(tensor.format)}
    if tensor.quant is not None:
        encoded["quant"] = encode_quant(tensor.quant)
    return encoded


def decode_tensor(value: Any) -> Tensor:
    """The tensor of a JSON object.

    Raises
    ------
    InvalidModelError
        If a field is missing, unknown or of the wrong type.
    """
    entry = _object(value, {"name", "shape", "format"}, {"quant"}, "tensor")
    quant = None
    if entry.get("quant") is not None:
        quant = decode_quant(entry["quant"])
    shape = _typed(entry["shape"], tuple[int, ...], "shape")
    if any(extent < 0 for extent in shape):
        raise InvalidModelError(f"a negative extent in {list(shape)}", where=str(entry["name"]))
    return Tensor(_typed(entry["name"], str, "name"), shape, NumberFormat.parse(_typed(entry["format"], str, "format")), quant)


def encode_quant(params: QuantParams) -> Json:
    """Scales as a JSON object; a group only where there is one."""
    group = {} if params.group is None else {"group": params.group}
    return {"beta": list(params.beta), "zero": params.zero, "axis": params.axis, **group}


def decode_quant(value: Any) -> QuantParams:
    """The scales of a JSON object.

    Raises
    ------
    InvalidModelError
        If a field is missing, unknown or of the wrong type.
    """
    fields = _object(value, {"beta", "zero", "axis"}, {"group"}, "quant")
    beta = _typed(fields["beta"], tuple[float, ...], "beta")
    axis, group = (_typed(fields.get(name), int | None, name) for name in ("axis", "group"))
    return QuantParams(beta, _typed(fields["zero"], int, "zero"), axis, group)


def encode_op(op: Op) -> Json:
    """An operation as a JSON object."""
    attributes = {field.name: _plain(getattr(op.attributes, field.name)) for field in dataclasses.fields(op.attributes)}
    return {"name": op.name, "kind": op.kind, "attributes": attributes, "inputs": list(op.inputs), "output": op.output}


def decode_op(value: Any) -> Op:
    """The operation of a JSON object.

    Raises
    ------
    InvalidModelError
        If the kind is unknown, or a field is missing, unknown or of the wrong type.
    """
    entry = _object(value, {"name", "kind", "attributes", "inputs", "output"}, set(), "operation")
    name = _typed(entry["name"], str, "name")
    kind = ATTRIBUTES.get(_typed(entry["kind"], str, "kind"))
    if kind is None:
        raise InvalidModelError(f"unknown kind '{entry['kind']}'", where=name, fix=f"known: {', '.join(sorted(ATTRIBUTES))}")
    attributes: Attributes = _record(entry["attributes"], kind, f"{entry['kind']} '{name}'")
    return Op(name, attributes, _typed(entry["inputs"], tuple[str, ...], "inputs"), _typed(entry["output"], str, "output"))


def _plain(value: Any) -> Any:
    if isinstance(value, Window):
        return {field.name: list(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, NumberFormat):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"  # JSON has no infinity
    return value


def _object(value: Any, required: set[str], optional: set[str], what: str) -> Json:
    if not isinstance(value, dict) or not required <= value.keys() <= required | optional:
        raise InvalidModelError(f"a {what} must have exactly the fields {', '.join(sorted(required | optional))}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _record(value: Any, kind: type, where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    entry = _object(value, required, set(fields) - required, where)
    return kind(**{name: _typed(item, _hints(kind)[name], f"{where}: {name}") for name, item in entry.items()})


def _typed(value: Any, hint: Any, where: str) -> Any:
    """Check and convert a JSON value to an annotated type."""
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list):
        element = typing.get_args(hint)[0]
        return tuple(_typed(item, element, where) for item in value)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        return _typed(value, next(option for option in typing.get_args(hint) if option is not type(None)), where)
    if hint is Window:
        return _record(value, Window, where)
    if hint is NumberFormat:
        return NumberFormat.parse(_typed(value, str, where))
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise InvalidModelError(
                f"'{value}' is none of {', '.join(str(option.value) for option in hint)}", where=where
            ) from None
    if hint is float and value in ("inf", "-inf"):
        return float(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise InvalidModelError(f"expected {getattr(hint, '__name__', hint)}, found {type(value).__name__}", where=where)
