"""What a pruning is asked for, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from numbers import Integral, Real

from lepton_dse.errors import LeptonError

__all__ = ["LEAST_KEPT", "Kind", "Scope", "Settings", "share_of"]

LEAST_KEPT = 0.1
"""Share of every layer or group of channels that a ranking over the whole network keeps (less only if the ratio asks for it)."""

_ROUNDING = 1e-9  # so that 0.29 of 100 is 29, although 0.29 * 100 is less


class Kind(StrEnum):
    """What is removed together."""

    WEIGHTS = "weights"
    N_OF_M = "n:m"
    BLOCK = "block"
    CHANNELS = "channels"


class Scope(StrEnum):
    """What is ranked together: each layer by itself, or the whole network."""

    LAYER = "layer"
    GLOBAL = "global"


@dataclass(frozen=True)
class Settings:
    """A pruning that can be carried out.

    Parameters
    ----------
    ratio : float
        Share that goes, 0 to below 1.
    kind : Kind
    score : str
        A name registered in ``lepton_dse.scores``.
    scope : Scope
    n, m : int
        Of m neighbouring weights n stay.
    block : (int, int)
        Rows (output channels) and columns (summed products) of a block.

    Raises
    ------
    LeptonError
        If a value is outside what it can be.
    """

    ratio: float
    kind: Kind
    score: str
    scope: Scope
    n: int
    m: int
    block: tuple[int, int]

    @classmethod
    def of(
        cls, ratio: float, *, kind: str, score: str, scope: str, n: int = 2, m: int = 4, block: tuple[int, int] = (4, 4)
    ) -> Settings:
        """Settings from the words and numbers that a person gives."""
        if kind not in tuple(Kind):
            raise LeptonError(f"'{kind}'", where="kind", fix=f"use one of {', '.join(Kind)}")
        if scope not in tuple(Scope):
            raise LeptonError(f"'{scope}'", where="scope", fix=f"use one of {', '.join(Scope)}")
        return cls(ratio, Kind(kind), score, Scope(scope), n, m, block)

    def __post_init__(self) -> None:
        if isinstance(self.ratio, bool) or not isinstance(self.ratio, Real) or not 0 <= self.ratio < 1:
            raise LeptonError(f"a ratio of {self.ratio}", where="ratio", fix="use a share from 0 to below 1")
        if self.kind is Kind.N_OF_M:
            self._check_pattern()
        if self.kind is Kind.BLOCK and not _is_block(self.block):
            raise LeptonError(f"a block of {self.block}", where="block", fix="use two whole numbers of at least 1")

    def _check_pattern(self) -> None:
        if not _is_count(self.n) or not _is_count(self.m) or self.n >= self.m:
            raise LeptonError(f"{self.n} weights of {self.m}", where="n, m", fix="use whole numbers with 1 <= n < m")
        given = 1 - self.n / self.m
        if self.ratio and not math.isclose(self.ratio, given, abs_tol=1e-6):
            raise LeptonError(
                f"a ratio of {self.ratio:g}, where {self.n}:{self.m} removes {given:g}", where="ratio", fix=f"use {given:g} or 0"
            )
        if self.scope is Scope.GLOBAL:
            raise LeptonError(
                f"{self.n}:{self.m} over the whole network", where="scope", fix="the pattern is the same in every layer"
            )


def share_of(ratio: float, count: int) -> int:
    """How many of `count` a ratio removes, rounded down and never all."""
    return max(0, min(math.floor(ratio * count + _ROUNDING), count - 1))


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_block(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(_is_count(size) for size in value)
