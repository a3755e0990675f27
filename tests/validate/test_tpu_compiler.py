"""The tpu-compiler suite: it reads scheduled programs, says what is absent, and meets the compiler where it is installed."""

from __future__ import annotations

import importlib.machinery
import importlib.util

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.targets import TpuTarget, load_target
from lepton_dse.validate import tpu_compiler
from lepton_dse.validate.protocol import Context, UnavailableError
from lepton_dse.validate.tpu_compiler import (
    CONVOLUTIONS,
    GENERATIONS,
    PRODUCTS,
    SUITES,
    compile_for,
    convolution_graph,
    device_of,
    estimate,
    predicted_cycles,
    product_graph,
    rows_of,
)
from lepton_dse.validate.tpu_compiler_worker import Compiled

PROGRAM = """HloModule m, is_scheduled=true

%inner (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %n = bf16[8,8]{1,0} negate(%p), backend_config={"window_config":{"estimated_cycles":"7000"}}
}

ENTRY %main (a: bf16[8,8], b: bf16[8,8]) -> bf16[8,8] {
  %a = bf16[8,8]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[8,8]{1,0:T(8,128)(2,1)} parameter(1)
  %c = bf16[8,8]{0,1:T(8,128)(2,1)S(1)} copy(%a), backend_config={"window_config":{"estimated_cycles":"40"},"flag_configs":[]}
  ROOT %f = bf16[8,8]{1,0} fusion(%c, %b), kind=kOutput, calls=%inner, backend_config={"window_config":{"estimated_cycles":"500"}}
}
"""
COPIED = PROGRAM.replace(
    "  ROOT %f",
    "  %s = (bf16[8,8]{1,0:T(8,128)(2,1)S(1)}, bf16[8,8]{1,0}, u32[]{:S(2)}) copy-start(%b)\n"
    "  %d = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} copy-done(%s)\n  ROOT %f",
)


def chip(generation: str) -> TpuTarget:
    target = load_target(f"google-tpu-{generation}")
    assert isinstance(target, TpuTarget)
    return target


def compiled(devices: int, *products: str) -> Compiled:
    return Compiled(versions="none", device="none", devices=devices, products=products, convolutions=())


def test_an_estimate_is_the_sum_over_the_entry_computation() -> None:
    assert estimate(PROGRAM) == tpu_compiler.Estimate(540, ())


def test_operations_without_estimate_are_named() -> None:
    assert estimate(COPIED) == tpu_compiler.Estimate(540, ("copy-start", "copy-done"))


def test_the_estimate_of_a_loop_counts_one_trip_and_is_not_taken() -> None:
    assert estimate(PROGRAM.replace(" copy(%a)", " while(%a)")) == tpu_compiler.Estimate(500, ("while",))


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "without entry"), (PROGRAM.replace("estimated_cycles", "cycles"), "no operation has estimated_cycles")],
)
def test_text_that_is_no_estimated_program_is_refused(text: str, what: str) -> None:
    with pytest.raises(LeptonError, match=what):
        estimate(text)


def test_rows_hold_a_device_against_the_part_of_the_chip_that_it_is() -> None:
    shape = (4096, 4096, 4096)
    whole, core = (rows_of("v4", compiled(devices, PROGRAM), [shape])[0] for devices in (4, 8))
    graph, target = product_graph(*shape), chip("v4")
    assert whole.case == "v4 4096x4096x4096"
    assert whole.reference == core.reference == 540
    assert whole.predicted == pytest.approx(predicted_cycles(graph, target))
    assert core.predicted == pytest.approx(predicted_cycles(graph, device_of(target, 0.5)))
    assert 1.9 * whole.predicted < core.predicted < 2.1 * whole.predicted


def test_rows_of_programs_with_unpriced_operations_are_not_scored() -> None:
    rows = rows_of("v5e", compiled(4, PROGRAM, COPIED), [(8, 8, 8), (8, 8, 16)])
    assert [entry.scored for entry in rows] == [True, False]


def test_half_a_chip() -> None:
    target = chip("v5p")
    half = device_of(target, 0.5)
    assert half.array_count.value == target.array_count.value / 2
    assert [level.capacity_bytes.value * 2 for level in half.levels] == [level.capacity_bytes.value for level in target.levels]
    assert device_of(target, 1.0) == target


@pytest.mark.parametrize("generation", GENERATIONS)
def test_predictions_are_no_less_than_the_arrays_need(generation: str) -> None:
    target = chip(generation)
    peak = target.peak(tpu_compiler._BF16)
    assert peak is not None
    for m, n, k in PRODUCTS:
        assert predicted_cycles(product_graph(m, n, k), target) >= m * n * k / (peak.mac_per_s.value / target.clock_hz.value)


def test_shapes_are_distinct_and_convolutions_divide_into_their_stride() -> None:
    assert len(set(PRODUCTS)) == len(PRODUCTS) == 42
    for shape in CONVOLUTIONS:
        images, _, extent, filters, _, stride = shape
        assert convolution_graph(*shape).tensors["y"].shape == (images, filters, extent // stride, extent // stride)


def test_absent_packages_are_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"no jax and no libtpu: pip install 'lepton_dse\[tpu\]'.*terms of service"):
        SUITES[0].run(SUITES[0], Context())


def _claim_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))


def test_a_compiler_that_cannot_be_initialised_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    _claim_packages(monkeypatch)
    with pytest.raises(UnavailableError, match=r"the TPU compiler failed for v0:9x9, status 1: .*Error"):
        compile_for("v0:9x9", [(8, 8, 8)], [])


def test_a_compiler_that_takes_too_long_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    _claim_packages(monkeypatch)
    with pytest.raises(UnavailableError, match=r"more than 0\.001 s for v5e:2x2"):
        compile_for("v5e:2x2", [(8, 8, 8)], [], limit_s=0.001)


installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jax", "libtpu")),
    reason="jax and libtpu are not installed: libtpu comes under terms of its own, pip install 'lepton_dse[tpu]'",
)


@pytest.mark.slow
@installed
def test_the_compiler_and_the_model_order_three_products_alike() -> None:
    products = [(256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048)]
    found = compile_for(GENERATIONS["v5e"], products, CONVOLUTIONS[:1])
    assert found.devices == tpu_compiler.CHIPS
    rows = rows_of("v5e", found, products)
    assert [entry.scored for entry in rows] == [True, True, True, False]
    assert rows[0].reference < rows[1].reference < rows[2].reference
    assert rows[0].predicted < rows[1].predicted < rows[2].predicted
    arrays = 4 * 128 * 128
    assert all(m * n * k / arrays <= entry.reference for (m, n, k), entry in zip(products, rows, strict=False))
    assert all(abs(entry.error_pct) < 100 for entry in rows)


@pytest.mark.slow
@installed
@pytest.mark.parametrize(("generation", "arrays_of_a_device", "devices"), [("v4", 4, 8), ("v5p", 8, 4)])
def test_what_a_device_of_two_core_chips_is(generation: str, arrays_of_a_device: int, devices: int) -> None:
    """The estimate of a large product is above the cycles of so many full arrays, by less than half."""
    found = compile_for(GENERATIONS[generation], [(4096, 4096, 4096)], [])
    assert found.devices == devices
    least = 4096**3 / (arrays_of_a_device * 128 * 128)
    assert least < estimate(found.products[0]).cycles < 1.5 * least
