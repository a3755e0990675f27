"""The suites of GPU kernels: a split that nobody can choose, fits that find what is there, and models that hold their result."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision
from lepton_dse.parallel.collectives import Collective
from lepton_dse.sim.collectives import Links, collective_time, links_of
from lepton_dse.sim.gpu.machine import constants_of
from lepton_dse.targets import load_target
from lepton_dse.targets.schema import SourceKind
from lepton_dse.validate import collectives, gpu_gemm, gpu_ops, gpu_tables
from lepton_dse.validate.calibration_gpu import BOUNDS, FREE, ON_CHIP, at_clock, fit, held_share, predict
from lepton_dse.validate.gpu_gemm import calibrate, gpu, suite_name, table_of
from lepton_dse.validate.gpu_tables import FITTED_ROWS, TABLES, GemmTable, Measurements, copies_of_weights, load_table
from lepton_dse.validate.protocol import Context, SuiteResult, UnavailableError
from lepton_dse.validate.runner import run_suites, suites

INSTALLED = all(importlib.util.find_spec(name) for name in ("aiconfigurator_core", "pandas", "pyarrow"))
needs_tables = pytest.mark.skipif(
    not INSTALLED and os.environ.get("CI") != "true", reason="aiconfigurator-core, pandas or pyarrow is not installed"
)


def tables_of(*tables: GemmTable) -> list[ParameterSet]:
    """Tables as parameters; those of the earlier release are skipped where it is not installed."""
    absent = importlib.util.find_spec("aiconfigurator") is None and os.environ.get("CI") != "true"
    skipped = pytest.mark.skipif(absent, reason="aiconfigurator 0.10.0 is not installed")
    return [
        pytest.param(table, id=f"{table.device}-{table.format}", marks=(skipped,) if table.package == "aiconfigurator" else ())
        for table in tables
    ]


REFITTED = [
    pytest.param(table_of("a100", "bf16"), id="a100-bf16"),
    pytest.param(table_of("l40s", "fp8"), id="l40s-fp8"),
    pytest.param(table_of("h100", "bf16"), id="h100-bf16", marks=pytest.mark.slow),
    pytest.param(table_of("b200", "bf16"), id="b200-bf16", marks=pytest.mark.slow),
    *tables_of(table_of("l40s", "w8a8")),
]
"""Tables fitted anew; the stored constants of all tables are held to their bands."""


def run(name: str, data: Path | None = None) -> SuiteResult:
    (result,) = run_suites([name], Context(data=data))
    return result


def shapes(count: int, seed: int = 0) -> Measurements:
    generator = np.random.default_rng(seed)
    m, n, k = (2 ** generator.uniform(low, 13, count) for low in (0, 5, 5))
    rows = [np.rint(axis).astype(np.int64) for axis in (m, n, k)]
    return Measurements(rows[0], rows[1], rows[2], np.ones(count))


# --- the split ------------------------------------------------------------------------------------------------------


def test_the_split_follows_from_the_shape_alone() -> None:
    assert gpu_tables.split_key(4096, 512, 32) == hashlib.sha256(b"4096x512x32").hexdigest()
    assert FITTED_ROWS == 200


@needs_tables
@pytest.mark.parametrize("table", [table_of("a100", "w8a8"), table_of("a100", "bf16")], ids=["w8a8", "bf16"])
def test_fitted_rows_come_first_and_are_never_scored(table: GemmTable) -> None:
    rows = load_table(table)
    keys = [gpu_tables.split_key(*shape) for shape in zip(rows.m.tolist(), rows.n.tolist(), rows.k.tolist(), strict=True)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert len(rows.fitted.m) == FITTED_ROWS
    assert len(rows.fitted.m) + len(rows.scored.m) == len(rows.m)
    result = run(suite_name(table, calibrated=True))
    cases = {row.case for row in result.rows}
    assert len(cases) == len(rows.scored.m)
    fitted = {f"{m}x{n}x{k}" for m, n, k in zip(rows.fitted.m, rows.fitted.n, rows.fitted.k, strict=True)}
    assert not cases & fitted
    assert all(row.scored for row in result.rows)


@given(st.integers(1, 1 << 40), st.integers(0, 1 << 30))
def test_copies_of_weights(weights: int, cache: int) -> None:
    copies = copies_of_weights(float(weights), float(cache))
    assert 1 <= copies <= 5
    assert copies in (1, 5) or (copies - 1) * weights < cache <= copies * weights


@given(st.floats(0, 1e15), st.floats(1.01, 5))
def test_more_data_is_held_less(size: float, factor: float) -> None:
    constants = constants_of(gpu("nvidia-l40s").kernels)
    less, more = (float(held_share(amount, 1e8, constants)) for amount in (size, size * factor))
    assert 0 <= more <= less <= 1
    assert float(held_share(size, 1e8 * factor, constants)) >= less


# --- fits -----------------------------------------------------------------------------------------------------------


def test_a_fit_finds_the_constants_that_made_the_times() -> None:
    table, target = table_of("a100", "bf16"), gpu("nvidia-a100-sxm-80gb")
    start = constants_of(target.kernels)
    truth = start._replace(overhead_s=1.2e-6, boost_share=0.7, sustained_share=0.6, memory_share=0.6, cta_s=1.5e-6)
    rows = shapes(150)
    made = Measurements(rows.m, rows.n, rows.k, predict(rows, table, target, truth))
    found = fit(made, table, target, start)
    fresh = shapes(200, seed=1)
    want, got, before = (predict(fresh, table, target, constants) for constants in (truth, found, start))
    assert np.abs(got / want - 1).mean() < 0.015
    assert np.abs(before / want - 1).mean() > 0.1
    assert found == fit(made, table, target, start)  # deterministic
    for name in FREE:
        low, high = BOUNDS[name]
        assert low * 0.999 <= getattr(found, name) <= high * 1.001


def test_a_slow_row_does_not_pull() -> None:
    table, target = table_of("l40s", "bf16"), gpu("nvidia-l40s")
    start = constants_of(target.kernels)
    rows = shapes(80)
    times = predict(rows, table, target, start)
    times[:4] *= 10
    found = fit(Measurements(rows.m, rows.n, rows.k, times), table, target, start)
    assert np.abs(predict(rows, table, target, found) / times - 1)[4:].mean() < 0.03


def test_constants_for_another_clock() -> None:
    constants = constants_of(gpu("nvidia-t4").kernels)
    moved = at_clock(constants, 1e9, 2e9)
    for name in constants._fields:
        assert getattr(moved, name) == getattr(constants, name) / (2 if name in ON_CHIP else 1)


@needs_tables
@pytest.mark.parametrize("table", REFITTED)
def test_hardware_models_hold_what_the_fit_gives(table: GemmTable) -> None:
    assert constants_of(gpu(table.target).constants(Precision.parse(table.formats[0]))) == calibrate(table)


@needs_tables
@pytest.mark.parametrize("table", tables_of(*TABLES))
def test_bands_are_the_errors_of_the_stored_constants(table: GemmTable) -> None:
    target = gpu(table.target)
    stored = target.constants(Precision.parse(table.formats[0]))
    rows = load_table(table).scored
    errors = np.abs(predict(rows, table, target, constants_of(stored)) / rows.seconds - 1)
    for form in table.formats:
        assert target.constants(Precision.parse(form)) == stored
        band = target.band(Precision.parse(form))
        assert band is not None
        assert band.suite == suite_name(table, calibrated=True)
        assert target.sources[band.mape_pct.source].kind is SourceKind.MEASURED
        assert band.mape_pct.value == pytest.approx(100 * errors.mean(), abs=0.01)


# How far the suites may be off before something has been broken: somewhat above what they gave when this was written.
CEILINGS = {
    "gpu-gemm-a100-bf16": 18,
    "gpu-gemm-a100-bf16-calibrated": 9,
    "gpu-gemm-h100-bf16": 7.5,
    "gpu-gemm-h100-bf16-calibrated": 6,
    "gpu-gemm-b200-bf16-calibrated": 8,
    "gpu-gemm-l40s-fp8-calibrated": 7.5,
    "gpu-transfer": 12,
    "gpu-collectives-calibrated": 11,
    "gpu-all-reduce-calibrated": 10,
}


@needs_tables
@pytest.mark.slow
@pytest.mark.parametrize("name", CEILINGS)
def test_errors_stay_below_their_ceilings(name: str) -> None:
    result = run(name)
    assert result.mape_pct is not None
    assert result.mape_pct < CEILINGS[name]
    assert result.spearman is not None
    assert result.spearman > 0.97


@needs_tables
def test_data_sheet_suites_fit_nothing() -> None:
    result = run("gpu-gemm-a100-bf16")
    assert result.fitted == ()
    target = gpu("nvidia-a100-sxm-80gb")
    numbers = dict(target.quantities())
    general = {path: number for path, number in numbers.items() if path.startswith("kernels.")}
    assert general
    for number in general.values():
        assert target.sources[number.source].kind is not SourceKind.MEASURED  # none comes from a fit
    assert set(run("gpu-gemm-a100-bf16-calibrated").fitted) == {*FREE, "split_limit", "gemv_rows"}


# --- collectives ----------------------------------------------------------------------------------------------------


def test_a_fit_of_links_finds_them() -> None:
    truth = Links(3e11, 7e-6, 8e-7, 0.7, 0.3, 2e-5, 5e6)
    cases = [
        collectives.Case(kind, 1 << power, devices, collective_time(kind, float(1 << power), devices, truth))
        for kind in Collective
        for devices in (2, 4, 8)
        for power in range(9, 30, 2)
    ]
    found = collectives.fit_links(cases, truth._replace(**collectives.GENERAL))
    for case in cases:
        assert collective_time(case.kind, float(case.message), case.devices, found) == pytest.approx(case.seconds, rel=0.02)


@needs_tables
@pytest.mark.parametrize("device", ["a100", "h100", "h200", "b200"])
def test_hardware_models_hold_the_fitted_links(device: str) -> None:
    target = gpu(collectives._TABLES[device][0])
    cases = collectives.nccl_cases(device)
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    start = links_of(target)._replace(**collectives.GENERAL)
    assert collectives.fit_links(cases[: collectives.FITTED_ROWS], start) == links_of(target)


# --- absent data ----------------------------------------------------------------------------------------------------


def test_absent_files_are_named() -> None:
    for name, file in (("gpu-ops-llmcompass", "gpu_ops_llmcompass.csv"), ("gpu-collectives-vidur", "gpu_collectives_vidur.csv")):
        for data in (None, Path("/nonexistent")):
            result = run(name, data)
            assert (result.mape_pct, result.rows) == (None, ())
            assert file in result.reason


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aiconfigurator_core" else find(name))
    with pytest.raises(UnavailableError, match=r"lepton_dse\[validate\]"):
        gpu_tables.system_data()


def test_single_operators_from_a_file(tmp_path: Path) -> None:
    """Rows are read as they are: a product gives its time, the others a rate."""
    text = (
        "# a comment\nop,device,raw\n"
        "matmul,A100,64 | 128 | 256 | 0.0250ms | 1Tflops\n"
        "softmax,A100,4096 | 1024 | 100.0\n"
        "gelu,A100,1000000 | 20.0\n"
        "matmul,MI210,64 | 128 | 256 | 0.0250ms | 1Tflops\n"
    )
    (tmp_path / "gpu_ops_llmcompass.csv").write_text(text)
    result = run("gpu-ops-llmcompass", tmp_path)
    references = {row.case: row.reference for row in result.rows}
    assert references == {
        "matmul 64x128x256": pytest.approx(25e-6),
        "softmax 4096x1024": pytest.approx(4096 * 1024 / 100e9),
        "gelu 1000000": pytest.approx(1e6 / 20e9),
    }
    target = load_target("nvidia-a100-sxm-80gb")
    for name, shape in (("matmul", (1, 1, 1)), ("softmax", (1, 8)), ("layernorm", (1, 8)), ("gelu", (1,))):
        time = gpu_ops.operator_time(target, name, shape)  # type: ignore[arg-type]
        assert gpu_ops.FRAMEWORK_S[name] < time < gpu_ops.FRAMEWORK_S[name] + 5e-6


def test_every_suite_is_registered() -> None:
    mine = {suite.name for module in (collectives, gpu_gemm, gpu_ops) for suite in module.SUITES}
    assert mine <= set(suites())
    assert {f"gpu-gemm-{device}-bf16" for device in ("a100", "h100", "h200", "b200", "l40s")} <= mine
    with pytest.raises(LeptonError, match="no table"):
        table_of("h100", "int3")
    with pytest.raises(LeptonError, match="no GPU"):
        gpu("unit-cpu")
