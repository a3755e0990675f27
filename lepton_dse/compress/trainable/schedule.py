"""How long and how fast to train; the one file of this package that needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.errors import LeptonError

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    epochs : int
        Passes over the samples.
    rate : float
        First step size of Adam (D. Kingma and J. Ba, ICLR 2015); it falls to zero along half a cosine.
    batch : int
        Samples a step.
    temperature : float
        By which a teacher's and the student's scores are divided before they are compared (G. Hinton et al., arXiv:1503.02531).
    mix : float
        Weight of the teacher's loss, 0 to 1; the labels' has the rest. 1 needs no labels.
    blend : float
        How far samples are blended with one another (H. Zhang et al., "mixup", ICLR 2018): a sample keeps a share drawn from
        Beta(blend, blend); labels are blended alike and a teacher is asked about the blend. 0 for none.
    scale_rate : float
        Step size of learned scales, as a share of `rate`.
    seed : int
        Of the order of samples.
    """

    epochs: int = 5
    rate: float = 1e-3
    batch: int = 128
    temperature: float = 4.0
    mix: float = 0.7
    blend: float = 0.0
    scale_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1:
            raise LeptonError(
                f"{self.epochs} epochs of batches of {self.batch}", fix="use 0 or more epochs, batches of 1 or more"
            )
        if not (self.rate > 0 and self.temperature > 0 and 0 <= self.mix <= 1 and self.blend >= 0):
            raise LeptonError("rate and temperature must be positive, mix from 0 to 1, and blend 0 or more")
