"""Exact tile search over three levels of memory: branch and bound over a declared space, with a proof of the optimum."""

from lepton_dse.search.tiling.hierarchy import Hierarchy, Level
from lepton_dse.search.tiling.memo import remembered_tiles
from lepton_dse.search.tiling.network import NetworkTiles, hierarchy_of, tile_network
from lepton_dse.search.tiling.search import TileResult, search_tiles
from lepton_dse.search.tiling.space import MapSpace, Objective, Tiles

__all__ = [
    "Hierarchy",
    "Level",
    "MapSpace",
    "NetworkTiles",
    "Objective",
    "TileResult",
    "Tiles",
    "hierarchy_of",
    "remembered_tiles",
    "search_tiles",
    "tile_network",
]
