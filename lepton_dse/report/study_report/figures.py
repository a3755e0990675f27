"""Figures of a study in words: what they are called, how they are written, and how each of them is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lepton_dse.data import Interval
from lepton_dse.plan import Evidence
from lepton_dse.report.text import count, joules, scaled, seconds
from lepton_dse.study import Row
from lepton_dse.study.objectives import RESOURCES, Constraint

__all__ = ["FIGURE_WORDS", "Words", "bound_words", "figure_text", "interval_text", "known_by"]


@dataclass(frozen=True)
class Words:
    """How people speak of a figure.

    Parameters
    ----------
    name : str
        What it is called.
    best : str
        What a study looks for where it is an objective.
    unit : str
        Of its value; empty where it has none.
    write : callable
        Its value as text.
    additive : bool
        Whether differences of it are compared, and not ratios.
    """

    name: str
    best: str
    unit: str
    write: Callable[[float], str]
    additive: bool = False


def _bytes(value: float) -> str:
    return scaled(value, "B")


FIGURE_WORDS = {
    "latency_s": Words("latency", "the least latency", "s", seconds),
    "throughput_per_s": Words("throughput", "the most throughput", "/s", lambda value: scaled(value, "/s")),
    "energy_j": Words("energy", "the least energy", "J", joules),
    "peak_bytes": Words("peak memory", "the least peak memory", "B", _bytes),
    "weight_bytes": Words("weights", "the smallest weights", "B", _bytes),
    "devices": Words("devices", "the fewest devices", "", count),
    "exchanged_bytes": Words("exchanged", "the fewest bytes exchanged", "B", _bytes),
    "lut": Words("LUTs", "the fewest LUTs", "", count),
    "ff": Words("flip-flops", "the fewest flip-flops", "", count),
    "dsp": Words("DSP slices", "the fewest DSP slices", "", count),
    "bram18": Words("block RAMs", "the fewest block RAMs of 18 kbit", "", count),
    "accuracy": Words("accuracy", "the best accuracy", "", "{:.4f}".format, additive=True),
    "loss_points": Words("points lost", "the fewest points of accuracy lost", "", "{:.2f}".format, additive=True),
}
_COUNTED = ("peak_bytes", "weight_bytes", "exchanged_bytes")


def figure_text(name: str, value: float | None) -> str:
    """A figure as people read it; a dash where it is not known."""
    return "-" if value is None else FIGURE_WORDS[name].write(value)


def interval_text(name: str, found: Interval | None) -> str:
    """A measured figure's interval and its number of samples; an empty string where it was not measured."""
    if found is None:
        return ""
    write = FIGURE_WORDS[name].write
    return f"95% interval {write(found.low)} to {write(found.high)}, {count(found.count)} samples"


def bound_words(bound: Constraint) -> str:
    """A constraint as people say it."""
    words = FIGURE_WORDS[bound.figure]
    return f"{words.name} {'at most' if bound.at_most else 'at least'} {words.write(bound.bound)}"


def known_by(name: str, row: Row) -> str:
    """The evidence of a figure, and what that means."""
    if row.figures.get(name) is None:
        return "not known"
    if name in ("accuracy", "loss_points"):
        return f"{Evidence.EXECUTED}: the compressed network was run on labelled data"
    if name == "devices":
        return "chosen: as many as the mesh and its stages have"
    if name in _COUNTED:
        return f"{Evidence.UNCHECKED}: counted from the shapes and formats of tensors"
    if name in RESOURCES:
        return f"{Evidence.UNCHECKED}: an estimate, which synthesis may differ from"
    if name == "energy_j" or row.evidence == Evidence.UNCHECKED:
        return f"{Evidence.UNCHECKED}: a model that nothing has confirmed here"
    if row.band_pct is not None:
        return f"{row.evidence}: a model with a mean error of {row.band_pct:.1f}% on the validation suite that covers it"
    return f"{row.evidence}: a model that the emitted design equals"
