"""How a transformer is best served by some devices of a cluster: how many share a layer, how many sequences run at once.

Symbols: t devices share a layer, p stages, d = devices / (t p) copies; B sequences run at once in a copy, each with a prompt of P
tokens and O answered ones, so that (P + O / 2) tokens lie behind a token on average.

* time to first token: all layers of one prompt, stage after stage, and one message between two stages;
* time per output token: all layers of one step of decoding, likewise;
* tokens a second of a copy in the steady state, where a sequence that ends makes room for the next prompt (continuous batching: a
  prompt runs by itself, then decoding goes on): in the time of B prompts and O steps B O tokens come out. Stages work on
  different sequences at once, B / p in each;
* memory: weights and, for B sequences, the whole cache, within a share of the device's memory.

Embedding and vocabulary stay in bfloat16, whatever the layers are in. Everything is multiplied by the cluster's slowdown. Nothing
published has been held against these figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.ir.transformer import Transformer
from lepton_dse.numerics.formats import BFLOAT16, Precision
from lepton_dse.parallel.collectives import Collective
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.schedule.transformer import Attention, Axis, Exchange, MatrixProduct, Streaming, Work
from lepton_dse.schedule.transformer.serving import cache_bytes, decode_of, last_token, prefill_of, weights_of
from lepton_dse.schedule.transformer.work import BYTES
from lepton_dse.search.kernels import Kernels, kernels_of
from lepton_dse.sim.network import Fabric, Group, exchange_time, fabric_of
from lepton_dse.targets import Cluster, load_target

__all__ = ["MEMORY_SHARE", "Serving", "ServingPlan", "ServingPoint", "plan_serving"]

_SPACE = "devices that share a layer x stages x copies, and sequences at once by powers of two"
MEMORY_SHARE = 0.9
"""Of a device's memory for weights and cache; what a serving engine takes by default (vLLM's gpu_memory_utilization)."""


@dataclass(frozen=True)
class Serving:
    """What is served.

    Parameters
    ----------
    model : Transformer
    prompt, answer : int
        Tokens of a prompt and of its answer.
    format : str
        Of weights and activations: bfloat16, float8_e4m3, int8, w4-bfloat16 ...
    cache : str
        Of keys and values.
    ttft_s, tpot_s : float
        Longest time to the first token and per output token that is allowed.
    """

    model: Transformer
    prompt: int
    answer: int
    format: str = "bfloat16"
    cache: str = "bfloat16"
    ttft_s: float = float("inf")
    tpot_s: float = float("inf")


@dataclass(frozen=True)
class ServingPoint:
    """One way to serve, and its figures.

    Parameters
    ----------
    tensor, pipeline, copies : int
    sequences : int
        At once, in each copy.
    ttft_s, tpot_s : float
    tokens_per_s : float
        Answered, all copies together.
    memory_bytes : float
        Of the fullest device.
    """

    tensor: int
    pipeline: int
    copies: int
    sequences: int
    ttft_s: float
    tpot_s: float
    tokens_per_s: float
    memory_bytes: float


@dataclass(frozen=True)
class ServingPlan:
    """The way with most tokens a second within the limits; the one nearest to fitting where none is.

    Parameters
    ----------
    best : ServingPoint
    points : tuple of ServingPoint
        All that fit memory.
    violations : tuple of Violation
    search : SearchResult
    """

    best: ServingPoint
    points: tuple[ServingPoint, ...]
    violations: tuple[Violation, ...]
    search: SearchResult


def plan_serving(serving: Serving, cluster: Cluster, devices: int) -> ServingPlan:
    """The best way to serve.

    Raises
    ------
    LeptonError
        If the cluster has fewer devices, its device lacks the formats, a token of the model sees those behind it, tokens are
        fewer than 1 or more than it was made for, or a limit is not above 0.
    """
    _check(serving)
    if not 1 <= devices <= cluster.size:
        raise LeptonError(f"{devices} devices of {cluster.size}", where=cluster.name, fix="use at least 1 and at most all")
    prices = _Prices(serving, cluster)
    every = list(_points(serving, cluster, devices, prices))
    capacity = MEMORY_SHARE * prices.capacity
    fitting = [point for point in every if point.memory_bytes <= capacity]
    allowed = [point for point in fitting if point.ttft_s <= serving.ttft_s and point.tpot_s <= serving.tpot_s]
    violations: tuple[Violation, ...] = ()
    if allowed:
        best = max(allowed, key=lambda point: (point.tokens_per_s, -point.tensor, -point.sequences))
    elif fitting:
        best = min(fitting, key=lambda point: max(point.ttft_s / serving.ttft_s, point.tpot_s / serving.tpot_s))
        violations = tuple(_too_slow(serving, best))
    else:
        best = min(every, key=lambda point: point.memory_bytes)
        levers = ("more devices", "narrower weights", "shorter prompts and answers")
        violations = (
            Violation(what="memory of a device", demand=best.memory_bytes, bound=capacity, unit="bytes", levers=levers),
        )
    search = SearchResult(
        objective="tokens a second",
        space=_SPACE,
        evaluated=len(every),
        best=best.tokens_per_s,
        lower_bound=best.tokens_per_s,
        gap=0.0,
        optimal=True,
    )
    return ServingPlan(best, tuple(fitting), violations, search)


def _check(serving: Serving) -> None:
    model = serving.model
    if not model.causal:
        raise LeptonError("sees all tokens, so that it does not answer one after another", where=model.name, fix="use a decoder")
    if min(serving.prompt, serving.answer) < 1:
        what = f"{serving.prompt} tokens of a prompt and {serving.answer} of an answer"
        raise LeptonError(what, where=model.name, fix="use 1 or more of each")
    if serving.prompt + serving.answer > model.longest:
        what = f"{serving.prompt} and {serving.answer} tokens where it was made for {model.longest}"
        raise LeptonError(what, where=model.name, fix="use shorter prompts or answers")
    for name, limit in (("to the first token", serving.ttft_s), ("per output token", serving.tpot_s)):
        if not limit > 0:
            raise LeptonError(f"a limit of {limit:g} s {name}", where=model.name, fix="use one above 0, or none")


def _too_slow(serving: Serving, best: ServingPoint) -> Iterator[Violation]:
    for what, demand, bound in (
        ("time to the first token", best.ttft_s, serving.ttft_s),
        ("time per output token", best.tpot_s, serving.tpot_s),
    ):
        if demand > bound:
            levers = ("more devices", "narrower weights", "a longer limit")
            yield Violation(what=what, demand=demand, bound=bound, unit="s", levers=levers)


def _points(serving: Serving, cluster: Cluster, devices: int, prices: _Prices) -> Iterator[ServingPoint]:
    model = serving.model
    nearby = cluster.node_size if cluster.node_size > 1 else devices
    for tensor in range(1, min(nearby, devices) + 1):
        uneven = model.kv_heads % min(tensor, model.kv_heads)
        if devices % tensor or model.heads % tensor or model.intermediate % tensor or uneven:
            continue
        for pipeline in range(1, min(model.layers, devices // tensor) + 1):
            if devices % (tensor * pipeline):
                continue
            sequences = pipeline
            smallest = True
            while True:
                point = prices.point(tensor, pipeline, devices // (tensor * pipeline), sequences)
                if point.memory_bytes > MEMORY_SHARE * prices.capacity and not smallest:
                    break
                yield point
                if point.memory_bytes > MEMORY_SHARE * prices.capacity or sequences >= 1 << 16:
                    break
                smallest = False
                sequences *= 2


class _Prices:
    """Times of layers on a cluster, each looked up once."""

    def __init__(self, serving: Serving, cluster: Cluster) -> None:
        device = load_target(cluster.device)
        self.serving, self.cluster = serving, cluster
        self.formats, self.plain = Precision.parse(serving.format), Precision(BFLOAT16, BFLOAT16)
        kernels = kernels_of(device, self.formats)
        self.kernels: dict[Precision, Kernels] = {self.formats: kernels, self.plain: kernels_of(device, self.plain)}
        self.capacity = kernels.target.levels[-1].capacity_bytes.value
        self.fabric: Fabric = fabric_of(cluster)
        self.cache = Precision.parse(serving.cache).activations.bits / 8
        self.known: dict[tuple[Work, Precision], float] = {}
        self.prefill: dict[tuple[int, int], float] = {}

    def point(self, tensor: int, pipeline: int, copies: int, sequences: int) -> ServingPoint:
        """The figures of one way to serve."""
        serving, model = self.serving, self.serving.model
        slowdown = self.cluster.kernel_slowdown.value
        if (tensor, pipeline) not in self.prefill:
            prompt = model.layers * self._seconds(prefill_of(model, tensor, serving.prompt), tensor, self.formats)
            prompt += self._seconds(last_token(model, tensor, 1), tensor, self.plain)
            sends = (pipeline - 1) * self._send(tensor, serving.prompt * model.hidden * BYTES)
            self.prefill[tensor, pipeline] = slowdown * (prompt + sends)
        ttft = self.prefill[tensor, pipeline]
        together = max(1, sequences // pipeline)
        behind = serving.prompt + serving.answer / 2
        step = model.layers * self._seconds(decode_of(model, tensor, together, behind, self.cache), tensor, self.formats)
        step += self._seconds(last_token(model, tensor, together), tensor, self.plain)
        step += (pipeline - 1) * self._send(tensor, together * model.hidden * BYTES)
        tpot = slowdown * step
        # Stages take turns: in the time of one pass through all of them each of `pipeline` groups gets its token.
        busy = sequences * ttft / pipeline + serving.answer * tpot
        inside, ends = weights_of(model, tensor, pipeline)
        element = self.formats.weights.bits / 8
        weights = element * inside + BFLOAT16.bits / 8 * ends
        layers = -(-model.layers // pipeline)
        cache = sequences * (serving.prompt + serving.answer) * layers * cache_bytes(model, tensor, self.cache)
        rate = copies * sequences * serving.answer / busy
        return ServingPoint(tensor, pipeline, copies, sequences, ttft, tpot, rate, weights + cache)

    def _send(self, tensor: int, size: float) -> float:
        return exchange_time(Collective.POINT_TO_POINT, size / tensor, Group(2, tensor), self.fabric)

    def _seconds(self, works: tuple[Work, ...], tensor: int, formats: Precision) -> float:
        total = 0.0
        for work in works:
            if isinstance(work, Exchange):
                assert work.axis is Axis.TENSOR
                total += exchange_time(work.kind, work.size, Group(tensor), self.fabric)
                continue
            key = (work._replace(name=""), formats)
            if key not in self.known:
                self.known[key] = self._kernel(work, formats)
            total += self.known[key]
        return total

    def _kernel(self, work: MatrixProduct | Attention | Streaming, formats: Precision) -> float:
        kernels, wide = self.kernels[formats], 8 * BYTES
        if isinstance(work, MatrixProduct):
            bits = (float(formats.activations.bits), float(formats.weights.bits), wide)
            return kernels.product(work.m, work.n, work.k, work.products, bits)
        if isinstance(work, Attention):
            return kernels.attention(work.heads, work.queries, work.keys, work.width, wide, work.passes)
        return kernels.streaming(work.moved, work.elements, work.special)
