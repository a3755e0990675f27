"""One training step of a transformer over a mesh of devices: seconds and bytes of the fullest device, one closed form.

Symbols
-------
===========  ========================================================================================================
l, B, m      layers; samples of a step; microbatches of a pipeline, ``B / (d b)`` for d replicas and b samples in each
p, v         stages, and pieces of each (interleaved 1F1B)
k            layers of the fullest stage, ``v ceil(l / (p v))``; the first and last stages have one fewer while any are over
f, g         seconds of a layer forward and backward, what is computed again and exchanges inside the layer among them
e_1, e_p     seconds of the embedding and of the vocabulary with the loss
c            seconds of one message between stages
===========  ========================================================================================================

**Pace.** Work enters at the pace of the slowest stage; filling and draining cost the others once, and a v-th of it where
stages are interleaved (D. Narayanan et al., SC 2021, section 2.2)::

    pace = max(k (f + g), k_1 (f + g) + e_1, k_p (f + g) + e_p)         one stage: l (f + g) + e_1 + e_p
    t    = m (pace + 2 v c) + (p - 1) / v (k (f + g) + 2 v c) + t_reduce + t_update

**Gradients** are added among the replicas once a step: an all-reduce, or a reduce-scatter before the update and an all-gather of
weights behind it where the optimizer's state is shared (ZeRO 1 and 2). Where the software overlaps, what the last backward
pass hides is not seen, except the share of one layer. With ZeRO 3 the weights are gathered before the forward and the backward
pass of every microbatch and gradients go apart behind it, hidden up to the time of the pass.

**Update.** 34 bytes a weight move: gradient (4, twice: its norm first), two moments and the master weight in and out (24), the
weight itself (2).

**Memory.** A weight takes 2 bytes, its gradient 4, the optimizer 12 (S. Rajbhandari et al., SC 2020, section 3.1, with
gradients summed in 4 bytes), each over the replicas where they share it. The first stage keeps ``min(m, p)`` microbatches of
its layers, interleaved ``1 + (p - 1) / (p v)`` times l layers of one (V. Korthikanti et al., arXiv:2205.05198, section 4.2.3);
to that comes what one layer or the loss works with.

**Slowdown.** All times are multiplied by one factor: kernels and collectives in a model take that much longer than alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["GRADIENT", "STATE", "UPDATE", "WEIGHT", "Costs", "Run", "Step", "Wire", "step"]

WEIGHT, GRADIENT, STATE = 2.0, 4.0, 12.0
"""Bytes of a weight, of its gradient's sum and of the optimizer's state."""
UPDATE = 34.0
"""Bytes that the update of a weight moves."""


class Run(NamedTuple):
    """What all configurations of a run share."""

    layers: float
    batch: float
    capacity: float
    """Bytes of a device's memory."""
    memory_s: float
    """Seconds a byte of main memory, at the rate that kernels reach."""
    slowdown: float
    overlapped: float
    """1 where gradients are reduced behind the last backward pass, else 0."""
    wire_bytes: float
    """Of a gradient on the wire."""


class Costs(NamedTuple):
    """A layer and both ends on one device, for one microbatch."""

    forward: float
    backward: float
    first: float
    last: float
    send: float
    kept: float
    """Bytes that a layer leaves for the backward pass."""
    working: float
    """Bytes that one layer takes while it runs, beyond what it keeps."""
    loss: float
    """Bytes that the loss takes."""
    dense: float
    """Weights of a layer without experts."""
    experts: float
    first_weights: float
    last_weights: float


class Wire(NamedTuple):
    """Reducing among replicas: seconds before the first byte and for each byte of the whole message, one way."""

    start: float
    byte: float
    expert_start: float
    expert_byte: float


class Step(NamedTuple):
    """Seconds of a step, of that the parts, and bytes of the fullest device."""

    time: float
    work: float
    """The pace times the microbatches, without messages."""
    bubble: float
    messages: float
    reduce: float
    update: float
    memory: float
    static: float
    """Bytes of weights, gradients and state."""
    activations: float


@kernel
def step(
    run: Run, costs: Costs, wire: Wire, pipeline: float, data: float, expert: float, microbatches: float, v: float, zero: float
) -> Step:
    """Time and memory of one step.

    Parameters
    ----------
    run : Run
    costs : Costs
    wire : Wire
        Of the replicas.
    pipeline, data, expert : float
        Stages, replicas, and how many of these share the experts.
    microbatches, v : float
        Of a pipeline, and pieces of a stage.
    zero : float
        Stage of ZeRO.

    Returns
    -------
    Step
    """
    fullest = v * np.ceil(run.layers / (pipeline * v))
    over = pipeline * fullest - run.layers
    first_layers = fullest - (1.0 if over >= 2.0 else 0.0)
    last_layers = fullest - (1.0 if over >= 1.0 else 0.0)
    layer = costs.forward + costs.backward
    stage = fullest * layer
    if pipeline == 1.0:
        pace = run.layers * layer + costs.first + costs.last
        messages = 0.0
    else:
        pace = max(stage, first_layers * layer + costs.first, last_layers * layer + costs.last)
        messages = (microbatches + (pipeline - 1.0) / v) * 2.0 * v * costs.send
    work = microbatches * pace
    bubble = (pipeline - 1.0) / v * stage

    dense = max(first_layers * costs.dense + costs.first_weights, last_layers * costs.dense + costs.last_weights)
    if pipeline == 1.0:
        dense = run.layers * costs.dense + costs.first_weights + costs.last_weights
    dense = max(dense, fullest * costs.dense)
    experts = fullest * costs.experts
    backward = fullest * costs.backward
    share = 1.0 / fullest
    reduce = 0.0
    if data > 1.0:
        apart = wire.start + dense * run.wire_bytes * wire.byte
        together = wire.start + dense * (WEIGHT if zero >= 1.0 else run.wire_bytes) * wire.byte
        if experts > 0.0 and data > expert:
            apart += wire.expert_start + experts * run.wire_bytes * wire.expert_byte
            together += wire.expert_start + experts * (WEIGHT if zero >= 1.0 else run.wire_bytes) * wire.expert_byte
        if zero == 3.0:
            forward = fullest * costs.forward
            if run.overlapped > 0.0:
                seen = max(together - forward, share * together) + max(together + apart - backward, share * (together + apart))
            else:
                seen = 2.0 * together + apart
            reduce = microbatches * seen
        else:
            hidden = backward if run.overlapped > 0.0 else 0.0
            # An all-reduce is wholly before the update; shared state is gathered behind it, behind the next forward pass.
            before = apart if zero >= 1.0 else apart + together
            after = together if zero >= 1.0 else 0.0
            if run.overlapped > 0.0:
                reduce = max(before - hidden, share * before) + max(after - fullest * costs.forward, share * after)
            else:
                reduce = before + after
    replicas = data if zero >= 1.0 else 1.0
    expert_replicas = data / expert if zero >= 1.0 else 1.0
    update = UPDATE * (dense / replicas + experts / expert_replicas) * run.memory_s
    time = run.slowdown * (work + bubble + messages + reduce + update)

    shared_by, experts_by = data, data / expert
    each = WEIGHT / (shared_by if zero >= 3.0 else 1.0) + GRADIENT / (shared_by if zero >= 2.0 else 1.0)
    each += STATE / (shared_by if zero >= 1.0 else 1.0)
    of_expert = WEIGHT / (experts_by if zero >= 3.0 else 1.0) + GRADIENT / (experts_by if zero >= 2.0 else 1.0)
    of_expert += STATE / (experts_by if zero >= 1.0 else 1.0)
    static = each * dense + of_expert * experts
    if zero == 3.0:  # the layer that runs is there whole, with its gradients
        static += (WEIGHT + GRADIENT) * (costs.dense + costs.experts)
    in_flight = fullest * min(microbatches, pipeline)
    if v > 1.0:
        in_flight = min(fullest * microbatches, fullest * pipeline * (1.0 + (pipeline - 1.0) / (pipeline * v)))
    activations = costs.kept * in_flight + costs.working
    if pipeline == 1.0:
        activations += costs.loss
    else:
        activations = max(activations, costs.kept * fullest + max(costs.working, costs.loss))
    return Step(
        time,
        run.slowdown * work,
        run.slowdown * bubble,
        run.slowdown * messages,
        run.slowdown * reduce,
        run.slowdown * update,
        static + activations,
        static,
        activations,
    )
