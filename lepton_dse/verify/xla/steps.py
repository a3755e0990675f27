"""How far each step of a sharded program may be from its definition, and whether a run that was recorded stays within.

=============  =========================================================================================================
u              2**-24, the rounding of float32
unit           of a narrow float: the distance of two neighbours relative to their size
=============  =========================================================================================================

Integers, truth values and what is moved are equal. The bounds of :mod:`lepton_dse.verify.real_arithmetic` hold for sums and
library functions; elementwise arithmetic on reals gets 4 u of the sizes that it adds, since the compiler contracts a product and
a sum into one rounding. A result stored in a narrow float may besides fall to the next one. A sum over n devices is off by at
most n units of the sum of absolute values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.parallel.collectives import Collective
from lepton_dse.reference import fast
from lepton_dse.schedule.sharded import Compute, Exchange, ShardedProgram, Step, result_of
from lepton_dse.sim.sharded import joined, placed, run_step
from lepton_dse.verify.real_arithmetic import local_bound

__all__ = ["Judged", "allowed", "defined", "judge", "step_bound"]

Array = NDArray[Any]
_ROUNDINGS = 4 * 2.0**-24
_ARITHMETIC = (
    ops.Add
    | ops.Affine
    | ops.Binary
    | ops.Dequantize
    | ops.Gelu
    | ops.LeakyRelu
    | ops.LocalResponseNorm
    | ops.Sigmoid
    | ops.Softmax
    | ops.Tanh
    | ops.Unary
)
_DIRECTIONS = 4  # passes of which each result is off by its bound
_MARGIN = 4
_SUBNORMAL = 2.0**-9  # the widest distance of neighbours around zero among the floats there are, that of float8_e4m3


@dataclass(frozen=True)
class Judged:
    """One step: the shard that it gives, how many elements lie beyond their bound, and the first of them for a person."""

    shard: str
    wrong: int
    first: str


def defined(step: Step, program: ShardedProgram, held: Mapping[str, list[Array]]) -> list[Array]:
    """What a step means, on every device; sums of products on the fast paths of the reference, which are exact on integers."""
    if not isinstance(step, Compute):
        return run_step(step, program, held)
    output = program.shards[step.op.output].tensor
    tensors = [program.shards[name].tensor for name in step.op.inputs]
    return [
        fast.evaluate(step.op, [held[name][device] for name in step.op.inputs], output, tensors)
        for device in range(program.mesh.devices)
    ]


def step_bound(step: Step, program: ShardedProgram, held: Mapping[str, list[Array]]) -> list[NDArray[np.float64] | float]:
    """How far a step's result may be from its definition, on every device."""
    tensor = program.shards[result_of(step)].tensor
    if not tensor.format.is_float:
        return [0.0] * program.mesh.devices
    if isinstance(step, Compute):
        tensors = [program.shards[name].tensor for name in step.op.inputs]
        return [
            _op_bound(step.op, [held[name][device] for name in step.op.inputs], tensor, tensors)
            for device in range(program.mesh.devices)
        ]
    if isinstance(step, Exchange) and step.kind in (Collective.ALL_REDUCE, Collective.REDUCE_SCATTER):
        sizes = {step.source: [np.abs(value.astype(np.float64)) for value in held[step.source]]}
        count = program.mesh.size(step.axes)
        return [count * _unit(tensor) * total for total in run_step(step, program, sizes)]
    return [0.0] * program.mesh.devices


def _op_bound(op: Op, inputs: Sequence[Array], output: Tensor, tensors: Sequence[Tensor]) -> NDArray[np.float64] | float:
    operands = {tensor.name: tensor for tensor in tensors}
    graph = LoweredGraph("", [*operands.values(), output], [op], list(operands), [output.name], {})
    wide = [value.astype(np.float32) if _is_narrow(tensor) else value for value, tensor in zip(inputs, tensors, strict=True)]
    found: NDArray[np.float64] | float = local_bound(graph, op, wide, output, tensors)
    size = np.abs(fast.evaluate(op, list(inputs), output, list(tensors)).astype(np.float64))
    if isinstance(op.attributes, _ARITHMETIC):
        found = found + _ROUNDINGS * (size + _added(op, wide, output, tensors))
    if np.any(np.asarray(found)) and _is_narrow(output):
        found = found + _unit(output) * size + _SUBNORMAL
    return found


def _added(op: Op, wide: Sequence[Array], output: Tensor, tensors: Sequence[Tensor]) -> NDArray[np.float64] | float:
    """Sizes of what an elementwise operation adds."""
    if not isinstance(op.attributes, ops.Add | ops.Affine):
        return 0.0
    sizes = [np.abs(value).astype(np.float64) for value in wide]
    exact = Tensor(output.name, output.shape)
    return np.abs(fast.evaluate(op, sizes, exact, list(tensors)).astype(np.float64))


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.format.is_float and tensor.format.bits < 32


def _unit(tensor: Tensor) -> float:
    return 2.0**-tensor.format.fraction if _is_narrow(tensor) else 2.0**-23


# --- a recorded run -------------------------------------------------------------------------------------------------


def judge(program: ShardedProgram, feeds: Mapping[str, Array], recorded: Mapping[str, list[Array]]) -> list[Judged]:
    """Every recorded step beside what its definition makes of the recorded operands.

    Parameters
    ----------
    program : ShardedProgram
    feeds : mapping of str to ndarray
        The whole inputs.
    recorded : mapping of str to list of ndarray
        By shard, the part of each device.
    """
    held = {**placed(program, feeds), **recorded}
    return [_judged(step, program, held) for step in program.steps]


def _judged(step: Step, program: ShardedProgram, held: Mapping[str, list[Array]]) -> Judged:
    name = result_of(step)
    wrong, first = 0, ""
    for device, (expected, bound) in enumerate(zip(defined(step, program, held), step_bound(step, program, held), strict=True)):
        beyond = ~_within(expected, held[name][device].reshape(expected.shape), bound)
        if beyond.any() and not wrong:
            place = tuple(int(axis[0]) for axis in np.nonzero(beyond))
            first = f"element {list(place)} on device {device} is {held[name][device][place]}, expected {expected[place]}"
        wrong += int(np.count_nonzero(beyond))
    return Judged(name, wrong, first)


def _within(expected: Array, observed: Array, bound: NDArray[np.float64] | float) -> NDArray[np.bool_]:
    if expected.dtype.kind in "iub":
        found: NDArray[np.bool_] = expected == observed
        return found
    wide, seen = expected.astype(np.float64), observed.astype(np.float64)
    with np.errstate(invalid="ignore"):  # equal infinities have no difference
        same = (wide == seen) | (np.isnan(wide) & np.isnan(seen))
        near: NDArray[np.bool_] = same | (np.abs(wide - seen) <= bound)
    return near


# --- a whole pass ---------------------------------------------------------------------------------------------------


def allowed(program: ShardedProgram, feeds: Mapping[str, Array], seed: int = 0) -> dict[str, float]:
    """How far the outputs of a pass may be off: 0 where every step is exact.

    Local bounds grow on their way through a network, and by how much is the network's own. So a few passes are taken in which
    every result is off by its bound, up or down at random (J. Vignes, "A stochastic arithmetic for reliable scientific
    computation", Math. Comput. Simul. 35, 1993); allowed is four times the greatest difference that they make in an output.

    Parameters
    ----------
    program : ShardedProgram
    feeds : mapping of str to ndarray
        The whole inputs.
    seed : int
        Of the directions.
    """
    exact, drawn = _pass(program, feeds, None)
    found = dict.fromkeys(exact, 0.0)
    if not drawn:
        return found
    for number in range(_DIRECTIONS):
        off, _ = _pass(program, feeds, np.random.default_rng([seed, number]))
        for name, value in off.items():
            with np.errstate(invalid="ignore"):
                apart = np.abs(value.astype(np.float64) - exact[name].astype(np.float64))
            found[name] = max(found[name], _MARGIN * float(np.nan_to_num(apart, posinf=0.0).max(initial=0)))
    return found


def _pass(
    program: ShardedProgram, feeds: Mapping[str, Array], generator: np.random.Generator | None
) -> tuple[dict[str, Array], bool]:
    """Outputs of a pass, and whether any step has a bound; with a generator, every result is off by its own."""
    held, inexact = placed(program, feeds), False
    for step in program.steps:
        values = defined(step, program, held)
        bounds = step_bound(step, program, held)
        inexact = inexact or any(np.any(np.asarray(bound)) for bound in bounds)
        if generator is not None:
            values = [_off(value, bound, generator) for value, bound in zip(values, bounds, strict=True)]
        held[result_of(step)] = values
    outputs = {name: joined(held[shard], program.shards[shard].layout, program.mesh) for name, shard in program.outputs.items()}
    return outputs, inexact


def _off(value: Array, bound: NDArray[np.float64] | float, generator: np.random.Generator) -> Array:
    if not np.any(np.asarray(bound)):
        return value
    direction = generator.choice(np.array([-1.0, 1.0]), value.shape)
    with np.errstate(over="ignore"):  # the least number there is, as a mask has it, may become infinite
        moved: Array = (value.astype(np.float64) + direction * bound).astype(value.dtype)
    return moved


def beyond(expected: NDArray[Any], observed: NDArray[Any], bound: float) -> NDArray[np.bool_]:
    """Which values are further from what was expected than a bound; NaN and infinities equal themselves."""
    if not bound:
        found: NDArray[np.bool_] = (expected != observed) & ~((expected != expected) & (observed != observed))
        return found
    wide, seen = expected.astype(np.float64), observed.astype(np.float64)
    with np.errstate(invalid="ignore"):  # equal infinities have no difference
        within: NDArray[np.bool_] = (wide == seen) | (np.isnan(wide) & np.isnan(seen)) | (np.abs(wide - seen) <= bound)
    return ~within
