"""The checks of matrix products that are kernels: what the source gives with them, and which grids and blocks they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lepton_dse.emit.xla.tiles import TiledProduct
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.schedule.sharded import FoldedProgram, result_of
from lepton_dse.verify.xla.process import Observation, observe

__all__ = ["KERNEL_CHECKS", "kernel_checks"]

KERNEL_CHECKS = ("tiled_outputs_equal", "kernels_equal")
_Form = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]


def kernel_checks(
    folder: Path,
    folded: FoldedProgram,
    tiles: Mapping[str, TiledProduct],
    scratch: Path,
    outputs: Callable[[str, Observation], Check],
) -> Iterator[Check]:
    """Checks of the source with kernels, which are interpreted.

    Parameters
    ----------
    folder : Path
        The artefact.
    folded : FoldedProgram
    tiles : mapping of str to TiledProduct
        The plan's, by the shard that a product gives.
    scratch : Path
    outputs : callable
        Compares what a run gave with the reference.
    """
    found = observe(folder, scratch / "tiled", "--tiled")
    yield outputs(KERNEL_CHECKS[0], found)
    rounds = {result_of(step): loop.count for loop in folded.loops for step in loop.body}
    wanted: Counter[_Form] = Counter()
    for shard, product in tiles.items():
        wanted[product.grid, product.blocks] += rounds.get(shard, 1)
    seen: Counter[_Form] = Counter()
    for kernel in found.kernels:
        seen[kernel.grid, kernel.blocks] += kernel.times
    status = CheckStatus.PASSED if wanted == seen else CheckStatus.FAILED
    reason = "; ".join([*_said("missing", wanted - seen), *_said("not planned", seen - wanted)])
    yield Check(name=KERNEL_CHECKS[1], predicted=wanted.total(), observed=seen.total(), status=status, reason=reason)


def _said(what: str, forms: Counter[_Form]) -> Iterator[str]:
    for (grid, blocks), count in sorted(forms.items()):
        yield f"{what}: {count} kernels of grid {list(grid)}, blocks {' '.join('x'.join(map(str, block)) for block in blocks)}"
