"""A module of given steps that hands out every device's part of every result.

Results of loops are kept round by round: each gets a place in what the loop hands on, along a new first axis.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.module import framed
from lepton_dse.emit.xla.signature import Result
from lepton_dse.emit.xla.steps import Rounds, steps_of
from lepton_dse.errors import LeptonError
from lepton_dse.schedule.sharded import FoldedProgram, Loop, result_of

__all__ = ["Recorded", "recorded"]

_OPENING = re.compile(r"(%\w+):(\d+) = stablehlo\.while\((.*)\) : (.*)")
_RETURN = re.compile(r"stablehlo\.return (.*) : (.*)")


@dataclass(frozen=True)
class Recorded:
    """The module, what it gives, and of which shards: one, or those of all rounds, one behind another after the devices."""

    text: str
    results: tuple[Result, ...]
    shards: tuple[tuple[str, ...], ...]


def recorded(folded: FoldedProgram, lines: Sequence[str]) -> Recorded:
    """A module of the given steps.

    Parameters
    ----------
    folded : FoldedProgram
    lines : sequence of str
        Text of the steps, without indentation.

    Raises
    ------
    LeptonError
        If the text does not have the loops of the program.
    """
    steps, body = steps_of(folded), Body("r")
    lines = list(lines)
    values: list[tuple[tuple[str, ...], Value]] = []
    opened = 0
    for number, rounds in enumerate(steps.loops):
        opened = next((place for place in range(opened, len(lines)) if _OPENING.fullmatch(lines[place])), len(lines))
        if opened == len(lines):
            raise LeptonError(f"loop {number} is missing")
        changed, kept = _keeping(lines, opened, rounds, Body(f"k{number}_"))
        values += [(rounds.loop.results(place), value) for place, value in enumerate(kept)]
        opened += len(changed) - len(lines) + 1
        lines = changed
    outside = [result_of(part) for part in folded.parts if not isinstance(part, Loop)]
    values = [*(((name,), steps.values[name]) for name in outside), *values]
    devices, given, made = folded.program.mesh, [], []
    for names, value in values:
        given.append(body.reshape(value, (1, *value.shape)))
        cuts = (devices.names, *[()] * len(value.shape))
        made.append(Result(names[0], "", (devices.devices, *value.shape), value.kind, cuts))
    text = framed(folded, [*lines, *body.lines], given, made)
    return Recorded(text, tuple(made), tuple(names for names, _ in values))


def _keeping(lines: list[str], opened: int, rounds: Rounds, body: Body) -> tuple[list[str], list[Value]]:
    """The lines with every result of a loop kept round by round, and what is kept."""
    match = _OPENING.fullmatch(lines[opened])
    turned = next((place for place in range(opened, len(lines)) if lines[place] == "} do {"), len(lines))
    closed = next((place for place in range(turned, len(lines)) if lines[place] == "}"), len(lines))
    last = _RETURN.fullmatch(lines[closed - 1])
    if match is None or last is None:
        raise LeptonError("a loop does not end")
    count, name, before = rounds.loop.count, match[1], int(match[2])
    empty = [body.splat(0, (count, *value.shape), value.kind) for value in rounds.values]
    head, body.lines = body.lines, []
    inner = [Value(f"{stack.name}in", stack.shape, stack.kind) for stack in empty]
    kept = [body.with_entry(stack, value, rounds.number) for stack, value in zip(inner, rounds.values, strict=True)]
    types = ", ".join(stack.type for stack in empty)
    handed = ", ".join(f"{into.name} = {stack.name}" for into, stack in zip(inner, empty, strict=True))
    opening = f"{name}:{before + len(empty)} = stablehlo.while({match[3]}, {handed}) : {match[4]}, {types}"
    ending = f"stablehlo.return {last[1]}, {', '.join(value.name for value in kept)} : {last[2]}, {types}"
    changed = [*lines[:opened], *head, opening, *lines[opened + 1 : closed - 1], *body.lines, ending, *lines[closed:]]
    return changed, [Value(f"{name}#{before + place}", stack.shape, stack.kind) for place, stack in enumerate(empty)]
