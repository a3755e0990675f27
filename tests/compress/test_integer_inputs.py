"""A model that takes integers has no scale to quantise its input with."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import INT8, Precision


def test_integer_inputs_are_refused() -> None:
    builder = GraphBuilder("integers")
    x = builder.input("x", (1, 4), INT8)
    graph = builder.build([builder.add(ops.Clip(0, 5), [x], output="y")])
    with pytest.raises(LeptonError, match="x: takes int8, which has no scale; feed the model real numbers"):
        quantize(graph, Recipe(Precision.parse("int8")), Dataset(np.zeros((2, 4), np.float32)))
