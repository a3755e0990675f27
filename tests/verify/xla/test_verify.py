"""XLA artefacts: every check of a sharded and of a single program, planted faults found out, archives, missing tools."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lepton_dse as ld
from lepton_dse.data import Dataset
from lepton_dse.emit.artefact import MANIFEST, EmitRequest
from lepton_dse.emit.xla.emitter import EMITTER
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir import ops
from lepton_dse.plan import Check, CheckStatus, Shared
from lepton_dse.reference.vectors import make_vectors
from lepton_dse.schedule.sharded import unshared_program
from lepton_dse.verify.xla import verifier
from lepton_dse.verify.xla.hlo import collectives
from lepton_dse.verify.xla.work import compiled_macs

sys.path.insert(0, str(Path(__file__).parents[2] / "emit"))
from xla_networks import transformer

EQUAL = {
    "outputs_equal",
    "steps_equal",
    "collectives_equal",
    "collective_bytes_equal",
    "argument_bytes_equal",
    "flops_equal",
    "source_outputs_equal",
    "source_collectives_equal",
    "archive_outputs_equal",
}
SAMPLES = Dataset(np.random.default_rng(3).normal(size=(10, 1, 8, 8)).astype(np.float32))


@pytest.fixture(scope="module")
def needs_jax() -> None:
    """Skip without JAX, which is optional; fail in continuous integration, which installs it."""
    if find_spec("jax") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("jax is not installed")


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    """The digits model on four devices: convolutions by output channels, gathered, and the product by what it sums over."""
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    found = ld.shard(graph, "google-v5e-pod", "x=2,y=2", batch=4, format="float32")
    lowered = found.lowered
    loops = {ops.Conv: {"m": ("x",)}, ops.MatMul: {"k": ("y",)}}
    shared = {
        op.name: Shared(loops=loops.get(type(op.attributes), {}), home=((),) * len(lowered.tensors[op.output].shape))
        for op in lowered.ops
    }
    assert found.plan.sharding is not None
    sharding = found.plan.sharding.model_copy(update={"ops": shared, "inputs": {lowered.inputs[0]: ((),) * 4}})
    return ld.PlannedModel(found.plan.model_copy(update={"sharding": sharding}), found.bundle, found.target)


@pytest.fixture(scope="module")
def emitted(planned: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(planned, tmp_path_factory.mktemp("xla") / "out", data=SAMPLES)


@pytest.fixture
def copy(emitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(emitted, tmp_path / "copy"))


def checks_of(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in ld.verify(folder).checks}


def failed(folder: Path) -> set[str]:
    return {name for name, check in checks_of(folder).items() if check.status is CheckStatus.FAILED}


def sealed(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a file and its digest in the manifest, as a wrong emitter would."""
    path = folder / name
    before = path.read_text()
    after = change(before)
    assert before != after
    path.write_text(after)
    seal(folder, name)


def seal(folder: Path, name: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.slow
def test_a_sharded_model_is_as_predicted(needs_jax: None, emitted: Path) -> None:
    checks = checks_of(emitted)
    assert {name for name, check in checks.items() if check.status is CheckStatus.PASSED} == EQUAL
    assert checks["flops"].status is CheckStatus.REPORTED
    assert checks["flops"].observed >= checks["flops_equal"].observed > 0
    assert checks["collectives_equal"].observed > 0
    assert checks["argument_bytes_equal"].observed > 0
    assert not list(emitted.rglob("__pycache__"))


@pytest.mark.slow
def test_a_quantised_model_on_one_device_is_equal_bit_for_bit_in_three_executors(needs_jax: None, tmp_path: Path) -> None:
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    folder = ld.emit(ld.plan(graph, "google-tpu-v5e", format="int8"), tmp_path / "one", data=SAMPLES)
    checks = checks_of(folder)
    assert {name for name, check in checks.items() if check.status is CheckStatus.PASSED} == EQUAL | {
        "interpreter_outputs_equal",
        "tiled_outputs_equal",
        "kernels_equal",
    }
    assert "sdy" not in (folder / "model.mlir").read_text()


@pytest.mark.slow
def test_a_transformer_in_bfloat16_is_as_predicted(needs_jax: None, tmp_path: Path) -> None:
    graph = transformer(batch=1, sequence=16, width=32)
    folder = ld.emit(ld.shard(graph, "google-v5e-pod", "x=2,y=2", batch=2, format="bfloat16"), tmp_path / "transformer")
    assert {name for name, check in checks_of(folder).items() if check.status is CheckStatus.PASSED} == EQUAL


@pytest.mark.slow
def test_a_model_with_pruned_channels_is_equal_bit_for_bit_on_eight_devices(needs_jax: None, tmp_path: Path) -> None:
    whole = ld.load(data_folder("models") / "digits_cnn.onnx")
    small = ld.prune(whole, 0.5, kind="channels")
    assert small.parameters < 0.6 * whole.parameters
    found = ld.shard(small, "google-v5e-pod", "x=2,y=4", batch=8, format="w4a8", data=SAMPLES)
    checks = {check.name: check for check in ld.verify(ld.emit(found, tmp_path / "out", emitter="xla", data=SAMPLES)).checks}
    assert {name for name in EQUAL if checks[name].status is not CheckStatus.PASSED} == set()


@pytest.mark.slow
def test_the_scripts_run_by_themselves(needs_jax: None, emitted: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, str(emitted / "run.py")], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"output 0: \d+ of 100 values differ from the reference, by \S+ at most\n", done.stdout)
    assert float(done.stdout.split(" by ")[1].split()[0]) < 1e-4


# --- loops ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer of six layers on four devices, by heads and columns."""
    graph = transformer(layers=6)
    found = ld.shard(graph, "google-v5e-pod", "x=4", batch=2)
    x, each = ("x",), ("q product", "k product", "v product", "up product")
    shared = {}
    for op in found.lowered.ops:
        whole = ((),) * len(found.lowered.tensors[op.output].shape)
        name = op.name.partition(".")[2]
        loops = {"j": x} if name in each else {"k": x} if name in ("o product", "down product") else {}
        shared[op.name] = Shared(loops=loops, home=whole)
    assert found.plan.sharding is not None
    sharding = found.plan.sharding.model_copy(update={"ops": shared, "inputs": {"x": ((),) * 3}})
    planned = ld.PlannedModel(found.plan.model_copy(update={"sharding": sharding}), found.bundle, found.target)
    samples = Dataset(np.random.default_rng(3).normal(size=(3, 8, 16)).astype(np.float32))
    return ld.emit(planned, tmp_path_factory.mktemp("looped") / "out", data=samples)


@pytest.mark.slow
def test_a_loop_is_as_predicted(needs_jax: None, looped: Path) -> None:
    assert (looped / "model.mlir").read_text().count("stablehlo.while") == 1
    assert (looped / "model.py").read_text().count("lax.fori_loop(0, 6") == 1
    checks = checks_of(looped)
    assert {name for name, check in checks.items() if check.status is CheckStatus.PASSED} == EQUAL
    assert checks["collectives_equal"].observed == 6 * 6
    assert (looped / "README.md").read_text().count("| all_") == 3


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("dense<6> : tensor<i32>", "dense<5> : tensor<i32>"), ("%p1, %v", "%p2, %v")])
def test_a_round_too_few_and_a_wrong_weight_are_found_out(
    needs_jax: None, looped: Path, tmp_path: Path, before: str, after: str
) -> None:
    copy = Path(shutil.copytree(looped, tmp_path / "copy"))
    sealed(copy, "model.mlir", lambda text: text.replace(before, after, 1))
    wrong = failed(copy)
    assert {"outputs_equal", "steps_equal"} <= wrong
    assert ("collectives_equal" in wrong) == ("dense" in before)
    assert ("flops_equal" in wrong) == ("dense" in before)


@pytest.mark.slow
def test_a_loop_that_is_not_there_is_found_out(needs_jax: None, looped: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(looped, tmp_path / "copy"))
    sealed(
        copy,
        "model.mlir",
        lambda text: text.replace("cond {", "cond  {", 1).replace(" = stablehlo.while(", "  = stablehlo.while("),
    )
    checks = checks_of(copy)
    assert checks["outputs_equal"].status is CheckStatus.PASSED
    assert checks["steps_equal"].status is CheckStatus.FAILED
    assert "loop 0 is missing" in checks["steps_equal"].reason


# --- planted faults -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_changed_weight_is_found_out(needs_jax: None, copy: Path) -> None:
    path = copy / "weights.safetensors"
    weights = load_file(str(path))
    weights["w0"] = weights["w0"].copy()
    weights["w0"].reshape(-1)[0] += 0.25
    save_file(weights, str(path))
    seal(copy, path.name)
    wrong = failed(copy)
    assert {"outputs_equal", "steps_equal", "source_outputs_equal", "archive_outputs_equal"} <= wrong
    assert not {"collectives_equal", "argument_bytes_equal", "flops_equal"} & wrong


@pytest.mark.slow
def test_a_collective_that_is_not_there_is_found_out(needs_jax: None, copy: Path) -> None:
    def without(text: str) -> str:
        """Each device keeps its own addends."""
        pattern = r"(%v\d+) = \"stablehlo\.all_reduce\"\((%\w+)\).*?\n *\}\) : \((\S+)\) -> \S+\n"
        found = re.search(pattern, text, re.DOTALL)
        assert found is not None
        return text.replace(found[0], f"{found[1]} = stablehlo.reshape {found[2]} : ({found[3]}) -> {found[3]}\n")

    sealed(copy, "model.mlir", without)
    wrong = failed(copy)
    assert {"outputs_equal", "steps_equal", "collectives_equal", "collective_bytes_equal"} <= wrong
    assert "source_outputs_equal" not in wrong


@pytest.mark.slow
def test_a_hidden_collective_is_found_out(needs_jax: None, copy: Path) -> None:
    def there_and_back(text: str) -> str:
        """Results travel around the ring and back, which changes no number."""
        found = re.search(r"sdy\.return (%v\d+) : (\S+)\n", text)
        assert found is not None
        lines, last = [], found[1]
        for number, pairs in enumerate(("[[0, 1], [1, 2], [2, 3], [3, 0]]", "[[1, 0], [2, 1], [3, 2], [0, 3]]")):
            channel = "channel_handle = #stablehlo.channel_handle<handle = 1, type = 1>"
            attributes = f"<{{{channel}, source_target_pairs = dense<{pairs}> : tensor<4x2xi64>}}>"
            permuted = f'"stablehlo.collective_permute"({last}) {attributes} : ({found[2]}) -> {found[2]}'
            lines.append(f"%hidden{number} = {permuted}\n")
            last = f"%hidden{number}"
        return text.replace(found[0], f"{''.join(lines)}sdy.return {last} : {found[2]}\n")

    sealed(copy, "model.mlir", there_and_back)
    checks = checks_of(copy)
    wrong = {name for name, check in checks.items() if check.status is CheckStatus.FAILED}
    assert wrong == {"collectives_equal", "collective_bytes_equal"}
    assert "not predicted: 1 point_to_point" in checks["collectives_equal"].reason


@pytest.mark.slow
def test_text_that_does_not_compile_says_so_in_a_line(needs_jax: None, copy: Path) -> None:
    sealed(copy, "model.mlir", lambda text: text.replace("stablehlo.add", "stablehlo.subtracted", 1))
    with pytest.raises(LeptonError, match=r"run\.py: exit code 1") as raised:
        ld.verify(copy)
    assert "\n" not in str(raised.value)


# --- parts ----------------------------------------------------------------------------------------------------------


def test_only_emitters_of_many_devices_serve_a_mesh(planned: ld.PlannedModel, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="no emitter 'onnx'"):
        ld.emit(planned, tmp_path / "out", emitter="onnx")


def test_a_program_of_another_graph_is_refused(planned: ld.PlannedModel) -> None:
    graph = planned.lowered
    vectors = make_vectors(graph, SAMPLES.x)
    with pytest.raises(LeptonError, match="no program of a mesh"):
        EMITTER.emit(EmitRequest(planned.plan, graph, vectors))
    with pytest.raises(LeptonError, match="of another graph"):
        EMITTER.emit(EmitRequest(planned.plan, graph, vectors, sharded=unshared_program(planned.lowered)))


def test_missing_jax_is_said(emitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "find_spec", lambda name: None)
    checks = ld.verify(emitted).checks
    assert {check.status for check in checks} == {CheckStatus.UNAVAILABLE}
    assert "lepton_dse[xla]" in checks[0].reason


def test_more_devices_than_a_processor_stands_for_are_said(tmp_path: Path) -> None:
    planned = ld.shard(ld.load(data_folder("models") / "digits_cnn.onnx"), "google-v5e-pod", "x=128", batch=128)
    checks = ld.verify(ld.emit(planned, tmp_path / "many", emitter="xla", data=SAMPLES)).checks
    assert {check.status for check in checks} == {CheckStatus.UNAVAILABLE}
    assert "128 devices are more than the 64" in checks[0].reason


HLO = """
ENTRY %main (p: f32[4,8]) -> f32[4,8] {
  %all-reduce.1 = f32[4,8]{1,0} all-reduce(%p), channel_id=1, replica_groups={{0,2},{1,3}}, to_apply=%add
  %both = (f32[4]{0}, s8[8]{0}) all-reduce(%a, %b), channel_id=1, replica_groups=[2,2]<=[4], to_apply=%add
  %all-gather.2 = bf16[8,8]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}
  %reduce-scatter.3 = s32[2]{0} reduce-scatter(%y), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
  %all-to-all = (f32[2]{0}, f32[2]{0}) all-to-all(%q, %r), channel_id=1, replica_groups={{0,1},{2,3}}
  ROOT %collective-permute.4 = pred[3]{0} collective-permute(%z), channel_id=1, source_target_pairs={{0,1},{1,2}}
  %send = (f32[2]{0}, u32[], token[]) send(%q, %t), channel_id=2
}
"""


def test_collectives_are_read_from_compiled_text() -> None:
    pairs, rows = ((0, 1), (2, 3)), ((0, 2), (1, 3))
    found = collectives(HLO, 4)
    assert found["all_reduce", rows, 128] == 1
    assert found["all_reduce", pairs, 16] == found["all_reduce", pairs, 8] == 1
    assert found["all_gather", rows, 128] == 1
    assert found["reduce_scatter", ((0, 1, 2, 3),), 32] == 1
    assert found["all_to_all", pairs, 16] == 1
    assert found["point_to_point", ((0, 1), (1, 2)), 3] == 1
    assert sum(count for (kind, _, _), count in found.items() if kind == "send") >= 1


NESTED = """
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: f32[2,3], q: f32[3,4]) -> f32[2,4] {
  ROOT %dot = f32[2,4]{1,0} dot(%p, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%inner (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %one = f32[4]{0} all-reduce(%v), channel_id=1, replica_groups={{0,1}}, to_apply=%add
  %two = f32[2,4]{1,0} fusion(%p, %q), kind=kLoop, calls=%fused
}

%outer (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %loop = (s32[], f32[4]{0}) while(%t), condition=%less, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[2,3]{1,0} parameter(0)
  %loop.1 = (s32[], f32[4]{0}) while(%t), condition=%less, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %last = f32[4]{0} all-reduce(%v), channel_id=1, replica_groups={{0,1}}, to_apply=%add
}
"""


def test_what_loops_call_counts_as_often_as_it_runs() -> None:
    assert collectives(NESTED, 2) == {("all_reduce", ((0, 1),), 16): 16}
    assert compiled_macs(NESTED) == 15 * 2 * 4 * 3
    endless = NESTED.replace('"known_trip_count":{"n":"3"}', "")
    assert collectives(endless, 2)["all_reduce", ((0, 1),), 16] > 1 << 40
