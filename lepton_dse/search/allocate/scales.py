"""Bundles that differ in one layer: every range and every scale is found once and used by all of them.

What comes out is what :func:`lepton_dse.compress.quantize.quantize` makes of the same recipe. Methods that look further than
one tensor (ranges by output error, roundings, bias correction) are left to that function whole.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.groups import scale_groups
from lepton_dse.compress.quantize import (
    Recipe,
    activation_formats,
    activation_histograms,
    make_room_for_biases,
    quantize,
    weight_axis,
)
from lepton_dse.compress.ranges import Granularity, activation_params, weight_params
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, NumberFormat
from lepton_dse.plan import CalibrationMethod
from lepton_dse.search.allocate.choice import Choice, Layer

__all__ = ["Variants"]


class Variants:
    """A network quantised by a recipe, and the same with one layer changed.

    Parameters
    ----------
    graph : Graph
        Float graph, one sample a pass.
    recipe : Recipe
        Of all layers that are not changed.
    data : Dataset
        Calibration samples.

    Raises
    ------
    LeptonError
        If the recipe cannot be carried out; see :func:`lepton_dse.compress.quantize.quantize`.
    """

    def __init__(self, graph: Graph, recipe: Recipe, data: Dataset) -> None:
        self._graph = graph
        self._recipe = recipe
        self._data = data
        self.baseline = quantize(graph, recipe, data)[0]
        self._whole = recipe.rounding != "nearest" or recipe.correct_bias or recipe.method is CalibrationMethod.OUTPUT
        if self._whole:
            return
        self._groups = scale_groups(graph)
        self._histograms = activation_histograms(graph, data.x, self._groups)
        self._activations: dict[tuple[str, NumberFormat], Scale] = {}
        # The baseline's own weights have scales with room for biases; what others start from is as it was before.
        self._weights = {
            op.inputs[1]: self._weight_scale(op, recipe.of(op).weights, graph.constants[op.inputs[1]])
            for op in graph.ops
            if weight_axis(op) is not None and op.inputs[1] in graph.constants
        }

    def bundle(self, layer: Layer, choice: Choice, weights: NDArray[np.generic]) -> Bundle:
        """The network with one layer of other formats and weights.

        Ranges of activations are those of the unpruned network.
        """
        overrides = {**self._recipe.overrides, **dict.fromkeys(layer.ops, choice.precision)}
        recipe = replace(self._recipe, overrides=overrides)
        graph = self._graph
        if weights is not graph.constants[layer.weights]:
            graph = graph.with_constants({layer.weights: weights})
        if self._whole:
            return quantize(graph, recipe, self._data)[0]
        op = graph.op(layer.ops[0])
        found = {**self._weights, layer.weights: self._weight_scale(op, choice.precision.weights, weights)}
        scales = {name: scale for name, scale in found.items() if scale is not None}
        formats = activation_formats(graph, recipe, self._groups)
        for name, group in self._groups.items():
            if formats[group] != FLOAT32 and group in self._histograms:
                scales[name] = self._activation(group, formats[group])
        make_room_for_biases(graph, scales)
        return Bundle(graph, scales)

    def _activation(self, group: str, form: NumberFormat) -> Scale:
        if (group, form) not in self._activations:
            recipe = self._recipe
            params = activation_params(self._histograms[group], form, recipe.method, symmetric=recipe.symmetric)
            self._activations[group, form] = Scale(form, params)
        return self._activations[group, form]

    def _weight_scale(self, op: Op, form: NumberFormat, weights: NDArray[np.generic]) -> Scale | None:
        axis, recipe = weight_axis(op), self._recipe
        if axis is None or form == FLOAT32:
            return None
        granularity = Granularity.CHANNEL if isinstance(op.attributes, ops.Affine) else recipe.granularity
        reals = np.asarray(weights, np.float32)
        params = weight_params(reals, axis % reals.ndim, form, recipe.method, granularity=granularity, group=recipe.group)
        return Scale(form, params)
