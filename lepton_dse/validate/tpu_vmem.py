"""Which tiles of a product the TPU compiler takes as a Pallas kernel, beside what is predicted of their memory.

Tiles are drawn once; those near the limit more often. For each the compiler is asked twice: whether it takes the kernel, and,
allowed no more than the blocks, how many bytes it needs. Rows compare bytes; a note counts what was taken or refused as
predicted.
"""

from __future__ import annotations

import numpy as np
from pydantic import ValidationError

from lepton_dse.sim.tpu.vmem import V5E_LIMIT, pallas_bytes
from lepton_dse.validate.protocol import Context, Suite, SuiteResult, UnavailableError, row, score
from lepton_dse.validate.tpu_compiler import GENERATIONS, worker_answer
from lepton_dse.validate.tpu_vmem_worker import Taken, TileRequest

__all__ = ["SUITES", "drawn_tiles"]

_EXTENTS = (128, 256, 384, 512, 640, 768, 896, 1024, 1280, 1536, 2048)
_COUNT, _NEAR = 40, 18
_WITHIN = 0.2


def drawn_tiles() -> tuple[tuple[int, int, int], ...]:
    """Forty tiles, eighteen of them within a fifth of the limit by prediction."""
    generator, near = np.random.default_rng(2), 0
    found: list[tuple[int, int, int]] = []
    while len(found) < _COUNT:
        m, n, k = (int(extent) for extent in generator.choice(_EXTENTS, 3))
        size = pallas_bytes(m, n, k) / V5E_LIMIT
        close = abs(size - 1) <= _WITHIN
        if (m, n, k) in found or size > 3 or (not close and len(found) - near >= _COUNT - _NEAR) or (close and near >= _NEAR):
            continue
        found.append((m, n, k))
        near += close
    return tuple(found)


def _run(suite: Suite, context: Context) -> SuiteResult:
    tiles = drawn_tiles()
    context.progress(f"{suite.name}: compiling {2 * len(tiles)} kernels")
    text = worker_answer(
        "lepton_dse.validate.tpu_vmem_worker", TileRequest(topology=GENERATIONS["v5e"], tiles=tiles), GENERATIONS["v5e"]
    )
    try:
        taken = Taken.model_validate_json(text)
    except ValidationError as error:
        raise UnavailableError("the TPU compiler's process printed no result") from error
    rows = [row("x".join(map(str, tile)), pallas_bytes(*tile), needed) for tile, needed in zip(tiles, taken.needed, strict=True)]
    predicted = [pallas_bytes(*tile) <= V5E_LIMIT for tile in tiles]
    right = sum(ours == theirs for ours, theirs in zip(predicted, taken.accepted, strict=True))
    near = sum(abs(needed / V5E_LIMIT - 1) <= _WITHIN for needed in taken.needed)
    notes = (
        f"taken or refused as predicted: {right} of {len(tiles)}, {sum(taken.accepted)} taken; {near} within 20% of the limit",
        "the stack's two constants were fitted to 55 tiles of this compiler, one of which (896x768x1024) is among these",
        f"compiled by {taken.versions}",
    )
    return score(suite, rows, fitted=("share of X on the stack", "registers"), notes=notes)


SUITES = (
    Suite(
        "tpu-vmem",
        "vector memory that XLA's TPU back end (libtpu) needs for Pallas kernels on a v5e",
        "bytes of a tile MxNxK in bfloat16",
        _run,
    ),
)
