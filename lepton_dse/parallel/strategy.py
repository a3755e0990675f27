"""How a transformer is split over devices, and what a split must hold before anything is priced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum

from lepton_dse.errors import LeptonError
from lepton_dse.ir.transformer import Transformer
from lepton_dse.plan import Violation

__all__ = ["MEGATRON_2021", "MEGATRON_2022", "Recompute", "Software", "Strategy", "split_violations"]


class Recompute(StrEnum):
    """Which activations are computed again in the backward pass (V. Korthikanti et al., arXiv:2205.05198)."""

    NONE = "none"
    SELECTIVE = "selective"
    """Those between queries, keys and values and the result of attention."""
    FULL = "full"
    """All but the input of each layer."""


@dataclass(frozen=True)
class Strategy:
    """Degrees of parallelism and the choices that go with them.

    Devices are numbered with the tensor axis innermost, then context, data and, outermost, the pipeline.

    Parameters
    ----------
    tensor : int
        Devices that share each product, by columns and then by rows (M. Shoeybi et al., arXiv:1909.08053).
    context : int
        Devices that share a sequence, each gathering the keys and values of the others.
    data : int
        Devices with different samples.
    pipeline : int
        Stages of consecutive layers.
    expert : int
        Of the devices with different samples, how many share the experts of a layer.
    microbatch : int
        Samples that pass through the pipeline at once.
    interleave : int
        Pieces of every stage, each a stage of its own for the order of work; 1 is 1F1B (D. Narayanan et al., SC 2021).
    sequence : bool
        Whether the devices of the tensor axis share what is between products too, by the sequence (arXiv:2205.05198).
    recompute : Recompute
    zero : int
        What devices with different samples share besides samples: 0 nothing, 1 the optimizer's state, 2 gradients too, 3 weights
        too (S. Rajbhandari et al., "ZeRO", SC 2020).

    Raises
    ------
    LeptonError
        If a degree is below 1, or `zero` is none of its stages.
    """

    tensor: int = 1
    context: int = 1
    data: int = 1
    pipeline: int = 1
    expert: int = 1
    microbatch: int = 1
    interleave: int = 1
    sequence: bool = False
    recompute: Recompute = Recompute.NONE
    zero: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("zero", "sequence", "recompute") and value < 1:
                raise LeptonError(f"{field.name} is {value}", where="strategy", fix="use 1 or more")
        if self.zero not in range(4):
            raise LeptonError(f"stage {self.zero} of ZeRO", where="strategy", fix="use 0, 1, 2 or 3")

    @property
    def devices(self) -> int:
        """Devices of the whole mesh; experts lie on the data axis."""
        return self.tensor * self.context * self.data * self.pipeline

    def __str__(self) -> str:
        degrees = {"tp": self.tensor, "cp": self.context, "dp": self.data, "pp": self.pipeline, "ep": self.expert}
        parts = [f"{name}{degree}" for name, degree in degrees.items() if degree > 1 or name in ("tp", "pp", "dp")]
        parts += [f"microbatch {self.microbatch}"]
        parts += [f"interleaved {self.interleave}"] if self.interleave > 1 else []
        parts += ["sequence parallel"] if self.sequence else []
        parts += [f"{self.recompute} recompute"] if self.recompute is not Recompute.NONE else []
        parts += [f"ZeRO-{self.zero}"] if self.zero else []
        return " ".join(parts)


@dataclass(frozen=True)
class Software:
    """What the training software fuses and overlaps.

    Parameters
    ----------
    fused_attention : bool
        Whether scores stay on chip (T. Dao, "FlashAttention-2", arXiv:2307.08691).
    fused_accumulation : bool
        Whether the product that makes a weight's gradient adds to the sum over microbatches; otherwise a pass of its own does.
    overlapped_gradients : bool
        Whether gradients are reduced behind the last microbatch's backward pass.
    gradient_bytes : int
        Of one gradient on the wire.
    """

    fused_attention: bool = True
    fused_accumulation: bool = True
    overlapped_gradients: bool = True
    gradient_bytes: int = 2


MEGATRON_2021 = Software(fused_attention=False, fused_accumulation=False, overlapped_gradients=False)
"""As in the runs of SC 2021; that its gradients were added in a pass of their own is this project's reading of their times."""
MEGATRON_2022 = Software(fused_attention=False, overlapped_gradients=False)
"""As in the runs of arXiv:2205.05198."""


def split_violations(model: Transformer, strategy: Strategy, batch: int, sequence: int) -> tuple[Violation, ...]:
    """What of a split does not come out even, before anything is priced.

    Parameters
    ----------
    model : Transformer
    strategy : Strategy
    batch : int
        Samples of a step, all devices together.
    sequence : int
        Tokens of a sample.
    """
    return tuple(_violations(model, strategy, batch, sequence))


def _violations(model: Transformer, strategy: Strategy, batch: int, sequence: int) -> Iterator[Violation]:
    for name, extent, degree in (
        ("heads", model.heads, strategy.tensor),
        ("heads of keys and values", model.kv_heads, min(strategy.tensor, model.kv_heads)),
        ("elements between the feed-forward products", model.intermediate, strategy.tensor),
        ("tokens of a sample", sequence, strategy.context * (strategy.tensor if strategy.sequence else 1)),
        ("samples of a step", batch, strategy.data * strategy.microbatch),
        ("experts", model.experts, strategy.expert),
        ("devices with different samples", strategy.data, strategy.expert),
    ):
        if extent % degree:
            lever = f"a degree that divides {extent}"
            yield Violation(
                what=f"{extent} {name} over {degree}", demand=extent % degree, bound=0, unit="left over", levers=(lever,)
            )
    stages = strategy.pipeline * strategy.interleave
    if stages > model.layers:
        yield Violation(what="stages of the pipeline", demand=stages, bound=model.layers, unit="layers", levers=("fewer stages",))
    if strategy.interleave > 1:
        microbatches = batch // (strategy.data * strategy.microbatch)
        if strategy.pipeline < 2 or microbatches % strategy.pipeline:
            what = f"interleaving {microbatches} microbatches over {strategy.pipeline} stages"
            levers = ("interleave 1", "microbatches that the stages divide")
            yield Violation(what=what, demand=microbatches % strategy.pipeline or 1, bound=0, unit="left over", levers=levers)
    if strategy.sequence and strategy.tensor == 1:
        yield Violation(what="sequence parallelism", demand=2, bound=1, unit="devices on the tensor axis", levers=("tensor 2",))
    if strategy.zero == 3 and strategy.pipeline > 1:
        what = "weights shared by all data-parallel devices, in a pipeline"
        yield Violation(what=what, demand=strategy.pipeline, bound=1, unit="stages", levers=("ZeRO-2", "one stage"))
