"""The steps of a program as StableHLO, loops as ``while``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.emit.xla import contraction, elementwise, exchanges, integers, movement, normalisation
from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.signature import arguments
from lepton_dse.emit.xla.types import element_type
from lepton_dse.schedule.sharded import (
    Compute,
    Cut,
    Exchange,
    FoldedProgram,
    Halo,
    Loop,
    ShardedProgram,
    Step,
    operands_of,
    result_of,
)

__all__ = ["Rounds", "Steps", "steps_of"]

_RULES = {**elementwise.RULES, **normalisation.RULES, **movement.RULES, **contraction.RULES, **integers.RULES}


@dataclass(frozen=True)
class Rounds:
    """A loop as text: the number of the round inside it, and the value that each step gives there."""

    loop: Loop
    number: Value
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Steps:
    """The text of all steps.

    Parameters
    ----------
    lines : tuple of str
    values : mapping of str to Value
        What each shard outside of loops became, and each that a loop carries on to what stands behind it.
    loops : tuple of Rounds
        In order.
    """

    lines: tuple[str, ...]
    values: Mapping[str, Value]
    loops: tuple[Rounds, ...]

    @property
    def kinds(self) -> set[str]:
        """Element types of all results."""
        inside = [value for rounds in self.loops for value in rounds.values]
        return {value.kind for value in (*self.values.values(), *inside)}


def steps_of(folded: FoldedProgram, *, widen: bool = False) -> Steps:
    """The steps as StableHLO, each behind a comment with its name.

    Raises
    ------
    LeptonError
        If a format has no form in StableHLO.
    """
    program, body = folded.program, Body(widen=widen)
    values: dict[str, Value] = {}
    stacks: dict[tuple[str, ...], Value] = {}
    for position, entry in enumerate(arguments(folded)):
        shape = program.shards[entry.shards[0]].tensor.shape
        if len(entry.shards) > 1:
            stacks[entry.shards] = Value(f"%p{position}", (len(entry.shards), *shape), entry.kind)
        else:
            values[entry.shards[0]] = Value(f"%p{position}", shape, entry.kind)
    loops = []
    for part in folded.parts:
        if isinstance(part, Loop):
            rounds, carried = _loop(body, program, part, values, [stacks[names] for names in part.stacked])
            loops.append(rounds)
            values |= carried
        else:
            values[result_of(part)] = _value(body, program, part, [values[name] for name in operands_of(part)])
    return Steps(tuple(body.lines), values, tuple(loops))


def _loop(
    body: Body, program: ShardedProgram, loop: Loop, values: Mapping[str, Value], stacks: Sequence[Value]
) -> tuple[Rounds, dict[str, Value]]:
    made: list[Value] = []
    numbers: list[Value] = []

    def turn(number: Value, carried: Sequence[Value]) -> list[Value]:
        numbers.append(number)
        if stacks:
            body.remark("weights of the round")
        parts = [body.entry(stack, number) for stack in stacks]
        for place, step in enumerate(loop.body):
            operands = loop.operands(place, made, carried, parts, values)
            made.append(_value(body, program, step, operands))
        return [made[place] for _, place in loop.carried]

    body.remark(f"{loop.count} rounds of {len(loop.body)} steps, named as in the first")
    last = body.loop(loop.count, [values[shard] for shard, _ in loop.carried], turn)
    on = {loop.results(place)[-1]: value for (_, place), value in zip(loop.carried, last, strict=True)}
    return Rounds(loop, numbers[0], tuple(made)), on


def _value(body: Body, program: ShardedProgram, step: Step, operands: Sequence[Value]) -> Value:
    tensor = program.shards[result_of(step)].tensor
    value = body.convert(_step(body, program, step, operands), element_type(tensor.format))
    assert value.shape == tensor.shape, f"{step} gave {value.shape}"
    return value


def _step(body: Body, program: ShardedProgram, step: Step, operands: Sequence[Value]) -> Value:
    mesh = program.mesh
    match step:
        case Compute(op):
            body.remark(f"{op.kind} {op.name}")
            tensors = [program.shards[name].tensor for name in op.inputs]
            output = program.shards[op.output].tensor
            found: Value = _RULES[type(op.attributes)](body, op.attributes, list(operands), tensors, output)
            return found
        case Exchange():
            body.remark(f"{step.kind} over {'+'.join(step.axes)}: {step.source}")
            return exchanges.exchanged(body, step, operands[0], mesh)
        case Cut():
            body.remark(f"own part over {'+'.join(step.axes)}: {step.source}")
            return exchanges.cut(body, step, operands[0], mesh)
        case Halo():
            body.remark(f"rows of neighbours over {step.axis}: {step.source}")
            return exchanges.border(body, step, operands[0], mesh)
