"""ONNX artefacts in onnxruntime: one unit an operation for every width, whole passes told, changed files found out."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import lepton_dse as ld
from lepton_dse import flow
from lepton_dse.compress.quantize import noise
from lepton_dse.data import Dataset
from lepton_dse.demo.digits import load_digits_split
from lepton_dse.emit.artefact import MANIFEST
from lepton_dse.emit.onnx import export_graph
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.plan import CheckStatus
from lepton_dse.reference import engine, fast
from lepton_dse.testing.strategies import graphs, precisions
from lepton_dse.verify.onnx.operations import Difference, cut_model, differences, units
from lepton_dse.verify.onnx.session import SETTINGS, Session

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LEVELS = ["ORT_ENABLE_ALL", "ORT_DISABLE_ALL"]


@pytest.fixture(scope="module", autouse=True)
def needs_onnxruntime() -> None:
    """Skip without onnxruntime, which is optional; fail in continuous integration, which installs it."""
    if find_spec("onnxruntime") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("onnxruntime is not installed")


@pytest.fixture(scope="module")
def digits() -> Graph:
    return ld.load(data_folder("models") / "digits_cnn.onnx")


@st.composite
def tailed(draw: st.DrawFn) -> Graph:
    """A random network behind which one more operation stands, of the kinds that the networks themselves lack."""
    graph = draw(graphs(branches=True))
    end = graph.tensors[graph.outputs[0]]
    rank = len(end.shape)
    if not end.format.is_float:
        return graph
    kinds: list[ops.Attributes] = [ops.Sigmoid(), ops.Tanh(), ops.LeakyRelu(0.1), ops.Softmax((rank - 1,))]
    kinds += [ops.Softmax(tuple(range(1, rank))), ops.Softmax(tuple(range(1, rank, 2)))]
    kinds.append(ops.Transpose((0, *range(rank - 1, 0, -1))))
    kinds += [ops.Pad((0,) * rank, (0,) * (rank - 1) + (2,), mode, 0.5) for mode in (ops.PadMode.CONSTANT, ops.PadMode.EDGE)]
    if rank > 2:
        ones = (1,) * (rank - 2)
        wide = ops.Window((2,) * (rank - 2), ones, (2,) * (rank - 2), ones, ones)
        kinds += [ops.LocalResponseNorm(size, 0.2, 0.7, 1.0) for size in (2, 3)]
        if min(end.shape[2:]) > 1:  # else a window would hold padding alone
            kinds += [ops.MaxPool(wide), ops.AveragePool(wide), ops.AveragePool(wide, True)]
    op = ops.Op("tail", draw(st.sampled_from(kinds)), (end.name,), "tail")
    builder = GraphBuilder("tailed")
    for name in graph.inputs:
        builder.input(name, graph.tensors[name].shape)
    for name, value in graph.constants.items():
        builder.constant(name, value)
    for each in (*graph.ops, op):
        builder.add(each.attributes, each.inputs, output=each.output, name=each.name)
    return builder.build(["tail"])


def lowered_of(graph: Graph, precision: Precision | str) -> LoweredGraph:
    try:
        return lower_bundle(flow.quantize(graph, str(precision), noise(graph, 1, 8)))
    except LeptonError as error:  # an accumulator too wide to be exact, say, is no matter of ONNX
        assume("use narrower" not in str(error) and "wider activations" not in str(error))
        raise


@settings(max_examples=60)
@given(graph=tailed(), precision=precisions(2, 16), level=st.sampled_from(LEVELS))
def test_every_operation_stays_within_one_unit(graph: Graph, precision: Precision, level: str) -> None:
    lowered = lowered_of(graph, precision)
    exported = export_graph(lowered)
    found, samples = differences(exported.model, lowered, noise(graph, 2, 8).x, level)
    assert samples == 8
    assert [(entry.tensor.name, entry.worst) for entry in found if entry.beyond] == []
    assert {entry.tensor.name for entry in found} == computed(lowered)
    Session(exported.to_bytes(), level)


def computed(lowered: LoweredGraph) -> set[str]:
    """Tensors that depend on the input and have a type in ONNX: all but accumulators."""
    moving, found = set(lowered.inputs), set()
    for op in lowered.ops:
        if moving & set(op.inputs):
            moving.add(op.output)
            found.add(op.output)
    return found - {op.inputs[0] for op in lowered.ops if isinstance(op.attributes, ops.Requantize)}


@settings(max_examples=40)
@given(data=st.data(), level=st.sampled_from(LEVELS))
def test_integer_graphs_that_lowering_never_makes(data: st.DataObject, level: str) -> None:
    """Without biases, without scales, with multipliers of 0 and clamps inside the format."""
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    bits = data.draw(st.integers(2, 16))
    form = NumberFormat(FormatKind.INT, bits)
    low, high = int(form.minimum), int(form.maximum)
    zeros = [data.draw(st.integers(low, high)) for _ in range(3)]
    clamp = sorted(data.draw(st.lists(st.integers(low, high), min_size=2, max_size=2)))
    quant = data.draw(st.sampled_from([None, QuantParams((0.25,), zeros[0]), QuantParams((0.003,), zeros[1])]))
    builder = GraphBuilder("made")
    builder.input("x", (1, 5), form, quant)
    builder.constant("w", rng.integers(-7, 8, (5, 4)).astype(np.int8), NumberFormat.parse("int4"))
    builder.constant("m", np.asarray([[0, 1, 900, 131071]], np.int64), NumberFormat.parse("uint17"))
    builder.add(ops.MatMul(), ["x", "w"], output="acc", form=NumberFormat.parse("int24"))
    builder.add(ops.Requantize(18, zeros[2], *clamp), ["acc", "m"], output="y", form=form)
    builder.constant("c", rng.integers(low, high, (1, 4), endpoint=True).astype(form.numpy), form)
    step = ops.AddRequantize(zeros[0], zeros[1], data.draw(st.sampled_from([0, 40_000])), 90_000, 17, zeros[2], *clamp)
    builder.add(step, ["y", "c"], output="z", form=form)
    lowered = builder.build_lowered(["z"])
    x = rng.integers(low, high, (9, 5), endpoint=True).astype(form.numpy)
    found, _ = differences(export_graph(lowered).model, lowered, x, level)
    assert [(entry.tensor.name, entry.worst) for entry in found if entry.beyond] == []
    assert {entry.tensor.name for entry in found} == {"y", "z"}


@pytest.mark.parametrize("form", ["int8", "w4a8", "w4a4", "w2a3", "w5a7", "w8a16", "int16"])
@pytest.mark.parametrize("level", LEVELS)
def test_digits_stay_within_one_unit(digits: Graph, form: str, level: str) -> None:
    lowered = lower_bundle(flow.quantize(digits, form, load_digits_split()[0]))
    found, _ = differences(export_graph(lowered).model, lowered, load_digits_split()[1].x[:64], level)
    assert max(entry.worst for entry in found if entry.counts_units) <= 1
    assert sum(entry.beyond for entry in found) == 0


@pytest.mark.parametrize("form", ["w4-float32", "w3-float16", "float16", "bfloat16", "float8_e4m3", "float8_e5m2"])
@pytest.mark.parametrize("level", LEVELS)
def test_narrow_floats_stay_within_one_unit(digits: Graph, form: str, level: str) -> None:
    lowered = lower_bundle(flow.quantize(digits, form))
    found, _ = differences(export_graph(lowered).model, lowered, noise(digits, 2, 16).x, level)
    assert sum(entry.beyond for entry in found) == 0
    assert any(entry.counts_units for entry in found) == (form != "w4-float32")


def test_digits_int8_end_to_end(digits: Graph, tmp_path: Path) -> None:
    training, held_out = load_digits_split()
    planned = ld.plan(digits, "unit-cpu", format="int8", data=training)
    folder = ld.emit(planned, tmp_path / "onnx", emitter="onnx", data=held_out)
    result = ld.verify(folder)
    assert result.complete
    told = {check.name: check.observed for check in result.checks}
    assert told["operations_within_one_unit"] == 0
    assert told["real_operations_within_bound"] == 0
    assert told["outputs_beyond_one_unit"] == 0
    assert told["top1_equal"] == 0
    assert told["outputs_cosine_distance"] < 1e-4


def test_what_is_told_is_not_judged_and_has_no_prediction(digits: Graph, tmp_path: Path) -> None:
    planned = ld.plan(digits, "unit-cpu", format="int16")
    checks = ld.verify(ld.emit(planned, tmp_path / "onnx", emitter="onnx")).checks
    judged = {check.name for check in checks if check.predicted is not None}
    assert judged == {"operations_within_one_unit", "real_operations_within_bound"}
    assert all((check.status is CheckStatus.REPORTED) == (check.predicted is None) for check in checks)


def test_a_real_network_has_no_units(digits: Graph, tmp_path: Path) -> None:
    for form in ("float32", "w4-float32"):
        checks = ld.verify(ld.emit(ld.plan(digits, "unit-cpu", format=form), tmp_path / form, emitter="onnx")).checks
        told = {check.name: check.observed for check in checks}
        distance = told.pop("outputs_cosine_distance")
        assert told == {"real_operations_within_bound": 0, "outputs_beyond_bound": 0, "top1_equal": 0}
        assert isinstance(distance, float)
        assert distance < 1e-9


def test_outputs_behind_real_operations_and_indices(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    builder = GraphBuilder("ends")
    builder.input("x", (1, 6))
    builder.constant("w", rng.normal(0, 1, (6, 5)).astype(np.float32))
    builder.add(ops.MatMul(), ["x", "w"], output="scores")
    builder.add(ops.Softmax((1,)), ["scores"], output="shares")
    builder.add(ops.ArgMax(1, False), ["scores"], output="class")
    planned = ld.plan(builder.build(["shares", "class"]), "unit-cpu")
    checks = {check.name: check for check in ld.verify(ld.emit(planned, tmp_path / "onnx", emitter="onnx")).checks}
    assert checks["outputs_beyond_bound[0]"].observed == 0
    assert checks["outputs_equal[1]"].observed == 0


def test_inputs_that_are_no_reals(tmp_path: Path) -> None:
    """Identifiers of tokens, some of them further apart than a float32 holds, read as they are."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("tokens")
    builder.input("ids", (1, 4), NumberFormat.parse("int64"))
    builder.constant("table", rng.normal(0, 1, (9, 6)).astype(np.float32))
    builder.constant("w", rng.normal(0, 1, (6, 5)).astype(np.float32))
    builder.add(ops.Gather(0), ["table", "ids"], output="rows")
    builder.add(ops.MatMul(), ["rows", "w"], output="y")
    data = Dataset(rng.integers(0, 9, (8, 4)).astype(np.float32))
    planned = ld.plan(builder.build(["y"]), "unit-cpu", format="float32", data=data)
    result = ld.verify(ld.emit(planned, tmp_path / "onnx", emitter="onnx"))
    checks = {check.name: check for check in result.checks}
    assert result.complete
    assert checks["real_operations_within_bound"].status is CheckStatus.PASSED
    assert checks["outputs_beyond_bound"].observed == 0


# --- a wrong model is found -----------------------------------------------------------------------------------------------


def spoilt(lowered: LoweredGraph, name: str, factor: float) -> onnx.ModelProto:
    """The exported model with one constant scaled."""
    model = export_graph(lowered).model
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor)
            tensor.raw_data = (value * np.float32(factor)).astype(value.dtype).tobytes()
            return model
    raise AssertionError(name)


def test_a_wrong_scale_shows_in_its_own_operation_alone(digits: Graph) -> None:
    lowered = lower_bundle(flow.quantize(digits, "int8"))
    found, _ = differences(spoilt(lowered, "conv2d3.weights.scale", 1.1), lowered, noise(digits, 2, 8).x)
    assert {entry.tensor.name for entry in found if entry.beyond} == {"t5.q"}


def test_a_wrong_scale_fails_the_check_and_is_named(digits: Graph, tmp_path: Path) -> None:
    planned = ld.plan(digits, "unit-cpu")
    folder = ld.emit(planned, tmp_path / "onnx", emitter="onnx")
    (folder / "model.onnx").write_bytes(spoilt(planned.lowered, "conv2d3.weights.scale", 1.1).SerializeToString())
    with pytest.raises(LeptonError, match="changed after it was emitted"):
        ld.verify(folder)
    relist(folder, "model.onnx")
    check = next(check for check in ld.verify(folder).checks if check.name == "operations_within_one_unit")
    assert check.status is CheckStatus.FAILED
    assert "'t5.q'" in check.reason


def relist(folder: Path, name: str) -> None:
    """Put a changed file's digest into the manifest, as one who forges an artefact would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(("name", "data"), [("model.onnx", b"no model"), ("vectors/expected_0.bin", b"\0" * 8)])
def test_forged_files_give_one_line(digits: Graph, tmp_path: Path, name: str, data: bytes) -> None:
    folder = ld.emit(ld.plan(digits, "unit-cpu"), tmp_path / "onnx", emitter="onnx")
    (folder / name).write_bytes(data)
    relist(folder, name)
    with pytest.raises(LeptonError):
        ld.verify(folder)


def test_without_onnxruntime_the_checks_are_unavailable(digits: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ld.emit(ld.plan(digits, "unit-cpu"), tmp_path / "onnx", emitter="onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = ld.verify(folder)
    assert {check.status for check in result.checks} == {CheckStatus.UNAVAILABLE}
    assert not result.complete


# --- how differences are counted ------------------------------------------------------------------------------------------


def test_units_are_counted_over_every_float_of_8_bits() -> None:
    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        every = np.arange(256, dtype=np.uint8).view(dtype)
        finite = every[np.isfinite(every.astype(np.float32))]
        ordered = np.unique(finite.astype(np.float32)).astype(dtype)
        np.testing.assert_array_equal(units(ordered[1:], ordered[:-1]), np.ones(len(ordered) - 1))
    assert units(np.asarray([-0.0], np.float16), np.asarray([0.0], np.float16))[0] == 0
    assert units(np.asarray([-128], np.int8), np.asarray([127], np.int8))[0] == 255


def test_nan_is_beyond_the_bound(digits: Graph) -> None:
    entry = Difference(digits.tensors[digits.outputs[0]])
    entry.add(np.ones(2, np.float32), np.asarray([1, np.nan], np.float32))
    assert (entry.values, entry.equal, entry.beyond) == (2, 1, 1)


def test_equal_infinities_are_equal_and_others_are_not(digits: Graph) -> None:
    entry = Difference(digits.tensors[digits.outputs[0]])
    entry.add(np.asarray([np.inf, -np.inf, 2, 1], np.float32), np.asarray([np.inf, -np.inf, 2, 1.5], np.float32))
    assert (entry.values, entry.equal, entry.beyond, entry.worst) == (4, 3, 1, 0.25)
    other = Difference(digits.tensors[digits.outputs[0]])
    other.add(np.asarray([np.inf, -np.inf, 3, 1], np.float32), np.asarray([-np.inf, 7, np.inf, 1], np.float32))
    assert (other.equal, other.beyond) == (1, 3)


def test_the_cut_keeps_every_node_and_constant(digits: Graph) -> None:
    lowered = lower_bundle(flow.quantize(digits, "w4a8"))
    model = export_graph(lowered).model
    cut = cut_model(model, lowered).model
    assert [node.op_type for node in cut.graph.node] == [node.op_type for node in model.graph.node]
    assert list(cut.graph.initializer) == list(model.graph.initializer)


def test_low_bit_products_depend_on_the_setting_that_the_readme_names(digits: Graph) -> None:
    """What onnxruntime does by default to 4-bit weights is why the setting exists."""
    import onnxruntime

    assert SETTINGS["session.qdq_matmulnbits_accuracy_level"] == "1"
    lowered = lower_bundle(flow.quantize(digits, "w4-float32"))
    data, x = export_graph(lowered).to_bytes(), noise(digits, 2, 8).x
    (expected,) = engine.run(lowered, x, evaluate=fast.evaluate).values()
    (stated,) = Session(data).run(lowered.outputs, {lowered.inputs[0]: x})
    (default,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {lowered.inputs[0]: x})
    peak = float(np.abs(expected).max())
    assert np.abs(stated - expected).max() <= 1e-5 * peak
    assert np.abs(default - expected).max() > 1e-4 * peak


# --- published networks ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "shufflenet"])
def test_published_networks_stay_within_one_unit(name: str) -> None:
    graph = load_model(LIGHT / f"light_{name}.onnx")
    rng, values = np.random.default_rng(0), {}
    for op in graph.ops:
        if isinstance(op.attributes, ops.Conv | ops.MatMul):
            shape = graph.tensors[op.inputs[1]].shape
            terms = np.prod(shape[1:]) if isinstance(op.attributes, ops.Conv) else shape[0]
            values[op.inputs[1]] = rng.normal(0, np.sqrt(2 / terms), shape).astype(np.float32)
    graph = graph.with_constants(values)
    x = noise(graph, 1, 1).x
    lowered = lower_bundle(flow.quantize(graph, "int8", Dataset(x)))
    exported = export_graph(lowered)
    found, _ = differences(exported.model, lowered, x)
    assert sum(entry.values for entry in found if entry.counts_units) > 8_000_000
    assert [entry.tensor.name for entry in found if entry.beyond] == []
    (expected,) = engine.run(lowered, x, evaluate=fast.evaluate).values()
    (observed,) = Session(exported.to_bytes()).run(lowered.outputs, {lowered.inputs[0]: x})
    assert expected.argmax() == observed.argmax()


@pytest.mark.parametrize("form", ["int8", "w3a6", "w4-float16", "float16", "bfloat16", "float8_e4m3", "float8_e5m2"])
def test_artefacts_of_every_kind_of_format_pass(digits: Graph, tmp_path: Path, form: str) -> None:
    result = ld.verify(ld.emit(ld.plan(digits, "unit-cpu", format=form), tmp_path / "onnx", emitter="onnx"))
    assert result.complete, [check for check in result.checks if check.status is not CheckStatus.PASSED]
    assert "operations_within_one_unit" in {check.name for check in result.checks}
