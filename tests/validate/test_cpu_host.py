"""Calibration and the cpu-host suite: they run on a tiny configuration and what they say is well formed; no timing is judged."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.cpu import core_of
from lepton_dse.targets import load_target
from lepton_dse.targets.schema import SourceKind
from lepton_dse.validate.cpu_host import SUITES, host_rows, predicted_s, tilings, times_of
from lepton_dse.validate.host import CacheShape, Host, cache_shapes, lanes_of_host, measure_host
from lepton_dse.validate.host_model import host_target, host_toml
from lepton_dse.validate.host_program import program_text
from lepton_dse.validate.protocol import Context, UnavailableError

HOST = Host(
    title='A "made-up" \\ host',
    cores=4,
    lanes=8,
    registers=16,
    clock_hz=3e9,
    mac_per_s=48e9,
    mac_per_s_all=190e9,
    narrow_per_s=6e9,
    int8_per_s=100e9,
    int8_per_s_all=400e9,
    fma_cycles=4.1,
    window=100.0,
    load_ports=2.0,
    fill_cycles=10.0,
    load_window=60.0,
    caches=(CacheShape("l1", 32768, 8, 64, 1), CacheShape("l2", 1 << 20, 16, 64, 1), CacheShape("l3", 1 << 23, 16, 64, 16)),
    read=((190e9, 750e9), (90e9, 380e9), (95e9, 120e9), (20e9, 40e9)),
    memory_bytes=1 << 34,
)


def test_the_model_of_a_host(tmp_path: Path) -> None:
    target = host_target(HOST, 7)
    assert (target.name, target.core_count.value, target.simd_bits.value, target.fma_ports.value) == ("host", 4, 256, 2)
    assert [level.capacity_bytes.value for level in target.levels] == [4 * 32768, 4 << 20, 1 << 23, 1 << 34]
    assert [target.sharers(level) for level in target.levels] == [1, 1, 4, 4]
    # L3 measured faster than L2 on one core: what passes through L2 is no faster than L2.
    assert [level.core_byte_per_s.value for level in target.levels if level.core_byte_per_s] == [190e9, 90e9, 90e9, 20e9]
    assert {source.kind for source in target.sources.values()} == {SourceKind.MEASURED, SourceKind.DEFINITION}
    assert {quantity.source for _, quantity in target.quantities()} == set(target.sources)
    assert "best of 7 rounds" in target.sources["rate"].title
    assert target.peak(Precision.parse("int8")).mac_per_s.value == 400e9  # type: ignore[union-attr]
    (tmp_path / "host.toml").write_text(host_toml(HOST, 7))
    assert load_target(tmp_path / "host.toml") == target
    assert host_toml(HOST, 7) == host_toml(HOST, 7)


def test_a_host_without_byte_instructions_has_no_int8_peak() -> None:
    plain = Host(**{**HOST.__dict__, "int8_per_s": None, "int8_per_s_all": None})
    assert [peak.format for peak in host_target(plain, 1).peaks] == ["float32"]


def test_caches_are_read_from_the_systems_files(tmp_path: Path) -> None:
    entries = {
        "index0": ("Data", "1", "48K", "12", "64", "0"),
        "index1": ("Instruction", "1", "32K", "8", "64", "0"),
        "index2": ("Unified", "2", "2M", "16", "64", "0-1"),
        "index3": ("Unified", "3", "33792K", "11", "64", "0-3,8-11"),
        "index4": ("Unified", "4", "odd", "11", "64", "0"),
    }
    for name, values in entries.items():
        (tmp_path / name).mkdir()
        fields = ("type", "level", "size", "ways_of_associativity", "coherency_line_size", "shared_cpu_list")
        for field, value in zip(fields, values, strict=True):
            (tmp_path / name / field).write_text(value + "\n")
    assert cache_shapes(tmp_path) == (
        CacheShape("l1", 48 << 10, 12, 64, 1),
        CacheShape("l2", 2 << 20, 16, 64, 2),
        CacheShape("l3", 33792 << 10, 11, 64, 8),
    )


def test_a_system_that_says_nothing_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 0)
    with pytest.raises(LeptonError, match="no caches"):
        cache_shapes(tmp_path)


def test_the_tilings_differ_and_fit() -> None:
    for lanes in (4, 8, 16):
        gemms = tilings(lanes)
        assert len(gemms) == 30
        assert len({gemm.case for gemm in gemms}) == 30
        assert len({(gemm.m, gemm.n, gemm.k) for gemm in gemms}) == 1


def test_predictions_follow_the_mechanisms() -> None:
    core = core_of(host_target(HOST, 1), Precision.parse("float32"))
    times = [predicted_s(gemm, core, 6e9) for gemm in tilings(8)]
    work = 480 * 576 * 512
    assert min(times) >= work / core.mac_per_s
    assert times[15] > times[13] > times[10]  # fewer accumulators
    assert times[5] > times[4] > times[1]  # shallower blocks
    assert times[18] > times[19] > times[16]  # rows of B, of A or of neither that meet in one set
    assert predicted_s(tilings(8)[26], core, 2e9) > predicted_s(tilings(8)[26], core, 6e9)  # single values


@pytest.fixture
def compiler() -> None:
    if shutil.which("gcc") is None and os.environ.get("CI") != "true":
        pytest.skip("gcc is not installed")


@pytest.mark.usefixtures("compiler")
def test_a_tiny_calibration_is_well_formed() -> None:
    steps: list[str] = []
    host = measure_host(steps.append, rounds=1, scale=0.01)
    assert steps == ["compiling the measurements", "round 1 of 1"]
    assert host.lanes in (4, 8, 16)
    assert lanes_of_host() == (host.lanes, host.registers)
    assert (
        min(
            host.clock_hz, host.mac_per_s, host.narrow_per_s, host.fma_cycles, host.load_ports, host.fill_cycles, host.load_window
        )
        > 0
    )
    assert len(host.read) == len(host.caches) + 1
    target = host_target(host, 1)
    assert target.core_count.value == host.cores
    assert tomllib.loads(host_toml(host, 1))["family"] == "cpu"


@pytest.mark.usefixtures("compiler")
def test_a_tiny_suite_is_well_formed() -> None:
    gemms = [gemm for gemm in tilings(4, (24, 32, 8)) if gemm.blocking.columns <= 8][:5]
    times = times_of(gemms, 3)
    assert times.shape == (3, 5)
    result = host_rows(SUITES[0], gemms, HOST, times)
    assert [row.reference for row in result.rows] == pytest.approx(list(1e3 * times.min(axis=0)))
    assert all(row.predicted > 0 for row in result.rows)
    assert any("ceiling" in note for note in result.notes)
    assert result.fitted == ()


def test_without_a_compiler_the_suite_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match="gcc"):
        SUITES[0].run(SUITES[0], Context())


def test_the_program_text_is_the_same_each_time() -> None:
    assert program_text(8, (1024, 4096), 4096, 8) == program_text(8, (1024, 4096), 4096, 8)
    assert "1024L, 4096L" in program_text(8, (1024, 4096), 4096, 8)


def test_wrong_arguments_are_one_clear_error() -> None:
    with pytest.raises(LeptonError, match="round"):
        measure_host(lambda text: None, rounds=0)
