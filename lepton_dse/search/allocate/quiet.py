"""Nothing of what a C library prints reaches standard output.

Some versions of HiGHS write a line about their own inner solver to the process's standard output, whatever ``disp`` says; in the
output of a program that prints JSON it would be an error.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


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
