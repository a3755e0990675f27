"""Closed forms of blocked products on a CPU: lines that each cache brings in, and time."""

from lepton_dse.sim.cpu.machine import core_of, work_of
from lepton_dse.sim.cpu.misses import Misses, Nest, level_misses, nest_of, walked_sets
from lepton_dse.sim.cpu.pricing import Core, Price, Work, arithmetic_s, best_blocking, price, price_nest
from lepton_dse.sim.cpu.survival import occupancy, survival

__all__ = [
    "Core",
    "Misses",
    "Nest",
    "Price",
    "Work",
    "arithmetic_s",
    "best_blocking",
    "core_of",
    "level_misses",
    "nest_of",
    "occupancy",
    "price",
    "price_nest",
    "survival",
    "walked_sets",
    "work_of",
]
