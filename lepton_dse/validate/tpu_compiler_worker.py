"""Compiles products and convolutions for a TPU that need not be there, and prints the programs; a process of its own.

Run as ``python -m lepton_dse.validate.tpu_compiler_worker`` with a :class:`Request` as JSON on standard input; the last line of
standard output is a :class:`Compiled`. libtpu reads its environment once, logs to standard error and may end its process,
hence the separate one. Only this module uses JAX and libtpu.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Compiled", "Request", "compile_programs"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Frozen):
    """What to compile."""

    topology: str
    """Generation and extents in chips, as libtpu names them: ``v5e:2x2``."""
    options: dict[str, str]
    """Options of the compiler."""
    products: tuple[tuple[int, int, int], ...]
    """M, N and K."""
    convolutions: tuple[tuple[int, int, int, int, int, int], ...]
    """Images, channels, side of an image, filters, side of the window, stride."""


class Compiled(_Frozen):
    """What came out."""

    versions: str
    device: str
    """As the compiler calls it."""
    devices: int
    """Devices in the topology: its chips, or twice as many where a device is one of two cores."""
    products: tuple[str, ...]
    """Programs as HLO text after scheduling, in the order of the request."""
    convolutions: tuple[str, ...]


def compile_programs(request: Request) -> Compiled:
    """Each product and convolution in bfloat16 as a program for one device of the topology.

    Parameters
    ----------
    request : Request

    Raises
    ------
    ImportError
        If JAX is not installed.
    RuntimeError
        If libtpu is absent or refuses the topology, an option or a program.
    """
    jax, topologies, sharding = (importlib.import_module(name) for name in ("jax", "jax.experimental.topologies", "jax.sharding"))
    devices = topologies.get_topology_desc(platform="tpu", topology_name=request.topology).devices
    placed = sharding.SingleDeviceSharding(devices[0])

    def text(function: Any, *shapes: tuple[int, ...]) -> str:
        operands = [jax.ShapeDtypeStruct(shape, jax.numpy.bfloat16) for shape in shapes]
        lowered = jax.jit(function, in_shardings=placed, out_shardings=placed).lower(*operands)
        return str(lowered.compile(compiler_options=request.options).as_text())

    def convolve(stride: int, pad: int) -> Any:
        return lambda x, w: jax.lax.conv_general_dilated(
            x, w, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    return Compiled(
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu")),
        device=devices[0].device_kind,
        devices=len(devices),
        products=tuple(text(jax.numpy.matmul, (m, k), (k, n)) for m, n, k in request.products),
        convolutions=tuple(
            text(convolve(stride, side // 2), (images, extent, extent, channels), (side, side, channels, filters))
            for images, channels, extent, filters, side, stride in request.convolutions
        ),
    )


if __name__ == "__main__":
    print(compile_programs(Request.model_validate_json(sys.stdin.read())).model_dump_json())
