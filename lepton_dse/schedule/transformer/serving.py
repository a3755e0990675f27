"""A layer while a transformer answers: a prompt at once (prefill), then token after token for many sequences (decode).

Prefill runs the forward pass of training without dropout. A step of decoding multiplies one token of each sequence by the weights
and lets it look at all keys and values before it, which a cache holds: ``2 k w`` elements a token and layer for k heads of keys
and width w. Attention then moves the cache once, and for each token before it makes two multiply-accumulates an element of the
queries and one exponential a head; it is a streaming kernel, since no two sequences share keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.strategy import Software, Strategy
from lepton_dse.schedule.transformer.block import block_of
from lepton_dse.schedule.transformer.work import BYTES, Axis, Exchange, MatrixProduct, Streaming, Work

__all__ = ["cache_bytes", "decode_of", "last_token", "prefill_of", "weights_of"]

_FUSED = Software()


@dataclass(frozen=True)
class _Token:
    """Extents of one step of decoding on one device."""

    sequences: float
    hidden: float
    queries: float
    keys: float
    between: float
    inner: float


def prefill_of(model: Transformer, tensor: int, prompt: int) -> tuple[Work, ...]:
    """A layer's work for one prompt, shared by the devices of the tensor axis."""
    return block_of(replace(model, dropout=False), Strategy(tensor=tensor), _FUSED, prompt).forward


def cache_bytes(model: Transformer, tensor: int, element: float) -> float:
    """Bytes of keys and values of one token and one layer on one device; heads that do not reach stand several times."""
    return 2.0 * max(model.keys / tensor, float(model.head_width)) * element


def decode_of(model: Transformer, tensor: int, sequences: int, context: float, element: float) -> tuple[Work, ...]:
    """A layer's work for the next token of some sequences.

    Parameters
    ----------
    model : Transformer
    tensor : int
        Devices that share the layer.
    sequences : int
    context : float
        Tokens that each has behind it, on average.
    element : float
        Bytes of an element of the cache.
    """
    inner = model.intermediate / tensor
    size = _Token(
        sequences=float(sequences),
        hidden=float(model.hidden),
        queries=model.queries / tensor,
        keys=max(model.keys / tensor, float(model.head_width)),
        between=inner * (2 if model.gated else 1),
        inner=inner,
    )
    pairs = size.sequences * context
    reduced: tuple[Work, ...] = ()
    if tensor > 1:
        reduced = (Exchange("reduce", Collective.ALL_REDUCE, BYTES * size.sequences * size.hidden, Axis.TENSOR),)
    return (
        _pass("norm before attention", 2, size.sequences, size.hidden),
        MatrixProduct("queries, keys, values", size.sequences, size.queries + 2 * size.keys, size.hidden),
        Streaming(
            "attention over the cache",
            pairs * cache_bytes(model, tensor, element),
            2.0 * pairs * size.queries,
            pairs * model.heads / tensor,
        ),
        MatrixProduct("attention output", size.sequences, size.hidden, size.queries),
        *reduced,
        _pass("add behind attention", 3, size.sequences, size.hidden),
        _pass("norm before feed-forward", 2, size.sequences, size.hidden),
        *_feed_forward(model, size),
        *reduced,
        _pass("add behind feed-forward", 3, size.sequences, size.hidden),
    )


def _feed_forward(model: Transformer, size: _Token) -> tuple[Work, ...]:
    """The feed-forward part; with experts all that some token visits, where tokens choose alike at random."""
    rows, held = size.sequences, 1.0
    router: tuple[Work, ...] = ()
    if model.experts > 1:
        missed = (1.0 - model.active / model.experts) ** size.sequences
        held = max(float(model.active), model.experts * (1.0 - missed))
        rows = size.sequences * model.active / held
        router = (MatrixProduct("router", size.sequences, float(model.experts), size.hidden),)
    return (
        *router,
        MatrixProduct("feed-forward in", rows, size.between, size.hidden, held),
        _pass("activation", 2 + model.gated, size.sequences * model.active, size.inner),
        MatrixProduct("feed-forward out", rows, size.hidden, size.inner, held),
    )


def last_token(model: Transformer, tensor: int, sequences: int) -> tuple[Work, ...]:
    """The last normalisation, and the scores of the vocabulary for one token of each sequence."""
    rows, scores = float(sequences), model.vocabulary / tensor
    gathered: tuple[Work, ...] = ()
    if tensor > 1:
        gathered = (Exchange("gather scores", Collective.ALL_GATHER, BYTES * rows * model.vocabulary, Axis.TENSOR),)
    return (
        _pass("last norm", 2, rows, float(model.hidden)),
        MatrixProduct("vocabulary", rows, scores, float(model.hidden)),
        *gathered,
    )


def weights_of(model: Transformer, tensor: int, pipeline: int) -> tuple[float, float]:
    """Weights on the fullest device: those of the layers, and those of the embedding and the vocabulary.

    Products to heads of keys and values that do not reach stand several times.
    """
    layers = -(-model.layers // pipeline)
    spare = 2.0 * (max(model.keys / tensor, float(model.head_width)) - model.keys / tensor) * model.hidden
    experts = model.experts * model.expert_parameters
    whole = model.router_parameters + 2 * model.norm_parameters
    inside = layers * ((model.attention_parameters + experts) / tensor + spare + whole)
    ends = max(model.embedding_parameters, model.vocabulary * model.hidden) / tensor
    if pipeline == 1 and not model.tied:
        ends = (model.embedding_parameters + model.vocabulary * model.hidden) / tensor
    return inside, ends


def _pass(name: str, moves: float, rows: float, columns: float) -> Streaming:
    return Streaming(name, BYTES * moves * rows * columns, rows * columns)
