"""Memory that is mapped: which tensor lives when, and where in one arena."""

from lepton_dse.memory.arena import ALIGNMENT, Block, Placement, place
from lepton_dse.memory.mapping import MemoryMap, Place, map_memory, packed_bytes

__all__ = ["ALIGNMENT", "Block", "MemoryMap", "Place", "Placement", "map_memory", "packed_bytes", "place"]
