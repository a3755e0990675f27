"""Traffic of a loop nest under a mapping: what each level of memory holds, how often it is filled, and the bytes that move."""

from lepton_dse.sim.loopnest.problem import Halo, Operand, Problem, problem_of
from lepton_dse.sim.loopnest.traffic import LevelMapping, NestMapping, Traffic, traffic

__all__ = ["Halo", "LevelMapping", "NestMapping", "Operand", "Problem", "Traffic", "problem_of", "traffic"]
