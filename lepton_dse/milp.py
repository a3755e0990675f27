"""Mixed-integer programs by SciPy's HiGHS, nothing of which reaches standard output.

Some versions of HiGHS write a line about their own inner solver to the process's standard output, whatever ``disp`` says; in the
output of a program that prints JSON it would be an error.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scipy import optimize

__all__ = ["milp", "quiet"]


def milp(objective: Any, **arguments: Any) -> Any:
    """:func:`scipy.optimize.milp` with the same arguments and the same result."""
    with quiet():
        return optimize.milp(objective, **arguments)


@contextmanager
def quiet() -> Iterator[None]:
    """Send the process's standard output nowhere while the block runs; errors still have theirs."""
    try:
        saved = os.dup(1)
    except OSError:  # the process has no standard output
        yield
        return
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        libc.fflush(None)
        os.dup2(saved, 1)
        os.close(nowhere)
        os.close(saved)
