"""A layer, both ends and the wires between replicas as plain numbers, for every split that a search looks at."""

from __future__ import annotations

from dataclasses import dataclass, field

from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.strategy import Recompute, Software, Strategy
from lepton_dse.schedule.transformer import Axis, block_of, ends_of
from lepton_dse.schedule.transformer.work import BYTES
from lepton_dse.search.transformer.pricing import Pricer
from lepton_dse.sim.network import Group, exchange_time
from lepton_dse.sim.transformer import Costs, Run, Step, Wire, step

__all__ = ["Training", "costs_of", "run_of", "send_of", "training_step", "wire_of"]

_LOSS_KEPT = 6.0
"""Bytes of a score of the vocabulary while the loss runs: in 2 and in 4 bytes."""
_FAR = 1 << 30
"""A message size at which an exchange's time is its rate's."""


@dataclass(frozen=True)
class Training:
    """A model and how it is trained, whatever the split.

    Parameters
    ----------
    model : Transformer
    batch : int
        Samples of a step.
    sequence : int
        Tokens of a sample.
    software : Software
    """

    model: Transformer
    batch: int
    sequence: int
    software: Software = field(default_factory=Software)


def run_of(training: Training, pricer: Pricer) -> Run:
    """What all splits share."""
    software = training.software
    return Run(
        layers=float(training.model.layers),
        batch=float(training.batch),
        capacity=pricer.capacity,
        memory_s=pricer.kernels.memory_s,
        slowdown=pricer.cluster.kernel_slowdown.value,
        overlapped=float(software.overlapped_gradients),
        wire_bytes=float(software.gradient_bytes),
    )


def costs_of(training: Training, strategy: Strategy, pricer: Pricer) -> Costs:
    """A layer and both ends under a strategy, without messages between stages.

    Replicas, interleaving and ZeRO do not matter, and of the stages only whether there are several.
    """
    model, sequence = training.model, training.sequence
    block = block_of(model, strategy, training.software, sequence)
    ends = ends_of(model, strategy, sequence)
    tensor, context = strategy.tensor, strategy.context
    groups = {
        Axis.TENSOR: Group(tensor),
        Axis.CONTEXT: Group(context, tensor),
        Axis.EXPERT: Group(strategy.expert, tensor * context),
    }
    tokens = strategy.microbatch * sequence / context
    kept = sum(entry.size for entry in block.kept)
    working = 0.0
    if strategy.recompute is not Recompute.NONE:
        whole = block_of(model, _keeping(strategy), training.software, sequence)
        working = sum(entry.size for entry in whole.kept) - kept
    return Costs(
        forward=pricer.seconds(block.forward, groups),
        backward=pricer.seconds(block.again, groups) + pricer.seconds(block.backward, groups),
        first=pricer.seconds(ends.first, groups),
        last=pricer.seconds(ends.last, groups),
        send=0.0,
        kept=kept,
        working=working,
        loss=_LOSS_KEPT * tokens * model.vocabulary / tensor,
        dense=block.parameters,
        experts=block.expert_parameters,
        first_weights=ends.first_parameters,
        last_weights=ends.last_parameters,
    )


def _keeping(strategy: Strategy) -> Strategy:
    return Strategy(
        tensor=strategy.tensor,
        context=strategy.context,
        expert=strategy.expert,
        microbatch=strategy.microbatch,
        sequence=strategy.sequence,
    )


def send_of(training: Training, strategy: Strategy, pricer: Pricer) -> float:
    """Seconds of a message between stages: a part from each device of the tensor axis, gathered where tokens are not apart.

    As "scatter/gather" of SC 2021, section 4.1. Stages are as far apart as the replicas' devices allow: in other nodes.
    """
    if strategy.pipeline == 1:
        return 0.0
    message = BYTES * strategy.microbatch * training.sequence / strategy.context * training.model.hidden
    inside = strategy.tensor * strategy.context
    time = exchange_time(Collective.POINT_TO_POINT, message / strategy.tensor, Group(2, inside * strategy.data), pricer.fabric)
    if not strategy.sequence:
        time += exchange_time(Collective.ALL_GATHER, message, Group(strategy.tensor), pricer.fabric)
    return time


def wire_of(strategy: Strategy, pricer: Pricer) -> Wire:
    """One way of reducing among replicas, as a fixed time and a time a byte."""
    inside = strategy.tensor * strategy.context
    start, byte = _line(Group(strategy.data * strategy.context, strategy.tensor), pricer)
    alike = strategy.data // strategy.expert
    expert_start, expert_byte = _line(Group(alike, inside * strategy.expert), pricer)
    return Wire(start, byte, expert_start, expert_byte)


def _line(group: Group, pricer: Pricer) -> tuple[float, float]:
    start = exchange_time(Collective.REDUCE_SCATTER, 0.0, group, pricer.fabric)
    return start, (exchange_time(Collective.REDUCE_SCATTER, float(_FAR), group, pricer.fabric) - start) / _FAR


def training_step(training: Training, strategy: Strategy, pricer: Pricer) -> Step:
    """Time and memory of a step under one strategy.

    Parameters
    ----------
    training : Training
    strategy : Strategy
        That comes out even (:func:`~lepton_dse.parallel.strategy.split_violations`).
    pricer : Pricer
    """
    return step(
        run_of(training, pricer),
        costs_of(training, strategy, pricer)._replace(send=send_of(training, strategy, pricer)),
        wire_of(strategy, pricer),
        float(strategy.pipeline),
        float(strategy.data),
        float(strategy.expert),
        training.batch / (strategy.data * strategy.microbatch),
        float(strategy.interleave),
        float(strategy.zero),
    )
