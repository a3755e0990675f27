"""What a layer may become: formats, and zeros among its weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune import Kind, prune
from lepton_dse.compress.quantize import weight_axis
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision

__all__ = ["Choice", "Layer", "Pruned", "layers_of", "parse_choices"]

_TEXT = re.compile(r"(?P<format>[^+]+)(?:\+(?:(?P<n>\d+):(?P<m>\d+)|(?P<ratio>0?\.\d+)))?")


@dataclass(frozen=True)
class Choice:
    """One thing that a layer may become.

    Parameters
    ----------
    precision : Precision
        Formats of its weights and of the activations that it reads.
    ratio : float
        Share of its weights that become zero, 0 to below 1; with a pattern it follows from that.
    pattern : (int, int) or None
        Of every m neighbouring input channels n weights stay; zeros anywhere where there is none.
    """

    precision: Precision
    ratio: float = 0.0
    pattern: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.ratio, bool) or not 0 <= self.ratio < 1:
            raise LeptonError(f"a ratio of {self.ratio}", where="choice", fix="use a share from 0 to below 1")
        if self.pattern is not None:
            n, m = self.pattern
            if not 1 <= n < m:
                raise LeptonError(f"{n} weights of {m}", where="choice", fix="use whole numbers with 1 <= n < m")
            if self.ratio != 1 - n / m:
                raise LeptonError(f"a ratio of {self.ratio:g} beside {n}:{m}", where="choice", fix=f"use {1 - n / m:g}")

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Read ``w4a8``, ``int8+0.5`` (half of the weights zero) or ``int8+2:4`` (two of every four stay).

        Raises
        ------
        LeptonError
            If the text is none of these.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise LeptonError(f"'{text}' is no choice", fix="for example int8, w4a8, int8+0.5 or int8+2:4")
        precision = Precision.parse(found["format"])
        if found["m"]:
            n, m = int(found["n"]), int(found["m"])
            return cls(precision, 1 - n / m if m else 0.0, (n, m))
        return cls(precision, float(found["ratio"] or 0.0))

    def __str__(self) -> str:
        if self.pattern is not None:
            return f"{self.precision}+{self.pattern[0]}:{self.pattern[1]}"
        return f"{self.precision}+{self.ratio:g}" if self.ratio else str(self.precision)


@dataclass(frozen=True)
class Layer:
    """Operations that multiply with one constant: they can only change together.

    Parameters
    ----------
    name : str
        Of the first operation.
    ops : tuple of str
    weights : str
        The constant.
    elements : int
        Weights in it.
    """

    name: str
    ops: tuple[str, ...]
    weights: str
    elements: int


def layers_of(graph: Graph, only: Sequence[str] | None = None) -> tuple[Layer, ...]:
    """The layers of a graph in order, or those that some operations belong to.

    Raises
    ------
    LeptonError
        If a name belongs to no operation with weights, or there is none at all.
    """
    found: dict[str, list[Op]] = {}
    for op in graph.ops:
        if weight_axis(op) is not None and op.inputs[1] in graph.constants:
            found.setdefault(op.inputs[1], []).append(op)
    layers = [
        Layer(ops[0].name, tuple(op.name for op in ops), weights, graph.tensors[weights].elements)
        for weights, ops in found.items()
    ]
    if not layers:
        raise LeptonError("multiplies with no weights", where=graph.name, fix="give a network that has layers")
    if only is None:
        return tuple(layers)
    unknown = sorted(set(only) - {name for layer in layers for name in layer.ops})
    if unknown:
        raise LeptonError("no operation with weights", where=", ".join(unknown), fix="'lepton inspect' lists the names")
    return tuple(layer for layer in layers if set(layer.ops) & set(only))


def parse_choices(choices: Sequence[Choice | str]) -> tuple[Choice, ...]:
    """Choices from their names, each once.

    Raises
    ------
    LeptonError
        If there is none, or one is given twice.
    """
    found = tuple(Choice.parse(entry) if isinstance(entry, str) else entry for entry in choices)
    if not found:
        raise LeptonError("no choices", where="choices", fix="give some, for example int8 and w4a8")
    if len(set(found)) < len(found):
        twice = next(str(entry) for entry in found if found.count(entry) > 1)
        raise LeptonError("is given twice", where=f"choice {twice}", fix="give every choice once")
    return found


class Pruned:
    """The weights that pruning leaves, each pruning of the network carried out once.

    Parameters
    ----------
    graph : Graph
        Float graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._found: dict[Choice, Graph] = {}

    def weights(self, layer: Layer, choice: Choice) -> NDArray[np.generic] | None:
        """A layer's weights, by magnitude; None where the layer cannot be pruned this way."""
        original = self._graph.constants[layer.weights]
        if not choice.ratio:
            return original
        value = self.graph(choice).constants[layer.weights]
        return None if np.array_equal(value, original) else value

    def graph(self, choice: Choice) -> Graph:
        """The whole network with a choice's zeros, wherever it can have them."""
        key = replace(choice, precision=Precision.parse("int8"))
        if key not in self._found:
            n, m = choice.pattern or (2, 4)
            kind = Kind.N_OF_M if choice.pattern else Kind.WEIGHTS
            self._found[key] = prune(self._graph, choice.ratio, kind=kind, n=n, m=m)
        return self._found[key]
