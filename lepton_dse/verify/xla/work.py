"""Multiply-accumulates and argument bytes of one device: as predicted from the steps, and as the compiled program has them."""

from __future__ import annotations

import math
import re

import numpy as np

from lepton_dse.emit.xla.contraction import scales_channels
from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import stored_bytes
from lepton_dse.schedule.sharded import Compute, ShardedProgram
from lepton_dse.verify.xla.computations import computations

__all__ = ["argument_bytes", "compiled_macs", "predicted_macs"]

_DEFINED = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = [a-z]+\d*[a-z0-9]*\[([\d,]*)\]", re.MULTILINE)
_DOT = re.compile(
    r"^\s*(?:ROOT )?%?[\w.\-]+ = \w+\[([\d,]*)\]\S* dot\(%?([\w.\-]+), .*?lhs_contracting_dims=\{([\d,]*)\}", re.MULTILINE
)
_CONVOLUTION = re.compile(
    r"^\s*(?:ROOT )?%?[\w.\-]+ = \w+\[([\d,]*)\]\S* convolution\(%?([\w.\-]+), %?([\w.\-]+)\)"
    r"(?:, window=\{([^}]*)\})?, dim_labels=(\w+)_(\w+)->(\w+)",
    re.MULTILINE,
)


def argument_bytes(program: ShardedProgram) -> int:
    """Bytes of inputs and weights on one device."""
    return sum(stored_bytes(program.shards[name].tensor) for name in (*program.inputs.values(), *program.constants))


def predicted_macs(program: ShardedProgram) -> int:
    """Multiply-accumulates of one device.

    Those of a convolution's taps on its zero padding are not computed, and a matrix product or a convolution whose sums have one
    term becomes an elementwise one.
    """
    return sum(_macs(program, step) for step in program.steps if isinstance(step, Compute))


def _macs(program: ShardedProgram, step: Compute) -> int:
    tensors = [program.shards[name].tensor for name in step.op.inputs]
    output = program.shards[step.op.output].tensor
    match step.op.attributes:
        case ops.MatMul():
            terms = tensors[0].shape[-1]
            return output.elements * terms if terms > 1 else 0
        case ops.Conv(window, _, pad_value):
            if scales_channels(step.op.attributes, tensors[0].shape, tensors[1].shape):
                return 0
            # XLA for processors makes a dense convolution of an integer one in groups, its other weights zero.
            dense = 1 if tensors[0].format.is_float else step.op.attributes.groups
            return dense * _convolved(window, tensors, output, padded=bool(pad_value))
        case _:
            return 0


def _convolved(window: ops.Window, tensors: list[Tensor], output: Tensor, *, padded: bool) -> int:
    taps = 1
    for axis, extent in enumerate(tensors[0].shape[2:]):
        pads = (window.pads_begin[axis], window.pads_end[axis])
        fields = (window.kernel[axis], window.strides[axis], window.dilations[axis])
        taps *= _valid(extent, output.shape[2 + axis], *fields, pads[0], whole=padded)
    return output.shape[0] * output.shape[1] * tensors[1].shape[1] * taps


def _valid(extent: int, places: int, kernel: int, stride: int, dilation: int, begin: int, *, whole: bool = False) -> int:
    """Taps of all places of a window along one axis that lie on elements."""
    taps = np.arange(places)[:, None] * stride - begin + np.arange(kernel) * dilation
    return taps.size if whole else int(np.count_nonzero((taps >= 0) & (taps < extent)))


def compiled_macs(hlo: str) -> int:
    """Multiply-accumulates of all dot and convolution instructions of a compiled module, as often as they run."""
    shapes, total = {name: _dims(dims) for name, dims in _DEFINED.findall(hlo)}, 0
    for text, times in computations(hlo):
        for result, left, contracted in _DOT.findall(text):
            total += times * math.prod(_dims(result)) * math.prod(shapes[left][axis] for axis in _dims(contracted))
        for result, left, kernel, window, *labels in _CONVOLUTION.findall(text):
            total += times * _instruction(_dims(result), shapes[left], shapes[kernel], window, *labels)
    return total


def _instruction(
    result: tuple[int, ...],
    left: tuple[int, ...],
    kernel: tuple[int, ...],
    window: str,
    of_left: str,
    of_kernel: str,
    of_result: str,
) -> int:
    fields = dict(entry.split("=") for entry in window.split())
    count = sum(label.isdigit() for label in of_left)

    def along(name: str, default: str) -> list[str]:
        return fields[name].split("x") if name in fields else [default] * count

    sizes, strides, dilations, pads = along("size", "1"), along("stride", "1"), along("rhs_dilate", "1"), along("pad", "0_0")
    taps = 1
    for axis in range(count):
        label, begin = str(axis), int(pads[axis].partition("_")[0])
        numbers = (int(sizes[axis]), int(strides[axis]), int(dilations[axis]), begin)
        taps *= _valid(left[of_left.index(label)], result[of_result.index(label)], *numbers)
    others = result[of_result.index("b")] * result[of_result.index("f")] * kernel[of_kernel.index("i")]
    return others * taps


def _dims(text: str) -> tuple[int, ...]:
    return tuple(int(extent) for extent in text.split(",") if extent)
