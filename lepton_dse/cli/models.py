"""Opening the model file that a command line names, with the extents that it gives."""

from __future__ import annotations

from pathlib import Path

from lepton_dse.errors import LeptonError
from lepton_dse.importers import load_model
from lepton_dse.ir.graph import Graph

__all__ = ["extents_of", "open_model"]

_DIGITS = 18  # of an extent; more is no extent


def open_model(path: Path, dims: list[str]) -> Graph:
    """The graph of a file.

    Parameters
    ----------
    path : Path
    dims : list of str
        ``NAME=N`` for every axis that the file leaves open by a name.

    Raises
    ------
    LeptonError
        If one is written otherwise, is given twice, or the file has no such axis.
    """
    return load_model(path, dims=extents_of(dims))


def extents_of(dims: list[str]) -> dict[str, int]:
    """Extents by the names of their axes.

    Raises
    ------
    LeptonError
        If one is not written ``NAME=N``, or is given twice.
    """
    extents: dict[str, int] = {}
    for text in dims:
        name, _, extent = text.rpartition("=")
        if not name or not (extent.isascii() and extent.isdigit() and len(extent) <= _DIGITS):
            raise LeptonError(f"--dim {text}", fix="write NAME=N, such as sequence_length=128")
        if extents.setdefault(name, int(extent)) != int(extent):
            raise LeptonError(f"--dim gives '{name}' twice", fix="give it once")
    return extents
