"""Handwritten digits: the data set of the demo and of the model that it brings."""

from __future__ import annotations

import numpy as np

from lepton_dse.data import Dataset
from lepton_dse.errors import MissingToolError

__all__ = ["HELD_OUT", "load_digits_split"]

HELD_OUT = 450
_SEED = 20


def load_digits_split() -> tuple[Dataset, Dataset]:
    """Training images and held-out images of scikit-learn's digits, shape (N, 1, 8, 8), values 0 to 1.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, as
    shipped in scikit-learn. The split is a fixed permutation, the same wherever it is loaded.

    Raises
    ------
    MissingToolError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingToolError(
            "the digits come with scikit-learn, which is not installed", fix="pip install 'lepton_dse[demo]'"
        ) from error
    bunch = load_digits()
    x = (bunch.images / 16.0).astype(np.float32)[:, None]
    y = bunch.target.astype(np.int64)
    order = np.random.default_rng(_SEED).permutation(len(x))
    training, held_out = order[HELD_OUT:], order[:HELD_OUT]
    return Dataset(x[training], y[training]), Dataset(x[held_out], y[held_out])
