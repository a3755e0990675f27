"""Clusters: every shipped one loads, every number has a source, and what contradicts itself is one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.errors import InvalidTargetError
from lepton_dse.files import data_folder
from lepton_dse.targets import GpuTarget, TpuTarget, cluster_names, load_cluster, load_target, target_names
from lepton_dse.targets.cluster import CLUSTERS, Topology

FILES = sorted((data_folder("hwmodels") / CLUSTERS).glob("*.toml"))
TEXT = (data_folder("hwmodels") / CLUSTERS / "google-v5e-pod.toml").read_text()


def test_clusters_are_no_targets() -> None:
    assert [path.stem for path in FILES] == list(cluster_names())
    assert not set(cluster_names()) & set(target_names())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_cluster_loads_and_every_number_has_a_source(path: Path) -> None:
    cluster = load_cluster(path.stem)
    assert load_cluster(path) == cluster
    assert isinstance(load_target(cluster.device), GpuTarget | TpuTarget)
    assert bool(cluster.torus) == (cluster.network.topology is Topology.TORUS)
    used: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if "value" in node:
                used.add(node["source"])
                return
            for key, value in node.items():
                assert not isinstance(value, int | float), key  # no bare number
                if key != "sources":
                    visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(tomllib.loads(path.read_text()))
    assert used == set(cluster.sources)
    assert all(source.title and source.place for source in cluster.sources.values())


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('topology = "torus"', 'topology = "star"', "topology"),
        ('topology = "torus"', 'topology = "ring"', "axes"),
        ("value = 256", "value = 255", "16x16 is not 255"),
        ("value = 256", "value = 2.5", "whole number"),
        ("byte_per_s = { value = 4.5e10", "byte_per_s = { value = 0", "byte_per_s"),
        ("byte_per_s = { value = 4.5e10", "byte_per_s = { value = -1", "byte_per_s"),
        ("share = { value = 0.9", "share = { value = 1.5", "above 1"),
        ('source = "guess"', 'source = "nobody"', "no source 'nobody'"),
        ("family =", "famly =", "famly"),
        ("[network]", "[network", "not valid TOML"),
    ],
)
def test_what_contradicts_itself_is_one_line(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in TEXT
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(InvalidTargetError, match=what) as caught:
        load_cluster(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InvalidTargetError, match="dgx-a100"):
        load_cluster("dgx-a10")
