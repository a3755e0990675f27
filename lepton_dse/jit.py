"""The one module that names numba.

Kernels are decorated here so that they share two properties. Their compiled form is cached in a directory named by a
digest of *every* kernel source of the package: numba's own key covers only the file of the decorated function, so a
changed callee in another file would leave stale machine code behind. And they never use fast-math, so that the
compiled and the interpreted function (``NUMBA_DISABLE_JIT=1``) agree bit for bit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

__all__ = ["cache_directory", "kernel", "parallel_kernel", "prange", "source_digest", "use_one_thread"]

P = ParamSpec("P")
R = TypeVar("R")

prange = numba.prange
"""A loop whose iterations are independent; parallel inside :func:`parallel_kernel`, a plain ``range`` elsewhere."""


def source_digest(package: Path) -> str:
    """Digest every file below ``package`` that defines kernels, together with the compiler's version.

    Parameters
    ----------
    package : pathlib.Path
        The folder of the package.

    Returns
    -------
    str
        16 hexadecimal digits; they change when any kernel source or numba itself changes.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        if b"lepton_dse.jit" in text or path == package / "jit.py":
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:16]


@cache
def cache_directory() -> Path | None:
    """Return the folder for compiled kernels, or None where none can be written.

    ``NUMBA_CACHE_DIR`` is honoured as the parent; otherwise it is the user's cache folder.

    Returns
    -------
    pathlib.Path or None
        A folder that numba may create; None on a read-only home, where kernels are compiled anew in each process.
    """
    parent = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(parent) / "lepton_dse" / "kernels" / source_digest(Path(__file__).resolve().parent)
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return folder if existing.is_dir() and os.access(existing, os.W_OK) else None


def _compile(function: Callable[P, R], parallel: bool) -> Callable[P, R]:
    folder = cache_directory()
    # The cache's place is read while the decorator runs, so it is set for that moment only: the kernels of other
    # packages in the same process keep theirs.
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder or "")
    try:
        compiled: Callable[P, R] = numba.njit(cache=folder is not None, parallel=parallel, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before
    return compiled


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a scalar or array function with numba, cached and without fast-math.

    Division by zero follows NumPy (no exception). Under ``NUMBA_DISABLE_JIT=1`` the function is returned as it is.
    """
    return _compile(function, parallel=False)


def parallel_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile like :func:`kernel`, with the iterations of each :data:`prange` loop spread over threads."""
    return _compile(function, parallel=True)


def use_one_thread() -> None:
    """Parallel kernels of this process run on one thread, unless the environment says how many.

    The environment cannot be used for that: once threads run, another ``NUMBA_NUM_THREADS`` is an error of the next compilation.
    """
    if "NUMBA_NUM_THREADS" not in os.environ:
        numba.set_num_threads(1)
