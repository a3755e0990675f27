"""What every rule for a C++ loop nest is made of: buffers, indices, loops, and the two commonest forms of a nest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.ir.loops import Access, Affine, Loop
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.schedule.program import Step

__all__ = [
    "Context",
    "affine",
    "ctype",
    "float_literal",
    "guard",
    "linear",
    "loops",
    "operand",
    "pointwise",
    "reduce",
    "split",
    "strides",
    "target",
]


@dataclass(frozen=True)
class Context:
    """What a rule writes with: the writer, the step, and the C++ identifier of each tensor's buffer."""

    out: Writer
    step: Step
    identifiers: dict[str, str]

    def read(self, position: int, index: str) -> str:
        """An element of the operand at `position`."""
        return f"{self.identifiers[self.step.reads[position].name]}[{index}]"

    def write(self, index: str) -> str:
        """An element of the result."""
        return f"{self.identifiers[self.step.write.name]}[{index}]"


def ctype(form: NumberFormat) -> str:
    """The C++ type that stores a format.

    Raises
    ------
    LeptonError
        For float formats other than float32 and float64, which standard C++17 does not have.
    """
    names = {"float32": "float", "float64": "double", "bool": "bool"}
    if form.is_integer and str(form) != "bool":
        return f"{form.numpy.name}_t"
    if str(form) not in names:
        raise LeptonError(f"C++17 has no {form}", fix="plan with an integer format or float32")
    return names[str(form)]


def float_literal(value: float) -> str:
    """A float32 literal that reads back as the same number."""
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{float(value).hex()}f"


def affine(index: Affine) -> str:
    """An index as an expression."""
    parts = [name if coefficient == 1 else f"{name} * {coefficient}" for name, coefficient in index.terms]
    if index.offset or not parts:
        parts.append(str(index.offset))
    return " + ".join(parts).replace("+ -", "- ")


def strides(shape: Sequence[int]) -> list[int]:
    """Elements from one index to the next along each axis, row-major."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def linear(access: Access, tensor: Tensor) -> str:
    """Place of an access in row-major order."""
    terms = []
    for index, stride, extent in zip(access.indices, strides(tensor.shape), tensor.shape, strict=True):
        if extent == 1 and index.offset == 0 and len(index.terms) <= 1:
            continue  # the only index there is: its loop runs once
        text = affine(index)
        if stride != 1:
            text = f"({text}) * {stride}" if len(index.terms) + bool(index.offset) > 1 else f"{text} * {stride}"
        terms.append(text)
    return " + ".join(terms) or "0"


def guard(access: Access, tensor: Tensor, around: Sequence[Loop]) -> str:
    """Condition under which every index lies inside the tensor; empty if it always does."""
    extents = {loop.name: loop.extent for loop in around}
    conditions = []
    for index, extent in zip(access.indices, tensor.shape, strict=True):
        ends = [coefficient * (extents[name] - 1) for name, coefficient in index.terms]
        if index.offset + sum(min(end, 0) for end in ends) < 0:
            conditions.append(f"{affine(index)} >= 0")
        if index.offset + sum(max(end, 0) for end in ends) >= extent:
            conditions.append(f"{affine(index)} < {extent}")
    return " && ".join(conditions)


def loops(context: Context, stack: ExitStack, around: Sequence[Loop]) -> None:
    """Open loops that close with `stack`."""
    for loop in around:
        name = loop.name
        stack.enter_context(context.out.block(f"for (int {name} = 0; {name} < {loop.extent}; ++{name}) {{"))


def split(step: Step) -> tuple[list[Loop], list[Loop]]:
    """Loops of the result, and loops that are summed over."""
    outer = [loop for loop in step.nest.loops if not loop.reduction]
    return outer, [loop for loop in step.nest.loops if loop.reduction]


def target(context: Context) -> str:
    """The element that the nest writes."""
    assert context.step.nest.write is not None, "views are not steps"
    return context.write(linear(context.step.nest.write, context.step.write))


def operand(context: Context, position: int) -> str:
    """The element that the nest reads of the operand at `position`."""
    step = context.step
    return context.read(position, linear(step.nest.reads[position], step.reads[position]))


def reduce(context: Context, start: str, body: Callable[[str], str], result: str) -> None:
    """The nest of a reduction of the first operand: `start`, then `body` for every element, then `result` is written."""
    step = context.step
    outer, inner = split(step)
    with ExitStack() as stack:
        loops(context, stack, outer)
        context.out.line(start)
        with ExitStack() as reduction:
            loops(context, reduction, inner)
            inside = guard(step.nest.reads[0], step.reads[0], step.nest.loops)
            text = body(operand(context, 0))
            context.out.line(f"if ({inside}) {text}" if inside else text)
        context.out.line(f"{target(context)} = {result};")


def pointwise(expression: Callable[[Context], str]) -> Callable[[Context], None]:
    """The rule that writes an expression to every element of the result."""

    def rule(context: Context) -> None:
        with ExitStack() as stack:
            loops(context, stack, context.step.nest.loops)
            context.out.line(f"{target(context)} = static_cast<{ctype(context.step.write.format)}>({expression(context)});")

    return rule
