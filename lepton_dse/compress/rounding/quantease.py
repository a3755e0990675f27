"""Coordinate descent over the whole grid: weights may move by more than one integer, begun where GPTQ ends.

K. Behdin et al., "QuantEase: Optimization-based Quantization for Language Models", 2023. The objective and the descent are
those of :mod:`lepton_dse.compress.rounding.adaround`; only the bounds are the format's own. It reaches lower errors on the
calibration samples than rounding up or down, and needs more of them not to fit their noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.rounding.adaround import descend
from lepton_dse.compress.rounding.gptq import gptq
from lepton_dse.compress.rounding.protocol import Layer

__all__ = ["ROUNDING", "quantease"]


def quantease(layer: Layer) -> NDArray[np.int64]:
    """Integers by coordinate descent over ``±limit``, shape (M, K)."""
    most = np.full(layer.weights.shape, layer.limit, np.int64)
    return descend(layer, gptq(layer), -most, most)


ROUNDING = quantease
