"""Fronts of drawn spaces against the candidates that nothing dominates, each priced and measured by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.study import Candidate, Space, Study, Variant
from lepton_dse.study.work import shaped
from lepton_dse.targets import load_target, with_numbers

SWEPT = {"google-tpu-v1": {"array_rows": [64, 128, 256], "launch_s": [0, 1e-6]}, "raspberry-pi-5": {"clock_hz": [1e9, 2.4e9]}}
TARGETS = ("google-tpu-v1", "raspberry-pi-5", "nvidia-t4", "amd-zynq-7020", "unit-gpu")
COSTS = ("latency_s", "energy_j", "peak_bytes", "throughput_per_s")


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    def some(values: tuple[Any, ...], most: int) -> list[Any]:
        return draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True))

    targets = []
    for name in some(TARGETS, 3):
        numbers = {
            path: draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))
            for path, values in SWEPT.get(name, {}).items()
            if draw(st.booleans())
        }
        targets.append({"target": name, "numbers": numbers})
    return Space(
        targets=targets,
        formats=some(("float32", "float16", "int8", "w4a8"), 3),
        sparsities=some((0.0, 0.5, "2:4"), 2),
        channels=some((0.0, 0.25, 0.5), 2),
        batches=some((1, 4, 16), 2),
    )


@pytest.fixture(scope="module")
def accuracy(graph: Graph, data: Dataset) -> Callable[[Variant], float]:
    """Of a variant on all samples, calibrated on those that a study of seed 0 takes."""
    order = np.random.default_rng(0).permutation(len(data))
    calibration = Dataset(data.x[order]).take(10)
    return cache(lambda variant: flow.accuracy(flow.quantize(shaped(graph, variant), variant.format, calibration), data).value)


def figures_of(candidate: Candidate, graph: Graph) -> dict[str, float | None] | None:
    """Of its cost; None where it does not fit or cannot be priced."""
    target = with_numbers(load_target(candidate.hardware.target), dict(candidate.hardware.numbers))
    try:
        small = shaped(graph, candidate.variant)
        report = flow.cost(small, target, format=candidate.variant.format, batch=candidate.batch)
    except LeptonError:
        return None
    return {name: getattr(report, name) for name in COSTS} if report.feasible else None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    space=spaces(),
    names=st.lists(st.sampled_from((*COSTS, "accuracy")), min_size=1, max_size=3, unique=True),
    bounded=st.booleans(),
    share=st.floats(0, 1),
)
def test_the_front_is_what_nothing_dominates(
    graph: Graph, data: Dataset, accuracy: Callable[[Variant], float], space: Space, names: list[str], bounded: bool, share: float
) -> None:
    known = {candidate: figures_of(candidate, graph) for candidate in space.candidates()}
    latencies = sorted(figures["latency_s"] or 0.0 for figures in known.values() if figures)
    bound = latencies[int(share * (len(latencies) - 1))] if latencies and bounded else np.inf
    points: dict[tuple[float, ...], Candidate] = {}
    for candidate, figures in known.items():
        if figures is None or (figures["latency_s"] or 0.0) > bound:
            continue
        if "accuracy" in names:
            figures["accuracy"] = accuracy(candidate.variant)
        values = [figures[name] for name in names]
        if None not in values:
            signs = [-1 if name in ("throughput_per_s", "accuracy") else 1 for name in names]
            points.setdefault(tuple(sign * float(value or 0) for sign, value in zip(signs, values, strict=True)), candidate)
    front = {
        candidate
        for point, candidate in points.items()
        if not any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)
    }
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "screen": len(data),
            "calibration": 10,
            "subject_to": [f"latency_s <= {bound!r}"] if np.isfinite(bound) else [],
        }
        study = Study(graph, space, folder=Path(folder) / "study", data=data, minimize=names, **options)
        found = study.run(workers=0).found
    assert found is not None
    assert found.enumerated
    assert {row.candidate for row in found.front} == front
    assert len(found.front) == len(front)
