"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["count", "joules", "scaled", "seconds", "share"]

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_DIVISIONS = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def scaled(value: float, unit: str) -> str:
    """A value with a decimal prefix, three significant digits: ``1.23 MB``."""
    rounded = float(f"{value:.3g}")  # before the prefix is chosen, so that 999.9 becomes 1 k
    for factor, prefix in _PREFIXES:
        if abs(rounded) >= factor:
            return f"{_digits(rounded / factor)} {prefix}{unit}"
    return f"{_digits(rounded)} {unit}"


def seconds(value: float) -> str:
    """A duration in the unit that keeps it at or above 1: ``12.3 us``."""
    return _divided(value, "s")


def joules(value: float) -> str:
    """An energy in the unit that keeps it at or above 1: ``4.56 mJ``."""
    return _divided(value, "J")


def _divided(value: float, unit: str) -> str:
    rounded = float(f"{value:.3g}")
    factor, prefix = next((entry for entry in _DIVISIONS if rounded >= entry[0]), _DIVISIONS[-1])
    return f"{_digits(rounded / factor)} {prefix}{unit}"


def _digits(value: float) -> str:
    """Three significant digits, large values written out."""
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if abs(value) >= 999.5 else text


def count(value: float) -> str:
    """A count with thousands separated; fractions are kept to three digits."""
    return f"{int(value):,}" if float(value).is_integer() else _digits(value)


def share(value: float) -> str:
    """A proportion as a percentage."""
    return f"{100 * value:.1f}%"
