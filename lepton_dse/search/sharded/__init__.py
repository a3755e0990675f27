"""How a graph is best split over a mesh of devices: choices of each operation, their prices, and the cheapest that agree."""

from lepton_dse.search.sharded.planner import ShardedPlan, plan_sharding
from lepton_dse.search.sharded.pricing import StepPrices, prices_of
from lepton_dse.search.sharded.stages import plan_stages, send_seconds

__all__ = ["ShardedPlan", "StepPrices", "plan_sharding", "plan_stages", "prices_of", "send_seconds"]
