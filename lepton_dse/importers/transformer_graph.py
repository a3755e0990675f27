"""One layer of a transformer as a graph, from its shapes alone.

Weights are not known, so each is one number seen as an array of the right shape: a layer of any size takes no memory. Where
arrays are given, the graph is the layer, and computes it.

* Queries, keys and values come of three products, and so do gate and up of a gated feed-forward part. Heads of keys that several
  queries share are not repeated: the product with them broadcasts.
* Positions that rotate queries and keys are two tables, ``cosines`` and ``sines``, of all tokens of the pass and the width of a
  head; the halves of a head are rotated against each other. Learned positions belong to the embedding.
* What a token may not see is a constant, of which one row is kept, and its score becomes -10,000.
* With tokens in a cache, their keys and values are inputs and stand before those of the pass.
* A root-mean-square norm is the six operations that it consists of, the activation SiLU two. A device that joins them does less
  than a sum over operations says.

Experts are not expressed: which a token visits depends on what it holds, and a graph has fixed shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.transformer import Activation, Norm, Transformer

__all__ = ["block_graph", "block_weights"]

Array = NDArray[Any]
_UNSEEN = -1e4
_MOST_TOKENS = 1 << 24
_MOST_ELEMENTS = 1 << 60


def block_weights(model: Transformer, sequence: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the constants of a layer that are not the same in every transformer.

    Parameters
    ----------
    model : Transformer
    sequence : int
        Tokens of the pass, which the tables of rotating positions have.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name in ("norm_1", "norm_2"):
        found[f"{name}.scale"] = (model.hidden,)
        if model.norm is Norm.LAYER:
            found[f"{name}.shift"] = (model.hidden,)
    products = {
        "queries": (model.hidden, model.queries),
        "keys": (model.hidden, model.keys),
        "values": (model.hidden, model.keys),
        "output": (model.queries, model.hidden),
        **({"gate": (model.hidden, model.intermediate)} if model.gated else {}),
        "up": (model.hidden, model.intermediate),
        "down": (model.intermediate, model.hidden),
    }
    for name, shape in products.items():
        found[f"{name}.weight"] = shape
        if model.biases or (model.qkv_biases and name in ("queries", "keys", "values")):
            found[f"{name}.bias"] = shape[1:]
    if not model.positions:
        found["cosines"] = found["sines"] = (sequence, model.head_width)
    return found


def block_graph(
    model: Transformer,
    batch: int,
    sequence: int,
    *,
    cache: int = 0,
    weights: Mapping[str, Array] | None = None,
    epsilon: float = 1e-5,
) -> Graph:
    """A layer over some samples.

    Parameters
    ----------
    model : Transformer
    batch : int
        Samples.
    sequence : int
        Tokens of each in this pass.
    cache : int
        Tokens of each before it, whose keys and values are the inputs ``past_keys`` and ``past_values`` (batch, heads of keys,
        cache, width).
    weights : mapping of str to ndarray, optional
        All of :func:`block_weights`; weights of products with what goes in on axis 0.
    epsilon : float
        Of norms.

    Returns
    -------
    Graph
        From ``x`` to ``y``, both (batch, sequence, hidden).

    Raises
    ------
    InvalidModelError
        If it has experts, extents are below 1 or above those it was made for, or weights do not fit.
    """
    _check(model, batch, sequence, cache)
    shapes = block_weights(model, sequence)
    block = _Block(model, batch, sequence, cache, epsilon, GraphBuilder(f"{model.name}, one layer"))
    for name, shape in shapes.items():
        block.builder.constant(name, _weight(name, shape, weights, model.name))
    for name in weights or {}:
        if name not in shapes:
            raise InvalidModelError(f"has no weight '{name}'", where=model.name, fix=f"its weights are {', '.join(shapes)}")
    return block.build()


def _check(model: Transformer, batch: int, sequence: int, cache: int) -> None:
    if model.experts > 1:
        what = "which experts a token visits depends on what it holds, so a layer is no graph of fixed shapes"
        raise InvalidModelError(what, where=model.name, fix="use lepton inspect or lepton shard, which count experts")
    if min(batch, sequence) < 1 or cache < 0:
        what = f"{batch} samples of {sequence} tokens behind {cache}"
        raise InvalidModelError(what, where=model.name, fix="use 1 or more, and a cache of 0 or more")
    if sequence + cache > min(model.longest, _MOST_TOKENS):
        what = f"{sequence + cache} tokens of at most {min(model.longest, _MOST_TOKENS)}"
        raise InvalidModelError(what, where=model.name, fix="use a shorter sequence")


def _weight(name: str, shape: tuple[int, ...], weights: Mapping[str, Array] | None, where: str) -> Array:
    if weights is None:
        if math.prod(shape) > _MOST_ELEMENTS:
            raise InvalidModelError(f"'{name}' has {math.prod(shape)} elements", where=where, fix="correct its extents")
        return np.broadcast_to(np.float32(1), shape)
    if name not in weights:
        raise InvalidModelError(f"lacks the weight '{name}'", where=where, fix="give all of them, or none")
    value = np.asarray(weights[name])
    if value.shape != shape or value.dtype.kind != "f":
        what = f"'{name}' is {value.dtype} of shape {list(value.shape)}, not real of {list(shape)}"
        raise InvalidModelError(what, where=where, fix="give weights with what goes in on axis 0")
    return value.astype(np.float32)


class _Block:
    """The operations of a layer, in order."""

    def __init__(self, model: Transformer, batch: int, sequence: int, cache: int, epsilon: float, builder: GraphBuilder) -> None:
        self.model, self.batch, self.sequence, self.cache, self.epsilon = model, batch, sequence, cache, epsilon
        self.builder = builder
        self.groups = model.heads // model.kv_heads

    def build(self) -> Graph:
        """The graph."""
        model, x = self.model, self.builder.input("x", (self.batch, self.sequence, self.model.hidden))
        if model.post_norm:
            attended = self._norm("norm_1", self._add("sum_1", x, self._attention(x)))
            result = self._norm("norm_2", self._add("sum_2", attended, self._feed_forward(attended)), output="y")
        else:
            attended = self._add("sum_1", x, self._attention(self._norm("norm_1", x)))
            result = self._add("y", attended, self._feed_forward(self._norm("norm_2", attended)), name="sum_2")
        return self.builder.build([result])

    def _add(self, output: str, a: str, b: str, name: str = "") -> str:
        return self.builder.add(ops.Add(), [a, b], output=output, name=name)

    def _binary(self, function: ops.BinaryFunction, a: str, b: str, output: str) -> str:
        return self.builder.add(ops.Binary(function), [a, b], output=output)

    def _times(self, a: str, b: str, output: str) -> str:
        return self._binary(ops.BinaryFunction.MULTIPLY, a, b, output)

    def _scalar(self, name: str, value: float) -> str:
        return self.builder.constant(self.builder.fresh(name), np.full(1, value, np.float32))

    def _product(self, name: str, x: str, output: str = "") -> str:
        weights = [f"{name}.{part}" for part in ("weight", "bias") if f"{name}.{part}" in self.builder.tensors]
        return self.builder.add(ops.MatMul(), [x, *weights], output=output or name)

    def _norm(self, name: str, x: str, output: str = "") -> str:
        output = output or name
        if self.model.norm is Norm.LAYER:
            inputs = [x, f"{name}.scale", f"{name}.shift"]
            return self.builder.add(ops.LayerNorm((2,), self.epsilon), inputs, output=output, name=name)
        squares = self._times(x, x, f"{name}.squares")
        mean = self.builder.add(ops.Reduce(ops.ReduceFunction.MEAN, (2,), True), [squares], output=f"{name}.mean")
        shifted = self._add(f"{name}.shifted", mean, self._scalar("epsilon", self.epsilon))
        root = self.builder.add(ops.Unary(ops.UnaryFunction.SQUARE_ROOT), [shifted], output=f"{name}.root")
        divided = self._binary(ops.BinaryFunction.DIVIDE, x, root, f"{name}.divided")
        return self._times(divided, f"{name}.scale", output)

    # --- attention ----------------------------------------------------------------------------------------------------

    def _attention(self, x: str) -> str:
        model, builder = self.model, self.builder
        queries, keys, values = (
            self._heads(name, self._product(name, x), heads)
            for name, heads in (("queries", model.heads), ("keys", model.kv_heads), ("values", model.kv_heads))
        )
        if not model.positions:
            queries, keys = self._rotated("queries", queries, model.heads), self._rotated("keys", keys, model.kv_heads)
        queries = self._times(queries, self._scalar("scale", model.head_width**-0.5), "queries.scaled")
        keys, values = self._with_past("keys", keys), self._with_past("values", values)
        tokens = self.sequence + self.cache
        turned = builder.add(ops.Transpose((0, 1, 3, 2)), [keys], output="keys.turned")
        if self.groups > 1:
            shared = (self.batch, model.kv_heads)
            queries = self._view(queries, (*shared, self.groups, self.sequence, model.head_width), "queries.grouped")
            turned = self._view(turned, (*shared, 1, model.head_width, tokens), "keys.shared")
            values = self._view(values, (*shared, 1, tokens, model.head_width), "values.shared")
        scores = builder.add(ops.MatMul(), [queries, turned], output="scores")
        if model.causal and self.sequence > 1:
            scores = self._masked(scores)
        axis = len(builder.tensors[scores].shape) - 1
        shares = builder.add(ops.Softmax((axis,)), [scores], output="shares")
        heads = builder.add(ops.MatMul(), [shares, values], output="weighted")
        if self.groups > 1:
            heads = self._view(heads, (self.batch, model.heads, self.sequence, model.head_width), "weighted.heads")
        turned = builder.add(ops.Transpose((0, 2, 1, 3)), [heads], output="weighted.tokens")
        return self._product("output", self._view(turned, (self.batch, self.sequence, model.queries), "weighted.together"))

    def _view(self, x: str, shape: tuple[int, ...], output: str) -> str:
        return self.builder.add(ops.Reshape(shape), [x], output=output)

    def _heads(self, name: str, x: str, heads: int) -> str:
        split = self._view(x, (self.batch, self.sequence, heads, self.model.head_width), f"{name}.split")
        return self.builder.add(ops.Transpose((0, 2, 1, 3)), [split], output=f"{name}.heads")

    def _rotated(self, name: str, x: str, heads: int) -> str:
        half = self.model.head_width // 2
        rest = self.model.head_width - half
        first = self._part(x, heads, 0, half, f"{name}.first")
        second = self._part(x, heads, half, rest, f"{name}.second")
        negative = self.builder.add(ops.Unary(ops.UnaryFunction.NEGATE), [second], output=f"{name}.negative")
        exchanged = self.builder.add(ops.Concat(3), [negative, first], output=f"{name}.exchanged")
        straight, across = self._times(x, "cosines", f"{name}.straight"), self._times(exchanged, "sines", f"{name}.across")
        return self._add(f"{name}.rotated", straight, across)

    def _part(self, x: str, heads: int, begin: int, width: int, output: str) -> str:
        extent = (self.batch, heads, self.sequence, width)
        return self.builder.add(ops.Slice((0, 0, 0, begin), extent, (1, 1, 1, 1)), [x], output=output)

    def _with_past(self, name: str, x: str) -> str:
        if not self.cache:
            return x
        past = self.builder.input(f"past_{name}", (self.batch, self.model.kv_heads, self.cache, self.model.head_width))
        return self.builder.add(ops.Concat(2), [past, x], output=f"{name}.all")

    def _masked(self, scores: str) -> str:
        tokens = self.sequence + self.cache
        line = np.arange(self.sequence + tokens - 1) < tokens  # each row of the mask is the one below it, a place further
        seen = np.lib.stride_tricks.sliding_window_view(line, tokens)[::-1]
        inputs = [self.builder.constant("seen", seen), scores, self._scalar("unseen", _UNSEEN)]
        return self.builder.add(ops.Where(), inputs, output="scores.seen")

    # --- feed-forward part --------------------------------------------------------------------------------------------

    def _feed_forward(self, x: str) -> str:
        up = self._product("up", x)
        gated = self._times(self._active(self._product("gate", x)), up, "gated") if self.model.gated else self._active(up)
        return self._product("down", gated)

    def _active(self, x: str) -> str:
        match self.model.activation:
            case Activation.SILU:
                return self._times(x, self.builder.add(ops.Sigmoid(), [x], output="sigmoid"), "active")
            case Activation.RELU:
                attributes: ops.Attributes = ops.Clip(0.0, math.inf)
            case activation:
                attributes = ops.Gelu(approximate=activation is Activation.GELU_TANH)
        return self.builder.add(attributes, [x], output="active")
