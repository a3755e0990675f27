"""Runs a graph, operation by operation, holding each tensor no longer than its last reader needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidDataError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate as define
from lepton_dse.ir.tensors import Tensor

__all__ = ["Array", "Evaluate", "as_fed", "execute", "run", "steps"]

Array = NDArray[np.generic]
_WHOLE = 1 << 53  # doubles hold every whole number up to here
Evaluate = Callable[[Op, list[Array], Tensor, list[Tensor]], Array]


def steps(graph: Graph, feeds: Mapping[str, Array], evaluate: Evaluate = define) -> Iterator[tuple[str, Array]]:
    """Every non-constant tensor of a pass with its value, in order of computation, inputs first.

    Parameters
    ----------
    graph : Graph
        The graph, at the batch of the feeds.
    feeds : mapping of str to ndarray
        A value per graph input, of exactly its shape.
    evaluate : callable
        Meaning of one operation; the NumPy definition by default.

    Raises
    ------
    InvalidDataError
        If a feed is missing, has the wrong shape, or holds what an input of integers cannot.
    """
    values: dict[str, Array] = dict(graph.constants)
    for name in graph.inputs:
        if name not in feeds or feeds[name].shape != graph.tensors[name].shape:
            found = list(feeds[name].shape) if name in feeds else "nothing"
            raise InvalidDataError(f"expects samples of shape {list(graph.tensors[name].shape)}, found {found}", where=name)
        values[name] = as_fed(feeds[name], graph.tensors[name])
        yield name, values[name]
    remaining = {name: len(graph.consumers(name)) + (name in graph.outputs) for name in graph.tensors}
    for op in graph.ops:
        result = evaluate(
            op, [values[name] for name in op.inputs], graph.tensors[op.output], [graph.tensors[name] for name in op.inputs]
        )
        values[op.output] = result
        yield op.output, result
        for name in dict.fromkeys(op.inputs):
            remaining[name] -= 1
            if remaining[name] == 0 and name not in graph.constants:
                del values[name]


def as_fed(value: Array, tensor: Tensor) -> Array:
    """Samples as a graph input holds them: whole numbers become integers where the input is one, such as a token.

    Raises
    ------
    InvalidDataError
        If the input is of integers and a value is none, or outside its format.
    """
    form = tensor.format
    if form.is_float or value.dtype == form.numpy:
        return value
    low, high = int(form.minimum), int(form.maximum)
    if value.dtype.kind == "f":
        low, high = max(low, -_WHOLE), min(high, _WHOLE)
    numbers: NDArray[Any] = value
    whole = (numbers >= low) & (numbers <= high) & (np.floor(numbers) == numbers)  # NaN is none
    if not whole.all():
        found = numbers[~whole].reshape(-1)[0]
        raise InvalidDataError(
            f"a value of {found}, the model takes {form}", where=tensor.name, fix="feed whole numbers in its range"
        )
    return value.astype(form.numpy)


def execute(graph: Graph, feeds: Mapping[str, Array], evaluate: Evaluate = define) -> dict[str, Array]:
    """Outputs of one pass by name; see :func:`steps`."""
    found: dict[str, Array] = {name: graph.constants[name] for name in graph.outputs if name in graph.constants}
    for name, value in steps(graph, feeds, evaluate):
        if name in graph.outputs:
            found[name] = value
    return found


def run(graph: Graph, x: Array, *, batch: int = 64, evaluate: Evaluate = define) -> dict[str, Array]:
    """Outputs for many samples, `batch` at a time.

    Parameters
    ----------
    graph : Graph
        A graph with one input.
    x : ndarray, shape (N, ...)
        Samples; those of a graph of batch B have shape ``input.shape[1:]``.
    batch : int
        Samples a pass; the results do not depend on it.

    Returns
    -------
    dict of str to ndarray
        Each output with N entries along axis 0.

    Raises
    ------
    InvalidDataError
        If the samples do not have the input's shape.
    """
    name = graph.inputs[0]
    expected = graph.tensors[name].shape[1:]
    if len(graph.inputs) != 1:
        raise InvalidDataError(f"the model has {len(graph.inputs)} inputs; feed them by name", where=graph.name)
    if x.shape[1:] != expected:
        raise InvalidDataError(f"samples of shape {list(x.shape[1:])}, the model takes {list(expected)}", where=name)
    parts: dict[str, list[Array]] = {}
    graphs: dict[int, Graph] = {}
    for start in range(0, len(x), batch):
        chunk = x[start : start + batch]
        if len(chunk) not in graphs:
            graphs[len(chunk)] = graph.with_batch(len(chunk))
        for key, value in execute(graphs[len(chunk)], {name: chunk}, evaluate).items():
            parts.setdefault(key, []).append(value)
    return {key: np.concatenate(values) if len(values) > 1 else values[0] for key, values in parts.items()}
