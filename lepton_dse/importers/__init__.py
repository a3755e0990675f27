"""Readers of model files: each turns one format into a :class:`~lepton_dse.ir.graph.Graph`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lepton_dse import registry
from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.protocol import Importer, ImportOptions, Unsupported, UnsupportedError
from lepton_dse.importers.transformer import is_config, read_transformer
from lepton_dse.importers.transformer_graph import block_graph
from lepton_dse.ir.graph import Graph

__all__ = ["ImportOptions", "Importer", "Unsupported", "UnsupportedError", "block_graph", "load_model", "read_transformer"]


def load_model(
    path: Path | str,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    bind: Mapping[str, NDArray[Any]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """Read a model file with the importer that its suffix names.

    Parameters
    ----------
    path : Path or str
        The file.
    batch : int, optional
        Samples a pass. By default what the file says, or 1 where it leaves that open.
    shapes : mapping of str to tuple of int, optional
        Whole shapes of inputs whose other axes the file leaves open.
    bind : mapping of str to ndarray, optional
        Values for inputs that are to become constants.
    dims : mapping of str to int, optional
        Extents of open axes by their names in the file, such as the length of a sequence.

    Raises
    ------
    UnsupportedError
        If the model uses what is not supported; it lists everything at once.
    InvalidModelError
        If the suffix is unknown or the file cannot be read.
    """
    path = Path(path)
    if batch is not None and batch < 1:
        raise InvalidModelError(f"a batch of {batch} samples", where=str(path), fix="use at least 1")
    if is_config(path):
        what = "a transformer's configuration, which holds shapes and no operations"
        raise InvalidModelError(what, where=str(path), fix="use lepton inspect or lepton shard; in Python read_transformer")
    importers: list[Importer] = [
        registry.load(registry.Group.IMPORTERS, name) for name in registry.names(registry.Group.IMPORTERS)
    ]
    for importer in importers:
        if path.suffix.lower() in importer.suffixes:
            graph = importer.load(path, ImportOptions(batch, shapes or {}, bind or {}, dims or {}))
            return graph if batch is None else graph.with_batch(batch)
    known = ", ".join(f"{suffix} ({importer.name})" for importer in importers for suffix in importer.suffixes)
    raise InvalidModelError(f"no importer reads '{path.suffix}' files", where=str(path), fix=f"known: {known}")
