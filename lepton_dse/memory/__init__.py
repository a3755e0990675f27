"""Memory that is mapped: in which order operations run, which tensor lives when, and where in one arena."""

from lepton_dse.memory.arena import ALIGNMENT, Block, Placement, place
from lepton_dse.memory.mapping import arena_bytes, check_map, in_less_memory, map_memory, packed_bytes, stored_bytes
from lepton_dse.memory.order import Order, least_order
from lepton_dse.plan import MemoryMap, Place

__all__ = [
    "ALIGNMENT",
    "Block",
    "MemoryMap",
    "Order",
    "Place",
    "Placement",
    "arena_bytes",
    "check_map",
    "in_less_memory",
    "least_order",
    "map_memory",
    "packed_bytes",
    "place",
    "stored_bytes",
]
