"""Hardware descriptions: the schema of each family and of clusters, and the loaders of hwmodels/."""

from lepton_dse.targets.cluster import Cluster, cluster_names, load_cluster
from lepton_dse.targets.cpu import CpuTarget
from lepton_dse.targets.fpga import FpgaTarget
from lepton_dse.targets.gpu import GpuTarget
from lepton_dse.targets.loader import AnyTarget, load_target, target_from_json, target_names, target_to_json
from lepton_dse.targets.sweep import with_numbers
from lepton_dse.targets.tpu import TpuTarget

__all__ = [
    "AnyTarget",
    "Cluster",
    "CpuTarget",
    "FpgaTarget",
    "GpuTarget",
    "TpuTarget",
    "cluster_names",
    "load_cluster",
    "load_target",
    "target_from_json",
    "target_names",
    "target_to_json",
    "with_numbers",
]
