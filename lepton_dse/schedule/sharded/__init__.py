"""A graph on a mesh of devices: the steps that every device runs, exchanges among them."""

from lepton_dse.schedule.sharded.build import Strategies, sharded_program
from lepton_dse.schedule.sharded.program import Compute, Cut, Exchange, Halo, Shard, ShardedProgram, Step

__all__ = ["Compute", "Cut", "Exchange", "Halo", "Shard", "ShardedProgram", "Step", "Strategies", "sharded_program"]
