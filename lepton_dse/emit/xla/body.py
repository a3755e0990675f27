"""Collects StableHLO operations in static single assignment: a fresh name a value, types always stated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lepton_dse.emit.writer import comment
from lepton_dse.emit.xla.types import NARROW_FLOATS, dense, is_float, number, tensor_type

__all__ = ["Body", "Value"]


@dataclass(frozen=True)
class Value:
    """A result: its name, shape and element type."""

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def type(self) -> str:
        """The tensor type."""
        return tensor_type(self.shape, self.kind)


class Body:
    """Operations in order.

    Parameters
    ----------
    stem : str
        What names begin with, so that those of two bodies never meet.
    widen : bool
        Whether operands of contractions are widened to the type of the sum first.
    """

    def __init__(self, stem: str = "v", *, widen: bool = False) -> None:
        self.lines: list[str] = []
        self.widen = widen
        self._stem = stem
        self._count = 0

    def remark(self, text: str) -> None:
        """A comment, whatever the text holds."""
        self.lines.append(f"// {comment(text)}")

    def emit(self, text: str, shape: tuple[int, ...], kind: str) -> Value:
        """One operation whose text is complete but for the name of its result."""
        value = Value(f"%{self._stem}{self._count}", shape, kind)
        self._count += 1
        self.lines += f"{value.name} = {text}".split("\n")
        return value

    # --- elements ---------------------------------------------------------------------------------------------------

    def apply(self, operation: str, *operands: Value) -> Value:
        """An elementwise operation on operands of one type; ``operation`` is its name in StableHLO."""
        names = ", ".join(operand.name for operand in operands)
        first = operands[0]
        return self.emit(f"stablehlo.{operation} {names} : {first.type}", first.shape, first.kind)

    def convert(self, value: Value, kind: str) -> Value:
        """The same numbers in another type."""
        if value.kind == kind:
            return value
        return self.emit(
            f"stablehlo.convert {value.name} : ({value.type}) -> {tensor_type(value.shape, kind)}", value.shape, kind
        )

    def real(self, value: Value) -> Value:
        """Narrow floats in float32, in which they are computed with; wider ones as they are."""
        return self.convert(value, "f32") if value.kind in NARROW_FLOATS else value

    def compare(self, relation: str, a: Value, b: Value) -> Value:
        """Truth values of ``a relation b``; EQ, NE, LT, LE, GT or GE."""
        how = "FLOAT" if is_float(a.kind) else "SIGNED" if a.kind[0] == "i" and a.kind != "i1" else "UNSIGNED"
        text = f"stablehlo.compare {relation}, {a.name}, {b.name}, {how} : ({a.type}, {b.type}) -> {tensor_type(a.shape, 'i1')}"
        return self.emit(text, a.shape, "i1")

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """`a` where the condition holds, else `b`; the condition has their shape, or none."""
        return self.emit(f"stablehlo.select {condition.name}, {a.name}, {b.name} : {condition.type}, {a.type}", a.shape, a.kind)

    def erf(self, value: Value) -> Value:
        """The error function, which CHLO defines."""
        return self.emit(f"chlo.erf {value.name} : {value.type} -> {value.type}", value.shape, value.kind)

    # --- constants ---------------------------------------------------------------------------------------------------

    def splat(self, value: float, shape: tuple[int, ...], kind: str) -> Value:
        """One number everywhere."""
        return self.emit(f"stablehlo.constant dense<{number(value, kind)}> : {tensor_type(shape, kind)}", shape, kind)

    def like(self, value: Value, constant: float) -> Value:
        """One number in the shape and type of a value."""
        return self.splat(constant, value.shape, value.kind)

    def constant(self, value: NDArray[Any], kind: str) -> Value:
        """An array."""
        return self.emit(f"stablehlo.constant {dense(value, kind)} : {tensor_type(value.shape, kind)}", value.shape, kind)

    # --- shapes ------------------------------------------------------------------------------------------------------

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The same elements in row-major order."""
        if value.shape == shape:
            return value
        text = f"stablehlo.reshape {value.name} : ({value.type}) -> {tensor_type(shape, value.kind)}"
        return self.emit(text, shape, value.kind)

    def broadcast(self, value: Value, shape: tuple[int, ...], dims: Sequence[int] | None = None) -> Value:
        """Repeated to a shape; axis i becomes axis ``dims[i]``, by NumPy's rule where they are not given."""
        if value.shape == shape:
            return value
        offset = len(shape) - len(value.shape)
        places = list(range(offset, len(shape))) if dims is None else list(dims)
        text = f"stablehlo.broadcast_in_dim {value.name}, dims = {places} : ({value.type}) -> {tensor_type(shape, value.kind)}"
        return self.emit(text, shape, value.kind)

    def transpose(self, value: Value, permutation: Sequence[int]) -> Value:
        """Axes in another order."""
        shape = tuple(value.shape[axis] for axis in permutation)
        text = (
            f"stablehlo.transpose {value.name}, dims = {list(permutation)} : ({value.type}) -> {tensor_type(shape, value.kind)}"
        )
        return self.emit(text, shape, value.kind)

    def slice(self, value: Value, begin: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None) -> Value:
        """Elements from `begin` to before `end` in positive steps."""
        steps = [1] * len(value.shape) if step is None else list(step)
        fields = list(zip(begin, end, steps, strict=True))
        shape = tuple(-((first - last) // stride) for first, last, stride in fields)
        if shape == value.shape:
            return value
        ranges = ", ".join(f"{first}:{last}:{stride}" for first, last, stride in fields)
        text = f"stablehlo.slice {value.name} [{ranges}] : ({value.type}) -> {tensor_type(shape, value.kind)}"
        return self.emit(text, shape, value.kind)

    def concatenate(self, values: Sequence[Value], axis: int) -> Value:
        """Joined along an axis."""
        if len(values) == 1:
            return values[0]
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        names, types = ", ".join(value.name for value in values), ", ".join(value.type for value in values)
        kind = values[0].kind
        text = f"stablehlo.concatenate {names}, dim = {axis} : ({types}) -> {tensor_type(tuple(shape), kind)}"
        return self.emit(text, tuple(shape), kind)

    def reverse(self, value: Value, axes: Sequence[int]) -> Value:
        """Axes backwards."""
        return self.emit(f"stablehlo.reverse {value.name}, dims = {list(axes)} : {value.type}", value.shape, value.kind)

    def pad(self, value: Value, fill: float, low: Sequence[int], high: Sequence[int]) -> Value:
        """Padded with one number; negative widths crop."""
        if not any(low) and not any(high):
            return value
        filling = self.splat(fill, (), value.kind)
        shape = tuple(extent + before + after for extent, before, after in zip(value.shape, low, high, strict=True))
        inside = [0] * len(shape)
        text = (
            f"stablehlo.pad {value.name}, {filling.name}, low = {list(low)}, high = {list(high)}, interior = {inside}"
            f" : ({value.type}, {filling.type}) -> {tensor_type(shape, value.kind)}"
        )
        return self.emit(text, shape, value.kind)

    # --- along axes ---------------------------------------------------------------------------------------------------

    def reduce(self, operation: str, value: Value, initial: float, axes: Sequence[int], *, keep: bool = False) -> Value:
        """Elements along axes brought together; the axes vanish, or stay with extent 1."""
        start = self.splat(initial, (), value.kind)
        shape = tuple(extent for axis, extent in enumerate(value.shape) if axis not in axes)
        text = (
            f"stablehlo.reduce({value.name} init: {start.name}) applies stablehlo.{operation} across dimensions = {sorted(axes)}"
            f" : ({value.type}, {start.type}) -> {tensor_type(shape, value.kind)}"
        )
        found = self.emit(text, shape, value.kind)
        kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(value.shape))
        return self.reshape(found, kept) if keep else found

    def region(self, operation: str, kind: str) -> str:
        """A region that brings two elements together, indented to stand in an operation."""
        scalar, stem = tensor_type((), kind), f"{self._stem}{self._count}"
        return (
            f"({{\n  ^bb0(%{stem}a: {scalar}, %{stem}b: {scalar}):\n"
            f"    %{stem}c = stablehlo.{operation} %{stem}a, %{stem}b : {scalar}\n"
            f"    stablehlo.return %{stem}c : {scalar}\n}})"
        )

    # --- rounds -------------------------------------------------------------------------------------------------------

    def loop(
        self, count: int, initial: Sequence[Value], turn: Callable[[Value, Sequence[Value]], Sequence[Value]]
    ) -> list[Value]:
        """What the last of some rounds hands on.

        Parameters
        ----------
        count : int
        initial : sequence of Value
            What the first round is handed.
        turn : callable
            Emits a round: given its number and what it is handed, what it hands on.
        """
        start, end, one = (self.splat(value, (), "i32") for value in (0, count, 1))
        name = f"%{self._stem}{self._count}"
        self._count += 1
        outer = [start, *initial]
        inner = [Value(f"{name}i{position}", value.shape, value.kind) for position, value in enumerate(outer)]
        types = ", ".join(value.type for value in outer)
        handed = ", ".join(f"{into.name} = {value.name}" for into, value in zip(inner, outer, strict=True))
        self.lines += [f"{name}:{len(outer)} = stablehlo.while({handed}) : {types}", "cond {"]
        with self._deeper():
            more = self.compare("LT", inner[0], end)
            self.lines.append(f"stablehlo.return {more.name} : {more.type}")
        self.lines.append("} do {")
        with self._deeper():
            made = turn(inner[0], inner[1:])
            going = [self.apply("add", inner[0], one), *made]
            self.lines.append(f"stablehlo.return {', '.join(value.name for value in going)} : {types}")
        self.lines.append("}")
        return [Value(f"{name}#{position}", value.shape, value.kind) for position, value in enumerate(outer)][1:]

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        begin = len(self.lines)
        yield
        self.lines[begin:] = [f"  {line}" for line in self.lines[begin:]]

    def entry(self, stack: Value, number: Value) -> Value:
        """An entry along the first axis, by its number, which is a value."""
        zero = self.splat(0, (), number.kind)
        sizes, rank = [1, *stack.shape[1:]], len(stack.shape)
        starts = ", ".join([number.name, *[zero.name] * (rank - 1)])
        types = ", ".join([stack.type, *[number.type] * rank])
        text = f"stablehlo.dynamic_slice {stack.name}, {starts}, sizes = {sizes} : ({types}) -> "
        found = self.emit(text + tensor_type(tuple(sizes), stack.kind), tuple(sizes), stack.kind)
        return self.reshape(found, stack.shape[1:])

    def with_entry(self, stack: Value, entry: Value, number: Value) -> Value:
        """A stack in which one entry along the first axis is another."""
        zero = self.splat(0, (), number.kind)
        part = self.reshape(entry, (1, *entry.shape))
        starts = ", ".join([number.name, *[zero.name] * len(entry.shape)])
        types = ", ".join([stack.type, part.type, *[number.type] * len(stack.shape)])
        text = f"stablehlo.dynamic_update_slice {stack.name}, {part.name}, {starts} : ({types}) -> {stack.type}"
        return self.emit(text, stack.shape, stack.kind)
