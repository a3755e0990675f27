"""The matrix products of a plan that run as kernels of their own, with the tiles that the plan has for them.

A TPU plan of one device gives each product a tile of vector memory. Matrix products in float32, in bfloat16, or in integers of
eight bits that are summed in 32 become kernels, where both operands have the same batch or the second has none. Convolutions do
not: their tiles are of a product that nobody lays out in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lepton_dse.emit.xla.contraction import accumulator
from lepton_dse.emit.xla.types import element_type
from lepton_dse.ir import ops
from lepton_dse.plan import OpPlan, Plan
from lepton_dse.schedule.sharded import Compute, FoldedProgram, Loop, ShardedProgram

__all__ = ["TiledProduct", "tiled_products"]

_LEVEL = "vmem"
_LANES, _SUBLANES = 128, 8


@dataclass(frozen=True)
class TiledProduct:
    """A matrix product in tiles.

    Parameters
    ----------
    groups, m, n, k : int
        Products, and their extents.
    tile : tuple of int
        Of M, N and K.
    n_outer : bool
        Whether the loop over N is outside the loop over M; that over K is innermost.
    biased : bool
    """

    groups: int
    m: int
    n: int
    k: int
    tile: tuple[int, int, int]
    n_outer: bool
    biased: bool

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Steps of each loop, the outermost first."""
        m, n, k = (-(-extent // part) for extent, part in zip((self.m, self.n, self.k), self.tile, strict=True))
        return (self.groups, n, m, k) if self.n_outer else (self.groups, m, n, k)

    @property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Of the operands and of the result, axes of one entry left out."""
        m, n, k = self.tile
        bias = ((1, n),) if self.biased else ()
        return ((m, k), (k, n), *bias, (m, n))


def tiled_products(plan: Plan, folded: FoldedProgram) -> dict[str, TiledProduct]:
    """Products that run in tiles, by the shard that they give; of a loop, by that of its first round.

    Parameters
    ----------
    plan : Plan
    folded : FoldedProgram
        What it runs on one device.
    """
    if plan.sharding is not None:
        return {}
    plans = {entry.op: entry for entry in plan.ops}
    found: dict[str, TiledProduct] = {}
    for part in folded.parts:
        steps = zip(*part.rounds, strict=True) if isinstance(part, Loop) else [(part,)]
        for alike in steps:
            products = [_product(step, folded.program, plans) for step in alike if isinstance(step, Compute)]
            if products and products[0] is not None and all(product == products[0] for product in products):
                assert isinstance(alike[0], Compute)
                found[alike[0].op.output] = products[0]
    return found


def _product(step: Compute, program: ShardedProgram, plans: Mapping[str, OpPlan]) -> TiledProduct | None:
    planned = plans.get(step.op.name)
    tile = planned.mapping.tiles.get(_LEVEL) if planned is not None else None
    if planned is None or not tile or not isinstance(step.op.attributes, ops.MatMul) or not {"M", "N", "K"} <= set(tile):
        return None
    x, w = (program.shards[name].tensor for name in step.op.inputs[:2])
    output = program.shards[step.op.output].tensor
    kinds = {element_type(x.format), element_type(w.format)}
    if kinds not in ({"f32"}, {"bf16"}, {"i8"}) or (kinds == {"i8"} and accumulator(output) != "i32"):
        return None
    batch = w.shape[:-2]
    if batch and batch != x.shape[:-2]:
        return None
    groups, (k, n) = math.prod(batch), w.shape[-2:]
    m = x.elements // (groups * k) if x.elements else 0
    parts = (tile["M"], tile["N"], tile["K"])
    whole = all(
        part == extent or (part < extent and part % unit == 0)
        for part, extent, unit in zip(parts, (m, n, k), (_SUBLANES, _LANES, _LANES), strict=True)
    )
    order = planned.mapping.order
    outer = "N" in order and "M" in order and order.index("N") < order.index("M")
    return TiledProduct(groups, m, n, k, parts, outer, len(step.op.inputs) > 2) if whole else None
