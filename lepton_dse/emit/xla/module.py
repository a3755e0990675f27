"""A sharded program as one StableHLO module that every device of the mesh runs.

``main`` takes and gives whole tensors; Shardy annotations say how they lie on the mesh. Its body is one
``sdy.manual_computation`` with the shapes of one device: nothing is left to a partitioner. On one device there is no mesh, and
the body stands in ``main``.
"""

from __future__ import annotations

from collections.abc import Sequence

from lepton_dse.emit.writer import Writer
from lepton_dse.emit.xla.body import Value
from lepton_dse.emit.xla.signature import Argument, Result, arguments, results
from lepton_dse.emit.xla.steps import Steps, steps_of
from lepton_dse.emit.xla.types import tensor_type
from lepton_dse.parallel.layout import Layout, local_shape
from lepton_dse.schedule.sharded import FoldedProgram, ShardedProgram

__all__ = ["framed", "interpreted_text", "module_text"]

_LEVEL = "  "


def module_text(folded: FoldedProgram) -> str:
    """The module.

    Raises
    ------
    LeptonError
        If a format has no form in StableHLO.
    """
    return _whole(folded, steps_of(folded))


def interpreted_text(folded: FoldedProgram) -> str:
    """The module for the reference interpreter of StableHLO, which sums a convolution in the type of its operands: these are
    widened first, and all else is as in :func:`module_text`."""
    return _whole(folded, steps_of(folded, widen=True))


def _whole(folded: FoldedProgram, steps: Steps) -> str:
    made = results(folded)
    return framed(folded, steps.lines, [steps.values[entry.shard] for entry in made], made)


# --- around the steps -----------------------------------------------------------------------------------------------


def framed(folded: FoldedProgram, lines: Sequence[str], given: Sequence[Value], made: Sequence[Result]) -> str:
    """A module around steps.

    Parameters
    ----------
    folded : FoldedProgram
        Of the steps.
    lines : sequence of str
        Their text.
    given : sequence of Value
        What a device gives at each position.
    made : sequence of Result
        What all together give.
    """
    program, entries = folded.program, arguments(folded)
    out = Writer(_LEVEL)
    devices = program.mesh.devices
    with out.block(f"module @model attributes {{mhlo.num_partitions = {devices} : i32, mhlo.num_replicas = 1 : i32}} {{"):
        if devices == 1:
            _plain(out, entries, lines, given)
        else:
            axes = ", ".join(f'"{name}"={size}' for name, size in program.mesh.axes)
            out.line(f"sdy.mesh @mesh = <[{axes}]>")
            _manual(out, program, entries, lines, given, made)
    return out.text()


def _plain(out: Writer, entries: Sequence[Argument], lines: Sequence[str], given: Sequence[Value]) -> None:
    taken = ", ".join(f"%p{position}: {tensor_type(entry.shape, entry.kind)}" for position, entry in enumerate(entries))
    types = ", ".join(value.type for value in given)
    with out.block(f"func.func public @main({taken}) -> ({types}) {{"):
        out.lines(lines)
        out.line(f"return {', '.join(value.name for value in given)} : {types}")


def _manual(
    out: Writer,
    program: ShardedProgram,
    entries: Sequence[Argument],
    lines: Sequence[str],
    given: Sequence[Value],
    made: Sequence[Result],
) -> None:
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
        f"%p{position}: {tensor_type(local_shape(entry.shape, Layout(entry.cuts), program.mesh), entry.kind)}"
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


def _sharding(cuts: tuple[tuple[str, ...], ...]) -> str:
    dims = ", ".join("{" + ", ".join(f'"{axis}"' for axis in axes) + "}" for axes in cuts)
    return f"<@mesh, [{dims}]>"
