"""What computed a study: answers of different software are never put together."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from lepton_dse.registry import Group

__all__ = ["software"]

_PACKAGE = "lepton_dse"
_APART = ("cli", "demo", "emit", "importers", "report", "testing", "validate", "verify")
"""Parts that no price and no accuracy comes from."""
_STUDY = "work.py"
"""The one module of studies that computes answers."""
_COMPUTES = (Group.COST_MODELS, Group.PLANNERS, Group.METRICS, Group.ROUNDINGS, Group.SCORES)


@cache
def software() -> dict[str, str]:
    """Versions of everything that answers depend on, by name: this package with a digest of its sources, and what it calls."""
    names = {"ml_dtypes", "numba", "numpy", "scipy", *_strangers()}
    return {_PACKAGE: f"{_version(_PACKAGE)} {_sources()[:12]}", **{name: _version(name) for name in sorted(names)}}


def _strangers() -> set[str]:
    """Other packages that registered something which computes."""
    found = {point.dist.name for group in _COMPUTES for point in entry_points(group=group.value) if point.dist is not None}
    return {name for name in found if name.replace("-", "_") != _PACKAGE}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _sources() -> str:
    """Digest of the modules that compute answers: a formula may change while the version stays."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        inner = path.relative_to(package)
        if inner.parts[0] in _APART or (inner.parts[0] == "study" and inner.name != _STUDY):
            continue
        digest.update(inner.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
