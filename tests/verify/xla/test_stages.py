"""A pipeline over devices of this host: every stage checked by itself, and all of them joined."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.plan import CheckStatus
from tests.emit.xla_networks import transformer
from tests.oracle.sharding import attention_block, residual_network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None and not os.environ.get("CI"), reason="jax is not installed"),
]


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_stages_on_devices_of_their_own(form: str, tmp_path: Path) -> None:
    graph = attention_block(0, batch=1, sequence=8, heads=4, width=4)
    if form == "int8":
        graph = residual_network(0, batch=1, channels=8, extent=8)
    x = np.random.default_rng(0).normal(size=(6, *graph.tensors["x"].shape[1:])).astype(np.float32)
    planned = ld.shard(graph, "google-v5e-pod", "x=2", batch=4, format=form, data=ld.Dataset(x), stages=2)
    assert planned.plan.sharding is not None
    assert len(planned.plan.sharding.stages) == 1
    assert planned.predicted.resources["devices"] == 4
    folder = ld.emit(planned, tmp_path / "staged", emitter="xla", data=ld.Dataset(x))
    checks = {check.name: check for check in ld.verify(folder).checks}
    failed = [check for check in checks.values() if check.status in (CheckStatus.FAILED, CheckStatus.UNAVAILABLE)]
    assert failed == []
    assert {name for name in checks if name.startswith("stages_")} == {"stages_outputs_equal", "stages_sent_bytes"}
    assert checks["stages_sent_bytes"].observed == checks["stages_sent_bytes"].predicted
    assert int(checks["stages_sent_bytes"].predicted or 0) > 0
    document = json.loads((folder / "stages.json").read_text())
    assert document["stages"] == ["stage_0", "stage_1"]
    assert document["transfers"]


def test_stages_with_loops(tmp_path: Path) -> None:
    graph = transformer(layers=10)
    x = np.random.default_rng(0).normal(size=(3, *graph.tensors["x"].shape[1:])).astype(np.float32)
    planned = ld.shard(graph, "google-v5e-pod", "x=2", batch=2, data=ld.Dataset(x), stages=2)
    folder = ld.emit(planned, tmp_path / "staged", emitter="xla", data=ld.Dataset(x))
    assert ["stablehlo.while" in (folder / f"stage_{number}" / "model.mlir").read_text() for number in range(2)] == [True, True]
    failed = [check for check in ld.verify(folder).checks if check.status in (CheckStatus.FAILED, CheckStatus.UNAVAILABLE)]
    assert failed == []
