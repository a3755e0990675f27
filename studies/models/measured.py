"""Trained networks, each with labelled data that choices may be made on.

What loads them is imported where it is asked for: worker processes import a study's script too, and need no PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import lepton_dse as ld

__all__ = ["digits", "lenet5"]


def digits(samples: int) -> tuple[ld.Graph, ld.Dataset]:
    """The small network for 8 x 8 digits that lies here, and scikit-learn's training images."""
    from lepton_dse.demo.digits import load_digits_split

    return ld.load(Path(__file__).parent / "digits_cnn.onnx"), load_digits_split()[0].take(samples)


def lenet5(samples: int) -> tuple[ld.Graph, ld.Dataset]:
    """LeNet-5, trained where it is not there yet, and Fashion-MNIST's images to choose on."""
    from fashion import load_fashion, trained

    return trained("lenet-5"), load_fashion().choose.take(samples)
