"""A transformer by its shapes alone: one repeated block, an embedding before it and a head behind it.

Nothing here holds a weight, so that a model of 10^12 parameters is as small as any. Counts are of elements; symbols as in
D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters", SC 2021: l layers, h hidden, a heads, s
sequence, b batch, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from lepton_dse.errors import InvalidModelError

__all__ = ["Activation", "Norm", "Transformer"]


class Norm(StrEnum):
    """How activations are normalised."""

    LAYER = "layer"
    """Mean and variance, a scale and a shift."""
    RMS = "rms"
    """Root of the mean square and a scale."""


class Activation(StrEnum):
    """What stands between the two products of the feed-forward part."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    """GELU with a hyperbolic tangent in the place of the error function."""
    SILU = "silu"
    """``x`` times its sigmoid."""
    RELU = "relu"


@dataclass(frozen=True)
class Transformer:
    """Shapes of a transformer.

    Parameters
    ----------
    name : str
        For people.
    layers, hidden, heads : int
    kv_heads : int
        Heads of keys and values; fewer than `heads` where several queries share them.
    head_width : int
        Elements of a head.
    intermediate : int
        Elements between the two products of the feed-forward part; of each expert.
    vocabulary : int
        Tokens, or classes where the inputs are patches.
    longest : int
        The longest sequence it was made for.
    positions : int
        Learned position vectors; 0 where positions rotate queries and keys.
    segments : int
        Learned segment vectors.
    patch : int
        Elements of a patch of a picture; 0 where the inputs are tokens.
    gated : bool
        Whether a second product gates the activation of the first.
    tied : bool
        Whether the head uses the weights of the embedding.
    biases : bool
        Whether products add a bias.
    qkv_biases : bool
        Whether products to queries, keys and values add one where the others do not.
    causal : bool
        Whether a token sees those before it alone.
    dropout : bool
        Whether training drops activations.
    norm : Norm
    post_norm : bool
        Whether sums are normalised, instead of what goes into each half of a layer; the norm that is then before the first layer
        is counted behind the last.
    activation : Activation
    experts, active : int
        Feed-forward parts of a layer, and how many of them a token visits.

    Raises
    ------
    InvalidModelError
        If an extent is below 1, or extents contradict one another.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    intermediate: int
    vocabulary: int
    longest: int
    positions: int = 0
    segments: int = 0
    patch: int = 0
    gated: bool = False
    tied: bool = True
    biases: bool = True
    causal: bool = True
    dropout: bool = True
    norm: Norm = Norm.LAYER
    experts: int = 1
    active: int = 1
    qkv_biases: bool = False
    post_norm: bool = False
    activation: Activation = Activation.GELU

    def __post_init__(self) -> None:
        least = {"positions": 0, "segments": 0, "patch": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < least.get(field.name, 1):
                raise InvalidModelError(
                    f"{field.name} is {value}", where=self.name, fix=f"use {least.get(field.name, 1)} or more"
                )
        if self.heads % self.kv_heads:
            what = f"{self.kv_heads} heads of keys and values do not divide {self.heads} heads"
            raise InvalidModelError(what, where=self.name, fix="let each be shared by as many queries")
        if self.active > self.experts:
            raise InvalidModelError(f"a token visits {self.active} of {self.experts} experts", where=self.name, fix="at most all")

    @property
    def digest(self) -> str:
        """SHA-256 over the shapes, in hexadecimal; the name does not enter."""
        shapes = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()

    @property
    def queries(self) -> int:
        """Elements of a token's queries, all heads."""
        return self.heads * self.head_width

    @property
    def keys(self) -> int:
        """Elements of a token's keys, all heads; as many as of its values."""
        return self.kv_heads * self.head_width

    @property
    def attention_parameters(self) -> int:
        """Of one layer: products to queries, keys, values and back, with their biases."""
        weights = self.hidden * (self.queries + 2 * self.keys) + self.queries * self.hidden
        return weights + (self.biases or self.qkv_biases) * (self.queries + 2 * self.keys) + self.biases * self.hidden

    @property
    def expert_parameters(self) -> int:
        """Of one feed-forward part."""
        products = 3 if self.gated else 2
        return products * self.hidden * self.intermediate + self.biases * ((products - 1) * self.intermediate + self.hidden)

    @property
    def norm_parameters(self) -> int:
        """Of one normalisation."""
        return self.hidden * (2 if self.norm is Norm.LAYER else 1)

    @property
    def router_parameters(self) -> int:
        """Of the product that chooses experts; none where there is one."""
        return self.hidden * self.experts if self.experts > 1 else 0

    @property
    def layer_parameters(self) -> int:
        """Of one layer, all experts."""
        return (
            self.attention_parameters + self.experts * self.expert_parameters + self.router_parameters + 2 * self.norm_parameters
        )

    @property
    def embedding_parameters(self) -> int:
        """Before the first layer: tokens or patches, positions and segments."""
        inputs = self.hidden * (self.patch + 1) if self.patch else self.vocabulary * self.hidden
        return inputs + (self.positions + self.segments) * self.hidden

    @property
    def head_parameters(self) -> int:
        """Behind the last layer: the last normalisation, and the product with the vocabulary where it has weights of its own."""
        return self.norm_parameters + (0 if self.tied else self.vocabulary * self.hidden)

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.layers * self.layer_parameters + self.embedding_parameters + self.head_parameters

    @property
    def active_parameters(self) -> int:
        """Those that one token meets."""
        return self.parameters - self.layers * (self.experts - self.active) * self.expert_parameters

    def training_flop(self, batch: int, sequence: int) -> float:
        """Floating-point operations of one step without recomputation: forward once and backward twice.

        All attention is counted, masked or not, as in the appendix of the module's paper; 2 a multiply-accumulate.
        """
        tokens = float(batch) * sequence
        products = self.hidden * (self.queries + 2 * self.keys) + self.queries * self.hidden
        products += self.active * self.hidden * self.intermediate * (3 if self.gated else 2) + self.router_parameters
        pairs = 2.0 * sequence * self.queries
        return 6.0 * tokens * (self.layers * (products + pairs) + self.vocabulary * self.hidden)
