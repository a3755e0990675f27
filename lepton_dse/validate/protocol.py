"""What a validation suite is, and what it answers; registered, as a tuple of suites, in ``lepton_dse.suites``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy import stats

__all__ = ["Context", "Row", "Suite", "SuiteResult", "UnavailableError", "row", "score"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Frozen):
    """One case: what the model predicts beside the reference."""

    case: str
    predicted: FiniteFloat
    reference: FiniteFloat
    error_pct: FiniteFloat
    """``100 (predicted - reference) / reference``."""
    scored: bool = True
    """False for cases that are shown with their assumptions but stand outside the mean."""


class SuiteResult(_Frozen):
    """A suite as run; figures are None, and `reason` says why, where its data or tool is absent."""

    name: str
    source: str
    metric: str
    """What is compared, with its unit."""
    mape_pct: FiniteFloat | None = None
    """Mean absolute percentage error over the scored rows."""
    max_pct: FiniteFloat | None = None
    spearman: FiniteFloat | None = None
    """Rank correlation; None under three rows."""
    fitted: tuple[str, ...] = ()
    """Constants fitted before scoring; none for data-sheet suites."""
    notes: tuple[str, ...] = ()
    """Assumptions, and how rows were split."""
    reason: str = ""
    rows: tuple[Row, ...] = ()


class UnavailableError(Exception):
    """Raised by a suite whose data or tool is absent; the message names what to install or where to point."""


@dataclass(frozen=True)
class Context:
    """What a run of a suite may use.

    Parameters
    ----------
    data : Path or None
        Folder with the measurement files that are not shipped (``--data``).
    progress : callable
        Told what is about to run.
    """

    data: Path | None = None
    progress: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True)
class Suite:
    """A named comparison.

    Parameters
    ----------
    name : str
    source : str
        Where the reference figures come from.
    metric : str
        What is compared, with its unit.
    run : callable
        Returns a result made by :func:`score`; raises :class:`UnavailableError`.
    """

    name: str
    source: str
    metric: str
    run: Callable[[Suite, Context], SuiteResult]


def row(case: str, predicted: float, reference: float, *, scored: bool = True) -> Row:
    """A row with its error."""
    error = 100.0 * (predicted - reference) / reference
    return Row(case=case, predicted=predicted, reference=reference, error_pct=error, scored=scored)


def score(suite: Suite, rows: Sequence[Row], *, fitted: Sequence[str] = (), notes: Sequence[str] = ()) -> SuiteResult:
    """Errors and rank correlation over the scored rows.

    Raises
    ------
    UnavailableError
        If no row is scored.
    """
    scored = [entry for entry in rows if entry.scored]
    if not scored:
        raise UnavailableError("no row to score")
    errors = [abs(entry.error_pct) for entry in scored]
    spearman = None
    if len(scored) > 2:
        rank = float(stats.spearmanr([entry.predicted for entry in scored], [entry.reference for entry in scored]).statistic)
        spearman = rank if math.isfinite(rank) else None
    return SuiteResult(
        name=suite.name,
        source=suite.source,
        metric=suite.metric,
        mape_pct=math.fsum(errors) / len(errors),
        max_pct=max(errors),
        spearman=spearman,
        fitted=tuple(fitted),
        notes=tuple(notes),
        rows=tuple(rows),
    )
