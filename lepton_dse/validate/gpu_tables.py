"""Measured matrix products: the tables of ``aiconfigurator-core``, and how their rows are split into fitted and scored ones.

The split is fixed by the shape alone: the rows of a table, ordered by the SHA-256 digest of the text ``MxNxK``, are fitted on
while they are among the first :data:`FITTED_ROWS`; all others are scored, by every suite. A digest is as good as a draw by
lot, and nobody chose it.

How the tables were measured follows from the collector that wrote them (ai-dynamo/aiconfigurator,
``collector/trtllm/collect_gemm.py``): a CUDA graph runs the product with ``min(5, ceil(L2 / weight bytes))`` copies of the
weights in turn, the same activations and the same output, so that small weights stay in L2 between runs. 8-bit products begin
with activations in 16 bits and quantise them first. The W8A8 tables come from ``collect_gemm_trt.py``: one product
behind larger ones that flush L2, activations already in 8 bits, timed to 1.024 microseconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lepton_dse.validate.protocol import UnavailableError

__all__ = ["FITTED_ROWS", "TABLES", "GemmTable", "Measurements", "copies_of_weights", "load_table", "system_data"]

FITTED_ROWS = 200
"""Rows of a table that constants may be fitted to."""
_COPIES = 5
_PACKAGES = {
    "aiconfigurator_core": "pip install 'lepton_dse[validate]' (aiconfigurator-core, pandas, pyarrow)",
    "aiconfigurator": "pip install --no-deps aiconfigurator==0.10.0 (with tables that later releases dropped), pandas, pyarrow",
}
"""Packages that hold tables, by the name they are imported under, and how to install them."""


@dataclass(frozen=True)
class GemmTable:
    """One table: a device, the formats computed in, and where its rows lie.

    Parameters
    ----------
    device, format : str
        As in the suites' names.
    target : str
        Hardware model.
    formats : tuple of str
        Formats of this project that the products compute in.
    system, framework, version, dtype : str
        Keys of the table in the package.
    quantizes : bool
        Whether the time includes quantising the activations.
    cold : bool
        Whether L2 was flushed before each product.
    package : str
        Key of the package that holds the table.
    """

    device: str
    format: str
    target: str
    formats: tuple[str, ...]
    system: str
    framework: str
    version: str
    dtype: str
    quantizes: bool = False
    cold: bool = False
    package: str = "aiconfigurator_core"

    @property
    def place(self) -> tuple[str, ...]:
        """Folders below the package's data that lead to the table; the earlier release sorts by framework alone."""
        kind = ("gemm",) if self.package == "aiconfigurator_core" else ()
        return (self.system, *kind, self.framework, self.version)

    @property
    def source(self) -> str:
        """What a row of the table is, for people."""
        return f"{self.package.replace('_', '-')}: {'/'.join(self.place)}, {self.dtype}"


_BF16, _FP8, _INT8 = ("bfloat16", "float16"), ("float8_e4m3", "float8_e5m2"), ("int8",)
_RELEASE = "1.3.0rc20"
TABLES = (
    GemmTable("a100", "bf16", "nvidia-a100-sxm-80gb", _BF16, "a100_sxm", "trtllm", "1.0.0", "bfloat16"),
    GemmTable("a100", "w8a8", "nvidia-a100-sxm-80gb", _INT8, "a100_sxm", "trtllm", "1.0.0", "sq", cold=True),
    GemmTable("h100", "bf16", "nvidia-h100-sxm", _BF16, "h100_sxm", "trtllm", _RELEASE, "bfloat16"),
    GemmTable("h100", "fp8", "nvidia-h100-sxm", _FP8, "h100_sxm", "trtllm", _RELEASE, "fp8", quantizes=True),
    GemmTable("h200", "bf16", "nvidia-h200-sxm", _BF16, "h200_sxm", "trtllm", _RELEASE, "bfloat16"),
    GemmTable("h200", "fp8", "nvidia-h200-sxm", _FP8, "h200_sxm", "trtllm", _RELEASE, "fp8", quantizes=True),
    GemmTable("b200", "bf16", "nvidia-b200-sxm", _BF16, "b200_sxm", "trtllm", _RELEASE, "bfloat16"),
    GemmTable("b200", "fp8", "nvidia-b200-sxm", _FP8, "b200_sxm", "trtllm", _RELEASE, "fp8", quantizes=True),
    GemmTable("l40s", "bf16", "nvidia-l40s", _BF16, "l40s", "trtllm", _RELEASE, "bfloat16"),
    GemmTable("l40s", "fp8", "nvidia-l40s", _FP8, "l40s", "trtllm", _RELEASE, "fp8", quantizes=True),
    GemmTable("l40s", "w8a8", "nvidia-l40s", _INT8, "l40s", "trtllm", "1.0.0", "sq", cold=True, package="aiconfigurator"),
)
"""The tables that suites are made of, one a device and format."""


@dataclass(frozen=True)
class Measurements:
    """Rows of one table, in the order of the split.

    Parameters
    ----------
    m, n, k : ndarray of int64, shape (R,)
    seconds : ndarray of float64, shape (R,)
    """

    m: np.ndarray[tuple[int], np.dtype[np.int64]]
    n: np.ndarray[tuple[int], np.dtype[np.int64]]
    k: np.ndarray[tuple[int], np.dtype[np.int64]]
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]]

    def part(self, rows: slice) -> Measurements:
        """Some of the rows."""
        return Measurements(self.m[rows], self.n[rows], self.k[rows], self.seconds[rows])

    @property
    def fitted(self) -> Measurements:
        """Rows that constants may be fitted to."""
        return self.part(slice(None, FITTED_ROWS))

    @property
    def scored(self) -> Measurements:
        """All others."""
        return self.part(slice(FITTED_ROWS, None))


def system_data(package: str = "aiconfigurator_core") -> Path:
    """The folder of an installed package that holds tables.

    Raises
    ------
    UnavailableError
        If the package or a reader of its files is not installed.
    """
    for name in (package, "pandas", "pyarrow"):
        if importlib.util.find_spec(name) is None:
            raise UnavailableError(f"{name} is not installed: {_PACKAGES[package]}")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(f"{package} has no files: {_PACKAGES[package]}")
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"


def read_parquet(path: Path) -> Any:
    """A table as a pandas data frame.

    Raises
    ------
    UnavailableError
        If this version of the package lacks it.
    """
    if not path.exists():
        raise UnavailableError(f"the installed package has no {'/'.join(path.parts[-7:])}: {'; or '.join(_PACKAGES.values())}")
    import pandas  # type: ignore[import-untyped]

    return pandas.read_parquet(path)


def split_key(m: int, n: int, k: int) -> str:
    """The text whose digests order the rows of every table."""
    return hashlib.sha256(f"{m}x{n}x{k}".encode()).hexdigest()


@cache
def load_table(table: GemmTable) -> Measurements:
    """All rows of a table in the order of the split; the median where a shape was measured more than once.

    Raises
    ------
    UnavailableError
        If the package is not installed, or this version lacks the table.
    """
    frame = read_parquet(system_data(table.package).joinpath(*table.place) / "gemm_perf.parquet")
    frame = frame[frame["gemm_dtype"] == table.dtype].groupby(["m", "n", "k"], as_index=False)["latency"].median()
    if not len(frame):
        raise UnavailableError(f"the installed package has no rows of {table.source}")
    m, n, k = (frame[name].to_numpy(np.int64) for name in ("m", "n", "k"))
    order = np.argsort([split_key(*shape) for shape in zip(m.tolist(), n.tolist(), k.tolist(), strict=True)])
    return Measurements(m[order], n[order], k[order], frame["latency"].to_numpy(np.float64)[order] * 1e-3)


def copies_of_weights(weight_bytes: float, l2_bytes: float) -> float:
    """Copies of the weights that a measurement runs through in turn."""
    return float(max(1, min(_COPIES, -(-l2_bytes // weight_bytes))))
