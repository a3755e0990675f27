"""Time and memory of a training step of a transformer over many devices."""

from lepton_dse.sim.transformer.step import Costs, Run, Step, Wire, step

__all__ = ["Costs", "Run", "Step", "Wire", "step"]
