"""Lowering: a plan and its bundle become a graph whose every tensor has its final format and whose weights are final.

This is the one place where decisions become weights and shapes. It is deterministic: no data, no seed. Operations come in the
model's order, or in one that needs a smaller arena (:mod:`lepton_dse.memory.order`). With integer formats

* a contraction (Conv, MatMul, Affine) becomes an exact accumulation and a Requantize that also performs a Clip behind it;
* biases and ``-z_x * sum(w)`` are folded into the accumulator, whose width is derived from the final weights;
* averages become exact sums and a Requantize, Add becomes AddRequantize, point functions become tables up to 12 bits;
* what has no integer meaning here (softmax, normalisations, Gelu, functions of two tensors, products of two activations) stays
  float between Dequantize and Quantize, and so does an operation on integers whose result is stored as reals, because a layer
  of floats reads it.

Naming: the integer version of tensor ``t`` is ``t.q``, its accumulator ``t.acc``; ``t`` itself stays the real one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.groups import absorbed_clip
from lepton_dse.compress.quantize import weight_axis
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.ir.semantics import evaluate
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import in_less_memory, stored_bytes
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.numerics.quantize import (
    MULTIPLIER_BITS,
    QuantParams,
    encode_float,
    integer_bounds,
    quantize,
    requantization_for,
)
from lepton_dse.plan import Plan

__all__ = ["TABLE_BITS", "lower", "lower_bundle"]

TABLE_BITS = 12  # widest input of a lookup table
_PRODUCT_BITS = 62  # |accumulator * multiplier| must stay below 2**62 to be exact in int64
_MULTIPLIER = NumberFormat(FormatKind.INT, MULTIPLIER_BITS, False)
_TABLED = ops.Sigmoid | ops.Tanh | ops.LeakyRelu


def lower(plan: Plan, bundle: Bundle) -> LoweredGraph:
    """The lowered graph of a plan.

    Raises
    ------
    InvalidPlanError
        If the plan and the bundle do not belong together.
    """
    if plan.bundle_digest != bundle.digest:
        raise InvalidPlanError("the bundle is not the one that the plan was made with", fix="plan again")
    for entry in plan.ops:
        if entry.op not in bundle.graph.networkx:
            raise InvalidPlanError("the model has no such operation", where=entry.op, fix="plan again")
        op = bundle.graph.op(entry.op)
        scale = bundle.scales.get(op.inputs[1]) if weight_axis(op) is not None else None
        if scale is not None and scale.format != Precision.parse(entry.precision).weights:
            raise InvalidPlanError(
                f"the plan says {entry.precision}, the bundle holds {scale.format} weights", where=entry.op, fix="plan again"
            )
    lowered = lower_bundle(bundle)
    return lowered if plan.sharding is None else lowered.with_batch(plan.sharding.batch)


def lower_bundle(bundle: Bundle) -> LoweredGraph:
    """The lowered graph of a bundle; see the module's text for what becomes of each operation.

    Raises
    ------
    LeptonError
        If widths exceed exact 64-bit arithmetic.
    """
    return _Lowering(bundle).run()


class _Lowering:
    """State of one lowering: the graph under construction and which versions of each tensor exist."""

    def __init__(self, bundle: Bundle) -> None:
        self.graph = bundle.graph
        self.scales = bundle.scales
        self.builder = GraphBuilder(bundle.graph.name)
        self.integers: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        self.done: set[str] = set()

    def run(self) -> LoweredGraph:
        for name in self.graph.inputs:
            self.builder.input(name, self.graph.tensors[name].shape, self.graph.tensors[name].format)
            if name in self.scales and self.scales[name].format.is_float:
                self.renamed[name] = self.builder.add(
                    ops.Dequantize(), [self.quantized(name)], output=f"{name}.real", form=self.graph.tensors[name].format
                )
        for op in self.graph.ops:
            if op.name not in self.done:
                self.lower_op(op)
        for name in self.graph.outputs:
            self.real(name)
        return in_less_memory(self.builder.build_lowered(self.graph.outputs), bytes_of=stored_bytes)

    def lower_op(self, op: ops.Op) -> None:
        """Integer version where there is one, the same operation on reals otherwise."""
        varying = [name for name in op.inputs if name not in self.graph.constants]
        stored = self.ends_in_integers(op) and not self.clips_reals(op)
        if not stored or not all(self.has_integer_scale(name) for name in varying):
            self.lower_real(op)
            return
        match op.attributes:
            case ops.Conv() | ops.MatMul() | ops.Affine() if self.has_integer_weights(op):
                self.lower_contraction(op)
            case ops.Add():
                self.lower_add(op)
            case ops.AveragePool():
                self.lower_average(op, op.attributes)
            case ops.MaxPool() | ops.Reshape() | ops.Transpose() | ops.Concat() | ops.Expand() | ops.Slice():
                self.integer(op, op.attributes, [self.quantized(name) for name in op.inputs])
            case ops.Pad(begin, end, mode, value):
                padded = int(quantize(np.asarray([value], np.float32), *self.clamp(op.output))[0])
                self.integer(op, ops.Pad(begin, end, mode, padded), [self.quantized(op.inputs[0])])
            case ops.Clip():
                self.integer(op, ops.Clip(*self.clip_bounds(op.attributes, op.output)), [self.quantized(op.inputs[0])])
            case ops.Sigmoid() | ops.Tanh() | ops.LeakyRelu() if self.scales[op.inputs[0]].format.bits <= TABLE_BITS:
                self.lower_table(op, op.attributes)
            case ops.ArgMax():
                self.builder.add(op.attributes, [self.quantized(op.inputs[0])], output=op.output, name=op.name)
            case _:
                self.lower_real(op)

    # --- versions of tensors --------------------------------------------------------------------------------------

    def quantized(self, name: str) -> str:
        """The integer version of a tensor, made from the real one if there is none yet."""
        if name not in self.integers:
            scale = self.scale(name)
            self.real(name)
            self.integers[name] = self.builder.add(
                ops.Quantize(), [name], output=f"{name}.q", form=scale.format, quant=scale.params
            )
        return self.integers[name]

    def real(self, name: str) -> str:
        """The real version of a tensor, made from the stored one if there is none yet."""
        if name in self.renamed:
            return self.renamed[name]
        if name not in self.builder.tensors:
            if name in self.graph.constants:
                return self.real_constant(name)
            self.builder.add(ops.Dequantize(), [self.integers[name]], output=name, form=self.graph.tensors[name].format)
        return name

    def real_constant(self, name: str) -> str:
        """A constant among reals, stored in its own format where it has one."""
        value, form = self.graph.constants[name], self.graph.tensors[name].format
        scale = self.scales.get(name)
        if scale is None:
            return self.builder.constant(name, value, form)
        reals = np.asarray(value, np.float32)
        if scale.format.is_float:
            stored = encode_float(reals, scale.params, scale.format)
        else:
            limit = integer_bounds(scale.format)[1]
            stored = quantize(reals, scale.params, -limit, limit)
        self.builder.constant(f"{name}.q", stored, scale.format, scale.params)
        return self.builder.add(ops.Dequantize(), [f"{name}.q"], output=name, form=form)

    def has_integer_scale(self, name: str) -> bool:
        return name in self.scales and self.scales[name].format.is_integer

    def ends_in_integers(self, op: ops.Op) -> bool:
        """Whether an operation's result, or that of the Clip that it absorbs, is stored as integers, or holds indices."""
        clip = absorbed_clip(self.graph, op)
        return isinstance(op.attributes, ops.ArgMax) or self.has_integer_scale(op.output if clip is None else clip.output)

    def clips_reals(self, op: ops.Op) -> bool:
        """Whether an operation is a Clip that its producer would perform, had it computed on integers.

        The tensor between the two is stored nowhere, and its scale is not that of the Clip's result.
        """
        producer = self.graph.producer(op.inputs[0])
        return producer is not None and absorbed_clip(self.graph, producer) is op

    def scale(self, name: str) -> Scale:
        return self.scales[name]

    def clamp(self, name: str) -> tuple[QuantParams, int, int]:
        """Parameters of a tensor and the bounds of its format."""
        scale = self.scale(name)
        return (scale.params, *integer_bounds(scale.format))

    def clip_bounds(self, clip: ops.Clip, name: str) -> tuple[int, int]:
        """Integers that stand for a clip's bounds on tensor `name`."""
        params, low, high = self.clamp(name)
        bounds = np.asarray([clip.low, clip.high], np.float32)
        ends = quantize(np.where(np.isfinite(bounds), bounds, np.float32(0)), params, low, high)
        return low if np.isinf(clip.low) else int(ends[0]), high if np.isinf(clip.high) else int(ends[1])

    def integer(self, op: ops.Op, attributes: ops.Attributes, inputs: Sequence[str], output: str = "", suffix: str = "") -> str:
        """Append an operation whose result is the integer version of `output` (the operation's own by default)."""
        output = output or op.output
        scale = self.scale(output)
        self.integers[output] = self.builder.add(
            attributes, inputs, output=f"{output}.q", name=op.name + suffix, form=scale.format, quant=scale.params
        )
        return self.integers[output]

    # --- one rule a kind ------------------------------------------------------------------------------------------

    def lower_real(self, op: ops.Op) -> None:
        """The operation on reals; a result with a float format of its own is stored in that before anything reads it."""
        inputs = [self.real(name) for name in op.inputs]
        scale = self.scales.get(op.output)
        if scale is None or scale.format.is_integer or absorbed_clip(self.graph, op) or op.output in self.graph.outputs:
            self.builder.add(op.attributes, inputs, output=op.output, name=op.name)
            return
        exact = self.builder.add(op.attributes, inputs, output=f"{op.output}.exact", name=op.name)
        self.integers[op.output] = self.builder.add(
            ops.Quantize(), [exact], output=f"{op.output}.q", form=scale.format, quant=scale.params
        )

    def has_integer_weights(self, op: ops.Op) -> bool:
        weights = op.inputs[1]
        if not self.has_integer_scale(weights) or weights not in self.graph.constants:
            return False
        rank = len(self.graph.tensors[weights].shape)
        return not (isinstance(op.attributes, ops.MatMul) and rank != 2) and (
            not isinstance(op.attributes, ops.Affine) or len(self.graph.tensors[op.inputs[0]].shape) > 2
        )

    def absorb(self, op: ops.Op) -> tuple[str, int, int]:
        """The tensor that an operation's rounding step produces, and its clamp bounds, a following Clip included."""
        clip = absorbed_clip(self.graph, op)
        if clip is None or not isinstance(clip.attributes, ops.Clip):
            return op.output, *integer_bounds(self.scale(op.output).format)
        self.done.add(clip.name)
        return clip.output, *self.clip_bounds(clip.attributes, clip.output)

    def lower_contraction(self, op: ops.Op) -> None:
        x, source = self.quantized(op.inputs[0]), self.scale(op.inputs[0])
        weights, bias, attributes = self.contraction(op, source)
        output, low, high = self.absorb(op)
        target = self.scale(output)
        beta_w = np.asarray(self.scale(op.inputs[1]).params.beta, np.float64)
        form = _accumulator(op, weights, bias, source.format, _channel_axis(attributes))
        # Two operations may share one weight, yet fold different biases and shapes: constants are the operation's own.
        w_name = self.builder.constant(f"{op.name}.weights", weights, self.scale(op.inputs[1]).format)
        b_name = self.builder.constant(f"{op.name}.bias", bias, form)
        acc = self.builder.add(attributes, [x, w_name, b_name], output=f"{op.output}.acc", name=op.name, form=form)
        ratios = np.float64(source.params.beta[0]) * beta_w / np.float64(target.params.beta[0])
        rank = len(self.builder.tensors[acc].shape)
        shape = [1] * rank
        shape[1 if isinstance(attributes, ops.Conv) else rank - 1] = len(bias)
        self.requantize(op, acc, np.broadcast_to(ratios, bias.shape), tuple(shape), target.params.zero, (low, high), output)

    def contraction(self, op: ops.Op, source: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64], ops.Conv | ops.MatMul]:
        """Integer weights, the folded bias, and the attributes of the accumulation."""
        scale = self.scale(op.inputs[1])
        limit = integer_bounds(scale.format)[1]
        weights = quantize(np.asarray(self.graph.constants[op.inputs[1]], np.float32), scale.params, -limit, limit)
        attributes: ops.Conv | ops.MatMul
        match op.attributes:
            case ops.Conv(window, groups):
                attributes = ops.Conv(window, groups, source.params.zero)
                sums = weights.reshape(len(weights), -1).sum(axis=1)
            case ops.Affine():
                spatial = len(self.graph.tensors[op.inputs[0]].shape) - 2
                ones, zeros = (1,) * spatial, (0,) * spatial
                attributes = ops.Conv(ops.Window(ones, ones, ones, zeros, zeros), len(weights), source.params.zero)
                sums, weights = weights, weights.reshape(-1, 1, *ones)
            case _:
                attributes = ops.MatMul()
                sums = weights.sum(axis=0)
        bias = -source.params.zero * sums
        if len(op.inputs) > 2:
            unit = np.float64(source.params.beta[0]) * np.asarray(scale.params.beta, np.float64)
            bias = bias + np.rint(np.asarray(self.graph.constants[op.inputs[2]], np.float64) / unit).astype(np.int64)
        return weights, bias, attributes

    def requantize(
        self,
        op: ops.Op,
        acc: str,
        ratios: NDArray[np.float64],
        shape: tuple[int, ...],
        zero: int,
        bounds: tuple[int, int],
        output: str,
    ) -> None:
        form = self.builder.tensors[acc].format
        if form.bits + MULTIPLIER_BITS > _PRODUCT_BITS:
            raise LeptonError(f"an accumulator of {form.bits} bits", where=op.name, fix="use narrower weights or activations")
        rounding = requantization_for(ratios.reshape(-1))
        multiplier = np.asarray(rounding.multipliers, np.int64).reshape(shape)
        name = self.builder.constant(f"{op.name}.multiplier", multiplier, _MULTIPLIER)
        attributes = ops.Requantize(rounding.shift, zero, *bounds)
        self.integer(op, attributes, [acc, name], output, ".requantize")

    def lower_add(self, op: ops.Op) -> None:
        operands, params = [], []
        for name in op.inputs:
            if name in self.graph.constants:
                operands.append(self.constant_operand(op, name))
                quant = self.builder.tensors[operands[-1]].quant
                params.append(quant if quant is not None else QuantParams((1.0,)))
            else:
                operands.append(self.quantized(name))
                params.append(self.scale(name).params)
        output, low, high = self.absorb(op)
        target = self.scale(output).params
        ratios = np.asarray([entry.beta[0] for entry in params], np.float64) / np.float64(target.beta[0])
        rounding = requantization_for(ratios)
        (zero_a, zero_b), (m_a, m_b) = (entry.zero for entry in params), rounding.multipliers
        attributes = ops.AddRequantize(zero_a, zero_b, m_a, m_b, rounding.shift, target.zero, low, high)
        self.integer(op, attributes, operands, output)

    def constant_operand(self, op: ops.Op, name: str) -> str:
        """A constant addend in the activations' width, symmetric over its own range."""
        form = self.scale(op.output).format
        value = np.asarray(self.graph.constants[name], np.float32)
        limit = integer_bounds(form)[1]
        peak = float(np.abs(value).max(initial=0.0)) or 1.0
        params = QuantParams((float(np.float32(peak / limit)),))
        return self.builder.constant(f"{op.name}.{name}.q", quantize(value, params, -limit, limit), form, params)

    def lower_average(self, op: ops.Op, attributes: ops.AveragePool) -> None:
        x, scale = self.quantized(op.inputs[0]), self.scale(op.inputs[0])
        counts = _tap_counts(attributes, self.graph.tensors[op.inputs[0]])
        low, high = integer_bounds(scale.format)
        most = attributes.window.taps
        form = NumberFormat.for_range(most * (low - scale.params.zero), most * (high - scale.params.zero))
        pool = ops.SumPool(attributes.window, scale.params.zero)
        acc = self.builder.add(pool, [x], output=f"{op.output}.acc", name=op.name, form=form)
        if counts.min() == counts.max():
            counts = counts.reshape(-1)[:1]
        shape = (1, 1, *counts.shape) if counts.size > 1 else (1,) * (2 + counts.ndim)
        self.requantize(op, acc, 1.0 / counts, shape, scale.params.zero, (low, high), op.output)

    def lower_table(self, op: ops.Op, attributes: _TABLED) -> None:
        source, target = self.scale(op.inputs[0]), self.clamp(op.output)
        least, most = integer_bounds(source.format)
        entries = Tensor("entries", (most - least + 1,), source.format, source.params)
        reals = entries_as_reals(entries, least, most)
        point = Tensor("point", entries.shape)
        values = evaluate(ops.Op(op.name, attributes, ("point",), "point"), [reals], point, [point])
        table = quantize(np.asarray(values, np.float32), *target)
        name = self.builder.constant(f"{op.name}.table", table, self.scale(op.output).format)
        self.integer(op, ops.Lookup(least), [self.quantized(op.inputs[0]), name])


def entries_as_reals(entries: Tensor, least: int, most: int) -> NDArray[np.float32]:
    """The reals that all integers of a tensor's format stand for, from the least."""
    integers = np.arange(least, most + 1, dtype=np.int64)
    op = ops.Op("entries", ops.Dequantize(), (entries.name,), entries.name)
    return np.asarray(evaluate(op, [integers], Tensor("reals", entries.shape), [entries]), np.float32)


def _channel_axis(attributes: ops.Conv | ops.MatMul) -> int:
    return 0 if isinstance(attributes, ops.Conv) else 1


def _accumulator(
    op: ops.Op, weights: NDArray[np.int64], bias: NDArray[np.int64], source: NumberFormat, axis: int
) -> NumberFormat:
    """The narrowest format that holds every partial sum of every channel, the bias first, in any order of the products.

    With x in [low, high] and low <= 0 <= high each product lies in an interval around 0, so partial sums stay inside the
    interval of the whole sum.
    """
    low, high = integer_bounds(source)
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    positive, negative = np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)
    most = bias + positive * high + negative * low
    least = bias + positive * low + negative * high
    return NumberFormat.for_range(int(min(least.min(), 0)), int(max(most.max(), 0)))


def _tap_counts(attributes: ops.AveragePool, x: Tensor) -> NDArray[np.float64]:
    """Divisor of each window: taps inside the tensor, or inside the padded tensor where padding counts."""
    window = attributes.window
    overhang = attributes.overhang or (0,) * len(window.kernel)
    counts = np.ones((), np.float64)
    for axis, extent in enumerate(window.output_extent(x.shape[2:])):
        begin, end = 0, x.shape[2 + axis]
        if attributes.count_include_pad:
            begin, end = -window.pads_begin[axis], end + window.pads_end[axis] - overhang[axis]
        starts = np.arange(extent) * window.strides[axis] - window.pads_begin[axis]
        taps = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        counts = np.multiply.outer(counts, ((taps >= begin) & (taps < end)).sum(axis=1).astype(np.float64))
    return np.maximum(counts, 1.0)
