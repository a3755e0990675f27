"""Model files that are no models: one line, exit code 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[Path], Path]
COMMANDS = ("inspect", "cost", "plan")


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    (folder / "bad.onnx").write_bytes(model.SerializeToString())
    return folder / "bad.onnx"


def model_of(nodes: list[Any], weights: list[onnx.TensorProto], shape: tuple[int, ...] = (1, 1, 5, 5)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(weights: onnx.TensorProto) -> onnx.ModelProto:
    return model_of([helper.make_node("Conv", ["x", "w"], ["y"], name="conv")], [weights])


def truncated(folder: Path) -> Path:
    data = conv(numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")).SerializeToString()
    (folder / "bad.onnx").write_bytes(data[: len(data) // 2])
    return folder / "bad.onnx"


def random_bytes(folder: Path) -> Path:
    (folder / "bad.onnx").write_bytes(np.random.default_rng(0).bytes(3000))
    return folder / "bad.onnx"


def cyclic(folder: Path) -> Path:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name="p"), helper.make_node("Add", ["a", "x"], ["b"], name="q")]
    return saved(folder, model_of([*nodes, helper.make_node("Relu", ["b"], ["y"], name="r")], []))


def inconsistent(folder: Path) -> Path:
    return saved(folder, conv(numpy_helper.from_array(np.ones((2, 7, 3, 3), np.float32), "w")))


def billions_claimed(folder: Path) -> Path:
    """An initializer that says how large it is and then holds nothing."""
    return saved(folder, conv(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 30, 1, 3, 3])))


def billions_computed(folder: Path) -> Path:
    shape = numpy_helper.from_array(np.asarray([1 << 20, 1 << 20], np.int64), "s")
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"], name="big"),
        helper.make_node("Add", ["x", "big"], ["y"], name="a"),
    ]
    return saved(folder, model_of(nodes, [shape]))


def leaving(folder: Path) -> Path:
    (folder / "secret.bin").write_bytes(np.ones(18, np.float32).tobytes())
    (folder / "inner").mkdir()
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 1, 3, 3], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="../secret.bin")
    return saved(folder / "inner", conv(weights))


def not_a_number(folder: Path) -> Path:
    return saved(folder, conv(numpy_helper.from_array(np.full((2, 1, 3, 3), np.nan, np.float32), "w")))


def unsupported(folder: Path) -> Path:
    return saved(folder, model_of([helper.make_node("Det", ["x"], ["y"], name="det")], []))


def empty(folder: Path) -> Path:
    (folder / "bad.onnx").touch()
    return folder / "bad.onnx"


def wrong_ending(folder: Path) -> Path:
    (folder / "model.h5").touch()
    return folder / "model.h5"


def folder_itself(folder: Path) -> Path:
    (folder / "bad.onnx").mkdir()
    return folder / "bad.onnx"


def absent(folder: Path) -> Path:
    return folder / "absent.onnx"


def nested_json(folder: Path) -> Path:
    (folder / "graph.json").write_text("[" * 100_000)
    return folder / "graph.json"


MODELS: dict[Make, str] = {
    truncated: "bad.onnx",
    random_bytes: "bad.onnx",
    cyclic: "cycl",
    inconsistent: "conv",
    billions_claimed: "w",
    billions_computed: "big",
    leaving: "secret.bin",
    not_a_number: "NaN",
    unsupported: "Det",
    empty: "bad.onnx",
    wrong_ending: ".h5",
    folder_itself: "bad.onnx",
    absent: "absent.onnx",
    nested_json: "graph.json",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_bad_model_is_one_line(make: Make, command: str, lepton: Any, tmp_path: Path) -> None:
    path = make(tmp_path)
    more = {"inspect": [], "cost": ["--target", "unit-cpu"], "plan": ["--target", "unit-cpu", "-o", tmp_path / "plan.json"]}
    assert MODELS[make] in lepton(command, path, *more[command]).complaint
    assert not (tmp_path / "plan.json").exists()
    assert not (tmp_path / "bundles").exists()


def test_unsupported_operations_are_listed_as_json(lepton: Any, tmp_path: Path) -> None:
    result = lepton("inspect", unsupported(tmp_path), "--json")
    assert result.code == 1
    assert [(entry["name"], entry["op_type"]) for entry in result.document["unsupported"]] == [("det", "Det")]


def test_a_huge_model_is_costed_without_its_memory(lepton: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, model_of([helper.make_node("Relu", ["x"], ["y"], name="r")], [], (1, 1, 1 << 16, 1 << 15)))
    result = lepton("cost", path, "--target", "unit-cpu", "--json")
    assert result.document["results"][0]["ops"][0]["traffic_bytes"]["dram"] == 2 << 31


def test_too_little_memory_is_one_line(lepton: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lepton_dse.compress.quantize.noise", exhausted)
    path = saved(tmp_path, conv(numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")))
    assert "memory" in lepton("plan", path, "--target", "unit-cpu", "-o", tmp_path / "plan.json").complaint


def middle(kind: str) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    groups = 2 if kind == "grouped" else 1
    weights = {
        "w": rng.normal(0, 1, (4, 1, 3, 3)).astype(np.float32),
        "v": rng.normal(0, 1, (4, 4 // groups, 1, 1)).astype(np.float32),
    }
    between = {
        "softmax": [helper.make_node("Softmax", ["c"], ["m"], name="odd", axis=1)],
        "turned": [
            helper.make_node("Transpose", ["c"], ["t"], name="turn", perm=[0, 1, 3, 2]),
            helper.make_node("Add", ["c", "t"], ["m"], name="odd"),
        ],
        "grouped": [helper.make_node("Identity", ["c"], ["m"], name="same")],
    }[kind]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        *between,
        helper.make_node("Conv", ["m", "v"], ["y"], name="odd" if kind == "grouped" else "second", group=groups),
    ]
    return model_of(nodes, [numpy_helper.from_array(value, name) for name, value in weights.items()])


@pytest.mark.parametrize("kind", ["softmax", "turned", "grouped"])
def test_what_is_no_stream_is_infeasible_and_named(kind: str, lepton: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, middle(kind))
    plan = tmp_path / "plan.json"
    result = lepton("plan", path, "--target", "amd-zynq-7020", "-o", plan)
    assert result.code == 1
    assert result.err == ""
    assert "does not fit" in result.out
    assert "odd" in result.out
    assert "cpp" in result.out  # the lever
    assert "does not fit" in lepton("emit", plan, "-o", tmp_path / "out").complaint
    assert lepton("explain", plan).code == 1
    assert not (tmp_path / "out").exists()
