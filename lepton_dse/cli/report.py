"""The command that writes a finished study as a page."""

from __future__ import annotations

from pathlib import Path

from lepton_dse.cli.console import out
from lepton_dse.errors import LeptonError
from lepton_dse.files import write_text
from lepton_dse.report.study_report import study_html
from lepton_dse.study import read_finished

__all__ = ["report"]

_SUFFIXES = (".html", ".htm")


def report(folder: Path, output: Path | None) -> None:
    """Write the report of a study's folder."""
    path = folder / "report.html" if output is None else output
    if path.suffix.lower() not in _SUFFIXES:
        raise LeptonError("a report is HTML", where=str(path), fix="give a name that ends in .html")
    write_text(path, study_html(read_finished(folder)))
    out().print(f"wrote {path}; open it in a browser", soft_wrap=True)
