"""The command that writes a finished study as a page, and its front as a picture."""

from __future__ import annotations

from pathlib import Path

from lepton_dse.cli.console import out, progress
from lepton_dse.errors import LeptonError
from lepton_dse.files import write_bytes, write_text
from lepton_dse.report.front_picture import front_png, front_svg
from lepton_dse.report.study_report import details_of, study_html
from lepton_dse.study import read_finished

__all__ = ["report"]

_PAGE = ((".html", ".htm"), "a report is HTML", "give a name that ends in .html")
_SVG = ((".svg",), "not the name of an SVG", "give a name that ends in .svg")
_PNG = ((".png",), "not the name of a PNG", "give a name that ends in .png")


def report(folder: Path, output: Path | None, svg: Path | None = None, png: Path | None = None) -> None:
    """Write the report of a study's folder, and pictures of its front where they are asked for."""
    path = folder / "report.html" if output is None else output
    for asked, (endings, what, fix) in ((path, _PAGE), (svg, _SVG), (png, _PNG)):
        if asked is not None and asked.suffix.lower() not in endings:
            raise LeptonError(what, where=str(asked), fix=fix)
    study = read_finished(folder)
    picture = None if svg is None and png is None else front_svg(study)
    pixels = None if png is None or picture is None else front_png(picture)
    with progress() as step:
        page = study_html(study, details_of(folder, study, step))
    write_text(path, page)
    console = out()
    console.print(f"wrote {path}; open it in a browser", soft_wrap=True)
    if svg is not None and picture is not None:
        write_text(svg, picture)
        console.print(f"wrote {svg}", soft_wrap=True)
    if png is not None and pixels is not None:
        write_bytes(png, pixels)
        console.print(f"wrote {png}", soft_wrap=True)
