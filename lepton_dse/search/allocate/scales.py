"""Bundles that differ in one layer: every range and every scale is found once and used by all of them.

What comes out is what :func:`lepton_dse.compress.quantize.quantize` makes of the same recipe, with one exception: where a recipe
rounds for the layers' outputs or corrects biases, the changed layer is rounded for the float network's inputs, and all others
keep the integers that they have beside it. One walk through the network a choice then gives every layer's integers, not one walk
a layer. Ranges by output error are left to that function whole.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lepton_dse import registry
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
from lepton_dse.compress.refine import refined_alone
from lepton_dse.compress.rounding.protocol import Rounding
from lepton_dse.compress.walk import Change
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, NumberFormat
from lepton_dse.plan import CalibrationMethod
from lepton_dse.search.allocate.choice import Choice, Layer, layers_of

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
        self._whole = recipe.method is CalibrationMethod.OUTPUT
        self._refines = recipe.rounding != "nearest" or recipe.correct_bias
        if self._whole:
            return
        self._groups = scale_groups(graph)
        self._histograms = activation_histograms(graph, data.x, self._groups)
        self._activations: dict[tuple[str, NumberFormat], Scale] = {}
        self._alone: dict[Choice, Change] = {}
        # The baseline's own weights have scales with room for biases; what others start from is as it was before.
        self._weights = {
            op.inputs[1]: self._weight_scale(op, recipe.of(op).weights, graph)
            for op in graph.ops
            if weight_axis(op) is not None and op.inputs[1] in graph.constants
        }

    def bundle(self, layer: Layer, choice: Choice, source: Graph) -> Bundle:
        """The network with one layer of other formats and of `source`'s weights: the float graph's, or of one that is pruned.

        Ranges of activations are those of the unpruned network.
        """
        weights = source.constants[layer.weights]
        if self._whole:
            graph = self._graph.with_constants({layer.weights: weights})
            return quantize(graph, self._changed(layer, choice), self._data)[0]
        scales = self._scales(layer, choice, source)
        if not self._refines:
            return Bundle(self._graph.with_constants({layer.weights: weights}), scales)
        if not choice.ratio and all(choice.precision == self._recipe.of(self._graph.op(name)) for name in layer.ops):
            return self.baseline
        changed = {layer.weights: weights}
        for name in dict.fromkeys(self._graph.op(layer.ops[0]).inputs[1:]):
            value = self._refined(choice, source).get(name)
            if value is not None:
                changed[name] = value
        return Bundle(self.baseline.graph.with_constants(changed), scales)

    def _changed(self, layer: Layer, choice: Choice) -> Recipe:
        return replace(self._recipe, overrides={**self._recipe.overrides, **dict.fromkeys(layer.ops, choice.precision)})

    def _scales(self, layer: Layer, choice: Choice, source: Graph) -> dict[str, Scale]:
        """All scales of the network with one layer changed."""
        op = self._graph.op(layer.ops[0])
        found = {**self._weights, layer.weights: self._weight_scale(op, choice.precision.weights, source)}
        scales = {name: scale for name, scale in found.items() if scale is not None}
        formats = activation_formats(self._graph, self._changed(layer, choice), self._groups)
        for name, group in self._groups.items():
            if formats[group] != FLOAT32 and group in self._histograms:
                scales[name] = self._activation(group, formats[group])
        make_room_for_biases(self._graph, scales)
        return scales

    def _refined(self, choice: Choice, source: Graph) -> Change:
        """Constants of all layers, each rounded as if it alone had the choice."""
        if choice not in self._alone:
            own = {layer.weights: self._scales(layer, choice, source).get(layer.weights) for layer in layers_of(self._graph)}
            rounding: Rounding = registry.load(registry.Group.ROUNDINGS, self._recipe.rounding)
            self._alone[choice] = refined_alone(
                self._graph,
                {name: scale for name, scale in own.items() if scale is not None},
                self._data.x,
                rounding=rounding,
                correct_bias=self._recipe.correct_bias,
                memory_bytes=self._recipe.memory_bytes,
                source=source,
            )
        return self._alone[choice]

    def _activation(self, group: str, form: NumberFormat) -> Scale:
        if (group, form) not in self._activations:
            recipe = self._recipe
            params = activation_params(self._histograms[group], form, recipe.method, symmetric=recipe.symmetric)
            self._activations[group, form] = Scale(form, params)
        return self._activations[group, form]

    def _weight_scale(self, op: Op, form: NumberFormat, source: Graph) -> Scale | None:
        axis, recipe = weight_axis(op), self._recipe
        if axis is None or form == FLOAT32:
            return None
        granularity = Granularity.CHANNEL if isinstance(op.attributes, ops.Affine) else recipe.granularity
        reals = np.asarray(source.constants[op.inputs[1]], np.float32)
        params = weight_params(reals, axis % reals.ndim, form, recipe.method, granularity=granularity, group=recipe.group)
        return Scale(form, params)
