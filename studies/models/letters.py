"""Five letters that are easily confused, 16 figures each, and a small dense network that tells them apart.

``LetterRecognition`` of the Debian package ``r-cran-mlbench``: 20,000 pictures of capital letters in 20 fonts, distorted, as 16
whole numbers from 0 to 15 (P. W. Frey, D. J. Slate, Machine Learning 6(2), 1991). 3,811 of them show B, D, H, R or S;
two thirds are to train on, a third only scores. Columns are shifted and scaled by what the training rows say.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tables import CACHE, MODELS, dense

import lepton_dse as ld
from lepton_dse.errors import MissingToolError

LETTERS = "BDHRS"
HIDDEN = (64, 32, 32)
EPOCHS = 60
_TABLE = Path("usr/lib/R/site-library/mlbench/data/LetterRecognition.rda")


@dataclass(frozen=True)
class Letters:
    """Rows to train and calibrate on, and rows that only score."""

    train: ld.Dataset
    test: ld.Dataset


def letters(seed: int = 0) -> Letters:
    """Rows of the five letters, class 0 being the first of them."""
    path = next((root / _TABLE for root in (Path("/"), CACHE / "mlbench") if (root / _TABLE).is_file()), None)
    try:
        import pyreadr

        if path is None:
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run(["apt-get", "download", "r-cran-mlbench"], cwd=CACHE, check=True, capture_output=True)
            package = sorted(CACHE.glob("r-cran-mlbench_*.deb"))[-1]
            subprocess.run(["dpkg", "-x", package, CACHE / "mlbench"], check=True, capture_output=True)
            path = CACHE / "mlbench" / _TABLE
        table = pyreadr.read_r(path)["LetterRecognition"]
    except (ImportError, OSError, IndexError, subprocess.CalledProcessError) as error:
        raise MissingToolError("the letters are not here", fix="pip install pyreadr; apt-get install r-cran-mlbench") from error
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
