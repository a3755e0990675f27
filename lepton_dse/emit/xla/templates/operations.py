"""What the operations of model.py mean, on the part of one device; needs jax and numpy.

``to`` is the type that a result is stored in. Floats narrower than float32 are computed with in float32.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from jax.scipy.special import erf as error_function

_NARROW = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
_HIGHEST = lax.Precision.HIGHEST


def is_float(x):
    """Whether elements are floats."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def real(x):
    """Narrow floats in float32."""
    return x.astype(jnp.float32) if x.dtype.name in _NARROW else x


def wide(x):
    """Floats as they are computed with, integers in 64 bits."""
    return real(x) if is_float(x) else x.astype(jnp.int64)


# --- sums of products -------------------------------------------------------------------------------------------------


def multiplied(x, w, to):
    """Operands of a contraction in one type, and the type of its sum."""
    if is_float(x):
        sums = jnp.result_type(real(x), real(w))
        same = x.dtype == w.dtype and not x.dtype.name.startswith("float8")
        return (x, w, sums) if same else (x.astype(sums), w.astype(sums), sums)
    sums = jnp.int64 if jnp.dtype(to).itemsize == 8 else jnp.int32
    return (x, w, sums) if x.dtype == w.dtype == jnp.int8 and sums == jnp.int32 else (x.astype(sums), w.astype(sums), sums)


def matmul(x, w, bias=None, *, to):
    """Matrix product over the last axis of x and the second-last of w, plus a bias."""
    x, w, sums = multiplied(x, w, to)
    total = jnp.matmul(x, w, precision=_HIGHEST, preferred_element_type=sums)
    return (total if bias is None else total + bias.astype(sums)).astype(to)


def conv(x, w, bias=None, *, strides, pads, dilations, groups, pad_value, to):
    """Cross-correlation over the axes after batch and channel, plus a bias; padding stands for `pad_value`."""
    x, w, sums = multiplied(x, w, to)
    if groups == x.shape[1] == w.size and set(strides) == {1} and not any(map(any, pads)):  # a number for each channel
        total = x.astype(sums) * w.astype(sums).reshape(-1, *[1] * len(pads))
        return (total if bias is None else total + bias.astype(sums).reshape(-1, *[1] * len(pads))).astype(to)
    if pad_value:
        x = jnp.pad(x, ((0, 0), (0, 0), *pads), constant_values=pad_value)
        pads = ((0, 0),) * len(pads)
    total = lax.conv_general_dilated(
        x, w, strides, pads, rhs_dilation=dilations, feature_group_count=groups, precision=_HIGHEST, preferred_element_type=sums
    )
    if bias is not None:
        total = total + bias.astype(sums).reshape(-1, *[1] * len(pads))
    return total.astype(to)


# --- windows ------------------------------------------------------------------------------------------------------------


def windows(x, start, function, kernel, strides, dilations, pads):
    """Elements of each window brought together."""
    return lax.reduce_window(
        x,
        np.asarray(start, x.dtype),
        function,
        (1, 1, *kernel),
        (1, 1, *strides),
        ((0, 0), (0, 0), *pads),
        None,
        (1, 1, *dilations),
    )


def max_pool(x, *, kernel, strides, dilations, pads, to):
    """Greatest element of each window; padding never wins."""
    x = real(x)
    least = -np.inf if is_float(x) else jnp.iinfo(x.dtype).min
    return windows(x, least, lax.max, kernel, strides, dilations, pads).astype(to)


def sum_pool(x, *, kernel, strides, dilations, pads, offset, to):
    """Sum of ``x - offset`` over the taps of each window inside the array."""
    return windows(wide(x) - offset, 0, lax.add, kernel, strides, dilations, pads).astype(to)


def average_pool(x, *, kernel, strides, dilations, pads, overhang, count_include_pad, to):
    """Mean of each window, over all taps or over those inside; the overhang never counts."""
    x = wide(x)
    counted = jnp.ones((1, 1, *x.shape[2:]), x.dtype)
    around = pads
    if count_include_pad:
        inside = [(before, after - over) for (before, after), over in zip(pads, overhang, strict=True)]
        counted = jnp.pad(counted, ((0, 0), (0, 0), *inside), constant_values=1)
        around = [(0, over) for over in overhang]
    total = windows(x, 0, lax.add, kernel, strides, dilations, pads)
    return lax.div(total, jnp.broadcast_to(windows(counted, 0, lax.add, kernel, strides, dilations, around), total.shape)).astype(
        to
    )


# --- elements -------------------------------------------------------------------------------------------------------------


def add(a, b, *, to):
    """Sum."""
    return (wide(a) + wide(b)).astype(to)


def binary(a, b, *, function, to):
    """A function of two elements."""
    functions = {"subtract": jnp.subtract, "multiply": jnp.multiply, "divide": jnp.divide, "power": jnp.power}
    functions |= {"minimum": jnp.minimum, "maximum": jnp.maximum}
    return functions[function](wide(a), wide(b)).astype(to)


def compare(a, b, *, relation):
    """Whether ``a relation b``."""
    functions = {"equal": jnp.equal, "less": jnp.less, "less_or_equal": jnp.less_equal, "greater": jnp.greater}
    functions |= {"greater_or_equal": jnp.greater_equal}
    return functions[relation](wide(a), wide(b))


def where(condition, a, b, *, to):
    """`a` where the condition holds, else `b`."""
    return jnp.where(condition, a.astype(to), b.astype(to))


def unary(x, *, function, to):
    """A function of one element."""
    functions = {"negate": jnp.negative, "absolute": jnp.abs, "square_root": jnp.sqrt, "reciprocal": jnp.reciprocal}
    functions |= {"exponential": jnp.exp, "logarithm": jnp.log, "error_function": error_function}
    return functions[function](real(x)).astype(to)


def gelu(x, *, approximate, to):
    """``x * (1 + erf(x / sqrt(2))) / 2``, or its approximation by tanh."""
    x = real(x)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    curve = jnp.tanh(inner) if approximate else error_function(x * math.sqrt(0.5))
    return (0.5 * x * (1 + curve)).astype(to)


def cast(x, *, to):
    """The same numbers in another type."""
    return x != 0 if to == "bool" else x.astype(to)


def clip(x, *, low, high, to):
    """``min(max(x, low), high)``."""
    x = wide(x)
    x = jnp.maximum(x, low) if math.isfinite(low) else x
    return (jnp.minimum(x, high) if math.isfinite(high) else x).astype(to)


def leaky_relu(x, *, alpha, to):
    """`x` where it is at least 0, else ``alpha * x``."""
    x = real(x)
    return jnp.where(x >= 0, x, alpha * x).astype(to)


def sigmoid(x, *, to):
    """``1 / (1 + exp(-x))``."""
    return nn.sigmoid(real(x)).astype(to)


def tanh(x, *, to):
    """Hyperbolic tangent."""
    return jnp.tanh(real(x)).astype(to)


def affine(x, scale, shift, *, to):
    """``x * scale + shift`` by channel."""
    x, scale, shift = (wide(value) for value in (x, scale, shift))
    channel = (-1, *[1] * (x.ndim - 2))
    return (x * scale.reshape(channel) + shift.reshape(channel)).astype(to)


# --- along axes -------------------------------------------------------------------------------------------------------------


def reduce(x, *, function, axes, keepdims, to):
    """Sum, mean, least or greatest along axes."""
    functions = {"sum": jnp.sum, "mean": jnp.mean, "minimum": jnp.min, "maximum": jnp.max}
    return functions[function](wide(x), axis=axes, keepdims=keepdims).astype(to)


def argmax(x, *, axis, keepdims, last, to):
    """Place of the greatest element, the first or the last of equal ones."""
    if not last:
        return jnp.argmax(real(x), axis=axis, keepdims=keepdims).astype(to)
    return (x.shape[axis] - 1 - jnp.argmax(jnp.flip(real(x), axis), axis=axis, keepdims=keepdims)).astype(to)


def softmax(x, *, axes, to):
    """``exp(x) / sum(exp(x))`` along axes together."""
    return nn.softmax(real(x), axis=axes).astype(to)


def layer_norm(x, scale, shift, *, axes, epsilon, to):
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``."""
    x, scale, shift = (real(value) for value in (x, scale, shift))
    along = tuple(extent if axis in axes else 1 for axis, extent in enumerate(x.shape))
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=axes, keepdims=True)
    return (centred / jnp.sqrt(variance + epsilon) * scale.reshape(along) + shift.reshape(along)).astype(to)


def local_response_norm(x, *, size, alpha, beta, bias, to):
    """x over a power of the squares of neighbouring channels."""
    x = real(x)
    before = (size - 1) // 2
    around = ((0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2))
    ones = (1,) * x.ndim
    total = lax.reduce_window(jnp.square(x), np.asarray(0, x.dtype), lax.add, (1, size, *ones[2:]), ones, around)
    return (x / (bias + alpha / size * total) ** beta).astype(to)


# --- movement ------------------------------------------------------------------------------------------------------------------


def pad(x, *, begin, end, mode, value, to):
    """Padded at both ends of every axis; negative widths crop, last."""
    grown = [(max(before, 0), max(after, 0)) for before, after in zip(begin, end, strict=True)]
    x = jnp.pad(x, grown, constant_values=value) if mode == "constant" else jnp.pad(x, grown, mode=mode)
    return x[tuple(slice(max(-a, 0), extent - max(-b, 0)) for a, b, extent in zip(begin, end, x.shape, strict=True))].astype(to)


def concat(*values, axis, to):
    """Joined along an axis."""
    return jnp.concatenate(values, axis=axis).astype(to)


def reshape(x, *, shape, to):
    """The same elements in row-major order."""
    return x.reshape(shape).astype(to)


def transpose(x, *, permutation, to):
    """Axes in another order."""
    return x.transpose(permutation).astype(to)


def expand(x, *, shape, to):
    """Repeated to a shape."""
    return jnp.broadcast_to(x, shape).astype(to)


def take(x, *, begin, extent, step, to):
    """Elements ``begin + step * i`` along every axis."""
    kept = []
    for first, count, stride in zip(begin, extent, step, strict=True):
        end = first + count * stride
        kept.append(slice(first, end if end >= 0 else None, stride))
    return x[tuple(kept)].astype(to)


def gather(x, indices, *, axis, to):
    """Slices along an axis, one for each index; negative ones count from the end."""
    return jnp.take(x, indices, axis=axis, mode="wrap").astype(to)


# --- quantised -----------------------------------------------------------------------------------------------------------------


def quantize(x, *, scale, zero, low, high, to):
    """The quotient of float32, rounded to even; the compiler would otherwise multiply by a reciprocal."""
    ratio = (x.astype(jnp.float32).astype(jnp.float64) / scale.astype(np.float64)).astype(jnp.float32)
    if low is None:
        limit = min(float(jnp.finfo(to).max), float(np.finfo(np.float32).max))
        return jnp.clip(ratio, -limit, limit).astype(to)
    return jnp.clip(jnp.round(ratio).astype(jnp.float64) + zero, low, high).astype(jnp.int64).astype(to)


def dequantize(x, *, scale, zero, to):
    """``scale * (x - zero)``."""
    value = x if is_float(x) else x.astype(jnp.int64) - zero
    return (value.astype(jnp.float32) * scale).astype(to)


def requantize(acc, multiplier, *, shift, zero, low, high, to):
    """``((acc * multiplier + half) >> shift) + zero``, clipped."""
    product = acc.astype(jnp.int64) * multiplier.astype(jnp.int64)
    return jnp.clip(((product + (1 << (shift - 1))) >> shift) + zero, low, high).astype(to)


def add_requantize(a, b, *, zero_a, zero_b, multiplier_a, multiplier_b, shift, zero, low, high, to):
    """Two operands brought to one unit, added, and rounded once."""
    total = (a.astype(jnp.int64) - zero_a) * multiplier_a + (b.astype(jnp.int64) - zero_b) * multiplier_b
    return jnp.clip(((total + (1 << (shift - 1))) >> shift) + zero, low, high).astype(to)


def lookup(x, table, *, least, to):
    """An entry of a table for each element."""
    return table[x.astype(jnp.int64) - least].astype(to)


# --- between devices -----------------------------------------------------------------------------------------------------------


def own_part(x, axes, *, dimension, count):
    """A device's part of what all along some axes hold alike."""
    size = x.shape[dimension] // count
    return lax.dynamic_slice_in_dim(x, lax.axis_index(axes) * size, size, dimension)


def border(x, axis, *, devices, dimension, before, after, fill):
    """Rows of both neighbours around one's own; beyond both ends stands one value."""
    place, extent = lax.axis_index(axis), x.shape[dimension]
    parts = [x]
    if before:
        rows = lax.slice_in_dim(x, extent - before, extent, axis=dimension)
        rows = rows if devices == 1 else lax.ppermute(rows, axis, [(device, device + 1) for device in range(devices - 1)])
        parts.insert(0, jnp.where(place == 0, jnp.asarray(fill, x.dtype), rows))
    if after:
        rows = lax.slice_in_dim(x, 0, after, axis=dimension)
        rows = rows if devices == 1 else lax.ppermute(rows, axis, [(device + 1, device) for device in range(devices - 1)])
        parts.append(jnp.where(place == devices - 1, jnp.asarray(fill, x.dtype), rows))
    return jnp.concatenate(parts, axis=dimension)
