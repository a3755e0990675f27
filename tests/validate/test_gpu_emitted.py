"""Constants fitted to the project's own kernels, timed on a GPU that is played: the planner's form with constants of its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.emit.cuda.emitter import INPUT_FILE, kernel_identifiers
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.schedule.gpu import Contraction, Packed4
from lepton_dse.search.gpu_planner import kernel_time
from lepton_dse.sim.gpu.gemm import Constants
from lepton_dse.sim.gpu.machine import constants_of, limits_of, machine_of
from lepton_dse.targets import GpuTarget, load_target, target_names
from lepton_dse.targets.schema import SourceKind
from lepton_dse.validate.gpu_emitted import (
    EMITTED_BOUNDS,
    EMITTED_FREE,
    PRODUCTS,
    Emitted,
    EmittedFit,
    Shape,
    TimedProduct,
    Timer,
    calibrate_emitted,
    check_formats,
    emitted,
    emitted_formats,
    fit_emitted,
    seconds_of,
)
from lepton_dse.validate.gpu_model import calibrated_target, target_toml
from lepton_dse.validate.gpu_tables import split_key
from lepton_dse.verify.cuda.device import Gpu, build
from lepton_dse.verify.cuda.program import HostProgram

TARGET = "nvidia-a100-sxm-80gb"
INT8 = Precision.parse("int8")
DEVICE = Gpu('NVIDIA "A100"', "580.65.06", 8.0)
QUICK = tuple(shape for shape in PRODUCTS if shape[1] * shape[2] <= 1 << 21)
"""Those that are planned in a moment."""
NOISE = 0.03


def gpu(name: str) -> GpuTarget:
    target = load_target(name)
    assert isinstance(target, GpuTarget)
    return target


def truth_of(target: GpuTarget) -> Constants:
    """What the played device does: slower in every respect than the hardware model thinks."""
    start = constants_of(target.kernels)
    return start._replace(
        overhead_s=2.5e-6,
        boost_share=0.35,
        sustained_share=0.3,
        memory_share=0.7,
        l2_share=0.4,
        cta_s=1.5e-6,
        memory_latency_s=1.1e-6,
    )


def player(target: GpuTarget, precision: Precision, noise: float = NOISE) -> Timer:
    """Times as the device has them, and by as much as `noise` beside them."""
    machine, rng = machine_of(target, precision), np.random.default_rng(7)
    assert machine is not None

    def time(kernel: Emitted) -> float:
        (seconds,) = seconds_of([TimedProduct(kernel.shape, kernel.priced, 1.0)], machine, truth_of(target))
        return float(seconds * np.exp(rng.normal(0, noise)))

    return time


@pytest.fixture(scope="module")
def fit() -> EmittedFit:
    target, told = gpu(TARGET), []
    found = calibrate_emitted(target, INT8, player(target, INT8), told.append, QUICK)
    assert len(told) == len(QUICK) + 1
    return found


# --- the products -------------------------------------------------------------------------------------------------


def test_the_products_are_many_and_differ() -> None:
    assert len(set(PRODUCTS)) == len(PRODUCTS)
    assert 24 <= len(PRODUCTS) <= 100
    assert len(QUICK) > len(PRODUCTS) / 2
    work = sorted(m * n * k for m, n, k in PRODUCTS)
    assert work[0] < 1 << 15
    assert work[-1] > 1 << 35


@pytest.mark.parametrize("form", ["int8", "w4a8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(64, 96, 128), (33, 77, 55)])
def test_what_is_timed_is_what_the_planner_prices(form: str, shape: Shape) -> None:
    """A dense layer planned by itself gets the same tile and the same time."""
    m, n, k = shape
    builder = GraphBuilder("layer")
    x = builder.input("x", (1, m, k))  # a plan is for one sample, here of m rows
    w = builder.constant("w", np.random.default_rng(1).normal(0, 1, (k, n)).astype(np.float32))
    bias = builder.constant("b", np.ones(n, np.float32))
    y = builder.add(ops.MatMul(), [x, w, bias], output="y", name="layer")
    target, precision = gpu(TARGET), Precision.parse(form)
    plan = ld.plan(builder.build([y]), target, format=form).plan
    kernel = emitted(shape, precision, target)
    (work,) = (entry.work for entry in kernel.program.kernels)
    assert isinstance(work, Contraction)
    assert isinstance(work.b, Packed4) == (form == "w4a8")
    machine, constants = machine_of(target, precision), constants_of(target.constants(precision))
    assert machine is not None
    assert plan.op("layer").mapping == work.tile.mapping
    assert kernel.priced.time(machine, constants) == plan.predicted.ops[0].latency_s
    assert kernel.priced.time(machine, constants) == kernel_time(work, 8.0, limits_of(target), machine, constants)
    assert kernel.priced.time(machine, constants, 0.5) <= kernel.priced.time(machine, constants)


@pytest.mark.parametrize("form", ["int8", "w4a8", "float16", "float32"])
def test_the_program_runs(form: str, tmp_path: Path, needs_tool: Any) -> None:
    """What would be timed, on a CPU: one kernel that reads its input and stores results that are not all the same."""
    needs_tool("g++")
    kernel = emitted((20, 24, 40), Precision.parse(form), gpu(TARGET))
    files = kernel.files()
    assert files == kernel.files()
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (x,), (y,) = kernel.program.inputs, kernel.program.outputs
    assert len(files[INPUT_FILE]) == x.bytes
    program = HostProgram.compile(str(shutil.which("g++")), tmp_path, tmp_path, apart=False)
    (path,), (seen,) = program.outputs("FORWARD", tmp_path, 1)
    assert [seen["kernel"]] == kernel_identifiers(kernel.program) == ["k0_product"]
    results = np.fromfile(path, y.tensor.format.numpy).astype(np.float32)
    assert results.size == 20 * 24
    assert np.isfinite(results).all()
    assert np.unique(results).size > 10


def test_nvcc_compiles_the_program(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    for name, data in emitted((100, 60, 90), INT8, gpu(TARGET)).files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    build(nvcc, tmp_path, 8.0, tmp_path / "program")
    assert (tmp_path / "program").stat().st_size > 0


def test_formats_of_devices() -> None:
    assert emitted_formats(gpu(TARGET)) == ("int8", "float16", "bfloat16", "float32")
    assert emitted_formats(gpu("nvidia-t4")) == ("int8", "float32")
    check_formats([Precision.parse(form) for form in ("int8", "w4a8")], gpu(TARGET))


@pytest.mark.parametrize("form", ["int4", "w4-float16", "float8_e4m3", "w8a16"])
def test_formats_that_no_kernel_multiplies(form: str) -> None:
    with pytest.raises(LeptonError, match=f"^no kernel multiplies {form} on {TARGET}; choose among int8, float16") as caught:
        check_formats([INT8, Precision.parse(form)], gpu(TARGET))
    assert "\n" not in str(caught.value)


# --- the fit ------------------------------------------------------------------------------------------------------


def test_products_that_were_not_fitted_on_are_predicted(fit: EmittedFit) -> None:
    """Within two points of the noise in the measured times, and within three percent of the times without it."""
    assert fit.fitted == -(-2 * len(QUICK) // 3)
    assert fit.error_before_pct > 15
    assert fit.error_pct < 100 * NOISE + 2
    machine = machine_of(gpu(TARGET), INT8)
    assert machine is not None
    clean = seconds_of(fit.rows, machine, truth_of(gpu(TARGET)))
    assert np.abs(fit.predicted / clean - 1)[fit.fitted :].mean() < 0.03
    measured = np.array([row.seconds for row in fit.rows])
    assert fit.error_pct == pytest.approx(100 * np.mean(np.abs(fit.predicted - measured)[fit.fitted :] / measured[fit.fitted :]))


def test_the_split_follows_from_the_shape_alone(fit: EmittedFit) -> None:
    keys = [split_key(*row.shape) for row in fit.rows]
    assert keys == sorted(keys)
    assert {row.shape for row in fit.rows} == set(QUICK)


def test_rows_that_are_held_out_change_nothing(fit: EmittedFit) -> None:
    slower = [replace(row, seconds=row.seconds * (3 if index >= fit.fitted else 1)) for index, row in enumerate(fit.rows)]
    again = fit_emitted(gpu(TARGET), INT8, slower)
    assert again.constants == fit.constants
    assert again.error_pct > 50


def test_constants_stay_possible(fit: EmittedFit) -> None:
    start = constants_of(gpu(TARGET).kernels)
    for name in Constants._fields:
        value = getattr(fit.constants, name)
        if name in EMITTED_FREE:
            low, high = EMITTED_BOUNDS[name]
            assert low * 0.999 <= value <= high * 1.001
        else:
            assert value == getattr(start, name)
    assert fit.constants.sustained_share <= fit.constants.boost_share


def test_too_few_products() -> None:
    target = gpu(TARGET)
    with pytest.raises(LeptonError, match=r"^2 products of int8"):
        calibrate_emitted(target, INT8, player(target, INT8), lambda text: None, QUICK[:2])


# --- the file -----------------------------------------------------------------------------------------------------


def test_the_file_says_what_was_found(fit: EmittedFit, tmp_path: Path) -> None:
    base, path = gpu(TARGET), tmp_path / "mine.toml"
    half = replace(fit, precision=Precision.parse("float16"))
    target = calibrated_target(base, [fit, half], DEVICE, "mine")
    path.write_text(target_toml(target))
    read = load_target(path)
    assert read == target
    assert isinstance(read, GpuTarget)
    for entry in (fit, half):
        written = read.constants(entry.precision)
        assert constants_of(written) == entry.constants
        for name in Constants._fields:
            source = read.sources[getattr(written, name).source]
            assert (source.kind is SourceKind.MEASURED) == (name in EMITTED_FREE)
        source = read.sources[f"emitted-{entry.precision}"]
        assert 'on NVIDIA "A100", driver 580.65.06' in source.title
        assert source.place.endswith(f": {entry.error_pct:.1f}%")
        assert read.band(entry.precision) is None
    other = Precision.parse("bfloat16")
    assert read.constants(other) == base.constants(other)
    assert read.band(other) is not None
    assert [entry.formats for entry in read.calibrations] == [("bfloat16",), ("int8",), ("float16",)]
    assert "gemm-w8a8" not in read.sources
    assert set(base.sources) - {"gemm-w8a8"} <= set(read.sources)
    changed = {"name", "calibrations", "bands", "sources"}
    assert read.model_dump(exclude=changed) == base.model_dump(exclude=changed)


def test_a_file_is_a_base_in_its_turn(fit: EmittedFit) -> None:
    """The same measurements on it give the same file: nothing piles up."""
    first = calibrated_target(gpu(TARGET), [fit], DEVICE, "mine")
    second = calibrated_target(first, [fit], DEVICE, "mine")
    assert second.calibrations == first.calibrations
    assert set(second.sources) == set(first.sources)


def test_a_plan_with_the_file_is_nearer(fit: EmittedFit) -> None:
    """The planner prices kernels with the fitted constants."""
    target = calibrated_target(gpu(TARGET), [fit], DEVICE, "mine")
    before, after = (emitted((1024, 1024, 1024), INT8, entry) for entry in (gpu(TARGET), target))
    assert before.shape == after.shape
    graph = ld.load(Path(__file__).parents[2] / "studies" / "models" / "digits_cnn.onnx")
    old, new = (ld.plan(graph, entry, format="int8").plan.predicted for entry in (gpu(TARGET), target))
    assert new.latency_s != old.latency_s
    assert new.evidence == old.evidence == "unchecked"


@pytest.mark.parametrize("name", [name for name in target_names() if isinstance(load_target(name), GpuTarget)])
def test_every_gpu_is_written_as_it_is_read(name: str, tmp_path: Path) -> None:
    target = gpu(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(target_toml(target))
    assert load_target(path) == target


@settings(max_examples=60)
@given(
    number=st.floats(0, 1e300, allow_subnormal=True),
    title=st.text(st.characters(exclude_categories=["Cs"])),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_any_number_and_any_text_are_written(
    number: float, title: str, key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = gpu("nvidia-t4").model_dump()
    base["sources"][key] = {"kind": "measured", "title": title, "place": title}
    base["launch_s"] = {"value": number, "source": key}
    target = GpuTarget.model_validate({**base, "name": "odd"})
    path = tmp_path_factory.mktemp("odd") / "odd.toml"
    path.write_text(target_toml(target), encoding="utf-8")
    assert load_target(path) == target
