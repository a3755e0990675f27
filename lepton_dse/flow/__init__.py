"""The flow from a model to verified artefacts, each step a function from values to a new value.

    load -> quantize -> plan -> emit -> verify

Everything heavier than a check of arguments lives below; here the steps are only joined.
"""

from lepton_dse.flow.artefacts import Verification, emit, emitters_for, to_onnx, verify
from lepton_dse.flow.compression import allocate, quantize, recipe
from lepton_dse.flow.model import PlannedModel, read_plan
from lepton_dse.flow.planning import OBJECTIVES, plan
from lepton_dse.flow.prediction import accuracy, cost, tile
from lepton_dse.flow.sharding import shard

__all__ = [
    "OBJECTIVES",
    "PlannedModel",
    "Verification",
    "accuracy",
    "allocate",
    "cost",
    "emit",
    "emitters_for",
    "plan",
    "quantize",
    "read_plan",
    "recipe",
    "shard",
    "tile",
    "to_onnx",
    "verify",
]
