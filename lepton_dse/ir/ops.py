"""The operations of a graph: a kind, its attributes, and the tensors it reads and writes.

An attribute class per kind; the class *is* the kind, so no attribute is looked up by a string. Shapes and loop bounds
follow from the attributes and the input shapes (:mod:`lepton_dse.ir.shapes`, :mod:`lepton_dse.ir.loops`); the meaning of
each operation in NumPy is in :mod:`lepton_dse.ir.semantics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lepton_dse.numerics.formats import NumberFormat

__all__ = [
    "ATTRIBUTES",
    "Add",
    "AddRequantize",
    "Affine",
    "ArgMax",
    "Attributes",
    "AveragePool",
    "Binary",
    "BinaryFunction",
    "Cast",
    "Clip",
    "Compare",
    "Concat",
    "Conv",
    "Dequantize",
    "Expand",
    "Gather",
    "Gelu",
    "LayerNorm",
    "LeakyRelu",
    "LocalResponseNorm",
    "Lookup",
    "MatMul",
    "MaxPool",
    "Op",
    "Pad",
    "PadMode",
    "Quantize",
    "Reduce",
    "ReduceFunction",
    "Relation",
    "Requantize",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SumPool",
    "Tanh",
    "Transpose",
    "Unary",
    "UnaryFunction",
    "Where",
    "Window",
]


class PadMode(Enum):
    """How values outside a tensor are made up."""

    CONSTANT = "constant"
    REFLECT = "reflect"
    EDGE = "edge"


class BinaryFunction(Enum):
    """What a :class:`Binary` computes of a and b."""

    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    POWER = "power"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


class UnaryFunction(Enum):
    """What a :class:`Unary` computes of x."""

    NEGATE = "negate"
    ABSOLUTE = "absolute"
    SQUARE_ROOT = "square_root"
    RECIPROCAL = "reciprocal"
    EXPONENTIAL = "exponential"
    LOGARITHM = "logarithm"
    ERROR_FUNCTION = "error_function"


class Relation(Enum):
    """What a :class:`Compare` asks of a and b."""

    EQUAL = "equal"
    LESS = "less"
    LESS_OR_EQUAL = "less_or_equal"
    GREATER = "greater"
    GREATER_OR_EQUAL = "greater_or_equal"


class ReduceFunction(Enum):
    """What a :class:`Reduce` makes of the elements along its axes."""

    SUM = "sum"
    MEAN = "mean"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes (those after batch and channel).

    Parameters
    ----------
    kernel, strides, dilations : tuple of int
        One entry per spatial axis, each at least 1.
    pads_begin, pads_end : tuple of int
        Elements added before and after each spatial axis, each at least 0. A ceiling-mode pool whose last window
        overhangs is stored with the end padding that the overhang amounts to.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]

    @classmethod
    def full(cls, extent: tuple[int, ...]) -> Window:
        """The window that covers the whole of `extent` once."""
        ones, zeros = (1,) * len(extent), (0,) * len(extent)
        return cls(extent, extent, ones, zeros, zeros)

    @property
    def taps(self) -> int:
        """Positions in one window."""
        count = 1
        for size in self.kernel:
            count *= size
        return count

    def output_extent(self, extent: tuple[int, ...]) -> tuple[int, ...]:
        """Window positions along each spatial axis of an input of `extent`."""
        return tuple(
            (size + begin + end - ((kernel - 1) * dilation + 1)) // stride + 1
            for size, kernel, stride, dilation, begin, end in zip(
                extent, self.kernel, self.strides, self.dilations, self.pads_begin, self.pads_end, strict=True
            )
        )


@dataclass(frozen=True)
class Conv:
    """Cross-correlation. Inputs: x (N, C, *S), w (M, C/groups, *K) and optionally b (M,). Output (N, M, *T).

    Integer inputs give the exact accumulator; padding then stands for real zero, the integer `pad_value`.
    """

    window: Window
    groups: int = 1
    pad_value: int = 0


@dataclass(frozen=True)
class MatMul:
    """Matrix product over the last axis of x and the second-last of w, batch axes broadcast; plus a bias (M,), if any."""


@dataclass(frozen=True)
class Affine:
    """``x * scale[c] + shift[c]`` over channel axis 1: a batch normalisation that no neighbour absorbed.

    Inputs x, scale (C,) and shift (C,).
    """


@dataclass(frozen=True)
class Add:
    """Elementwise sum of two tensors with NumPy broadcasting."""


@dataclass(frozen=True)
class Binary:
    """``function(a, b)`` element by element with NumPy broadcasting: ``a - b``, ``a * b``, ``a / b``, ``a ** b``, min or max.

    Both inputs have one format, which the result has too.
    """

    function: BinaryFunction


@dataclass(frozen=True)
class Compare:
    """Whether ``a relation b``, element by element with NumPy broadcasting; the result is bool."""

    relation: Relation


@dataclass(frozen=True)
class Where:
    """``a`` where the condition holds, else ``b``. Inputs condition (bool), a and b, with NumPy broadcasting of all three."""


@dataclass(frozen=True)
class Unary:
    """``function(x)`` element by element: ``-x``, ``|x|``, square root, ``1 / x``, ``exp(x)``, natural logarithm, ``erf(x)``."""

    function: UnaryFunction


@dataclass(frozen=True)
class Gelu:
    """``x * (1 + erf(x / sqrt(2))) / 2``; approximate: ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) / 2``."""

    approximate: bool = False


@dataclass(frozen=True)
class Cast:
    """The same numbers in the format `to`: reals truncated towards zero where that is an integer, nonzero is true for bool."""

    to: NumberFormat


@dataclass(frozen=True)
class Clip:
    """``min(max(x, low), high)``; Relu is low 0, high infinity. On integer tensors the bounds are integers."""

    low: float
    high: float


@dataclass(frozen=True)
class LeakyRelu:
    """``x`` where ``x >= 0``, else ``alpha * x``."""

    alpha: float


@dataclass(frozen=True)
class Sigmoid:
    """``1 / (1 + exp(-x))``."""


@dataclass(frozen=True)
class Tanh:
    """Hyperbolic tangent."""


@dataclass(frozen=True)
class Softmax:
    """``exp(x) / sum(exp(x))`` along `axes`, normalised together (several for the operator's older, flattening form)."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class LayerNorm:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``, mean and variance over `axes` together.

    Inputs x, scale and shift; the latter two have the extents of x along `axes`, in ascending order. The variance is the mean
    of the squared differences from the mean.
    """

    axes: tuple[int, ...]
    epsilon: float


@dataclass(frozen=True)
class Reduce:
    """Sum, mean, least or greatest of the elements along `axes`, which stay with extent 1 or vanish."""

    function: ReduceFunction
    axes: tuple[int, ...]
    keepdims: bool


@dataclass(frozen=True)
class ArgMax:
    """Index of the greatest element along `axis`; ties to the first unless `last`."""

    axis: int
    keepdims: bool
    last: bool = False


@dataclass(frozen=True)
class MaxPool:
    """Greatest element of each window; padding never wins."""

    window: Window


@dataclass(frozen=True)
class AveragePool:
    """Mean of each window, over all taps or over those inside the tensor.

    `overhang` elements of the end padding exist only because of ceiling mode and never count.
    """

    window: Window
    count_include_pad: bool = False
    overhang: tuple[int, ...] = ()


@dataclass(frozen=True)
class LocalResponseNorm:
    """``x / (bias + alpha / size * sum of squares over size neighbouring channels) ** beta``."""

    size: int
    alpha: float
    beta: float
    bias: float


@dataclass(frozen=True)
class Pad:
    """Padding of every axis by `begin` and `end` elements (negative crops)."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    mode: PadMode = PadMode.CONSTANT
    value: float = 0.0


@dataclass(frozen=True)
class Concat:
    """Concatenation along `axis`."""

    axis: int


@dataclass(frozen=True)
class Reshape:
    """The same elements in row-major order under a new shape."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """Axes in the order `permutation`."""

    permutation: tuple[int, ...]


@dataclass(frozen=True)
class Expand:
    """x repeated to `shape` by NumPy broadcasting."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """Elements ``begin + step * i`` for ``0 <= i < extent`` along every axis, all of them inside the tensor; no step is 0."""

    begin: tuple[int, ...]
    extent: tuple[int, ...]
    step: tuple[int, ...]


@dataclass(frozen=True)
class Gather:
    """Slices of x along `axis`, one for each index. Inputs x and indices (integers); the axes of the indices replace `axis`.

    A negative index counts from the end. One outside the axis is an error.
    """

    axis: int


# --- operations that appear only in a lowered graph ----------------------------------------------------------------


@dataclass(frozen=True)
class Quantize:
    """Real to integer with the output tensor's parameters: ``clamp(round_half_even(x / beta) + z)``."""


@dataclass(frozen=True)
class Dequantize:
    """Integer to real with the input tensor's parameters: ``beta * (q - z)`` in float32."""


@dataclass(frozen=True)
class Requantize:
    """``clamp(((acc * M + 2**(shift-1)) >> shift) + zero, low, high)``. Inputs acc and M (broadcasts against acc)."""

    shift: int
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class AddRequantize:
    """Sum of two integer tensors of different scales with one rounding.

    ``clamp((((a - zero_a) * multiplier_a + (b - zero_b) * multiplier_b + 2**(shift-1)) >> shift) + zero, low, high)``
    """

    zero_a: int
    zero_b: int
    multiplier_a: int
    multiplier_b: int
    shift: int
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class SumPool:
    """Exact sum of ``x - offset`` over the taps of each window that lie inside the tensor."""

    window: Window
    offset: int = 0


@dataclass(frozen=True)
class Lookup:
    """``table[x - least]`` where `least` is the least value of x's format. Inputs x and the table."""

    least: int


Attributes = (
    Conv
    | MatMul
    | Affine
    | Add
    | Binary
    | Compare
    | Where
    | Unary
    | Gelu
    | Cast
    | Clip
    | LeakyRelu
    | Sigmoid
    | Tanh
    | Softmax
    | LayerNorm
    | Reduce
    | ArgMax
    | MaxPool
    | AveragePool
    | LocalResponseNorm
    | Pad
    | Concat
    | Reshape
    | Transpose
    | Expand
    | Slice
    | Gather
    | Quantize
    | Dequantize
    | Requantize
    | AddRequantize
    | SumPool
    | Lookup
)

ATTRIBUTES: dict[str, type[Attributes]] = {kind.__name__: kind for kind in Attributes.__args__}


@dataclass(frozen=True)
class Op:
    """One operation.

    Parameters
    ----------
    name : str
        Unique in its graph.
    attributes : Attributes
        The kind and its attributes.
    inputs : tuple of str
        Tensor names, in the order that the kind documents.
    output : str
        The tensor that it alone produces.
    """

    name: str
    attributes: Attributes
    inputs: tuple[str, ...]
    output: str

    @property
    def kind(self) -> str:
        """Name of the operation's kind, for people and for files."""
        return type(self.attributes).__name__
