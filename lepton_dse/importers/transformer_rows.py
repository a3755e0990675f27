"""A transformer as rows: the operations of one layer, which all layers repeat, and what stands before and behind them.

Multiply-accumulates and elements of an operation are polynomials in the tokens of a pass, of the second degree at most, so that
graphs of three short passes give those of any length, and none of its size is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.transformer_graph import block_graph, block_weights
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.transformer import Norm, Transformer

__all__ = ["FoldedOp", "folded_ops"]

_SHORT = (2, 3, 4)
"""Tokens of the passes that are built; of one token nothing is hidden from another."""
_BYTES = 4
"""Of an element: graphs are in float32."""


@dataclass(frozen=True)
class FoldedOp:
    """An operation and its figures, all of its times together.

    Parameters
    ----------
    name, kind : str
    times : int
        How many layers, or for the rest 1.
    macs, params, in_bytes, out_bytes : int
        As ``lepton inspect`` has them; a token visits its experts one after another, each a time of the same operation.
    """

    name: str
    kind: str
    times: int
    macs: int
    params: int
    in_bytes: int
    out_bytes: int


def folded_ops(model: Transformer, batch: int, sequence: int) -> tuple[FoldedOp, ...]:
    """All operations of a pass without a cache.

    Parameters
    ----------
    model : Transformer
    batch : int
        Samples.
    sequence : int
        Tokens of each.

    Returns
    -------
    tuple of FoldedOp
        Multiply-accumulates and parameters of all of them sum to the model's.

    Raises
    ------
    InvalidModelError
        If extents are below 1, or there are more tokens than it was made for.
    """
    if min(batch, sequence) < 1:
        raise InvalidModelError(f"{batch} samples of {sequence} tokens", where=model.name, fix="use 1 or more of each")
    if sequence > model.longest:
        what = f"{sequence} tokens where it was made for {model.longest}"
        raise InvalidModelError(what, where=model.name, fix="use a shorter sequence")
    if model.patch and sequence != model.longest:
        what = f"{sequence} tokens of a picture that has {model.longest}"
        raise InvalidModelError(what, where=model.name, fix="leave the sequence out")
    return (*_before(model, batch, sequence), *_layers(model, batch, sequence), *_behind(model, batch, sequence))


def _before(model: Transformer, batch: int, sequence: int) -> Iterator[FoldedOp]:
    out = _BYTES * batch * sequence * model.hidden
    if model.patch:
        patches = batch * (sequence - 1)
        macs = patches * model.patch * model.hidden
        yield FoldedOp("embedding", "Conv", 1, macs, model.embedding_parameters, _BYTES * patches * model.patch, out)
    else:
        yield FoldedOp("embedding", "Gather", 1, 0, model.embedding_parameters, _BYTES * batch * sequence, out)
    if model.post_norm:
        yield _norm("embedding norm", model, out)


def _behind(model: Transformer, batch: int, sequence: int) -> Iterator[FoldedOp]:
    if not model.post_norm:
        yield _norm("last norm", model, _BYTES * batch * sequence * model.hidden)
    rows = batch if model.patch else batch * sequence  # of a picture the token of the class alone
    weights = model.hidden * model.vocabulary
    inside, out = _BYTES * rows * model.hidden, _BYTES * rows * model.vocabulary
    yield FoldedOp("vocabulary", "MatMul", 1, rows * weights, 0 if model.tied else weights, inside, out)


def _norm(name: str, model: Transformer, size: int) -> FoldedOp:
    kind = "LayerNorm" if model.norm is Norm.LAYER else "RmsNorm"
    return FoldedOp(name, kind, 1, 0, model.norm_parameters, size, size)


def _layers(model: Transformer, batch: int, sequence: int) -> Iterator[FoldedOp]:
    dense = replace(model, experts=1, active=1, longest=max(model.longest, *_SHORT))
    graphs = [block_graph(dense, batch, tokens) for tokens in _SHORT]
    tables = {name for name in block_weights(dense, 1) if name not in ("cosines", "sines")}
    inside = False
    for number, op in enumerate(graphs[0].ops):
        macs, read, written = (
            model.layers * _at(sequence, [_figures(graph, number)[figure] for graph in graphs]) for figure in range(3)
        )
        params = model.layers * sum(graphs[0].tensors[name].elements for name in op.inputs if name in tables)
        if model.experts > 1 and not inside and op.name in ("gate", "up"):
            inside = True
            size = _BYTES * batch * sequence * model.layers
            weights = model.layers * model.router_parameters
            products = batch * sequence * weights
            yield FoldedOp("router", "MatMul", model.layers, products, weights, size * model.hidden, size * model.experts)
        visits, held = (model.active, model.experts) if inside else (1, 1)
        yield FoldedOp(op.name, op.kind, model.layers, visits * macs, held * params, visits * read // 8, visits * written // 8)
        inside = inside and op.name != "down"


def _figures(graph: Graph, number: int) -> tuple[int, int, int]:
    """Multiply-accumulates, and bits read of what is computed and written, of one operation."""
    op = graph.ops[number]
    read = sum(graph.tensors[name].bits for name in op.inputs if name not in graph.constants)
    return graph.nest(op).macs, read, graph.tensors[op.output].bits


def _at(tokens: int, values: list[int]) -> int:
    """The polynomial through the values at the short passes (Newton's forward differences)."""
    first, second, third = values
    slope, bend = second - first, third - 2 * second + first
    steps = tokens - _SHORT[0]
    return first + steps * slope + steps * (steps - 1) // 2 * bend
