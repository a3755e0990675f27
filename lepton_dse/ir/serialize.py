"""A graph as files: ``graph.json`` for the structure, ``constants.safetensors`` beside it for the values.

Bytes are deterministic: keys are sorted, and names of files, dates and paths do not enter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lepton_dse.errors import InvalidModelError
from lepton_dse.files import inside, read_text
from lepton_dse.ir.encoding import decode_op, decode_tensor, encode_op, encode_tensor
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.tensors import Tensor

__all__ = ["CONSTANTS_FILE", "GRAPH_FILE", "SCHEMA_VERSION", "from_structure", "graph_to_files", "read_graph", "structure"]

SCHEMA_VERSION = 1
GRAPH_FILE = "graph.json"
CONSTANTS_FILE = "constants.safetensors"
_KINDS: dict[str, type[Graph]] = {"graph": Graph, "lowered": LoweredGraph}
_FOREIGN = 2  # what NumPy calls the types that other packages register with it
_FIELDS = {"schema_version", "kind", "name", "inputs", "outputs", "tensors", "ops"}


def structure(graph: Graph) -> dict[str, Any]:
    """All of a graph but the values of its constants, as plain JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": next(kind for kind, cls in _KINDS.items() if cls is type(graph)),
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "tensors": [encode_tensor(tensor) for tensor in graph.tensors.values()],
        "ops": [encode_op(op) for op in graph.ops],
    }


def graph_to_files(graph: Graph) -> dict[str, bytes]:
    """The graph's two files by name."""
    document = {**structure(graph), "constants": CONSTANTS_FILE}
    values = {name: _as_patterns(np.asarray(value, order="C")) for name, value in sorted(graph.constants.items())}
    return {
        GRAPH_FILE: (json.dumps(document, indent=1, sort_keys=True) + "\n").encode(),
        CONSTANTS_FILE: save(values),
    }


def read_graph(path: Path) -> Graph:
    """Read a graph from its JSON file (or the folder that holds ``graph.json``).

    Raises
    ------
    InvalidModelError
        If the file is not a graph, a field is wrong, or the constants are missing, damaged or outside the folder.
    """
    path = path / GRAPH_FILE if path.is_dir() else path
    try:
        document = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidModelError("not valid JSON", where=str(path)) from error
    if not isinstance(document, dict) or set(document) != {*_FIELDS, "constants"}:
        raise InvalidModelError(
            f"a graph file has exactly the fields {', '.join(sorted(_FIELDS))} and constants", where=str(path)
        )
    try:
        return from_structure(document, _constants(inside(path.parent, _text(document.pop("constants")))))
    except InvalidModelError as error:
        raise InvalidModelError(
            error.what, where=f"{path}: {error.where}" if error.where else str(path), fix=error.fix
        ) from error


def from_structure(document: dict[str, Any], constants: dict[str, NDArray[np.generic]]) -> Graph:
    """The graph of a structure and the values of its constants.

    Raises
    ------
    InvalidModelError
        If a field is missing, unknown or wrong.
    """
    if set(document) != _FIELDS:
        raise InvalidModelError(f"a graph has exactly the fields {', '.join(sorted(_FIELDS))}")
    if document["schema_version"] != SCHEMA_VERSION:
        raise InvalidModelError(f"schema version {document['schema_version']}, this release reads {SCHEMA_VERSION}")
    kind = _KINDS.get(str(document["kind"]))
    if kind is None:
        raise InvalidModelError(f"unknown kind of graph '{document['kind']}'")
    tensors = [decode_tensor(entry) for entry in _list(document["tensors"])]
    return kind(
        _text(document["name"]),
        tensors,
        [decode_op(entry) for entry in _list(document["ops"])],
        [_text(name) for name in _list(document["inputs"])],
        [_text(name) for name in _list(document["outputs"])],
        {**constants, **_from_patterns(tensors, constants)},
    )


def _as_patterns(value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Floats that NumPy lacks, such as bfloat16, as the unsigned integers of their bits: safetensors reads NumPy's alone."""
    return value.view(f"u{value.dtype.itemsize}") if value.dtype.isbuiltin == _FOREIGN else value


def _from_patterns(tensors: list[Tensor], constants: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Constants whose format is a float that NumPy lacks, from the integers of their bits."""
    forms = {tensor.name: tensor.format.numpy for tensor in tensors if tensor.format.is_float}
    return {
        name: value.view(forms[name])
        for name, value in constants.items()
        if name in forms and value.dtype.kind == "u" and value.dtype.itemsize == forms[name].itemsize
    }


def _constants(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        return dict(load(path.read_bytes()))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InvalidModelError("the constants are missing or damaged", where=str(path), fix="write the graph again") from error


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidModelError(f"expected a list, found {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidModelError(f"expected a text, found {type(value).__name__}")
    return value
