"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["count", "joules", "scaled", "seconds", "share"]

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_DIVISIONS = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def scaled(value: float, unit: str) -> str:
    """A value with a decimal prefix, three significant digits: ``1.23 MB``."""
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def seconds(value: float) -> str:
    """A duration in the unit that keeps it at or above 1: ``12.3 us``."""
    return _divided(value, "s")


def joules(value: float) -> str:
    """An energy in the unit that keeps it at or above 1: ``4.56 mJ``."""
    return _divided(value, "J")


def _divided(value: float, unit: str) -> str:
    for factor, prefix in _DIVISIONS:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    factor, prefix = _DIVISIONS[-1]
    return f"{value / factor:.3g} {prefix}{unit}"


def count(value: float) -> str:
    """A count with thousands separated; fractions are kept to three digits."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.3g}"


def share(value: float) -> str:
    """A proportion as a percentage."""
    return f"{100 * value:.1f}%"
