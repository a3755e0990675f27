"""Loops among the steps of a program: written out again they are the steps, and what must not be a loop is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.ops import Op
from lepton_dse.parallel.layout import Mesh
from lepton_dse.schedule.sharded import Compute, FoldedProgram, Loop, Step, fold, operands_of, result_of, unshared_program
from lepton_dse.schedule.sharded.folding import Fixed
from tests.emit.xla_networks import integers, lowered, residual, transformer
from tests.emit.xla_programs import randomly_shared


def renamed(step: Step, operands: list[str]) -> Step:
    if isinstance(step, Compute):
        return Compute(Op(step.op.name, step.op.attributes, tuple(operands), step.op.output))
    return dataclasses.replace(step, source=operands[0])


def written_out(folded: FoldedProgram) -> list[Step]:
    """The steps again: operands of loops by where the loop says that they come from, and by nothing else."""
    program = folded.program
    stacked = {shard for loop in folded.loops for names in loop.stacked for shard in names}
    known = {name: name for name in (*program.inputs.values(), *program.constants) if name not in stacked}
    steps: list[Step] = []
    for part in folded.parts:
        if not isinstance(part, Loop):
            steps.append(renamed(part, [known[name] for name in operands_of(part)]))
            known[result_of(part)] = result_of(part)
            continue
        carried = [known[shard] for shard, _ in part.carried]
        for turn, own in enumerate(part.rounds):
            made: list[str] = []
            for place, step in enumerate(own):
                parts = [names[turn] for names in part.stacked]
                steps.append(renamed(step, part.operands(place, made, carried, parts, known)))
                made.append(result_of(step))
            carried = [made[place] for _, place in part.carried]
        known |= {name: name for name in carried}
    assert all(known[name] == name for name in program.outputs.values())
    return steps


def shapes(folded: FoldedProgram) -> list[tuple[int, int, int]]:
    """Rounds, steps of a round and what is carried, of every loop."""
    return [(loop.count, len(loop.body), len(loop.carried)) for loop in folded.loops]


@st.composite
def towers(draw: st.DrawFn) -> Graph:
    """Blocks that are alike, but for what is drawn: another function, a result that is read later, a weight of two blocks."""
    builder = GraphBuilder("tower")
    x = builder.input("x", (4, 8))
    fixed = builder.add(ops.Tanh(), [x], output="fixed", name="fixed") if draw(st.booleans()) else x
    blocks, width = draw(st.integers(3, 9)), draw(st.integers(2, 5))
    odd, seen = draw(st.integers(0, 11)), draw(st.integers(0, 11))
    kinds = [draw(st.sampled_from(["dense", "shared", "skip", "fixed", "own", "gelu"])) for _ in range(width)]
    outputs = []
    common = builder.constant("common", np.ones((8, 8), np.float32))
    for number in range(blocks):
        before = x
        for place, kind in enumerate(kinds):
            name = f"{number}.{place}"
            if kind in ("dense", "shared"):
                weight = common
                if kind == "dense":
                    weight = builder.constant(f"{name}.w", np.full((8, 8), number, np.float32))
                x = builder.add(ops.MatMul(), [x, weight], output=name, name=name)
            elif kind == "gelu":
                x = builder.add(ops.Gelu(approximate=number == odd), [x], output=name, name=name)
            else:
                other = {"skip": before, "fixed": fixed, "own": x}[kind]
                x = builder.add(ops.Add(), [x, other], output=name, name=name)
        if number == seen:
            outputs.append(x)
    return builder.build(list(dict.fromkeys([*outputs, x])))


@settings(deadline=None, max_examples=150)
@given(towers(), st.sampled_from(["x=1", "x=2", "x=2,y=2"]), st.integers(0, 99))
def test_written_out_a_folded_program_is_its_steps(graph: Graph, mesh: str, seed: int) -> None:
    program = randomly_shared(graph, Mesh.parse(mesh), seed, alike=True)
    folded = fold(program)
    assert tuple(written_out(folded)) == program.steps
    for loop in folded.loops:
        assert loop.count >= 4
        assert (loop.count - 1) * len(loop.body) >= 16
    assert fold(program) == folded


@pytest.mark.parametrize("mesh", ["x=1", "x=2", "x=2,y=2"])
@pytest.mark.parametrize("seed", range(4))
def test_shared_networks_are_their_steps_again(mesh: str, seed: int) -> None:
    for graph in (transformer(layers=7), residual(blocks=7), integers()):
        folded = fold(randomly_shared(graph, Mesh.parse(mesh), seed, alike=True))
        assert tuple(written_out(folded)) == folded.program.steps
        assert len(folded.parts) < 0.7 * len(folded.program.steps)


def test_layers_of_a_transformer_are_one_loop() -> None:
    folded = fold(unshared_program(transformer(layers=32)))
    assert shapes(folded) == [(32, 23, 1)]
    assert folded.parts == folded.loops
    assert len(folded.loops[0].stacked) == 17
    assert shapes(fold(unshared_program(residual()))) == [(5, 5, 1)]
    assert shapes(fold(unshared_program(integers()))) == [(8, 3, 1)]


def test_few_rounds_and_short_ones_are_written_out() -> None:
    assert fold(unshared_program(transformer(layers=3))).loops == ()
    assert fold(unshared_program(integers(layers=6))).loops == ()


def test_layers_with_scales_of_their_own_are_written_out() -> None:
    assert fold(unshared_program(lowered(transformer(layers=5), "int8"))).loops == ()
    assert shapes(fold(unshared_program(lowered(transformer(layers=5), "bfloat16"))))[0][0] == 5


def chain(weights: list[int], seen: int = -1, odd: int = -1) -> Graph:
    """A block of six steps for each weight, by its number; one block's result is an output, and one's function is another."""
    builder = GraphBuilder("chain")
    x = builder.input("x", (4, 8))
    names = {number: builder.constant(f"w{number}", np.full((8, 8), number, np.float32)) for number in dict.fromkeys(weights)}
    outputs = []
    for number, weight in enumerate(weights):
        before = x
        x = builder.add(ops.MatMul(), [x, names[weight]], output=f"{number}.a")
        for place in range(3):
            x = builder.add(ops.Gelu(approximate=number == odd), [x], output=f"{number}.g{place}")
        x = builder.add(ops.Add(), [x, before], output=f"{number}.s")
        x = builder.add(ops.Tanh(), [x], output=f"{number}.t")
        if number == seen:
            outputs.append(x)
    return builder.build([*outputs, x])


def test_a_result_that_is_read_later_ends_its_loop() -> None:
    assert shapes(fold(unshared_program(chain(list(range(12)))))) == [(12, 6, 1)]
    folded = fold(unshared_program(chain(list(range(12)), seen=4)))
    assert shapes(folded) == [(5, 6, 1), (7, 6, 1)]
    assert tuple(written_out(folded)) == folded.program.steps


def test_an_odd_block_parts_two_loops() -> None:
    folded = fold(unshared_program(chain(list(range(11)), odd=5)))
    assert [count for count, _, _ in shapes(folded)] == [5, 5]


def test_a_weight_of_all_rounds_stands_once() -> None:
    (loop,) = fold(unshared_program(chain([0] * 6))).loops
    assert loop.stacked == ()
    assert Fixed("w0.0") in loop.sources[0]


def test_a_weight_of_two_rounds_keeps_them_apart() -> None:
    folded = fold(unshared_program(chain([0, 1, 2, 3, 0, 5, 6, 7, 8])))
    stacked = [name for loop in folded.loops for names in loop.stacked for name in names]
    assert len(stacked) == len(set(stacked)) > 0
    assert "w0.0" not in stacked
    assert tuple(written_out(folded)) == folded.program.steps
