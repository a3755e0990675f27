"""onnxruntime with every setting stated, so that it gives the same numbers twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError, MissingToolError

__all__ = ["LEVEL", "SETTINGS", "Session"]

LEVEL = "ORT_ENABLE_ALL"
"""Graph optimisations: all of them, which is what a session does by default."""
SETTINGS = {
    "session.qdq_matmulnbits_accuracy_level": "1",  # products with 4-bit weights in float32, not with activations of 8 bits
    "session.x64quantprecision": "1",  # no 16-bit saturation inside 8-bit products on processors without VNNI
}


class Session:
    """A model loaded for the processor: one thread, operations one after another.

    Parameters
    ----------
    model : bytes
        A serialised model.
    level : str
        Name of a level of graph optimisation.

    Raises
    ------
    MissingToolError
        If onnxruntime is not installed.
    LeptonError
        If it refuses the model.
    """

    def __init__(self, model: bytes, level: str = LEVEL) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingToolError("onnxruntime is not installed", fix="pip install 'lepton_dse[onnxruntime]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        for key, value in SETTINGS.items():
            options.add_session_config_entry(key, value)
        try:
            self._session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base
            raise LeptonError(f"onnxruntime refuses the model: {_first_line(error)}") from error

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Values of the named outputs.

        Raises
        ------
        LeptonError
            If a node fails.
        """
        try:
            found = self._session.run(list(names), dict(feeds))
        except Exception as error:  # its exceptions share no base
            raise LeptonError(f"onnxruntime fails: {_first_line(error)}") from error
        return [np.asarray(value) for value in found]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
