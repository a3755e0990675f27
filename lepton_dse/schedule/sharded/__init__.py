"""A graph on a mesh of devices: the steps that every device runs, exchanges among them."""

from lepton_dse.schedule.sharded.build import OpStrategy, Strategies, sharded_program
from lepton_dse.schedule.sharded.folding import FoldedProgram, Loop, fold
from lepton_dse.schedule.sharded.planned import planned_sharding, planned_stages, sharding_of, unshared_program
from lepton_dse.schedule.sharded.program import (
    Compute,
    Cut,
    Exchange,
    Halo,
    Shard,
    ShardedProgram,
    Step,
    operands_of,
    result_of,
)
from lepton_dse.schedule.sharded.stages import StagedProgram, Transfer, staged_program

__all__ = [
    "Compute",
    "Cut",
    "Exchange",
    "FoldedProgram",
    "Halo",
    "Loop",
    "OpStrategy",
    "Shard",
    "ShardedProgram",
    "StagedProgram",
    "Step",
    "Strategies",
    "Transfer",
    "fold",
    "operands_of",
    "planned_sharding",
    "planned_stages",
    "result_of",
    "sharded_program",
    "sharding_of",
    "staged_program",
    "unshared_program",
]
