"""Suites that hold the closed form of collectives against measured ones."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy import optimize

from lepton_dse.errors import LeptonError
from lepton_dse.files import read_text
from lepton_dse.parallel.collectives import Collective
from lepton_dse.sim.collectives import Links, collective_time, links_of
from lepton_dse.targets import GpuTarget, load_target
from lepton_dse.validate.gpu_tables import read_parquet, system_data
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, UnavailableError, row, score

__all__ = ["FITTED_ROWS", "SUITES", "Case", "fit_links", "nccl_cases"]

FITTED_ROWS = 60
"""Rows of a table that constants may be fitted to: the first in the order of the digests of ``collective/devices/bytes``."""
_FREE = {
    "start_s": (1e-7, 1e-4),
    "hop_s": (1e-8, 1e-4),
    "share": (0.02, 1.0),
    "pair_loss": (0.001, 1.0),
    "fill_s": (1e-7, 1e-3),
    "fill_bytes": (1e4, 1e9),
}
_TABLES = {
    "a100": ("nvidia-a100-sxm-80gb", "a100_sxm", "2.27.3"),
    "h100": ("nvidia-h100-sxm", "h100_sxm", "2.29.2"),
    "h200": ("nvidia-h200-sxm", "h200_sxm", "2.29.2"),
    "b200": ("nvidia-b200-sxm", "b200_sxm", "2.29.2"),
}
"""Device to hardware model, system and NCCL version: the newest in the package."""
_BYTES = {"half": 2, "int8": 1}
_NAMES = {"alltoall": Collective.ALL_TO_ALL}
_VIDUR = "gpu_collectives_vidur.csv"
_NODES = {"a100_dgx": "nvidia-a100-sxm-80gb", "h100_dgx": "nvidia-h100-sxm"}
_METRIC = "seconds of a collective among 2, 4 and 8 devices"


@dataclass(frozen=True)
class Case:
    """One measured collective: what, bytes of the message, devices, seconds."""

    kind: Collective
    message: int
    devices: int
    seconds: float

    @property
    def name(self) -> str:
        """For people, and the text whose digest orders the rows."""
        return f"{self.kind}/{self.devices}/{self.message}"


@cache
def nccl_cases(device: str) -> tuple[Case, ...]:
    """Measured NCCL collectives of a device, in the order of the split; the median over formats that send as many bytes.

    The tables count a message in elements.

    Raises
    ------
    UnavailableError
        If the package is not installed or lacks the table.
    """
    _, system, version = _TABLES[device]
    frame = read_parquet(system_data() / system / "comm" / "nccl" / version / "nccl_perf.parquet")
    found: dict[tuple[Collective, int, int], list[float]] = {}
    columns = (frame[name].tolist() for name in ("op_name", "nccl_dtype", "num_gpus", "message_size", "latency"))
    for name, dtype, devices, elements, milliseconds in zip(*columns, strict=True):
        kind = _NAMES.get(name) or Collective(name)
        found.setdefault((kind, int(elements) * _BYTES[dtype], int(devices)), []).append(milliseconds * 1e-3)
    cases = [Case(*key, float(np.median(times))) for key, times in found.items()]
    return tuple(sorted(cases, key=lambda case: hashlib.sha256(case.name.encode()).hexdigest()))


def fit_links(cases: Sequence[Case], start: Links) -> Links:
    """Constants under which the closed form is nearest to the cases: soft-L1 least squares of the logarithms, bounded."""
    low, high = (np.log([bounds[side] for bounds in _FREE.values()]) for side in (0, 1))
    first = np.clip(np.log([max(getattr(start, name), 1e-9) for name in _FREE]), low + 1e-6, high - 1e-6)

    def links(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Links:
        return start._replace(**{name: float(np.exp(value)) for name, value in zip(_FREE, logs, strict=True)})

    def residuals(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
        chosen = links(logs)
        return [float(np.log(_time(case, chosen) / case.seconds)) for case in cases]

    found = optimize.least_squares(residuals, first, bounds=(low, high), loss="soft_l1", f_scale=0.05)
    return start._replace(**{name: float(f"{np.exp(value):.4g}") for name, value in zip(_FREE, found.x, strict=True)})


def _time(case: Case, links: Links) -> float:
    return collective_time(case.kind, float(case.message), case.devices, links)


def _gpu(name: str) -> GpuTarget:
    target = load_target(name)
    if not isinstance(target, GpuTarget):
        raise LeptonError(f"{name} is no GPU", fix="the suites of collectives name GPUs")
    return target


def _plain(target: GpuTarget) -> Links:
    """The links before any fit: the constants that the hardware model would have without a measurement."""
    return links_of(target)._replace(**GENERAL)


GENERAL = {"start_s": 5e-6, "hop_s": 1e-6, "share": 0.8, "pair_loss": 0.0, "fill_s": 2e-5, "fill_bytes": 1e7}
"""Round figures for a device whose collectives nobody measured; unverified."""


def _nccl(suite: Suite, context: Context, *, calibrated: bool, kinds: tuple[Collective, ...]) -> SuiteResult:
    rows: list[Row] = []
    for device, (target_name, *_) in _TABLES.items():
        cases = nccl_cases(device)
        links = _plain(_gpu(target_name))
        if calibrated:
            links = fit_links(cases[:FITTED_ROWS], links)
        rows += [
            row(f"{device} {case.name}", _time(case, links), case.seconds) for case in cases[FITTED_ROWS:] if case.kind in kinds
        ]
    notes = (f"the {FITTED_ROWS} rows of each device whose digests come first are left out of the score",)
    fitted = tuple(f"{name} of each of {len(_TABLES)} devices" for name in _FREE) if calibrated else ()
    return score(suite, rows, fitted=fitted, notes=notes)


def _vidur(suite: Suite, context: Context) -> SuiteResult:
    if context.data is None or not (context.data / _VIDUR).exists():
        raise UnavailableError(f"{_VIDUR} is absent: point --data at a folder that holds it (github.com/microsoft/vidur)")
    text = read_text(context.data / _VIDUR, limit_bytes=1 << 24)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = []
    for entry in csv.DictReader(lines):
        whole = entry["num_workers"] == entry["devices_per_node"]
        if entry["coll"] != "all_reduce" or entry["node"] not in _NODES or not whole:
            continue
        devices, message = int(entry["num_workers"]), int(entry["size"])
        case = Case(Collective.ALL_REDUCE, message, devices, float(entry["time_stats.all_reduce.median"]) * 1e-3)
        rows.append(row(f"{entry['node']} {case.name}", _time(case, links_of(_gpu(_NODES[entry["node"]]))), case.seconds))
    notes = ("constants as in the hardware models, fitted to other measurements; nodes whose devices all share a switch",)
    return score(suite, rows, notes=notes)


_SOURCE = "aiconfigurator-core: NCCL " + ", ".join(f"{device} {version}" for device, (_, _, version) in _TABLES.items())
_EVERY = tuple(Collective)
SUITES = (
    Suite("gpu-collectives", _SOURCE, _METRIC, partial(_nccl, calibrated=False, kinds=_EVERY)),
    Suite("gpu-collectives-calibrated", _SOURCE, _METRIC, partial(_nccl, calibrated=True, kinds=_EVERY)),
    Suite(
        "gpu-all-reduce-calibrated",
        _SOURCE,
        "seconds of an all-reduce among 2, 4 and 8 devices",
        partial(_nccl, calibrated=True, kinds=(Collective.ALL_REDUCE,)),
    ),
    Suite(
        "gpu-collectives-vidur",
        "Vidur (A. Agrawal et al., MLSys 2024), data/profiling/network of github.com/microsoft/vidur at 7d47513",
        "seconds of an all-reduce inside a node",
        _vidur,
    ),
)
