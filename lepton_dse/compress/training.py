"""Fine-tuning and distillation; the training itself is in :mod:`lepton_dse.compress.trainable` and needs the extra ``torch``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from lepton_dse.bundle import Bundle
from lepton_dse.compress.codebook import Codebook
from lepton_dse.compress.trainable.schedule import Schedule
from lepton_dse.data import Dataset
from lepton_dse.errors import MissingToolError
from lepton_dse.ir.graph import Graph

__all__ = ["Schedule", "distil", "fine_tune"]

Model = TypeVar("Model", Graph, Bundle)


def fine_tune(
    model: Model,
    data: Dataset,
    schedule: Schedule | None = None,
    *,
    teacher: Graph | Sequence[Graph] | None = None,
    keep_zeros: bool = True,
    learn_scales: bool = True,
    codebooks: Mapping[str, Codebook] | None = None,
    layers: Collection[str] | None = None,
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
    teacher : Graph or sequence of Graph, optional
        Float network whose scores the model is to give (distillation), or several, the mean of whose scores it is to give.
    keep_zeros : bool
        Weights of zero stay zero. In a bundle those that rounding put on zero count too: where nothing was pruned, let them move.
    learn_scales : bool
        Scales of a bundle are trained as well.
    codebooks : mapping of str to Codebook, optional
        Shared weights move together.
    layers : collection of str, optional
        Operations to train; all by default. Without blending, what comes before the first of them is computed once and held: one
        value of each tensor that the trained part reads, for every sample.
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
        If a teacher takes other samples or gives other scores than the model, the loss is no longer finite, or `layers` names an
        operation without weights.
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
        layers=layers,
        progress=progress,
    )


def distil(
    student: Model,
    teacher: Graph | Sequence[Graph],
    data: Dataset,
    schedule: Schedule | None = None,
    *,
    keep_zeros: bool = True,
    layers: Collection[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Model:
    """Train a network, or what compression left of one, to give a teacher's scores; see :func:`fine_tune`.

    Parameters
    ----------
    student : Graph or Bundle
    teacher : Graph or sequence of Graph
        Float network with as many classes, or several.
    data : Dataset
        Samples; labels count as far as the schedule's mix says, and need not be there.
    schedule : Schedule, optional
    keep_zeros : bool
        Weights of zero stay zero, whether pruning or rounding made them so; of a bundle that is not pruned, let them move.
    layers : collection of str, optional
        Operations to train; all by default.
    progress : callable
        Told epoch and loss.

    Returns
    -------
    Graph or Bundle
        As the student.
    """
    return fine_tune(student, data, schedule, teacher=teacher, keep_zeros=keep_zeros, layers=layers, progress=progress)
