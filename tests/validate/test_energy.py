"""Energy figures: transcriptions are consistent, hardware models carry what they say, the suites and the study are sound."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.sim.loopnest import traffic
from lepton_dse.targets import FpgaTarget, TpuTarget, load_target, target_names
from lepton_dse.targets.schema import Processor, SourceKind
from lepton_dse.validate.energy import (
    EYERISS_LAYERS,
    SUITES,
    eyeriss,
    eyeriss_layer,
    problem,
    published_j,
    tpu_v1_energy,
    watts,
)
from lepton_dse.validate.energy_table import mac16_j, mac_j, operation_j, sram_j_per_byte
from lepton_dse.validate.figures import figures
from lepton_dse.validate.protocol import Context
from lepton_dse.validate.runner import suites

ROWS = figures("eyeriss_jssc2017")
APPS = {entry["app"]: entry for entry in figures("tpu_v1_jouppi2017")}
STUDY = Path(__file__).parents[2] / "studies" / "02_energy_of_published_chips.py"
# Process nodes that the energies of a device are derived for; 7 nm where none is published or none newer has a table.
NODE = {
    "google-tpu-v1": 28,
    "google-tpu-v2": 16,
    "google-tpu-v3": 16,
    "intel-xeon-e5-2699v3": 22,
    "nvidia-jetson-orin-nano": 8,
    "nvidia-t4": 12,
    "nvidia-v100-sxm2": 12,
    "raspberry-pi-5": 16,
}

FABRIC_NODE = {
    "amd-alveo-u250": 16,
    "amd-alveo-u280": 16,
    "amd-vck190": 7,
    "amd-zu3eg": 16,
    "amd-zu9eg": 16,
    "amd-zynq-7020": 28,
    "lattice-ecp5-85f": 40,
    "lattice-ice40up5k": 40,
}


def test_the_table_names_a_source_and_shrinks_with_the_node() -> None:
    rows = figures("energy_operations")
    for entry in rows:
        assert (entry["source"], entry["node_nm"]) in {("H", "45"), ("J", "7")}
        assert entry["confidence"] in {"paper", "unverified"}
    old = {entry["operation"]: float(entry["picojoule"]) for entry in rows if entry["node_nm"] == "45"}
    new = {entry["operation"]: float(entry["picojoule"]) for entry in rows if entry["node_nm"] == "7"}
    assert len(old) + len(new) == len(rows)
    assert all(new[name] < old[name] for name in old.keys() & new.keys())


def test_operations_by_hand() -> None:
    assert operation_j("int8 multiply", 45) == 0.2e-12
    assert operation_j("int8 multiply", 4) == operation_j("int8 multiply", 7) == 0.07e-12
    assert mac_j("int8", 7) == pytest.approx(0.10e-12)
    assert mac_j("bfloat16", 7) == pytest.approx(0.59e-12)
    assert sram_j_per_byte("1 MB", 45) == pytest.approx(12.5e-12)
    # 28 is a quarter of the way from 7 to 45 nm and more: 7 * 4.
    share = math.log(4) / math.log(45 / 7)
    assert operation_j("int8 multiply", 28) == pytest.approx(0.07e-12 * (0.2 / 0.07) ** share)
    # No bfloat16 figure at 45 nm: it grows from 7 nm as float16 does.
    assert operation_j("bfloat16 multiply", 45) == pytest.approx(0.21e-12 * 1.1 / 0.34)
    assert mac16_j(45) == pytest.approx((math.sqrt(0.2 * 3.1) + math.sqrt(0.03 * 0.1)) * 1e-12)


@pytest.mark.parametrize("operation", ["dram", "int4 multiply"])
def test_what_no_table_gives_is_refused(operation: str) -> None:
    with pytest.raises(LeptonError, match=operation):
        operation_j(operation, 28)


@pytest.mark.parametrize("name", target_names(unit=False))
def test_hardware_models_carry_what_their_sources_say(name: str) -> None:
    """Energies are the derived ones to three digits, marked unverified where derived, and cover all levels or none."""
    target = load_target(name)
    if isinstance(target, FpgaTarget):
        energy, node = target.energy, FABRIC_NODE[name]
        assert energy is not None
        assert energy.multiply_j.value == pytest.approx(14 * operation_j("int8 multiply", node), rel=5e-3)
        assert energy.add_j.value == pytest.approx(14 * operation_j("int32 add", node), rel=5e-3)
        assert energy.memory_j_per_byte.value == pytest.approx(sram_j_per_byte("8 KB", node), rel=5e-3)
        parts = (energy.multiply_j, energy.add_j, energy.memory_j_per_byte)
        assert {target.sources[quantity.source].kind for quantity in parts} == {SourceKind.UNVERIFIED}
        return
    assert isinstance(target, Processor)
    known = [level.energy_j_per_byte for level in target.levels]
    node = NODE.get(name, 7)
    assert target.energy_j_per_mac
    for form, quantity in target.energy_j_per_mac.items():
        derived = 2 * mac_j("int8", node) if form == "w8a16" else mac_j(form, node)
        assert quantity.value == pytest.approx(derived, rel=5e-3)
        assert target.sources[quantity.source].kind is SourceKind.UNVERIFIED
    values = [quantity.value for quantity in known if quantity is not None]
    assert len(values) == len(known)
    assert values == sorted(values)  # outer levels cost more
    for level, value in zip(target.levels[:-1], values, strict=False):
        size = "32 KB" if level.name in ("shared", "l1") else "1 MB"
        assert value == pytest.approx(sram_j_per_byte(size, node), rel=5e-3)
    assert not any(band.suite.startswith("energy") for band in target.bands)  # energy is never banded


@pytest.mark.parametrize("network", EYERISS_LAYERS)
def test_the_transcription_of_eyeriss_adds_up(network: str) -> None:
    rows = [entry for entry in ROWS if entry["network"] == network]
    *layers, total = rows
    assert [entry["layer"] for entry in layers] == list(EYERISS_LAYERS[network])
    assert (total["layer"], total["kind"]) == ("total", "paper")
    assert {entry["kind"] for entry in layers} == {"unverified"}
    for column in ("latency_ms", "buffer_mb", "dram_mb"):
        if all(entry[column] for entry in rows):
            assert sum(float(entry[column]) for entry in layers) == pytest.approx(float(total[column]), rel=1e-3)
    assert sum(map(published_j, layers)) == pytest.approx(published_j(total), rel=0.01)
    # The rates that the paper's abstract gives.
    rate = {"AlexNet": 34.7, "VGG-16": 0.7}[network]
    assert int(total["batch"]) / float(total["latency_ms"]) * 1e3 == pytest.approx(rate, rel=0.01)
    accesses = {"AlexNet": 0.0029, "VGG-16": 0.0035}[network]
    macs = sum(problem(layer, int(total["batch"])).iterations for layer in EYERISS_LAYERS[network].values())
    assert float(total["dram_mb"]) * 1e6 / 2 / macs == pytest.approx(accesses, rel=0.02)


@pytest.mark.parametrize(("network", "gmac"), [("AlexNet", 2.66), ("VGG-16", 46.04)])
def test_multiply_accumulates_are_the_published_ones(network: str, gmac: float) -> None:
    batch = next(int(entry["batch"]) for entry in ROWS if entry["network"] == network)
    macs = sum(problem(layer, batch).iterations for layer in EYERISS_LAYERS[network].values())
    assert macs / 1e9 == pytest.approx(gmac, abs=0.006)


def test_one_layer_of_eyeriss_by_hand() -> None:
    entry = next(row for row in ROWS if row["layer"] == "CONV3")
    found, e = eyeriss_layer(entry), mac16_j()
    assert found.macs == 4 * 384 * 256 * 13 * 13 * 9
    assert found.counted_j == pytest.approx(found.macs * 5 * e + 50.2e6 / 2 * 6 * e)
    assert found.result.certificate.optimal
    # The mapping's energy again, from its traffic alone: bytes to the scratchpads, the buffer, and not DRAM.
    assert found.result.mapping is not None
    nest = problem(EYERISS_LAYERS["AlexNet"]["CONV3"], 4)
    moved = traffic(nest, found.result.mapping)
    scratchpad = sum(moved.fetched_bytes.values()) + moved.level_bytes("scratchpad")
    assert found.best_j == pytest.approx(found.macs * e + scratchpad / 2 * e + found.buffer_bytes / 2 * 6 * e)
    assert sum(moved.fetched_bytes.values()) == 8 * found.macs  # four words each
    assert moved.footprint_bytes["global_buffer"] <= eyeriss().levels[1].capacity_bytes
    # At least every operand crosses DRAM once.
    assert found.dram_bytes >= 2 * (4 * 256 * 13 * 13 + 384 * 256 * 9 + 4 * 384 * 13 * 13)


def test_an_application_on_tpu_v1_by_hand() -> None:
    """MLP0: 200 x 20 million products, and its weights once from DRAM."""
    target = load_target("google-tpu-v1")
    assert isinstance(target, TpuTarget)
    found = tpu_v1_energy(APPS["MLP0"], target)
    assert found.arithmetic_j == pytest.approx(200 * 20e6 * 2.27e-13, rel=1e-3)
    assert found.memory_j == pytest.approx(20e6 * 1.63e-10, rel=1e-3)
    assert found.seconds == pytest.approx(2 * 200 * 20e6 / 12.3e12, rel=1e-3)
    assert found.buffer_j < found.arithmetic_j
    assert (watts("busy"), watts("idle")) == (40, 28)
    bare = target.model_copy(update={"energy_j_per_mac": {}})
    with pytest.raises(LeptonError, match="lacks an energy"):
        tpu_v1_energy(APPS["MLP0"], bare)


def test_the_tpu_suite_is_well_formed() -> None:
    suite = next(suite for suite in SUITES if suite.name == "energy-tpu-v1")
    result = suite.run(suite, Context())
    assert [row.case for row in result.rows] == list(APPS)
    assert result.fitted == ()
    assert all(row.predicted < row.reference for row in result.rows)  # a part of what the chip draws
    assert any("unchecked" in note for note in result.notes)
    assert {suite.name for suite in SUITES} <= set(suites())


@pytest.mark.slow
def test_the_eyeriss_suite_is_well_formed() -> None:
    suite = next(suite for suite in SUITES if suite.name == "energy-eyeriss")
    result = suite.run(suite, Context())
    assert {row.case for row in result.rows if row.scored} == {
        "AlexNet total, counted traffic",
        "AlexNet total, least-energy mapping",
        "VGG-16 total, least-energy mapping",
    }
    assert result.fitted == ()
    assert all(row.predicted < row.reference for row in result.rows)
    assert any("unchecked" in note for note in result.notes)
    # As good as it was when this was written: the operations and traffic explain 44% and 24% of the chip's energy.
    assert result.mape_pct is not None
    assert result.mape_pct <= 65


def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("energy_study", STUDY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_study_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = study().main(["AlexNet"], ["CONV3", "CONV4", "CONV5"])
    assert len(ratios) == 3 + len(APPS)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("CONV4", "LSTM1", "unchecked", "rank correlation"))
