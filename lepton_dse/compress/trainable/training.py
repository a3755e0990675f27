"""Gradient descent on what compression left, with labels, with a teacher's scores, or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lepton_dse.bundle import Bundle
from lepton_dse.compress.codebook import Codebook
from lepton_dse.compress.trainable.module import TrainableGraph, scores_of
from lepton_dse.compress.trainable.schedule import Schedule
from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.ir.graph import Graph

__all__ = ["scores", "train"]

Model = TypeVar("Model", Graph, Bundle)


def scores(graph: Graph, x: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """A float network's scores, before a final Softmax, shape (N, classes), `batch` samples a pass."""
    module = TrainableGraph(graph)
    with torch.no_grad():
        found = [module(part) for part in torch.split(torch.tensor(x), batch)]
    return np.asarray(torch.cat(found).numpy(), np.float32)


def train(
    model: Model,
    data: Dataset,
    schedule: Schedule,
    *,
    teacher: Graph | Sequence[Graph] | None,
    keep_zeros: bool,
    learn_scales: bool,
    codebooks: Mapping[str, Codebook] | None,
    layers: Collection[str] | None,
    progress: Callable[[str], None],
) -> Model:
    """See :func:`lepton_dse.compress.training.fine_tune`."""
    graph = model.graph if isinstance(model, Bundle) else model
    expected = graph.tensors[graph.inputs[0]].shape[1:]
    if data.x.shape[1:] != expected:
        raise InvalidDataError(f"samples of shape {list(data.x.shape[1:])}, the model takes {list(expected)}", where="x")
    teachers = () if teacher is None else (teacher,) if isinstance(teacher, Graph) else tuple(teacher)
    if not teachers and data.y is None:
        raise InvalidDataError("has no labels, and there is no teacher", where="y", fix="add labels or a teacher")
    mix = 0.0 if not teachers else (1.0 if data.y is None else schedule.mix)
    module = TrainableGraph(model, keep_zeros=keep_zeros, learn_scales=learn_scales, codebooks=codebooks, layers=layers)
    if not list(module.parameters()):
        return model
    classes = _classes(graph)
    for each in teachers:
        _check_teacher(each, expected, classes)
    if data.y is not None and (int(data.y.min()) < 0 or int(data.y.max()) >= classes):
        raise InvalidDataError(f"labels from {data.y.min()} to {data.y.max()} for {classes} classes", where="y")
    x = torch.tensor(data.x)
    held = {} if schedule.blend else _before(module, x, schedule.batch)
    labels = None if data.y is None else torch.tensor(data.y)
    asked = [TrainableGraph(each) for each in teachers] if mix > 0 and schedule.blend else []
    taught = None
    if teachers and mix > 0 and not asked:
        taught = torch.tensor(np.mean([scores(each, data.x, schedule.batch) for each in teachers], axis=0))
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
    order, shares = torch.Generator().manual_seed(schedule.seed), np.random.default_rng(schedule.seed)
    for epoch in range(schedule.epochs):
        total = 0.0
        for picked in torch.split(torch.randperm(len(x), generator=order), schedule.batch):
            share = float(shares.beta(schedule.blend, schedule.blend)) if schedule.blend else 1.0
            other = picked[torch.randperm(len(picked), generator=order)] if schedule.blend else None
            wanted = None if taught is None else taught[picked]
            if other is None:
                given = {name: value[picked] for name, value in held.items()}
            else:
                batch = share * x[picked] + (1 - share) * x[other]
                given = module.before(batch)
                if asked:
                    with torch.no_grad():
                        wanted = torch.stack([each(batch) for each in asked]).mean(dim=0)
            optimizer.zero_grad()
            found = module.after(given)
            loss = torch.zeros(())
            if labels is not None and mix < 1:
                right = functional.cross_entropy(found, labels[picked])
                if other is not None:
                    right = share * right + (1 - share) * functional.cross_entropy(found, labels[other])
                loss = loss + (1 - mix) * right
            if wanted is not None:
                loss = loss + mix * _distance(found, wanted, schedule.temperature)
            if not bool(torch.isfinite(loss)):
                raise LeptonError("training diverged: the loss is not finite", fix="use a lower rate")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()
            total += float(loss.detach()) * len(picked)
        progress(f"epoch {epoch + 1} of {schedule.epochs}, loss {total / len(x):.4f}")
    result: Model = module.to_model()  # type: ignore[assignment]
    return result


def _classes(graph: Graph) -> int:
    return math.prod(graph.tensors[scores_of(graph)].shape[1:])


def _check_teacher(teacher: Graph, shape: tuple[int, ...], classes: int) -> None:
    takes, gives = teacher.tensors[teacher.inputs[0]].shape[1:], _classes(teacher)
    if takes != shape or gives != classes:
        raise LeptonError(
            f"takes samples of shape {list(takes)} and gives {gives} scores; the model takes {list(shape)} and gives {classes}",
            where=f"teacher {teacher.name}",
            fix="use a teacher of the same samples and classes",
        )


def _before(module: TrainableGraph, x: torch.Tensor, batch: int) -> dict[str, torch.Tensor]:
    """What the trained part reads, of all samples; it is computed once."""
    parts = [module.before(part) for part in torch.split(x, batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _distance(found: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of softened scores, times the temperature squared, so that its gradients keep their size."""
    student, wanted = (functional.log_softmax(value / temperature, dim=1) for value in (found, taught))
    return functional.kl_div(student, wanted, reduction="batchmean", log_target=True) * temperature**2
