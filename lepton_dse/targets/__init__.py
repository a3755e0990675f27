"""Hardware descriptions: the schema of each family, and the loader of hwmodels/."""

from lepton_dse.targets.loader import AnyTarget, load_target, target_from_json, target_names, target_to_json
from lepton_dse.targets.schema import CpuTarget, FpgaTarget, GpuTarget, TpuTarget

__all__ = [
    "AnyTarget",
    "CpuTarget",
    "FpgaTarget",
    "GpuTarget",
    "TpuTarget",
    "load_target",
    "target_from_json",
    "target_names",
    "target_to_json",
]
