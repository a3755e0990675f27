"""Collectives in the text of a compiled program, and what XLA makes of those that were asked for.

XLA's compiler for processors keeps the collectives of a manual computation one for one, with these exceptions, each seen in
jaxlib 0.10.2 and each predicted here:

- bfloat16 travels as float32, so that the bytes of every collective of it double.
- An all-reduce of float16 or of integers of 16 bits is taken in 32 bits, and doubles too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from lepton_dse.numerics.formats import BFLOAT16
from lepton_dse.parallel.collectives import Collective
from lepton_dse.schedule.sharded.traffic import Sent
from lepton_dse.verify.xla.computations import computations

__all__ = ["Observed", "collectives", "compiled_form", "difference"]

Observed = tuple[str, tuple[tuple[int, ...], ...], int]
"""Kind, groups and bytes of one collective."""

_KINDS = {
    "all-reduce": Collective.ALL_REDUCE.value,
    "all-gather": Collective.ALL_GATHER.value,
    "reduce-scatter": Collective.REDUCE_SCATTER.value,
    "all-to-all": Collective.ALL_TO_ALL.value,
    "collective-permute": Collective.POINT_TO_POINT.value,
    # None of these is ever asked for; seen, they are no prediction's.
    "ragged-all-to-all": "ragged_all_to_all",
    "collective-broadcast": Collective.BROADCAST.value,
    "send": "send",
    "recv": "recv",
}
_CALL = re.compile(rf"^\s*(?:ROOT )?%\S+ = (.+?) ({'|'.join(_KINDS)})(?:-start)?\(", re.MULTILINE)
_SHAPE = re.compile(r"([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})?\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_BITS = {"pred": 8, "token": 0}
_WIDENED = 2


def collectives(hlo: str, devices: int) -> Counter[Observed]:
    """Every collective of a compiled module as often as it runs; one of several operands counts for each of them.

    Parameters
    ----------
    hlo : str
        Text of the module.
    devices : int
        Of the mesh; what names no groups is among all of them.
    """
    found: Counter[Observed] = Counter()
    for text, times in computations(hlo):
        for match in _CALL.finditer(text):
            line = text[match.start() : text.find("\n", match.end())]
            shapes, name = [_bytes(*shape.groups()) for shape in _SHAPE.finditer(match[1])], match[2]
            groups = _groups(line, devices)
            if name == "all-to-all":
                shapes = [sum(shapes)]  # its parts are results of their own
            if name == "reduce-scatter":
                shapes = [shape * len(groups[0]) for shape in shapes]
            for shape in shapes:
                found[_KINDS[name], groups, shape] += times
    return found


def compiled_form(sent: tuple[Sent, ...]) -> Counter[Observed]:
    """The collectives that a program compiles to."""
    found: Counter[Observed] = Counter()
    for entry in sent:
        widened = entry.form == BFLOAT16 or (entry.kind is Collective.ALL_REDUCE and entry.form.numpy.itemsize == _WIDENED)
        found[entry.kind.value, tuple(sorted(entry.groups)), entry.message_bytes * (2 if widened else 1)] += 1
    return found


def difference(predicted: Counter[Observed], observed: Counter[Observed]) -> str:
    """What is missing and what is there besides, for a person; empty where all are equal."""
    return "; ".join([*_said("missing", predicted - observed), *_said("not predicted", observed - predicted)])


def _said(what: str, entries: Counter[Observed]) -> Iterator[str]:
    for (kind, groups, size), count in sorted(entries.items()):
        among = " ".join("{" + ",".join(map(str, group)) + "}" for group in groups[:4]) + (" ..." if len(groups) > 4 else "")
        yield f"{what}: {count} {kind} of {size} bytes among {among}"


def _bytes(kind: str, dims: str) -> int:
    bits = _BITS[kind] if kind in _BITS else int(re.sub(r"\D", " ", kind).split()[0])
    return math.prod(int(extent) for extent in dims.split(",") if extent) * bits // 8


def _groups(line: str, devices: int) -> tuple[tuple[int, ...], ...]:
    iota = _IOTA.search(line)
    if iota:
        shape, source = ([int(entry) for entry in text.split(",")] for text in iota.groups()[:2])
        order = [int(entry) for entry in iota[3].split(",")] if iota[3] else list(range(len(source)))
        rows = np.arange(math.prod(source)).reshape(source).transpose(order).reshape(shape)
        return tuple(sorted(tuple(int(entry) for entry in row) for row in rows))
    listed = _LISTED.search(line)
    if listed is None or not listed[1]:
        return (tuple(range(devices)),)
    rows_text = re.findall(r"\{([\d, ]+)\}", listed[1])
    return tuple(sorted(tuple(int(entry) for entry in row.split(",")) for row in rows_text))
