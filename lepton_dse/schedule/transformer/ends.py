"""What stands before the first layer and behind the last one: embedding, vocabulary and loss, on one device."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.strategy import Strategy
from lepton_dse.schedule.transformer.work import BYTES, Axis, Exchange, MatrixProduct, Streaming, Work

__all__ = ["Ends", "ends_of"]

LOSS_BYTES = 22.0
"""Of one score of the vocabulary: to 4 bytes (2 + 4), its exponential (4 + 4), the gradient back in 2 bytes (4 + 2), read (2)."""


@dataclass(frozen=True)
class Ends:
    """Work of the first and of the last stage besides their layers, for one microbatch, forward and backward.

    Parameters
    ----------
    first, last : tuple of Work
    first_parameters, last_parameters : float
        Weights on one device; those that the head shares with the embedding stand in both where these are on two devices.
    """

    first: tuple[Work, ...]
    last: tuple[Work, ...]
    first_parameters: float
    last_parameters: float


def ends_of(model: Transformer, strategy: Strategy, sequence: int) -> Ends:
    """Both ends under a strategy; the tensor axis splits the vocabulary (arXiv:1909.08053, section 3)."""
    tokens = strategy.microbatch * sequence / strategy.context
    shared = tokens / strategy.tensor if strategy.sequence else tokens
    hidden, scores = float(model.hidden), model.vocabulary / strategy.tensor
    size = BYTES * tokens * hidden
    looked = Streaming("embedding", BYTES * (3 + model.dropout) * shared * hidden, shared * hidden)
    added = Streaming("embedding: gradient", (BYTES + 8) * tokens * hidden, tokens * hidden)
    norm = Streaming("last norm", BYTES * 5 * shared * hidden, shared * hidden)
    first: tuple[Work, ...] = (looked, added)
    last: tuple[Work, ...] = (
        norm,
        MatrixProduct("vocabulary", tokens, scores, hidden),
        Streaming("loss", LOSS_BYTES * tokens * scores, tokens * scores, tokens * scores),
        MatrixProduct("vocabulary: operand gradient", tokens, hidden, scores),
        MatrixProduct("vocabulary: weight gradient", hidden, scores, tokens),
    )
    if strategy.tensor > 1:
        kinds = (Collective.ALL_GATHER, Collective.REDUCE_SCATTER) if strategy.sequence else (Collective.ALL_REDUCE,)
        first = (*first, Exchange("embedding", kinds[-1], size, Axis.TENSOR))
        last = (*last, *(Exchange("vocabulary", kind, size, Axis.TENSOR) for kind in kinds))
    embedding = model.embedding_parameters / strategy.tensor
    head = model.vocabulary * hidden / strategy.tensor + model.norm_parameters
    if strategy.pipeline == 1 and model.tied:
        head = float(model.norm_parameters)
    return Ends(first, last, embedding, head)
