"""Which clock the seconds of a streaming design assume, and which it is expected to reach, in words."""

from __future__ import annotations

from lepton_dse.plan import CycleReport

__all__ = ["clock_sentence", "clock_words"]


def clock_words(cycles: CycleReport) -> str:
    """The planning clock with the design's band: ``100 MHz (planned; this design: 88 to 121 MHz by its longest path, ...)``."""
    planned = f"{cycles.clock_hz / 1e6:g} MHz"
    if cycles.band is None:
        return f"{planned} (planned; not a timing result)"
    first, *_, last = (cycles.band.through[0], *cycles.band.through)
    where = f"in {last}" if len(cycles.band.through) == 1 else f"from {first} to {last}"
    reached = f"{cycles.band.low_hz / 1e6:.0f} to {cycles.band.high_hz / 1e6:.0f} MHz"
    return f"{planned} (planned; this design: {reached} by its longest path, {where})"


def clock_sentence(cycles: CycleReport) -> str:
    """What the seconds of a design assume, and whether that clock is beyond what it is expected to reach."""
    text = f"Seconds assume {clock_words(cycles)}."
    if cycles.band is not None and cycles.clock_hz > cycles.band.high_hz:
        text += " That clock is above the band: expect more seconds, or plan for a slower one."
    return text
