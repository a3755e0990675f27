"""A sharded program as one StableHLO module that every device of the mesh runs.

``main`` takes and gives whole tensors; Shardy annotations say how they lie on the mesh. Its body is one
``sdy.manual_computation`` with the shapes of one device: nothing is left to a partitioner. On one device there is no mesh, and
the body stands in ``main``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.emit.writer import Writer
from lepton_dse.emit.xla import contraction, elementwise, exchanges, integers, movement, normalisation
from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.types import element_type, tensor_type
from lepton_dse.parallel.layout import Layout
from lepton_dse.schedule.sharded import Compute, Cut, Exchange, Halo, ShardedProgram, Step

__all__ = ["Argument", "Result", "Steps", "arguments", "interpreted_text", "module_text", "recorded_text", "results", "steps_of"]

_RULES = {**elementwise.RULES, **normalisation.RULES, **movement.RULES, **contraction.RULES, **integers.RULES}
_LEVEL = "  "


@dataclass(frozen=True)
class Argument:
    """What ``main`` takes at one position.

    Parameters
    ----------
    shard : str
        In the program.
    source : str
        Input or constant of the whole graph.
    constant : bool
        Whether it is a weight.
    shape : tuple of int
        Of the whole tensor.
    kind : str
        Element type.
    cuts : tuple of tuple of str
        Axes of the mesh that cut each dimension.
    """

    shard: str
    source: str
    constant: bool
    shape: tuple[int, ...]
    kind: str
    cuts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Result:
    """What ``main`` gives at one position: the output of the graph, and as of :class:`Argument`."""

    shard: str
    source: str
    shape: tuple[int, ...]
    kind: str
    cuts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Steps:
    """The text of all steps, and the value that each shard became."""

    lines: tuple[str, ...]
    values: Mapping[str, Value]


def arguments(program: ShardedProgram) -> tuple[Argument, ...]:
    """Inputs in the graph's order, then weights as steps first need them; one that lies in two ways on the mesh stands twice."""
    shards = [(shard, source, False) for source, shard in program.inputs.items()]
    shards += [(shard, source, True) for shard, source in program.constants.items()]
    found = []
    for shard, source, constant in shards:
        tensor = program.graph.tensors[source]
        layout = program.shards[shard].layout
        found.append(Argument(shard, source, constant, tensor.shape, element_type(tensor.format), layout.cuts))
    return tuple(found)


def results(program: ShardedProgram) -> tuple[Result, ...]:
    """Outputs in the graph's order."""
    found = []
    for source, shard in program.outputs.items():
        tensor = program.graph.tensors[source]
        found.append(Result(shard, source, tensor.shape, element_type(tensor.format), program.shards[shard].layout.cuts))
    return tuple(found)


def module_text(program: ShardedProgram) -> str:
    """The module.

    Raises
    ------
    LeptonError
        If a format has no form in StableHLO.
    """
    steps = steps_of(program)
    return _module(program, steps.lines, [steps.values[entry.shard] for entry in results(program)], results(program))


def interpreted_text(program: ShardedProgram) -> str:
    """The module for the reference interpreter of StableHLO, which sums a convolution in the type of its operands: these are
    widened first, and all else is as in :func:`module_text`."""
    steps = steps_of(program, widen=True)
    return _module(program, steps.lines, [steps.values[entry.shard] for entry in results(program)], results(program))


def recorded_text(program: ShardedProgram, lines: Sequence[str], values: Mapping[str, Value]) -> str:
    """A module of the given steps that gives every device's part of every shard: results of shape (devices, ...).

    Parameters
    ----------
    program : ShardedProgram
    lines : sequence of str
        Text of the steps.
    values : mapping of str to Value
        What to give, by shard.
    """
    body = Body("r")
    given, every = [], program.mesh.names
    made = []
    for shard, value in values.items():
        given.append(body.reshape(value, (1, *value.shape)))
        shape = (program.mesh.devices, *value.shape)
        made.append(Result(shard, "", shape, value.kind, (every, *[()] * len(value.shape))))
    return _module(program, [*lines, *body.lines], given, made)


def steps_of(program: ShardedProgram, *, widen: bool = False) -> Steps:
    """The steps as StableHLO, each behind a comment with its name.

    Raises
    ------
    LeptonError
        If a format has no form in StableHLO.
    """
    body = Body(widen=widen)
    values: dict[str, Value] = {}
    for position, entry in enumerate(arguments(program)):
        values[entry.shard] = Value(f"%p{position}", program.shards[entry.shard].tensor.shape, entry.kind)
    for step in program.steps:
        name = step.op.output if isinstance(step, Compute) else step.result
        tensor = program.shards[name].tensor
        value = body.convert(_step(body, program, step, values), element_type(tensor.format))
        assert value.shape == tensor.shape, f"{step} gave {value.shape}"
        values[name] = value
    return Steps(tuple(body.lines), values)


def _step(body: Body, program: ShardedProgram, step: Step, values: Mapping[str, Value]) -> Value:
    mesh = program.mesh
    match step:
        case Compute(op):
            body.remark(f"{op.kind} {op.name}")
            tensors = [program.shards[name].tensor for name in op.inputs]
            operands = [values[name] for name in op.inputs]
            found: Value = _RULES[type(op.attributes)](body, op.attributes, operands, tensors, program.shards[op.output].tensor)
            return found
        case Exchange():
            body.remark(f"{step.kind} over {'+'.join(step.axes)}: {step.source}")
            return exchanges.exchanged(body, step, values[step.source], mesh)
        case Cut():
            body.remark(f"own part over {'+'.join(step.axes)}: {step.source}")
            return exchanges.cut(body, step, values[step.source], mesh)
        case Halo():
            body.remark(f"rows of neighbours over {step.axis}: {step.source}")
            return exchanges.border(body, step, values[step.source], mesh)


# --- around the steps -----------------------------------------------------------------------------------------------


def _module(program: ShardedProgram, lines: Sequence[str], given: Sequence[Value], made: Sequence[Result]) -> str:
    out = Writer(_LEVEL)
    devices = program.mesh.devices
    with out.block(f"module @model attributes {{mhlo.num_partitions = {devices} : i32, mhlo.num_replicas = 1 : i32}} {{"):
        if devices == 1:
            _plain(out, program, lines, given)
        else:
            axes = ", ".join(f'"{name}"={size}' for name, size in program.mesh.axes)
            out.line(f"sdy.mesh @mesh = <[{axes}]>")
            _manual(out, program, lines, given, made)
    return out.text()


def _plain(out: Writer, program: ShardedProgram, lines: Sequence[str], given: Sequence[Value]) -> None:
    taken = ", ".join(
        f"%p{position}: {tensor_type(entry.shape, entry.kind)}" for position, entry in enumerate(arguments(program))
    )
    types = ", ".join(value.type for value in given)
    with out.block(f"func.func public @main({taken}) -> ({types}) {{"):
        out.lines(lines)
        out.line(f"return {', '.join(value.name for value in given)} : {types}")


def _manual(out: Writer, program: ShardedProgram, lines: Sequence[str], given: Sequence[Value], made: Sequence[Result]) -> None:
    entries = arguments(program)
    whole_in = [tensor_type(entry.shape, entry.kind) for entry in entries]
    whole_out = [tensor_type(entry.shape, entry.kind) for entry in made]
    shardings_in, shardings_out = ([_sharding(entry.cuts) for entry in group] for group in (entries, made))
    taken = ",\n    ".join(
        f"%a{position}: {kind} {{sdy.sharding = #sdy.sharding{sharding}}}"
        for position, (kind, sharding) in enumerate(zip(whole_in, shardings_in, strict=True))
    )
    returned = ",\n    ".join(
        f"{kind} {{sdy.sharding = #sdy.sharding{sharding}}}" for kind, sharding in zip(whole_out, shardings_out, strict=True)
    )
    inner = ", ".join(
        f"%p{position}: {tensor_type(program.shards[entry.shard].tensor.shape, entry.kind)}"
        for position, entry in enumerate(entries)
    )
    names = ", ".join(f"%a{position}" for position in range(len(entries)))
    axes = ", ".join(f'"{name}"' for name in program.mesh.names)
    count = f":{len(made)}" if len(made) > 1 else ""
    opening = (
        f"%whole{count} = sdy.manual_computation({names}) in_shardings=[{', '.join(shardings_in)}] "
        f"out_shardings=[{', '.join(shardings_out)}] manual_axes={{{axes}}} ({inner}) {{"
    )
    types = f"({', '.join(whole_in)}) -> {f'({_joined(whole_out)})' if len(whole_out) > 1 else whole_out[0]}"
    with out.block(f"func.func public @main(\n    {taken}\n  ) -> (\n    {returned}\n  ) {{"):
        with out.block(opening, f"}} : {types}"):
            out.lines(lines)
            out.line(f"sdy.return {', '.join(value.name for value in given)} : {', '.join(value.type for value in given)}")
        names = ", ".join(f"%whole#{position}" for position in range(len(made))) if count else "%whole"
        out.line(f"return {names} : {_joined(whole_out)}")


def _joined(types: Sequence[str]) -> str:
    return ", ".join(types)


def _sharding(cuts: Layout | tuple[tuple[str, ...], ...]) -> str:
    entries = cuts.cuts if isinstance(cuts, Layout) else cuts
    dims = ", ".join("{" + ", ".join(f'"{axis}"' for axis in axes) + "}" for axes in entries)
    return f"<@mesh, [{dims}]>"
