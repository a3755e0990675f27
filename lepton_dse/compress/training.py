"""Fine-tuning and distillation; the training itself is in :mod:`lepton_dse.compress.trainable` and needs the extra ``torch``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lepton_dse.bundle import Bundle
from lepton_dse.compress.codebook import Codebook
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.ir.graph import Graph

__all__ = ["Schedule", "distil", "fine_tune"]

Model = TypeVar("Model", Graph, Bundle)


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


def fine_tune(
    model: Model,
    data: Dataset,
    schedule: Schedule | None = None,
    *,
    teacher: Graph | None = None,
    keep_zeros: bool = True,
    learn_scales: bool = True,
    codebooks: Mapping[str, Codebook] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Model:
    """Train a model's weights, biases and scales a little further.

    Parameters
    ----------
    model : Graph or Bundle
        A bundle is trained as its integers compute (quantisation-aware, straight-through gradients).
    data : Dataset
        Training samples with labels, or without where a teacher has the whole say.
    schedule : Schedule, optional
    teacher : Graph, optional
        Float network whose scores the model is to give (distillation).
    keep_zeros : bool
        Pruned weights stay zero.
    learn_scales : bool
        Scales of a bundle are trained as well.
    codebooks : mapping of str to Codebook, optional
        Shared weights move together.
    progress : callable
        Told epoch and loss.

    Returns
    -------
    Graph or Bundle
        As the argument; deterministic for a seed on one machine.

    Raises
    ------
    InvalidDataError
        If there are neither labels nor a teacher, or labels lie outside the network's classes.
    LeptonError
        If the loss is no longer finite.
    MissingToolError
        If PyTorch is not installed.
    """
    try:
        from lepton_dse.compress.trainable.training import train
    except ModuleNotFoundError as error:
        raise MissingToolError("training needs PyTorch", fix="pip install 'lepton_dse[torch]'") from error
    return train(
        model,
        data,
        schedule or Schedule(),
        teacher=teacher,
        keep_zeros=keep_zeros,
        learn_scales=learn_scales,
        codebooks=codebooks,
        progress=progress,
    )


def distil(
    student: Model,
    teacher: Graph,
    data: Dataset,
    schedule: Schedule | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Model:
    """Train a network, or what compression left of one, to give a teacher's scores; see :func:`fine_tune`.

    Parameters
    ----------
    student : Graph or Bundle
    teacher : Graph
        Float network with as many classes.
    data : Dataset
        Samples; labels count as far as the schedule's mix says, and need not be there.
    schedule : Schedule, optional
    progress : callable
        Told epoch and loss.

    Returns
    -------
    Graph or Bundle
        As the student.
    """
    return fine_tune(student, data, schedule, teacher=teacher, progress=progress)
