"""A graph on a mesh of devices: the steps that every device runs, exchanges among them."""

from lepton_dse.schedule.sharded.build import OpStrategy, Strategies, sharded_program
from lepton_dse.schedule.sharded.planned import planned_sharding, sharding_of, unshared_program
from lepton_dse.schedule.sharded.program import Compute, Cut, Exchange, Halo, Shard, ShardedProgram, Step

__all__ = [
    "Compute",
    "Cut",
    "Exchange",
    "Halo",
    "OpStrategy",
    "Shard",
    "ShardedProgram",
    "Step",
    "Strategies",
    "planned_sharding",
    "sharded_program",
    "sharding_of",
    "unshared_program",
]
