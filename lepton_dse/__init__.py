"""lepton_dse: hardware-aware design-space exploration for neural networks.

Five nouns carry the system: Graph, Target, Plan, Study and Artefact. The verbs below each take values and return a new one::

    import lepton_dse as ld

    graph = ld.load("model.onnx")
    plan = ld.plan(graph, "amd-zynq-7020", format="int8", data=ld.Dataset.read("data.npz"))
    ld.emit(plan, "out/")
    print(ld.verify("out/").passed)

Names are imported on first use, so that ``import lepton_dse`` stays fast. Three verbs share their name with the module that
they come from (``plan``, ``emit``, ``verify``): as attributes of the package they are always the verbs, and the modules are
reached with ``from lepton_dse.plan import ...``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton_dse.bundle import Bundle as Bundle
    from lepton_dse.compress.codebook import Codebook as Codebook
    from lepton_dse.compress.codebook import reread as reread
    from lepton_dse.compress.codebook import share as share
    from lepton_dse.compress.equalize import equalize as equalize
    from lepton_dse.compress.equalize import smooth as smooth
    from lepton_dse.compress.prune import masked as masked
    from lepton_dse.compress.prune import prune as prune
    from lepton_dse.compress.trainable.schedule import Schedule as Schedule
    from lepton_dse.compress.training import distil as distil
    from lepton_dse.compress.training import fine_tune as fine_tune
    from lepton_dse.data import Dataset as Dataset
    from lepton_dse.errors import LeptonError as LeptonError
    from lepton_dse.flow import PlannedModel as PlannedModel
    from lepton_dse.flow import Verification as Verification
    from lepton_dse.flow import accuracy as accuracy
    from lepton_dse.flow import allocate as allocate
    from lepton_dse.flow import cost as cost
    from lepton_dse.flow import emit as emit
    from lepton_dse.flow import plan as plan
    from lepton_dse.flow import quantize as quantize
    from lepton_dse.flow import read_plan as read_plan
    from lepton_dse.flow import shard as shard
    from lepton_dse.flow import tile as tile
    from lepton_dse.flow import to_onnx as to_onnx
    from lepton_dse.flow import verify as verify
    from lepton_dse.importers import block_graph as block_graph
    from lepton_dse.importers import load_model as load  # noqa: F401 (the verb has a shorter name)
    from lepton_dse.importers import read_transformer as read_transformer
    from lepton_dse.ir.graph import Graph as Graph
    from lepton_dse.memory import MemoryMap as MemoryMap
    from lepton_dse.memory import map_memory as map_memory
    from lepton_dse.plan import CostReport as CostReport
    from lepton_dse.plan import Plan as Plan
    from lepton_dse.search.tiling import Hierarchy as Hierarchy
    from lepton_dse.search.tiling import Level as Level
    from lepton_dse.search.tiling import NetworkTiles as NetworkTiles
    from lepton_dse.study import Space as Space
    from lepton_dse.study import Study as Study
    from lepton_dse.study import Sweep as Sweep
    from lepton_dse.targets import cluster_names as cluster_names
    from lepton_dse.targets import load_cluster as load_cluster
    from lepton_dse.targets import load_target as load_target
    from lepton_dse.targets import target_names as target_names
    from lepton_dse.targets import with_numbers as with_numbers

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "lepton_dse.bundle:Bundle",
    "Codebook": "lepton_dse.compress.codebook:Codebook",
    "CostReport": "lepton_dse.plan:CostReport",
    "Dataset": "lepton_dse.data:Dataset",
    "Graph": "lepton_dse.ir.graph:Graph",
    "Hierarchy": "lepton_dse.search.tiling:Hierarchy",
    "LeptonError": "lepton_dse.errors:LeptonError",
    "Level": "lepton_dse.search.tiling:Level",
    "MemoryMap": "lepton_dse.memory:MemoryMap",
    "NetworkTiles": "lepton_dse.search.tiling:NetworkTiles",
    "Plan": "lepton_dse.plan:Plan",
    "PlannedModel": "lepton_dse.flow:PlannedModel",
    "Schedule": "lepton_dse.compress.trainable.schedule:Schedule",
    "Space": "lepton_dse.study:Space",
    "Study": "lepton_dse.study:Study",
    "Sweep": "lepton_dse.study:Sweep",
    "Verification": "lepton_dse.flow:Verification",
    "accuracy": "lepton_dse.flow:accuracy",
    "allocate": "lepton_dse.flow:allocate",
    "block_graph": "lepton_dse.importers:block_graph",
    "cluster_names": "lepton_dse.targets:cluster_names",
    "cost": "lepton_dse.flow:cost",
    "distil": "lepton_dse.compress.training:distil",
    "emit": "lepton_dse.flow:emit",
    "equalize": "lepton_dse.compress.equalize:equalize",
    "fine_tune": "lepton_dse.compress.training:fine_tune",
    "load": "lepton_dse.importers:load_model",
    "load_cluster": "lepton_dse.targets:load_cluster",
    "load_target": "lepton_dse.targets:load_target",
    "map_memory": "lepton_dse.memory:map_memory",
    "masked": "lepton_dse.compress.prune:masked",
    "plan": "lepton_dse.flow:plan",
    "prune": "lepton_dse.compress.prune:prune",
    "quantize": "lepton_dse.flow:quantize",
    "read_plan": "lepton_dse.flow:read_plan",
    "read_transformer": "lepton_dse.importers:read_transformer",
    "reread": "lepton_dse.compress.codebook:reread",
    "shard": "lepton_dse.flow:shard",
    "share": "lepton_dse.compress.codebook:share",
    "smooth": "lepton_dse.compress.equalize:smooth",
    "target_names": "lepton_dse.targets:target_names",
    "tile": "lepton_dse.flow:tile",
    "to_onnx": "lepton_dse.flow:to_onnx",
    "verify": "lepton_dse.flow:verify",
    "with_numbers": "lepton_dse.targets:with_numbers",
}

__all__ = list(_HOMES)


class _Facade(ModuleType):
    """Keeps the import system from binding a submodule over the verb of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lepton_dse' has no attribute '{name}'")
    module, attribute = home.split(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
