"""How often each part of a compiled program runs: the computations that its text defines, and the loops that call them.

XLA states the trip count of a loop whose counter it understands. What a loop without one calls counts as run more often than any
program predicts, so that no check of it passes.
"""

from __future__ import annotations

import re

__all__ = ["computations"]

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$", re.MULTILINE)
_CALLED = re.compile(
    r"\b(?:body|condition|calls|to_apply|branch_computations|called_computations|true_computation|false_computation)="
    r"(?:\{([^}]*)\}|(%?[\w.\-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_UNKNOWN = 1 << 40


def computations(hlo: str) -> list[tuple[str, int]]:
    """The text of every computation, and how often it runs.

    Parameters
    ----------
    hlo : str
        Text of the module, in which callees stand before their callers.
    """
    texts, entry = {}, ""
    for match in _HEAD.finditer(hlo):
        end = hlo.find("\n}", match.end())
        texts[match[2]] = hlo[match.end() : end + 1] if end >= 0 else f"{hlo[match.end() :]}\n"
        entry = match[2] if match[1] else entry
    times = dict.fromkeys(texts, 0)
    times[entry] = 1
    for name in reversed(texts):
        for line in texts[name].splitlines():
            called = [callee for listed, single in _CALLED.findall(line) for callee in (listed or single).split(",")]
            if not called:
                continue
            trips = _TRIPS.search(line)
            turns = 1 if " while(" not in line else int(trips[1]) if trips else _UNKNOWN
            for callee in called:
                if callee.strip(" %") in times:
                    times[callee.strip(" %")] += turns * times[name]
    return [(texts[name], count) for name, count in times.items() if name in texts]
