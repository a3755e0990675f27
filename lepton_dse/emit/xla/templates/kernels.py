"""The matrix product of tiled.py as a Pallas kernel for TPUs; needs jax and numpy.

Vector memory holds a tile of each operand and of the result, twice, so that copies overlap with the arrays, and the sums of one
tile of the result in 32 bits. The tiles are the plan's. Elsewhere than on a TPU the kernel is interpreted.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

INTERPRET = None
"""Whether kernels are interpreted; None where JAX finds no TPU."""
_SPARE = 1 << 20


def matmul(x, w, bias=None, *, tile, n_outer, to):
    """Matrix product over the last axis of x and the second-last of w, plus a bias.

    ``tile`` has rows, columns and summed length; ``n_outer`` says whether the loop over columns is outside that over rows. Axes
    before the last two of x belong to its rows where w has none of its own, and are those of w otherwise.
    """
    shape = (*x.shape[:-1], w.shape[-1])
    groups = w.shape[:-2]
    x = x.reshape(-1, x.shape[-2] if groups else x.size // x.shape[-1], x.shape[-1])
    w = w.reshape(-1, *w.shape[-2:])
    operands = [x, w] if bias is None else [x, w, bias.reshape(1, -1)]
    return _product(operands, tile, n_outer, jnp.dtype(to)).reshape(shape)


def _product(operands, tile, n_outer, to):
    x, w = operands[:2]
    (count, rows, length), columns = x.shape, w.shape[-1]
    m, n, k = tile
    sums = jnp.float32 if jnp.issubdtype(x.dtype, jnp.floating) else jnp.int32
    steps = (pl.cdiv(rows, m), pl.cdiv(columns, n), pl.cdiv(length, k))
    ragged = length % k

    def place(kind):
        """Which block of an operand a step of the grid reads."""

        def block(g, outer, inner, s):
            i, j = (inner, outer) if n_outer else (outer, inner)
            first = np.int32(0)  # a plain number has 64 bits, which kernels do not take
            return {"x": (g, i, s), "w": (g, s, j), "bias": (first, j), "y": (g, i, j)}[kind]

        return block

    def body(*refs):
        x, w, *bias, y, total = refs
        s = pl.program_id(3)

        @pl.when(s == 0)
        def _begin():
            total[...] = jnp.zeros_like(total)

        a, b = x[...], w[...]
        if ragged:  # beyond the end of what is summed stands anything at all
            left = length - s * k
            a = jnp.where(lax.broadcasted_iota(jnp.int32, a.shape, 1) < left, a, jnp.zeros_like(a))
            b = jnp.where(lax.broadcasted_iota(jnp.int32, b.shape, 0) < left, b, jnp.zeros_like(b))
        precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
        total[...] += jnp.dot(a, b, precision=precision, preferred_element_type=sums)

        @pl.when(s == pl.num_programs(3) - 1)
        def _end():
            found = total[...]
            for row in bias:
                found = found + row[...].astype(sums)
            y[...] = found.astype(y.dtype)

    specs = [pl.BlockSpec((None, m, k), place("x")), pl.BlockSpec((None, k, n), place("w")), pl.BlockSpec((1, n), place("bias"))]
    held = 2 * (m * k + k * n) * x.dtype.itemsize + 2 * m * n * to.itemsize + 4 * m * n
    stack = 4 * m * k * x.dtype.itemsize  # x again, for further columns of arrays and as the parts of float32
    return pl.pallas_call(
        body,
        grid=(count, steps[1], steps[0], steps[2]) if n_outer else (count, steps[0], steps[1], steps[2]),
        in_specs=specs[: len(operands)],
        out_specs=pl.BlockSpec((None, m, n), place("y")),
        out_shape=jax.ShapeDtypeStruct((count, rows, columns), to),
        scratch_shapes=[pltpu.VMEM((m, n), sums)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=held + stack + _SPARE,
        ),
        interpret=jax.default_backend() != "tpu" if INTERPRET is None else INTERPRET,
    )(*operands)
