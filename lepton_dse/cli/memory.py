"""The command that places a model's tensors in one arena."""

from __future__ import annotations

from pathlib import Path

from lepton_dse.cli.console import out, print_json
from lepton_dse.cli.models import open_model
from lepton_dse.errors import LeptonError
from lepton_dse.files import write_text
from lepton_dse.memory import in_less_memory, map_memory
from lepton_dse.numerics.formats import Precision
from lepton_dse.report.arena import arena_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, share
from lepton_dse.sim.report import sizes_in

__all__ = ["memory"]

_SCHEMA = 1


def memory(
    model: Path, dims: list[str], format: str, *, batch: int, alignment: int, in_place: bool, svg: Path | None, as_json: bool
) -> None:
    """Print where a model's tensors lie, and draw it where a picture is asked for."""
    if svg is not None and svg.suffix.lower() != ".svg":
        raise LeptonError("not the name of an SVG", where=str(svg), fix="give a name that ends in .svg")
    if batch < 1:
        raise LeptonError(f"a batch of {batch}", where="--batch", fix="use 1 or more")
    precision, graph = Precision.parse(format), open_model(model, dims).with_batch(batch)
    sizes = sizes_in(graph, precision)
    graph = in_less_memory(graph, bytes_of=sizes, alignment=alignment, in_place=in_place)
    mapped = map_memory(graph, bytes_of=sizes, alignment=alignment, in_place=in_place)
    if svg is not None:
        write_text(svg, arena_svg(graph, mapped))
    if as_json:
        places = [{"name": name, **place.model_dump()} for name, place in mapped.places.items()]
        figures = {"peak": mapped.peak, "bound": mapped.bound, "alignment": mapped.alignment}
        print_json({"schema_version": _SCHEMA, "model": graph.name, **figures, "tensors": places})
        return
    whole = sum(place.bytes for place in mapped.places.values())
    gap = "the least there is" if mapped.peak == mapped.bound else f"{share(mapped.peak / mapped.bound - 1)} above what is proved"
    table = plain_table(
        f"{graph.name}: an arena of {scaled(mapped.peak, 'B')}, {gap}; side by side {scaled(whole, 'B')}",
        *("tensor", "bytes", "offset", "operations", "shares the block of"),
    )
    for name, place in mapped.places.items():
        shared = "" if place.block == name else place.block
        table.add_row(name, count(place.bytes), count(place.offset), f"{place.first} to {place.last}", shared)
    out().print(table)
    if svg is not None:
        out().print(f"wrote {svg}", soft_wrap=True)
