"""One layer of a transformer on one device of a mesh: its kernels and exchanges, forward and backward, and what it keeps.

The split of a layer over the tensor axis is that of M. Shoeybi et al., "Megatron-LM" (arXiv:1909.08053): the product to queries,
keys and values and the one into the feed-forward part by columns, the two back by rows, whose partial sums an all-reduce adds.
Sequence parallelism and what the backward pass keeps are those of V. Korthikanti et al. (arXiv:2205.05198): with 16-bit
activations, one byte a mask and 4 h elements in between, a layer keeps ``s b h (34 + 5 a s / h)`` bytes on one device.

Kernels between products move every element of their operands and result once; how often is written beside each. A gated
feed-forward part makes two products going in as one with twice the columns. Masked pairs are computed where attention is not
fused, and half of them are where it is and a token sees only those before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.strategy import Recompute, Software, Strategy
from lepton_dse.schedule.transformer.work import BYTES, Attention, Axis, Exchange, Kept, MatrixProduct, Streaming, Work

__all__ = ["Block", "block_of"]

MASK = 0.5
"""Of an element's bytes: a mask takes one of two."""
FUSED_BACKWARD = 2.5
"""Products of fused attention going back over those going forward: five over two (arXiv:2307.08691, section 2.3)."""


@dataclass(frozen=True)
class Block:
    """A layer on one device, for one microbatch.

    Parameters
    ----------
    forward, backward : tuple of Work
        Without what is computed again.
    again : tuple of Work
        Of the forward pass, what the backward pass does once more.
    kept : tuple of Kept
        From the forward pass to the backward pass.
    parameters : float
        Weights of the layer on one device, without experts.
    expert_parameters : float
        Weights of experts on one device.
    """

    forward: tuple[Work, ...]
    backward: tuple[Work, ...]
    again: tuple[Work, ...]
    kept: tuple[Kept, ...]
    parameters: float
    expert_parameters: float


@dataclass(frozen=True)
class _Sizes:
    """Extents on one device, as floats."""

    tokens: float
    shared: float
    """Tokens that a device looks at between products."""
    hidden: float
    queries: float
    keys: float
    between: float
    """Columns of the product into the feed-forward part over those that come out of its activation, times the latter."""
    inner: float
    heads: float
    """Of all samples of the microbatch."""
    rows: float
    """Tokens of a sample."""
    sequence: float
    width: float
    routed: float
    """Tokens that experts of one device see."""


def block_of(model: Transformer, strategy: Strategy, software: Software, sequence: int) -> Block:
    """A layer under a strategy that comes out even.

    Parameters
    ----------
    model : Transformer
    strategy : Strategy
    software : Software
    sequence : int
        Tokens of a sample.
    """
    sizes = _sizes(model, strategy, sequence)
    core = _core(model, software, sizes)
    core_back = _core_backward(model, software, sizes)
    before, after = _attention_before(model, strategy, sizes), _attention_after(model, strategy, sizes)
    feed = _feed_forward(model, strategy, sizes)
    forward = (*before, *core, *after, *feed)
    backward = (
        *_feed_forward_backward(model, strategy, sizes),
        *_attention_after_backward(model, strategy, sizes),
        *core_back,
        *_attention_before_backward(model, strategy, sizes),
    )
    spare = sizes.keys - model.keys / strategy.tensor  # of heads that do not reach for every device
    dense = model.attention_parameters / strategy.tensor + 2 * spare * model.hidden
    dense += 2 * model.norm_parameters + model.router_parameters
    experts = model.experts * model.expert_parameters / (strategy.tensor * strategy.expert)
    if model.experts == 1:
        dense, experts = dense + experts, 0.0
    if not software.fused_accumulation:  # read the gradient, read and write the sum, which has 4 bytes
        parameters = dense + experts
        backward = (*backward, Streaming("add gradients", (BYTES + 4 + 4) * parameters, parameters))
    again: tuple[Work, ...] = ()
    if strategy.recompute is Recompute.FULL:
        again = forward
    elif strategy.recompute is Recompute.SELECTIVE and not software.fused_attention:
        again = core
    return Block(forward, backward, again, _kept(model, strategy, software, sizes), dense, experts)


def _sizes(model: Transformer, strategy: Strategy, sequence: int) -> _Sizes:
    tokens = strategy.microbatch * sequence / strategy.context
    split = strategy.tensor
    inner = model.intermediate / split
    return _Sizes(
        tokens=tokens,
        shared=tokens / split if strategy.sequence else tokens,
        hidden=float(model.hidden),
        queries=model.queries / split,
        keys=max(model.keys / split, float(model.head_width)),  # heads that do not reach are there several times
        between=inner * (2 if model.gated else 1),
        inner=inner,
        heads=strategy.microbatch * model.heads / split,
        rows=sequence / strategy.context,
        sequence=float(sequence),
        width=float(model.head_width),
        routed=tokens * model.active,
    )


def _gather(name: str, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    """What stands before products that the tensor axis splits by columns: with sequence parallelism tokens come together."""
    if strategy.tensor == 1 or not strategy.sequence:
        return ()
    return (Exchange(name, Collective.ALL_GATHER, BYTES * sizes.tokens * sizes.hidden, Axis.TENSOR),)


def _reduce(name: str, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    """What stands behind products split by rows: partial sums are added, and with sequence parallelism tokens go apart."""
    if strategy.tensor == 1:
        return ()
    kind = Collective.REDUCE_SCATTER if strategy.sequence else Collective.ALL_REDUCE
    return (Exchange(name, kind, BYTES * sizes.tokens * sizes.hidden, Axis.TENSOR),)


def _pass(name: str, moves: float, rows: float, columns: float, special: float = 0.0) -> Streaming:
    elements = rows * columns
    return Streaming(name, BYTES * moves * elements, elements, special * elements)


# --- attention ----------------------------------------------------------------------------------------------------


def _attention_before(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    columns = sizes.queries + 2 * sizes.keys
    rotated: tuple[Work, ...] = ()
    if not model.positions:
        rotated = (_pass("rotate", 2, sizes.tokens, sizes.queries + sizes.keys),)
    gathered: tuple[Work, ...] = ()
    if strategy.context > 1:
        size = BYTES * 2 * sizes.keys * sizes.tokens * strategy.context
        gathered = (Exchange("gather keys and values", Collective.ALL_GATHER, size, Axis.CONTEXT),)
    return (
        _pass("norm before attention", 2, sizes.shared, sizes.hidden),
        *_gather("gather before attention", strategy, sizes),
        MatrixProduct("queries, keys, values", sizes.tokens, columns, sizes.hidden),
        *rotated,
        *gathered,
    )


def _core(model: Transformer, software: Software, sizes: _Sizes) -> tuple[Work, ...]:
    """Between queries, keys and values and the result of attention: what selective recomputation does again."""
    if software.fused_attention:
        return (_fused("attention", model, sizes, 1.0),)
    pairs = sizes.heads * sizes.rows
    dropped = (_pass("drop scores", 2 + MASK, pairs, sizes.sequence),) if model.dropout else ()
    return (
        MatrixProduct("scores", sizes.rows, sizes.sequence, sizes.width, sizes.heads),
        _pass("softmax", 2, pairs, sizes.sequence, special=1),
        *dropped,
        MatrixProduct("weighted values", sizes.rows, sizes.width, sizes.sequence, sizes.heads),
    )


def _fused(name: str, model: Transformer, sizes: _Sizes, passes: float) -> Attention:
    keys = sizes.sequence * (0.5 if model.causal else 1.0)
    return Attention(name, sizes.heads, sizes.rows, keys, sizes.width, passes)


def _attention_after(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    return (
        _pass("heads together", 2, sizes.tokens, sizes.queries),
        MatrixProduct("attention output", sizes.tokens, sizes.hidden, sizes.queries),
        *_reduce("reduce behind attention", strategy, sizes),
        _residual("add behind attention", model, sizes),
    )


def _residual(name: str, model: Transformer, sizes: _Sizes) -> Streaming:
    """Result, skipped operand and sum; the mask too where activations are dropped."""
    return _pass(name, 3 + MASK * model.dropout, sizes.shared, sizes.hidden)


def _residual_backward(name: str, model: Transformer, sizes: _Sizes) -> tuple[Work, ...]:
    dropped = (_pass(f"{name}: dropped", 2 + MASK, sizes.shared, sizes.hidden),) if model.dropout else ()
    return (*dropped, _pass(f"{name}: gradients of both paths", 3, sizes.shared, sizes.hidden))


def _product_backward(name: str, m: float, n: float, k: float, *, bias: bool) -> tuple[Work, ...]:
    """Gradients of a product's operand and weights, and of its bias: a sum over rows."""
    summed = (_pass(f"{name}: bias gradient", 1, m, n),) if bias else ()
    return (MatrixProduct(f"{name}: operand gradient", m, k, n), MatrixProduct(f"{name}: weight gradient", k, n, m), *summed)


def _attention_after_backward(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    return (
        *_residual_backward("add behind attention", model, sizes),
        *_gather("gather behind attention, backward", strategy, sizes),
        *_product_backward("attention output", sizes.tokens, sizes.hidden, sizes.queries, bias=model.biases),
        _pass("heads together, backward", 2, sizes.tokens, sizes.queries),
    )


def _core_backward(model: Transformer, software: Software, sizes: _Sizes) -> tuple[Work, ...]:
    if software.fused_attention:
        return (_fused("attention, backward", model, sizes, FUSED_BACKWARD),)
    pairs = sizes.heads * sizes.rows
    dropped = (_pass("drop scores, backward", 2 + MASK, pairs, sizes.sequence),) if model.dropout else ()
    return (
        MatrixProduct("values: gradient", sizes.sequence, sizes.width, sizes.rows, sizes.heads),
        MatrixProduct("weights of values: gradient", sizes.rows, sizes.sequence, sizes.width, sizes.heads),
        *dropped,
        _pass("softmax, backward", 3, pairs, sizes.sequence),
        MatrixProduct("queries: gradient", sizes.rows, sizes.width, sizes.sequence, sizes.heads),
        MatrixProduct("keys: gradient", sizes.sequence, sizes.width, sizes.rows, sizes.heads),
    )


def _attention_before_backward(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    columns = sizes.queries + 2 * sizes.keys
    scattered: tuple[Work, ...] = ()
    if strategy.context > 1:
        size = BYTES * 2 * sizes.keys * sizes.tokens * strategy.context
        scattered = (Exchange("gradients of keys and values", Collective.REDUCE_SCATTER, size, Axis.CONTEXT),)
    rotated = () if model.positions else (_pass("rotate, backward", 2, sizes.tokens, sizes.queries + sizes.keys),)
    return (
        *scattered,
        *rotated,
        *_product_backward("queries, keys, values", sizes.tokens, columns, sizes.hidden, bias=model.biases or model.qkv_biases),
        *_reduce("reduce before attention, backward", strategy, sizes),
        _pass("norm before attention, backward", 3, sizes.shared, sizes.hidden),
    )


# --- feed-forward part --------------------------------------------------------------------------------------------


def _routed(name: str, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    """Tokens in the order of their experts, and to the devices that hold these."""
    moved = _pass(f"{name}: order by expert", 2, sizes.routed, sizes.hidden)
    if strategy.expert == 1:
        return (moved,)
    return (moved, Exchange(name, Collective.ALL_TO_ALL, BYTES * sizes.routed * sizes.hidden, Axis.EXPERT))


def _experts(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[float, float]:
    """Experts of a device, and tokens that each of them sees where all see as many."""
    held = model.experts / strategy.expert
    return held, sizes.routed / held


def _feed_forward(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    held, tokens = _experts(model, strategy, sizes)
    sparse = model.experts > 1
    gate = (MatrixProduct("router", sizes.tokens, model.experts, sizes.hidden),) if sparse else ()
    activation = _pass("activation", 2 + model.gated, sizes.routed, sizes.inner, special=1)
    return (
        _pass("norm before feed-forward", 2, sizes.shared, sizes.hidden),
        *_gather("gather before feed-forward", strategy, sizes),
        *gate,
        *(_routed("to experts", strategy, sizes) if sparse else ()),
        MatrixProduct("feed-forward in", tokens, sizes.between, sizes.hidden, held),
        activation,
        MatrixProduct("feed-forward out", tokens, sizes.hidden, sizes.inner, held),
        *(_routed("from experts", strategy, sizes) if sparse else ()),
        *_reduce("reduce behind feed-forward", strategy, sizes),
        _residual("add behind feed-forward", model, sizes),
    )


def _feed_forward_backward(model: Transformer, strategy: Strategy, sizes: _Sizes) -> tuple[Work, ...]:
    held, tokens = _experts(model, strategy, sizes)
    sparse = model.experts > 1
    gate = _product_backward("router", sizes.tokens, model.experts, sizes.hidden, bias=False) if sparse else ()
    activation = _pass("activation, backward", 3 + 2 * model.gated, sizes.routed, sizes.inner, special=1)
    out = _product_backward("feed-forward out", tokens, sizes.hidden, sizes.inner, bias=False)
    into = _product_backward("feed-forward in", tokens, sizes.between, sizes.hidden, bias=False)
    biases: tuple[Work, ...] = ()
    if model.biases:
        biases = (
            _pass("feed-forward out: bias gradient", 1, sizes.routed, sizes.hidden),
            _pass("feed-forward in: bias gradient", 1, sizes.routed, sizes.between),
        )
    return (
        *_residual_backward("add behind feed-forward", model, sizes),
        *_gather("gather behind feed-forward, backward", strategy, sizes),
        *(_routed("from experts, backward", strategy, sizes) if sparse else ()),
        *(entry._replace(products=held) for entry in out if isinstance(entry, MatrixProduct)),
        activation,
        *(entry._replace(products=held) for entry in into if isinstance(entry, MatrixProduct)),
        *biases,
        *(_routed("to experts, backward", strategy, sizes) if sparse else ()),
        *gate,
        *_reduce("reduce before feed-forward, backward", strategy, sizes),
        _pass("norm before feed-forward, backward", 3, sizes.shared, sizes.hidden),
    )


# --- what the backward pass needs -----------------------------------------------------------------------------------


def _kept(model: Transformer, strategy: Strategy, software: Software, sizes: _Sizes) -> tuple[Kept, ...]:
    between = sizes.shared * sizes.hidden
    if strategy.recompute is Recompute.FULL:
        return (Kept("input of the layer", BYTES * (sizes.tokens * sizes.hidden)),)
    pairs = sizes.heads * sizes.rows * sizes.sequence
    masks = (Kept("mask behind attention", between), Kept("mask behind feed-forward", between)) if model.dropout else ()
    scores: tuple[Kept, ...] = ()
    if strategy.recompute is Recompute.NONE and not software.fused_attention:
        dropped = (Kept("mask of scores", pairs), Kept("dropped scores", BYTES * pairs)) if model.dropout else ()
        scores = (Kept("softmax", BYTES * pairs), *dropped)
    routed = (Kept("tokens of experts", BYTES * sizes.routed * sizes.hidden),) if model.experts > 1 else ()
    return (
        Kept("input of norm before attention", BYTES * between),
        Kept("operand of queries, keys, values", BYTES * between),
        Kept("queries and keys", BYTES * sizes.tokens * (sizes.queries + sizes.keys)),
        *scores,
        Kept("values", BYTES * sizes.tokens * sizes.keys),
        Kept("operand of attention output", BYTES * sizes.tokens * sizes.queries),
        *masks,
        Kept("input of norm before feed-forward", BYTES * between),
        Kept("operand of feed-forward in", BYTES * between),
        *routed,
        Kept("operand of activation", BYTES * sizes.routed * sizes.between),
        Kept("operand of feed-forward out", BYTES * sizes.routed * sizes.inner),
    )
