"""One ONNX node: its inputs and its attributes, each read by type and accounted for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.values import Array, NotSupported, tensor_value, text

__all__ = ["Node"]

# AttributeProto.AttributeType
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7
_TYPE_NAMES = {
    _FLOAT: "a number",
    _INT: "an integer",
    _STRING: "a text",
    _TENSOR: "a tensor",
    _FLOATS: "a list of numbers",
    _INTS: "a list of integers",
}


class Node:
    """A node of a model file.

    Parameters
    ----------
    proto : NodeProto
        The stored node.
    opset : int
        Version of the operator set that gives it its meaning.
    """

    def __init__(self, proto: Any, opset: int) -> None:
        self.opset = opset
        self.op_type = text(proto.op_type)
        self.domain = text(proto.domain)
        self.inputs = tuple(text(name) for name in proto.input)
        self.outputs = tuple(text(name) for name in proto.output)
        self.name = text(proto.name) or next(filter(None, self.outputs), self.op_type)
        self._attributes = {text(attribute.name): attribute for attribute in proto.attribute}
        self._read: set[str] = set()
        if len(self._attributes) != len(proto.attribute):
            raise InvalidModelError("two attributes share one name", where=self.where)

    @property
    def where(self) -> str:
        """The node for an error message."""
        return f"{self.op_type} '{self.name}'"

    def input(self, index: int) -> str:
        """Name of an input; empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        return name in self._attributes

    def ignore(self, *names: str) -> None:
        """Declare attributes that do not change what inference computes."""
        self._read.update(names)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        attribute = self._get(name, _INT)
        return default if attribute is None else int(attribute.i)

    def real(self, name: str, default: float) -> float:
        """A finite number attribute."""
        attribute = self._get(name, _FLOAT)
        value = default if attribute is None else float(attribute.f)
        if math.isnan(value):
            raise InvalidModelError(f"the attribute '{name}' is not a number", where=self.where)
        return value

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of integers."""
        attribute = self._get(name, _INTS)
        return default if attribute is None else tuple(attribute.ints)

    def reals(self, name: str) -> tuple[float, ...]:
        """A list of numbers that must be there."""
        attribute = self._get(name, _FLOATS)
        return () if attribute is None else tuple(attribute.floats)

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        attribute = self._get(name, _STRING)
        return default if attribute is None else attribute.s.decode("utf-8", "replace")

    def tensor(self, name: str, folder: Path | None) -> Array | None:
        """A tensor attribute; None where it is left out."""
        attribute = self._get(name, _TENSOR)
        return None if attribute is None else tensor_value(attribute.t, folder)

    def finish(self) -> None:
        """Refuse attributes that no one read: they would change the meaning unnoticed.

        Raises
        ------
        NotSupported
            If there is one.
        """
        unknown = sorted(set(self._attributes) - self._read)
        if unknown:
            raise NotSupported(f"has the attribute '{unknown[0]}'")

    def _get(self, name: str, kind: int) -> Any:
        self._read.add(name)
        attribute = self._attributes.get(name)
        if attribute is None:
            return None
        if attribute.ref_attr_name or attribute.type != kind:
            raise InvalidModelError(f"the attribute '{name}' is not {_TYPE_NAMES[kind]}", where=self.where)
        return attribute
