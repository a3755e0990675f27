"""Compiles tiled products written in Pallas for a TPU that need not be there, and prints which are taken; a process of its own.

Run as ``python -m lepton_dse.validate.tpu_vmem_worker`` with a :class:`TileRequest` as JSON on standard input; the last line of
standard output is a :class:`Taken`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from typing import Any

from pydantic import BaseModel, ConfigDict

from lepton_dse.sim.tpu.vmem import block_bytes

__all__ = ["Taken", "TileRequest", "compile_tiles"]

_SIZE = re.compile(r"[Ss]coped allocation with size ([0-9.]+)([KMG]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TileRequest(_Frozen):
    """What to compile."""

    topology: str
    tiles: tuple[tuple[int, int, int], ...]
    """Rows, columns and summed length of a tile."""


class Taken(_Frozen):
    """What came of each tile."""

    versions: str
    accepted: tuple[bool, ...]
    """Under the compiler's own limit."""
    needed: tuple[float, ...]
    """Bytes by the compiler's message where it is allowed no more than the blocks take; these where that is enough."""


def compile_tiles(request: TileRequest) -> Taken:
    """Each tile twice: under the compiler's limit, and under one that shows what it needs.

    Raises
    ------
    ImportError
        If JAX is not installed.
    RuntimeError
        If libtpu is absent, or refuses a kernel for another reason than its memory.
    """
    names = ("jax", "jax.numpy", "jax.experimental.pallas", "jax.experimental.pallas.tpu", "jax.experimental.topologies")
    jax, jnp, pl, pltpu, topologies = (importlib.import_module(name) for name in names)
    sharding = importlib.import_module("jax.sharding")
    device = topologies.get_topology_desc(platform="tpu", topology_name=request.topology).devices[0]
    placed = sharding.SingleDeviceSharding(device)

    def body(x: Any, w: Any, y: Any, sums: Any) -> None:
        def begin() -> None:
            sums[...] = jnp.zeros_like(sums)

        def end() -> None:
            y[...] = sums[...].astype(y.dtype)

        pl.when(pl.program_id(2) == 0)(begin)
        sums[...] += jnp.dot(x[...], w[...], preferred_element_type=jnp.float32)
        pl.when(pl.program_id(2) == pl.num_programs(2) - 1)(end)

    def message(tile: tuple[int, int, int], limit: int | None) -> str:
        """What the compiler says; empty where it takes the kernel."""
        m, n, k = tile
        options = {} if limit is None else {"compiler_params": pltpu.CompilerParams(vmem_limit_bytes=limit)}
        kernel = pl.pallas_call(
            body,
            grid=(2, 2, 2),
            in_specs=[pl.BlockSpec((m, k), lambda i, j, s: (i, s)), pl.BlockSpec((k, n), lambda i, j, s: (s, j))],
            out_specs=pl.BlockSpec((m, n), lambda i, j, s: (i, j)),
            out_shape=jax.ShapeDtypeStruct((2 * m, 2 * n), jnp.bfloat16),
            scratch_shapes=[pltpu.VMEM((m, n), jnp.float32)],
            **options,
        )
        operands = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((2 * m, 2 * k), (2 * k, 2 * n)))
        try:
            jax.jit(kernel, in_shardings=placed, out_shardings=placed).lower(*operands).compile()
        except jax.errors.JaxRuntimeError as error:
            if _SIZE.search(str(error)) is None:
                raise
            return str(error)
        return ""

    accepted = tuple(not message(tile, None) for tile in request.tiles)
    needed = []
    for tile in request.tiles:
        found = _SIZE.search(message(tile, block_bytes(*tile)))
        needed.append(float(block_bytes(*tile)) if found is None else float(found[1]) * _UNITS[found[2]])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
    return Taken(versions=versions, accepted=accepted, needed=tuple(needed))


if __name__ == "__main__":
    print(compile_tiles(TileRequest.model_validate_json(sys.stdin.read())).model_dump_json())
