"""Rooflines: for each operation the slowest of its arithmetic and of moving every operand once through each memory level.

Symbols
-------
===========  =====================================================================================
n            multiply-accumulates of an operation; for others, iterations of its loop nest
P            peak rate of the device for the formats, per second
q            bytes of all operands and results, each counted once (compulsory traffic)
B_l          bandwidth of level l, bytes per second
t_launch     time to start one kernel
===========  =====================================================================================

``t = t_launch + max(n / P, max over l of q / B_l)``; a model's latency is the sum over its operations, a Clip that its
producer absorbs costing nothing (S. Williams, A. Waterman and D. Patterson, "Roofline", CACM 52(4), 2009, per operation).
Weights and activations are taken to start outside the chip. No schedule in which they do is faster, so the finer models
are held against this one from below; nothing here is confirmed by a measurement, hence evidence ``unchecked``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.plan import CostReport, OpCost
from lepton_dse.sim.fabric import precision_energy
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.report import absorbed_ops, assemble, compulsory_bytes, no_arithmetic
from lepton_dse.targets import AnyTarget, FpgaTarget

__all__ = ["COST_MODEL", "Machine", "machine_of", "roofline"]

ARITHMETIC, LAUNCH = "arithmetic", "launch"
_BLOCK_BITS = 18 * 1024  # one block RAM
_PORT_BITS = 36  # two ports of 18 bits


@dataclass(frozen=True)
class Level:
    """A memory level: bytes, bytes per second, joules per byte where known."""

    name: str
    capacity: float
    bandwidth: float
    energy: float | None


@dataclass(frozen=True)
class Machine:
    """What a roofline looks at, from the hardware model of any family."""

    rate: float | None
    """Multiply-accumulates a second in the formats asked for; None where the device has no such arithmetic."""
    other_rate: float
    """Other operations a second."""
    levels: tuple[Level, ...]
    launch: float
    mac_energy: float | None


def machine_of(target: AnyTarget, precision: Precision) -> Machine:
    """Rates and levels of a target for a pair of formats.

    An FPGA multiplies in its DSPs, one product each, and in its LUTs, at no less than one LUT for each pair of operand bits;
    its only level is block RAM with both ports in use.
    """
    if isinstance(target, FpgaTarget):
        usable = target.resources()
        pairs = precision.weights.bits * precision.activations.bits
        rate = (usable["DSP"] + usable["LUT"] / pairs) * target.clock_hz.value
        blocks = usable["BRAM18"]
        byte = None if target.energy is None else target.energy.memory_j_per_byte.value
        level = Level("bram", blocks * _BLOCK_BITS / 8, blocks * _PORT_BITS / 8 * target.clock_hz.value, byte)
        return Machine(
            rate if precision.is_integer and rate > 0 else None,
            usable["LUT"] / precision.activations.bits * target.clock_hz.value,
            (level,),
            0.0,
            precision_energy(target.energy, precision),
        )
    known = target.energy_j_per_mac.get(str(precision))
    mac_energy = None if known is None else known.value
    peak = target.peak(precision)
    plain = target.peak(Precision(FLOAT32, FLOAT32)) or max(target.peaks, key=lambda entry: entry.mac_per_s.value)
    levels = tuple(
        Level(
            level.name,
            level.capacity_bytes.value,
            level.bandwidth_byte_per_s.value,
            None if level.energy_j_per_byte is None else level.energy_j_per_byte.value,
        )
        for level in target.levels
    )
    fastest = None if peak is None else peak.mac_per_s.value
    return Machine(fastest, plain.mac_per_s.value, levels, target.launch_s.value, mac_energy)


def roofline(graph: Graph, target: AnyTarget, precision: Precision, batch: int) -> CostReport:
    """Predicted cost of one pass over a batch.

    Parameters
    ----------
    graph : Graph
        Float graph.
    target : AnyTarget
        Any family.
    precision : Precision
        Formats of weights and activations.
    batch : int
        Samples a pass, at least 1.

    Raises
    ------
    LeptonError
        If the graph cannot take the batch.
    """
    graph = graph.with_batch(batch)
    machine = machine_of(target, precision)
    absorbed = absorbed_ops(graph)
    ops = tuple(_op_cost(graph, op, machine, precision, op.name in absorbed) for op in graph.ops)
    violations = () if machine.rate is not None else (no_arithmetic(target, precision),)
    outer = machine.levels[-1]
    return assemble(graph, target, precision, batch, ops, main_memory=(outer.name, outer.capacity), violations=violations)


COST_MODEL: CostModel = roofline


def _op_cost(graph: Graph, op: Op, machine: Machine, precision: Precision, absorbed: bool) -> OpCost:
    nest = graph.nest(op)
    if absorbed or nest.write is None:
        traffic, n, launch = 0.0, 0, 0.0
    else:
        traffic, n, launch = compulsory_bytes(graph, op, precision), nest.iterations, machine.launch
    rate = machine.rate if nest.multiplies else machine.other_rate
    arithmetic = _ratio(n, rate or 0.0)
    times = {ARITHMETIC: arithmetic} | {level.name: _ratio(traffic, level.bandwidth) for level in machine.levels}
    slowest = max(times, key=times.__getitem__)
    total = launch + times[slowest]
    energy = None
    if machine.mac_energy is not None and all(level.energy is not None for level in machine.levels):
        energy = nest.macs * machine.mac_energy + sum(traffic * (level.energy or 0.0) for level in machine.levels)
    return OpCost(
        name=op.name,
        kind=op.kind,
        macs=nest.macs,
        latency_s=total,
        energy_j=energy,
        bound_by=LAUNCH if launch > times[slowest] else slowest,
        utilization=arithmetic / total if total > 0 else 0.0,
        traffic_bytes={level.name: traffic for level in machine.levels},
    )


def _ratio(amount: float, rate: float) -> float:
    """Time at a rate; 0 at a rate of 0, where the report holds a violation instead."""
    return amount / rate if rate > 0 else 0.0
