"""The command that holds the cost models against figures."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from lepton_dse.cli.console import out, print_json, progress
from lepton_dse.errors import LeptonError
from lepton_dse.validate.protocol import Context, SuiteResult
from lepton_dse.validate.runner import run_suites, suites

__all__ = ["validate"]

_SCHEMA = 1


def validate(names: list[str], data: Path | None, *, rows: bool, as_json: bool) -> None:
    """Run suites and print their errors."""
    if data is not None and not data.is_dir():
        raise LeptonError("not a folder", where=str(data), fix="give the folder that holds the measurement files")
    with progress(len(set(names)) or len(suites())) as step:
        results = list(run_suites(names, Context(data, step)))
    if as_json:
        print_json({"schema_version": _SCHEMA, "suites": [result.model_dump(mode="json") for result in results]})
        return
    console = out()
    console.print(_table(results))
    for result in results if rows else ():
        if result.rows:
            console.print(_rows(result))


def _table(results: list[SuiteResult]) -> Table:
    table = Table("suite", "rows", "mean error", "largest", "Spearman", "fitted", "metric, or why absent", title="Validation")
    for result in results:
        if result.mape_pct is None or result.max_pct is None:
            table.add_row(result.name, "0", "-", "-", "-", "-", result.reason)
            continue
        rank = "-" if result.spearman is None else f"{result.spearman:.3f}"
        scored = sum(row.scored for row in result.rows)
        figures = (f"{result.mape_pct:.1f}%", f"{result.max_pct:.1f}%", rank, str(len(result.fitted)), result.metric)
        table.add_row(result.name, str(scored), *figures)
    return table


def _rows(result: SuiteResult) -> Table:
    table = Table("case", "predicted", "reference", "error", title=result.name)
    for row in result.rows:
        error = f"{row.error_pct:+.1f}%" if row.scored else f"{row.error_pct:+.1f}% (not scored)"
        table.add_row(row.case, f"{row.predicted:.5g}", f"{row.reference:.5g}", error)
    return table
