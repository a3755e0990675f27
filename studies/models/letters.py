"""Five letters that are easily confused, 16 figures each, and a small dense network that tells them apart.

``LetterRecognition`` of the Debian package ``r-cran-mlbench``: 20,000 pictures of capital letters in 20 fonts, distorted, as 16
whole numbers from 0 to 15 (P. W. Frey, D. J. Slate, Machine Learning 6(2), 1991). 3,811 of them show B, D, H, R or S;
two thirds are to train on, a third only scores. Columns are shifted and scaled by what the training rows say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tables import MODELS, dense, mlbench

import lepton_dse as ld

LETTERS = "BDHRS"
HIDDEN = (64, 32, 32)
EPOCHS = 60


@dataclass(frozen=True)
class Letters:
    """Rows to train and calibrate on, and rows that only score."""

    train: ld.Dataset
    test: ld.Dataset


def letters(seed: int = 0) -> Letters:
    """Rows of the five letters, class 0 being the first of them."""
    table = mlbench("LetterRecognition", "letters")
    table = table[table["lettr"].isin(list(LETTERS))]
    x = table.drop(columns="lettr").to_numpy(np.float32)
    y = np.asarray([LETTERS.index(name) for name in table["lettr"]], np.int64)
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [len(x) // 3])
    x = ((x - x[train].mean(axis=0)) / x[train].std(axis=0)).astype(np.float32)
    return Letters(ld.Dataset(x[train], y[train]), ld.Dataset(x[test], y[test]))


def trained_letters(data: Letters, seed: int = 0) -> tuple[ld.Graph, Path]:
    """The network 16-64-32-32-5, trained once, and its file."""
    graph = dense(data.train, HIDDEN, epochs=EPOCHS, seed=seed, name="letters")
    return graph, MODELS / f"letters-{EPOCHS}-{seed}.onnx"
