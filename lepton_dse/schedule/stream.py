"""The streaming schedule: one instance of an RTL module after another, with parameters and memory images.

The simulator prices exactly this list of instances and the emitter writes exactly this list. A stage is::

    [narrowing] -> [sliding window] -> unit -> [requantize] -> [widening] -> FIFO

and a FIFO with registered ready stands in front of the first stage, so that no path of ready signals crosses a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lepton_dse import rtl_library as rtl
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.numerics.quantize import MULTIPLIER_BITS
from lepton_dse.plan import Mapping, OpPlan, Plan, Unroll
from lepton_dse.schedule.layers import ArgMaxLayer, Chain, IntArray, Layer, MatrixLayer, PoolLayer, Rounding

__all__ = [
    "Folding",
    "Instance",
    "Memory",
    "MemoryPort",
    "Stage",
    "StreamSchedule",
    "foldings_of",
    "stage_instances",
    "stream_schedule",
]

_SHALLOW = 128  # words from which a memory is worth a block RAM


class MemoryPort(Enum):
    """The port through which a module reads a memory; the value is the prefix of the port's signals."""

    WEIGHTS = "w"
    BIAS = "b"
    MULTIPLIERS = "p"


@dataclass(frozen=True, eq=False)
class Memory:
    """A read-only memory beside an instance.

    Parameters
    ----------
    port : MemoryPort
    depth, fields : int
        Words, and fields of a word.
    field_bits : int
        Width of a field, two's complement.
    image : callable
        Makes the words; a search that only counts never calls it.
    """

    port: MemoryPort
    depth: int
    fields: int
    field_bits: int
    image: Callable[[], NDArray[np.int64]]

    @property
    def values(self) -> NDArray[np.int64]:
        """Words, shape (depth, fields); field 0 is in the least significant bits."""
        return self.image().reshape(self.depth, self.fields)

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.fields * self.field_bits


@dataclass(frozen=True, eq=False)
class Instance:
    """One RTL module in place.

    Parameters
    ----------
    name : str
        Unique in the design, a Verilog identifier.
    module : ModuleDeclaration
    parameters : Parameters
    memories : tuple of Memory
    """

    name: str
    module: rtl.ModuleDeclaration[rtl.Parameters]
    parameters: rtl.Parameters
    memories: tuple[Memory, ...] = ()

    def resources(self, family: rtl.Family) -> rtl.Resources:
        """Estimated primitives of the module and its memories."""
        total = self.module.resources(self.parameters, family)
        for memory in self.memories:
            total = total + rtl.rom_resources(memory.width, memory.depth, family)
        return total


@dataclass(frozen=True)
class Folding:
    """How much of a stage is computed at once, and what stands around it.

    Parameters
    ----------
    pe : int
        Output channels at once (matrix stages).
    simd : int
        Input channels at once.
    fifo_depth : int
        Words of the FIFO behind the stage.
    buffer_rows : int or None
        Input rows that the sliding window holds beyond the least; None for one stride of slack.
    multiplier : Multiplier
        What products are made of.
    """

    pe: int
    simd: int
    fifo_depth: int = 2
    buffer_rows: int | None = None
    multiplier: rtl.Multiplier = rtl.Multiplier.DSP

    @property
    def mapping(self) -> Mapping:
        """The folding as spatial unrolling."""
        spatial = (Unroll(loop="m", factor=self.pe, axis="pe"), Unroll(loop="c", factor=self.simd, axis="simd"))
        return Mapping(spatial=spatial)

    def to_plan(self, op: str, precision: str) -> OpPlan:
        """The folding as decisions for an operation."""
        return OpPlan(
            op=op,
            precision=precision,
            mapping=self.mapping,
            fifo_depth=self.fifo_depth,
            buffer_rows=self.buffer_rows,
            multiplier=self.multiplier.value,
        )

    @classmethod
    def from_plan(cls, entry: OpPlan) -> Folding:
        """The folding of an operation's decisions."""
        return cls(
            entry.mapping.factor("pe"),
            entry.mapping.factor("simd"),
            entry.fifo_depth or 2,
            entry.buffer_rows,
            rtl.Multiplier(entry.multiplier or "dsp"),
        )


@dataclass(frozen=True, eq=False)
class Stage:
    """One layer as instances.

    Parameters
    ----------
    layer : Layer
    folding : Folding
    instances : tuple of Instance
        In stream order, its FIFO last.
    """

    layer: Layer
    folding: Folding
    instances: tuple[Instance, ...]


@dataclass(frozen=True, eq=False)
class StreamSchedule:
    """A whole streaming design.

    Parameters
    ----------
    chain : Chain
        The layers and the tensors at both ends.
    head : Instance
        The FIFO in front of the first stage.
    stages : tuple of Stage
    input_lanes, output_lanes : int
        Elements of a word at either end.
    input_bits, output_bits : int
        Bits of an element at either end.
    """

    chain: Chain
    head: Instance
    stages: tuple[Stage, ...]
    input_lanes: int
    output_lanes: int
    input_bits: int
    output_bits: int

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances in stream order."""
        return (self.head, *(instance for stage in self.stages for instance in stage.instances))

    @property
    def input_beats(self) -> int:
        """Words a frame at the input."""
        return len(self.chain.input_layout) // self.input_lanes

    @property
    def output_beats(self) -> int:
        """Words a frame at the output."""
        return len(self.chain.output_layout) // self.output_lanes

    def timings(self) -> list[rtl.ModuleTiming]:
        """Timing of every instance in stream order."""
        found = []
        for instance in self.instances:
            assert instance.module.timing is not None, "only stream modules are stages"
            found.append(instance.module.timing(instance.parameters))
        return found

    def resources(self, family: rtl.Family) -> rtl.Resources:
        """Estimated primitives of the whole design."""
        return sum((instance.resources(family) for instance in self.instances), rtl.Resources())


def foldings_of(plan: Plan, chain: Chain) -> tuple[Folding, ...]:
    """The foldings that a plan decides for the layers of a chain."""
    return tuple(Folding.from_plan(plan.op(layer.name)) for layer in chain.layers)


def stream_schedule(chain: Chain, foldings: Sequence[Folding], *, head_depth: int = 2) -> StreamSchedule:
    """Instances for every layer.

    Parameters
    ----------
    chain : Chain
    foldings : sequence of Folding
        One a layer; ``simd`` divides the layer's input channels and ``pe`` its output channels.
    head_depth : int
        Words of the FIFO in front of the first stage.

    Raises
    ------
    InvalidPlanError
        If there is not one folding a layer, or a folding does not divide.
    """
    if len(foldings) != len(chain.layers):
        raise InvalidPlanError(f"{len(foldings)} foldings for {len(chain.layers)} layers", fix="plan again")
    bits = chain.input.format.bits
    lanes = foldings[0].simd
    head = _fifo("input_fifo", lanes * bits, head_depth)
    stages = []
    first = lanes
    for index, (layer, folding) in enumerate(zip(chain.layers, foldings, strict=True)):
        try:
            wanted = foldings[index + 1].simd if index + 1 < len(foldings) else None
            instances, lanes, bits = stage_instances(f"l{index}", layer, folding, lanes, wanted)
        except LeptonError as error:
            raise InvalidPlanError(error.what, where=layer.name, fix=error.fix or "plan again") from error
        stages.append(Stage(layer, folding, instances))
    return StreamSchedule(chain, head, tuple(stages), first, lanes, chain.input.format.bits, bits)


def stage_instances(
    prefix: str, layer: Layer, folding: Folding, lanes: int, wanted: int | None = None
) -> tuple[tuple[Instance, ...], int, int]:
    """Instances of one stage, the lanes it emits, and the bits of an element it emits.

    Parameters
    ----------
    prefix : str
        Of the instances' names.
    layer : Layer
    folding : Folding
    lanes : int
        Lanes of the stream that arrives.
    wanted : int, optional
        Lanes that the next stage takes. Words are widened before the FIFO and narrowed behind it: a stage that takes its
        input in bursts and then works on it would otherwise find the FIFO full of narrow words, and wait for them to be put
        together one a cycle.

    Raises
    ------
    LeptonError
        If the folding does not divide the layer's channels.
    """
    if layer.channels % folding.simd or (isinstance(layer, MatrixLayer) and layer.outputs % folding.pe):
        raise LeptonError(f"a folding of {folding.pe} by {folding.simd} does not divide {layer.out_channels} by {layer.channels}")
    instances = _converters(f"{prefix}_in", layer.input_bits, lanes, folding.simd)
    match layer:
        case MatrixLayer():
            instances += [*_window(prefix, layer, folding), _matrix(prefix, layer, folding)]
            instances.append(_rounding(prefix, layer.rounding, layer.accumulator_bits, layer.output_bits, folding.pe))
            lanes = folding.pe
        case PoolLayer():
            instances += [*_window(prefix, layer, folding), *_pool(prefix, layer, folding)]
            lanes = folding.simd
        case ArgMaxLayer():
            parameters = rtl.Argmax(layer.input_bits, folding.simd, layer.channels // folding.simd, layer.output_bits)
            instances.append(_instance(f"{prefix}_argmax", "argmax", parameters))
            lanes = 1
    if wanted is not None and lanes % wanted:
        instances += _converters(f"{prefix}_out", layer.output_bits, lanes, wanted)
        lanes = wanted
    instances.append(_fifo(f"{prefix}_fifo", lanes * layer.output_bits, folding.fifo_depth))
    return tuple(instances), lanes, layer.output_bits


def _instance(name: str, module: str, parameters: rtl.Parameters, memories: tuple[Memory, ...] = ()) -> Instance:
    return Instance(name, rtl.MODULES[module], parameters, memories)


def _fifo(name: str, width: int, depth: int) -> Instance:
    return _instance(name, "stream_fifo", rtl.StreamFifo(width=width, depth=depth))


def _converters(prefix: str, bits: int, lanes: int, wanted: int) -> list[Instance]:
    """Width converters from one number of lanes to another; two over the common divisor where neither divides the other."""
    found = []
    common = math.gcd(lanes, wanted)
    steps = [lanes, wanted] if common in (lanes, wanted) else [lanes, common, wanted]
    for index, (have, want) in enumerate(pairwise(steps)):
        if have != want:
            parameters = rtl.WidthConverter(element=bits, in_lanes=have, out_lanes=want)
            found.append(_instance(f"{prefix}{index}", "width_converter", parameters))
    return found


def _style(depth: int) -> rtl.MemoryStyle:
    return rtl.MemoryStyle.BLOCK if depth >= _SHALLOW else rtl.MemoryStyle.DISTRIBUTED


def _window(prefix: str, layer: MatrixLayer | PoolLayer, folding: Folding) -> list[Instance]:
    """The sliding window, where the stream's own order is not already that of one window after another."""
    window, (rows, columns), (out_rows, out_columns) = layer.window, layer.extent, layer.out_extent
    padded = any(window.pads_begin) or any(window.pads_end)
    pointwise = window.taps == 1 and window.strides == (1, 1)
    whole = window.kernel == layer.extent and layer.pixels == 1
    if not padded and (pointwise or whole):
        return []
    geometry = {
        "folds": layer.channels // folding.simd,
        "rows": rows,
        "cols": columns,
        "kh": window.kernel[0],
        "kw": window.kernel[1],
        "sh": window.strides[0],
        "sw": window.strides[1],
        "dh": window.dilations[0],
        "dw": window.dilations[1],
        "pt": window.pads_begin[0],
        "pl": window.pads_begin[1],
        "oh": out_rows,
        "ow": out_columns,
    }
    shape = rtl.WindowShape(**geometry)
    if folding.buffer_rows is None:
        buffer = max(shape.recommended_buffer, shape.minimum_buffer)
    else:
        buffer = shape.minimum_buffer + folding.buffer_rows * columns * shape.folds
    parameters = rtl.SlidingWindow(
        **geometry, element=layer.input_bits, lanes=folding.simd, pad=layer.pad_value, buffer=buffer, style=_style(buffer)
    )
    return [_instance(f"{prefix}_window", "sliding_window", parameters)]


def _matrix(prefix: str, layer: MatrixLayer, folding: Folding) -> Instance:
    pe, simd = folding.pe, folding.simd
    nf, folds = layer.outputs // pe, layer.channels // simd
    sf = layer.window.taps * folds
    parameters = rtl.MatrixVectorUnit(
        a_width=layer.input_bits,
        w_width=layer.weight_bits,
        acc_width=layer.accumulator_bits,
        pe=pe,
        simd=simd,
        nf=nf,
        sf=sf,
        mult=folding.multiplier,
        style=_style(sf),
    )

    def image() -> IntArray:
        # Word nf * SF + (tap * folds + fold) holds PE rows of SIMD columns, column fastest.
        return layer.weights.reshape(nf, pe, layer.window.taps, folds, simd).transpose(0, 2, 3, 1, 4)

    weights = Memory(MemoryPort.WEIGHTS, nf * sf, pe * simd, layer.weight_bits, image)
    bias = Memory(MemoryPort.BIAS, nf, pe, layer.accumulator_bits, lambda: layer.bias)
    return _instance(f"{prefix}_matrix", "matrix_vector_unit", parameters, (weights, bias))


def _rounding(prefix: str, rounding: Rounding, accumulator_bits: int, output_bits: int, lanes: int) -> Instance:
    multipliers: IntArray = rounding.multipliers
    uniform = bool((multipliers == multipliers[0]).all())
    folds = 1 if uniform else len(multipliers) // lanes
    parameters = rtl.Requantize(
        acc_width=accumulator_bits,
        m_width=MULTIPLIER_BITS,
        shift=rounding.shift,
        out_width=output_bits,
        zero=rounding.zero,
        low=rounding.low,
        high=rounding.high,
        pe=lanes,
        nf=folds,
    )
    memory = Memory(MemoryPort.MULTIPLIERS, folds, lanes, MULTIPLIER_BITS, lambda: multipliers[: folds * lanes])
    return _instance(f"{prefix}_requantize", "requantize", parameters, (memory,))


def _pool(prefix: str, layer: PoolLayer, folding: Folding) -> list[Instance]:
    lanes, folds = folding.simd, layer.channels // folding.simd
    if layer.rounding is None:
        peak = rtl.MaxPool(element=layer.input_bits, lanes=lanes, folds=folds, taps=layer.window.taps)
        return [_instance(f"{prefix}_max", "max_pool", peak)]
    average = rtl.AveragePool(
        element=layer.input_bits,
        lanes=lanes,
        folds=folds,
        taps=layer.window.taps,
        sum_width=layer.sum_bits,
        init=layer.sum_start,
    )
    return [
        _instance(f"{prefix}_sum", "average_pool", average),
        _rounding(prefix, layer.rounding, layer.sum_bits, layer.output_bits, lanes),
    ]
