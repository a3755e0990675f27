"""A model that takes whole numbers, such as tokens, is quantised behind them; one of several inputs is refused."""

from __future__ import annotations

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import FLOAT32, INT8, INT64, Precision
from lepton_dse.reference import engine, fast


def tokens() -> Graph:
    """Rows of a table, averaged and classified."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("tokens")
    builder.input("ids", (1, 6), INT64)
    builder.constant("table", rng.normal(0, 1, (20, 8)).astype(np.float32))
    builder.constant("w", rng.normal(0, 1, (8, 4)).astype(np.float32))
    rows = builder.add(ops.Gather(0), ["table", "ids"], output="rows")
    mean = builder.add(ops.Reduce(ops.ReduceFunction.MEAN, (1,), False), [rows], output="mean")
    return builder.build([builder.add(ops.MatMul(), [mean, "w"], output="scores")])


@pytest.mark.parametrize("options", [{}, {"rounding": "gptq"}, {"correct_bias": True}])
def test_what_stands_behind_tokens_is_quantised(options: dict[str, object]) -> None:
    graph = tokens()
    data = noise(graph, 3, 200)
    assert data.x.max() == 19
    bundle, _ = quantize(graph, Recipe(Precision.parse("int8"), **options), data)  # type: ignore[arg-type]
    assert "ids" not in bundle.scales
    assert bundle.scales["mean"].format == bundle.scales["w"].format == INT8
    lowered = lower_bundle(bundle)
    assert lowered.tensors["ids"].format == INT64
    exact, found = engine.run(graph, data.x)["scores"], engine.run(lowered, data.x, evaluate=fast.evaluate)["scores"]
    assert np.abs(found - exact).max() < 0.03 * np.abs(exact).max()


def test_samples_that_are_no_tokens() -> None:
    graph = tokens()
    for value in (0.5, np.float32(2**70), -(2.0**70)):
        with pytest.raises(InvalidDataError, match=r"ids: a value of .*, the model takes int64; feed whole numbers in its range"):
            engine.run(graph, np.full((1, 6), value, np.float32))
    with pytest.raises(LeptonError, match="reads index 20 of an axis of 20"):
        quantize(graph, Recipe(Precision.parse("int8")), Dataset(np.full((2, 6), 20, np.float32)))


def test_several_inputs_are_refused() -> None:
    builder = GraphBuilder("pair")
    builder.input("x", (1, 4))
    builder.input("y", (1, 4))
    graph = builder.build([builder.add(ops.Add(), ["x", "y"], output="sum")])
    data = Dataset(np.zeros((2, 4), np.float32))
    with pytest.raises(LeptonError, match=r"pair: 2 inputs \(x, y\), and samples are for one; import it with the others bound"):
        quantize(graph, Recipe(Precision.parse("int8")), data)


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_a_program_that_takes_tokens_is_verified(form: str, tmp_path: object, needs_tool: object) -> None:
    needs_tool("g++")  # type: ignore[operator]
    graph = tokens()
    planned = ld.plan(graph, "unit-cpu", format=form, data=noise(graph, 1, 40))
    assert ld.verify(ld.emit(planned, f"{tmp_path}/cpp", data=noise(graph, 2, 9))).passed
    assert planned.lowered.tensors["scores"].format == FLOAT32
