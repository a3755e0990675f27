"""The bundle: a model after compression, as content-addressed files that travel beside a plan.

It holds the graph with its weights, the scale of every tensor that becomes an integer, and a few samples that artefacts are
tested with. With its plan it is all that lowering and emission need: no model file, no data set, no randomness.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.files import read_text
from lepton_dse.ir.encoding import decode_quant, encode_quant
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.serialize import CONSTANTS_FILE, GRAPH_FILE, graph_to_files, read_graph
from lepton_dse.numerics.formats import FLOAT32, NumberFormat, Precision
from lepton_dse.numerics.quantize import QuantParams

__all__ = ["SCALES_FILE", "Bundle", "Scale"]

SCALES_FILE = "scales.json"
SAMPLES_FILE = "samples.safetensors"


@dataclass(frozen=True)
class Scale:
    """The integer format of a tensor and how its integers stand for reals."""

    format: NumberFormat
    params: QuantParams


@dataclass(frozen=True)
class Bundle:
    """A graph and the scales of its tensors.

    Parameters
    ----------
    graph : Graph
        Float graph, one sample a pass.
    scales : mapping of str to Scale
        By tensor name: per channel for weights, per tensor for activations. Empty for float formats.
    samples : ndarray of float32, shape (N, ...)
        Inputs that artefacts are tested with.
    """

    graph: Graph
    scales: Mapping[str, Scale] = field(default_factory=dict)
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0,), np.float32))

    @cached_property
    def precision(self) -> Precision:
        """The formats that most weights, by count, and most activations have; float32 where nothing has a scale."""
        weights: dict[NumberFormat, int] = {}
        activations: dict[NumberFormat, int] = {}
        for name, scale in self.scales.items():
            tally = weights if name in self.graph.constants else activations
            tally[scale.format] = tally.get(scale.format, 0) + self.graph.tensors[name].elements
        most = [max(tally, key=lambda form: tally[form]) if tally else FLOAT32 for tally in (weights, activations)]
        return Precision(most[0], most[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the graph's digest, the scales and the samples."""
        hasher = hashlib.sha256((self.graph.digest + self._scales_json()).encode())
        hasher.update(repr(self.samples.shape).encode())
        hasher.update(np.ascontiguousarray(self.samples, "<f4").data)
        return hasher.hexdigest()

    def to_files(self) -> dict[str, bytes]:
        """The bundle's files by name."""
        return {
            **graph_to_files(self.graph),
            SCALES_FILE: self._scales_json().encode(),
            SAMPLES_FILE: save({"x": np.ascontiguousarray(self.samples, np.float32)}),
        }

    @classmethod
    def read(cls, folder: Path, *, digest: str | None = None) -> Bundle:
        """Read a bundle and, if `digest` is given, hold it against that.

        Raises
        ------
        InvalidPlanError
            If files are missing, damaged, or not those that the plan was made with.
        """
        if not all((folder / name).is_file() for name in (GRAPH_FILE, CONSTANTS_FILE, SCALES_FILE, SAMPLES_FILE)):
            raise InvalidPlanError(
                "the bundle is missing", where=str(folder), fix="keep the folder beside its plan, or plan again"
            )
        try:
            scales = {name: _decode(entry) for name, entry in json.loads(read_text(folder / SCALES_FILE)).items()}
            samples = load((folder / SAMPLES_FILE).read_bytes())["x"].astype(np.float32)
            bundle = cls(read_graph(folder), scales, samples)
        except (LeptonError, SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidPlanError(f"the bundle is damaged ({error})", where=str(folder), fix="plan again") from error
        if digest is not None and bundle.digest != digest:
            raise InvalidPlanError("the bundle is not the one that the plan was made with", where=str(folder), fix="plan again")
        return bundle

    def _scales_json(self) -> str:
        entries = {name: _encode(scale) for name, scale in self.scales.items()}
        return json.dumps(entries, indent=1, sort_keys=True) + "\n"


def _encode(scale: Scale) -> dict[str, Any]:
    return {"format": str(scale.format), **encode_quant(scale.params)}


def _decode(entry: dict[str, Any]) -> Scale:
    form = NumberFormat.parse(entry["format"])
    return Scale(form, decode_quant({name: value for name, value in entry.items() if name != "format"}))
