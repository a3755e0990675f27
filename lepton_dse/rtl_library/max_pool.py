"""Declares ``rtl/max_pool.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.rtl_library.declaration import (
    Family,
    ModuleDeclaration,
    Parameters,
    Port,
    Range,
    Resources,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["MAX_POOL", "MaxPool"]


@dataclass(frozen=True)
class MaxPool(Parameters):
    """Greatest signed element of each lane over the taps of a window.

    Parameters
    ----------
    element : int
        Bits of an element.
    lanes : int
        Elements of a word.
    folds : int
        Words of a tap.
    taps : int
        Taps of a window.
    """

    element: Annotated[int, Range(2, 64)]
    lanes: Annotated[int, Range(1, 4096)]
    folds: Annotated[int, Range(1, 65536)]
    taps: Annotated[int, Range(1, 65536)]


def _ports(p: MaxPool) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.lanes * p.element, p.lanes * p.element))


def _timing(p: MaxPool) -> ModuleTiming:
    step = np.arange(p.taps * p.folds)
    return single("max_pool", step >= 0, step >= (p.taps - 1) * p.folds, Channel.pipe(1))


def _resources(p: MaxPool, family: Family) -> Resources:
    raise RuntimeError


MAX_POOL = ModuleDeclaration("max_pool", MaxPool, _ports, _resources, _timing)
