"""Labelled data, and figures that are measured on it."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidDataError

__all__ = ["Dataset", "Interval"]

# What NumPy and the zip reader raise for damaged, encrypted and foreign archives (RuntimeError covers NotImplementedError).
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Dataset:
    """Samples and, where there are any, labels.

    Parameters
    ----------
    x : ndarray of float32, shape (N, ...)
        Samples, one along axis 0.
    y : ndarray of int64, shape (N,), or None
        Class of each sample.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.x.ndim < 1 or len(self.x) == 0:
            raise InvalidDataError("holds no samples", where="x", fix="give an array of shape (N, ...)")
        if not np.isfinite(self.x).all():
            raise InvalidDataError("holds NaN or infinity", where="x", fix="clean the samples")
        if self.y is not None and self.y.shape != (len(self.x),):
            raise InvalidDataError(f"{self.y.shape} labels for {len(self.x)} samples", where="y", fix="give one label a sample")

    def __len__(self) -> int:
        return len(self.x)

    def take(self, count: int) -> Dataset:
        """The first `count` samples."""
        return Dataset(self.x[:count], None if self.y is None else self.y[:count])

    @classmethod
    def read(cls, path: str | Path) -> Dataset:
        """Read an ``.npz`` archive with ``x`` and optionally ``y``; nothing in it is unpickled.

        Raises
        ------
        InvalidDataError
            If the file is absent, damaged, or holds arrays of the wrong kind.
        """
        try:
            archive = np.load(path, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("an array without a name")
            with archive:
                if "x" not in archive:
                    raise InvalidDataError(
                        "holds no array 'x'", where=str(path), fix="save it with numpy.savez(path, x=..., y=...)"
                    )
                x = np.asarray(archive["x"])
                y = np.asarray(archive["y"]) if "y" in archive else None
        except _UNREADABLE as error:
            raise InvalidDataError("is not a readable .npz archive", where=str(path), fix="save it with numpy.savez") from error
        if x.dtype.kind not in "fiu" or (y is not None and y.dtype.kind not in "iu"):
            raise InvalidDataError("x must hold numbers and y integers", where=str(path))
        try:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused
                return cls(x.astype(np.float32), None if y is None else y.astype(np.int64))
        except InvalidDataError as error:
            raise InvalidDataError(error.what, where=f"{path}: {error.where}", fix=error.fix) from error


@dataclass(frozen=True)
class Interval:
    """A measured figure with its 95% confidence interval, by the method that its metric names, and the number of samples."""

    value: float
    low: float
    high: float
    count: int
