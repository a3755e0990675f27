"""Test vectors: samples and what a lowered graph makes of them, for artefacts to be held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.reference import fast
from lepton_dse.reference.engine import Array, steps

__all__ = ["Vectors", "make_vectors"]

_BATCH = 64


@dataclass(frozen=True)
class Vectors:
    """Samples and the reference values of chosen tensors.

    Parameters
    ----------
    x : ndarray of float32, shape (N, ...)
        Samples in the model's own units.
    tensors : dict of str to ndarray
        Value of each chosen tensor for every sample, shape (N, ...).
    """

    x: NDArray[np.float32]
    tensors: dict[str, Array]


def make_vectors(graph: LoweredGraph, x: NDArray[np.float32], names: Iterable[str] = ()) -> Vectors:
    """Run a lowered graph integer-exact and keep its outputs and the tensors called `names`; an output that is a constant has one
    copy a sample.

    Raises
    ------
    InvalidDataError
        If the samples do not fit the graph's input.
    """
    wanted = {*graph.outputs, *names}
    kept: dict[str, list[Array]] = {}
    for start in range(0, len(x), _BATCH):
        chunk = x[start : start + _BATCH]
        for name, value in steps(graph.with_batch(len(chunk)), {graph.inputs[0]: chunk}, fast.evaluate):
            if name in wanted:
                kept.setdefault(name, []).append(value)
    tensors = {name: np.concatenate(parts) for name, parts in kept.items()}
    fixed = {name: np.repeat(graph.constants[name][None], len(x), axis=0) for name in wanted & graph.constants.keys()}
    return Vectors(x, tensors | fixed)
