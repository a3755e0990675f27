"""Finds the registered suites and runs those asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from lepton_dse import registry
from lepton_dse.errors import LeptonError
from lepton_dse.validate.protocol import Context, Suite, SuiteResult, UnavailableError

__all__ = ["run_suites", "suites"]


def suites() -> dict[str, Suite]:
    """Every registered suite by name, sorted."""
    found: dict[str, Suite] = {}
    for name in registry.names(registry.Group.SUITES):
        entries: Sequence[Suite] = registry.load(registry.Group.SUITES, name)
        found |= {suite.name: suite for suite in entries}
    return dict(sorted(found.items()))


def run_suites(names: Sequence[str], context: Context) -> Iterator[SuiteResult]:
    """Results one by one, in the order asked for; all suites where `names` is empty.

    Raises
    ------
    LeptonError
        For an unknown name, before anything runs.
    """
    known = suites()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise LeptonError(f"no validation suite '{name}'", fix=hint)
    return _run([known[name] for name in dict.fromkeys(names or known)], context)


def _run(chosen: Sequence[Suite], context: Context) -> Iterator[SuiteResult]:
    for suite in chosen:
        context.progress(suite.name)
        try:
            yield suite.run(suite, context)
        except UnavailableError as absent:
            yield SuiteResult(name=suite.name, source=suite.source, metric=suite.metric, reason=str(absent))
