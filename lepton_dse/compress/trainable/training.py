"""Fine-tuning: gradient descent on what compression left, with labels, with a teacher's scores, or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lepton_dse.bundle import Bundle
from lepton_dse.compress.codebook import Codebook
from lepton_dse.compress.trainable.module import TrainableGraph, scores_of
from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.ir.graph import Graph

__all__ = ["Schedule", "fine_tune", "scores"]

Model = TypeVar("Model", Graph, Bundle)

_BATCH = 256  # samples of a teacher's pass


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
    scale_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1:
            raise LeptonError(
                f"{self.epochs} epochs of batches of {self.batch}", fix="use 0 or more epochs, batches of 1 or more"
            )
        if not (self.rate > 0 and self.temperature > 0 and 0 <= self.mix <= 1):
            raise LeptonError("rate and temperature must be positive, and mix from 0 to 1")


def scores(graph: Graph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A float network's scores, before a final Softmax, shape (N, classes)."""
    module = TrainableGraph(graph)
    with torch.no_grad():
        found = [module(part) for part in torch.split(torch.tensor(x), _BATCH)]
    return np.asarray(torch.cat(found).numpy(), np.float32)


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
    """
    schedule = schedule or Schedule()
    graph = model.graph if isinstance(model, Bundle) else model
    expected = graph.tensors[graph.inputs[0]].shape[1:]
    if data.x.shape[1:] != expected:
        raise InvalidDataError(f"samples of shape {list(data.x.shape[1:])}, the model takes {list(expected)}", where="x")
    if teacher is None and data.y is None:
        raise InvalidDataError("has no labels, and there is no teacher", where="y", fix="add labels or a teacher")
    mix = 0.0 if teacher is None else (1.0 if data.y is None else schedule.mix)
    module = TrainableGraph(model, keep_zeros=keep_zeros, learn_scales=learn_scales, codebooks=codebooks)
    classes = math.prod(graph.tensors[scores_of(graph)].shape[1:])
    if data.y is not None and (int(data.y.min()) < 0 or int(data.y.max()) >= classes):
        raise InvalidDataError(f"labels from {data.y.min()} to {data.y.max()} for {classes} classes", where="y")
    x = torch.tensor(data.x)
    labels = None if data.y is None else torch.tensor(data.y)
    taught = None if teacher is None or mix == 0 else torch.tensor(scores(teacher, data.x))
    rates = [
        {"params": list(module.parameters_by_name.values()), "lr": schedule.rate},
        {
            "params": list({id(entry): entry for entry in module.scales_by_name.values()}.values()),
            "lr": schedule.rate * schedule.scale_rate,
        },
    ]
    optimizer = torch.optim.Adam([group for group in rates if group["params"]])
    steps = max(1, schedule.epochs * math.ceil(len(x) / schedule.batch))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))
    order = torch.Generator().manual_seed(schedule.seed)
    for epoch in range(schedule.epochs):
        total = 0.0
        for picked in torch.split(torch.randperm(len(x), generator=order), schedule.batch):
            optimizer.zero_grad()
            found = module(x[picked])
            loss = torch.zeros(())
            if labels is not None and mix < 1:
                loss = loss + (1 - mix) * functional.cross_entropy(found, labels[picked])
            if taught is not None:
                loss = loss + mix * _distance(found, taught[picked], schedule.temperature)
            if not bool(torch.isfinite(loss)):
                raise LeptonError("training diverged: the loss is not finite", fix="use a lower rate")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()
            total += float(loss.detach()) * len(picked)
        progress(f"epoch {epoch + 1} of {schedule.epochs}, loss {total / len(x):.4f}")
    result: Model = module.to_model()  # type: ignore[assignment]
    return result


def _distance(found: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of softened scores, times the temperature squared, so that its gradients keep their size."""
    student, wanted = (functional.log_softmax(value / temperature, dim=1) for value in (found, taught))
    return functional.kl_div(student, wanted, reduction="batchmean", log_target=True) * temperature**2
