"""What a model's numbers take when they are stored."""

from __future__ import annotations

import numpy as np

import lepton_dse as ld

SCALE_BYTES = BIAS_BYTES = 4


def weight_bytes(model: ld.Graph | ld.Bundle) -> float:
    """Bytes of the constants of a model, 32 bits a number where it has no other format.

    Of weights with zeros only the others are stored, and one bit a weight that says which they are, where that is shorter. Scales
    of integer weights have 4 bytes each, and so have biases.
    """
    graph = model.graph if isinstance(model, ld.Bundle) else model
    total = 0.0
    for name, value in graph.constants.items():
        scale = model.scales.get(name) if isinstance(model, ld.Bundle) else None
        if value.ndim < 2:
            total += BIAS_BYTES * value.size
            continue
        bits = 32 if scale is None else scale.format.bits
        total += min(bits * value.size, bits * np.count_nonzero(value) + value.size) / 8
        total += 0 if scale is None else SCALE_BYTES * np.size(scale.params.beta)
    return total
