"""Importer of the project's own graph files (``graph.json`` with its constants beside it)."""

from __future__ import annotations

from pathlib import Path

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.protocol import Importer, ImportOptions
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.serialize import read_graph

__all__ = ["IMPORTER"]


def _load(path: Path, options: ImportOptions) -> Graph:
    if options.shapes or options.bind or options.dims:
        raise InvalidModelError("a graph file leaves no shape or value open", where=str(path), fix="give neither shapes nor bind")
    return read_graph(path)


IMPORTER = Importer("graph", (".json",), _load)
