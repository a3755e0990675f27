"""Which candidates come next: all of them in order, or batches that Optuna draws.

Each batch is drawn by a sampler of its own, seeded by the study's seed and the batch's number, from nothing but what was found
before. A study that was interrupted therefore draws what it would have drawn. For NSGA-II the parents are the best candidates
so far, front by front, the last one thinned by crowding (K. Deb et al., IEEE Trans. Evolutionary Computation 6(2), 2002).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler

from lepton_dse.study.front import crowding, pareto_front
from lepton_dse.study.space import Candidate, Hardware, Space, Variant

__all__ = ["Axes", "chunks", "elite", "propose"]

Parents = Sequence[tuple[int, Sequence[float]]]
"""Candidates that NSGA-II crosses, by index, with what is minimised."""


class Axes:
    """A space as independent axes of whole numbers, which a sampler can cross: every swept number is an axis by itself.

    Parameters
    ----------
    space : Space
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._targets = {sweep.target: position for position, sweep in enumerate(space.targets)}
        self._longest: dict[str, int] = {}
        for sweep in space.targets:
            for path, values in sweep.numbers.items():
                self._longest[path] = max(self._longest.get(path, 0), len(values))
        self._shared = {
            "mesh": max(len(sweep.every_mesh) for sweep in space.targets),
            "stages": max(len(sweep.stages) for sweep in space.targets),
        }
        self._shared = {name: count for name, count in self._shared.items() if count > 1}
        named = {"format": len(space.formats), "target": len(space.targets)}
        ordered = {"channels": len(space.channels), "sparsity": len(space.sparsities), "batch": len(space.batches)}
        ordered |= self._shared
        ordered |= {f"number {path}": count for path, count in self._longest.items()}
        self.distributions: dict[str, BaseDistribution] = {
            **{name: CategoricalDistribution(tuple(range(count))) for name, count in named.items()},
            **{name: IntDistribution(0, count - 1) for name, count in ordered.items()},
        }

    def index(self, digits: dict[str, int]) -> int:
        """Index in the space of a position on all axes; where a target has fewer values than an axis, it starts over."""
        space = self._space
        sweep = space.targets[digits["target"]]
        numbers = tuple((path, values[digits[f"number {path}"] % len(values)]) for path, values in sweep.numbers.items())
        variant = Variant(
            space.formats[digits["format"]], space.sparsities[digits["sparsity"]], space.channels[digits["channels"]]
        )
        mesh = sweep.every_mesh[digits.get("mesh", 0) % len(sweep.every_mesh)]
        stages = sweep.stages[digits.get("stages", 0) % len(sweep.stages)]
        return space.index(Candidate(variant, Hardware(sweep.target, numbers, mesh, stages), space.batches[digits["batch"]]))

    def digits(self, index: int) -> dict[str, int]:
        """A position of a candidate; 0 along the numbers that its target does not sweep."""
        space, candidate = self._space, self._space.candidate(index)
        position = self._targets[candidate.hardware.target]
        chosen, sweep = dict(candidate.hardware.numbers), space.targets[position]
        swept = sweep.numbers
        shared = {
            "mesh": sweep.every_mesh.index(candidate.hardware.mesh),
            "stages": sweep.stages.index(candidate.hardware.stages),
        }
        return {
            "format": space.formats.index(candidate.variant.format),
            "target": position,
            "channels": space.channels.index(candidate.variant.channels),
            "sparsity": space.sparsities.index(candidate.variant.sparsity),
            "batch": space.batches.index(candidate.batch),
            **{name: shared[name] for name in self._shared},
            **{f"number {path}": swept[path].index(chosen[path]) if path in chosen else 0 for path in self._longest},
        }


def chunks(space: Space, length: int) -> Iterator[range]:
    """All indices, in order and in runs."""
    return (range(start, min(start + length, space.size)) for start in range(0, space.size, length))


def propose(axes: Axes, sampler: str, count: int, seed: tuple[int, int], parents: Parents) -> list[int]:
    """Indices of the next batch, each once.

    Parameters
    ----------
    axes : Axes
    sampler : {"nsga2", "random"}
    count : int
        Draws; fewer indices where draws repeat one another.
    seed : (int, int)
        The study's seed and the batch's number.
    parents : Parents
        Without any, draws are random.
    """
    number = int(np.random.default_rng(seed).integers(2**31))
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return _drawn(axes, _sampler(sampler, number, len(parents)), count, parents if sampler == "nsga2" else ())
    finally:
        optuna.logging.set_verbosity(before)


def elite(points: NDArray[np.float64], count: int) -> list[int]:
    """Positions of the best points, front by front; the last front that fits in part gives its least crowded."""
    left = np.arange(len(points))
    chosen: list[int] = []
    while len(left) and len(chosen) < count:
        front = pareto_front(points[left])
        members = left[front]
        room = count - len(chosen)
        if len(members) > room:
            members = members[np.argsort(-crowding(points[members]), kind="stable")[:room]]
        chosen += [int(member) for member in members]
        left = np.delete(left, front)
    return chosen


def _sampler(name: str, seed: int, parents: int) -> BaseSampler:
    return NSGAIISampler(population_size=max(parents, 2), seed=seed) if name == "nsga2" else RandomSampler(seed=seed)


def _drawn(axes: Axes, sampler: BaseSampler, count: int, parents: Parents) -> list[int]:
    objectives = len(parents[0][1]) if parents else 1
    study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    for index, values in parents:
        study.enqueue_trial(axes.digits(index))
        trial = study.ask(axes.distributions)
        # Reading it enters the trial in the sampler's first generation; one whose values are all given is left out otherwise.
        _ = trial.relative_params
        study.tell(trial, list(values))
    drawn = [axes.index(study.ask(axes.distributions).params) for _ in range(count)]
    return list(dict.fromkeys(drawn))
