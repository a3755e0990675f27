"""The longest paths of a synthesised netlist, cell by cell: an oracle for those that the modules of ``rtl/`` declare.

Reads what ``write_json`` of Yosys says of cells and wires, and knows of a cell only which of its pins lead to which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

ORDER = ("levels", "chains", "carry", "outs", "lookups", "blocks", "products")
"""What is counted along a path."""
Counts = tuple[int, ...]
Bit = int | str

_SYNCHRONOUS = (
    "TRELLIS_FF",
    "FDRE",
    "FDSE",
    "FDCE",
    "FDPE",
    "DP16KD",
    "PDPW16KD",
    "RAMB18E1",
    "RAMB36E1",
    "RAMB18E2",
    "RAMB36E2",
)
_BLOCKS = _SYNCHRONOUS[5:]
_CLOCKS = ("CLK", "CLKA", "CLKB", "C", "CLKARDCLK", "CLKBWRCLK", "WCK", "WCLK", "CLKR", "CLKW")
"""Of cells that have a clock: a look-up table's C is data."""
_REGISTERS = ("AREG", "BREG", "CREG", "MREG", "PREG")


def longest(document: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[tuple[str, str], Counts]:
    """For every pair of ends the counts along the path that takes longest at given seconds for each thing counted.

    Parameters
    ----------
    document : mapping
        A module of what ``write_json`` wrote.
    seconds : mapping of str to float
        Of each entry of :data:`ORDER`.

    Returns
    -------
    dict
        Ends are ``register`` and names of ports.
    """
    price = tuple(seconds[name] for name in ORDER)
    arcs: dict[Bit, list[tuple[Bit, Counts]]] = defaultdict(list)  # by the bit that is driven: what drives it, at what cost
    starts: dict[Bit, tuple[str, Counts]] = {}
    ends: list[tuple[Bit, str, Counts]] = []
    outputs = {port: detail["bits"] for port, detail in document["ports"].items() if detail["direction"] == "output"}
    for port, detail in document["ports"].items():
        if detail["direction"] == "input":
            starts |= {bit: (port, _count()) for bit in detail["bits"]}
    ends += [(bit, port, _count()) for port, bits in outputs.items() for bit in bits]
    sums_only, carries = _beside_carry(document), _carries(document)
    for name, cell in document["cells"].items():
        for kind, pin, bit, detail in _pins(cell, name in sums_only):
            if kind == "start":
                starts[bit] = ("register", detail)
            elif kind == "end":
                ends.append((bit, "register", detail))
            else:
                leaves = bit in carries and cell["type"] not in _CHAINS
                arcs[pin].append((bit, _joined(detail, _count(outs=int(leaves)))))
    found: dict[tuple[str, str], Counts] = {}
    for origin in sorted({start for start, _ in starts.values()}):
        reached = _reach({bit: counts for bit, (start, counts) in starts.items() if start == origin}, arcs, price)
        for bit, end, last in ends:
            if bit in reached:
                whole = _joined(reached[bit], last)
                before = found.get((origin, end))
                if before is None or _time(whole, price) > _time(before, price):
                    found[origin, end] = whole
    return found


def _count(**amounts: int) -> Counts:
    return tuple(amounts.get(name, 0) for name in ORDER)


def _joined(first: Counts, second: Counts) -> Counts:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _time(counts: Counts, price: tuple[float, ...]) -> float:
    return sum(count * one for count, one in zip(counts, price, strict=True))


def _reach(
    sources: Mapping[Bit, Counts], arcs: Mapping[Bit, list[tuple[Bit, Counts]]], price: tuple[float, ...]
) -> dict[Bit, Counts]:
    known: dict[Bit, Counts | None] = dict(sources)
    for root in list(arcs):
        stack = [root]
        while stack:
            bit = stack[-1]
            if bit in known:
                stack.pop()
                continue
            missing = [before for before, _ in arcs.get(bit, ()) if before not in known]
            if missing:
                stack += missing
                continue
            best: Counts | None = None
            for before, cost in arcs.get(bit, ()):
                reached = known[before]
                if reached is not None:
                    through = _joined(reached, cost)
                    if best is None or _time(through, price) > _time(best, price):
                        best = through
            known[bit] = best
            stack.pop()
    return {bit: counts for bit, counts in known.items() if counts is not None}


_CHAINS = {"CCU2C": "COUT", "CARRY4": "CO", "CARRY8": "CO"}


def _carries(document: Mapping[str, Any]) -> set[Bit]:
    """Bits that a carry chain hands on."""
    chains = [cell for cell in document["cells"].values() if cell["type"] in _CHAINS]
    return {bit for cell in chains for bit in cell["connections"].get(_CHAINS[cell["type"]], ())}


def _beside_carry(document: Mapping[str, Any]) -> set[str]:
    """Look-up tables that feed nothing but a carry chain: one of a family that has them apart is part of an adder."""
    users: dict[Bit, set[str]] = defaultdict(set)
    for cell in document["cells"].values():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"].get(pin) == "input":
                for bit in bits:
                    users[bit].add(f"{cell['type']}.{pin}")
    for detail in document["ports"].values():
        for bit in detail["bits"]:
            if detail["direction"] == "output":
                users[bit].add("port")
    chained = {"CARRY4.S", "CARRY4.DI", "CARRY8.S", "CARRY8.DI"}
    return {
        name
        for name, cell in document["cells"].items()
        if cell["type"].startswith("LUT")
        and all(users[bit] and users[bit] <= chained for bit in cell["connections"].get("O", []))
        and "O" in cell["connections"]
    }


def _pins(cell: Mapping[str, Any], free: bool) -> Iterator[tuple[str, Bit, Bit, Counts]]:
    """Starts, ends and arcs of a cell: ``(kind, driven bit, bit, counts)``."""
    kind = cell["type"]
    unclocked = kind.startswith(("LUT", "PFUMX", "L6MUX", "MUXF", "CCU2C", "CARRY", "MULT"))
    pins = {pin: bits for pin, bits in cell["connections"].items() if unclocked or pin not in _CLOCKS}
    into = {pin: bits for pin, bits in pins.items() if cell["port_directions"].get(pin) == "input"}
    out = {pin: bits for pin, bits in pins.items() if cell["port_directions"].get(pin) == "output"}
    given = {name: int(str(value), 2) if set(str(value)) <= {"0", "1"} else value for name, value in cell["parameters"].items()}
    if kind in _SYNCHRONOUS:
        yield from _sequential(into, {}, _count())
        yield from _sequential({}, out, _count(blocks=int(kind in _BLOCKS)))
    elif kind in ("DSP48E1", "DSP48E2"):
        registered = {name: given.get(name, 0) not in (0, None) for name in _REGISTERS}
        after = registered["MREG"] or registered["PREG"]
        before = registered["AREG"] and registered["BREG"]
        if before and after:
            yield from _sequential(into, out, _count())
        elif after:
            # The product is made on the way to the register behind it.
            factors = {pin: bits for pin, bits in into.items() if pin in ("A", "B")}
            yield from _sequential(factors, {}, _count(products=1))
            yield from _sequential({pin: bits for pin, bits in into.items() if pin not in factors}, out, _count())
        else:
            yield from _product(into, out, "AB" if not before else "")
    elif kind == "MULT18X18D":
        yield from _product(into, out, "AB")
    elif kind == "TRELLIS_DPR16X4" or kind.startswith("RAM"):
        reading = [pin for pin in into if pin.startswith(("RAD", "DPRA", "ADDR", "A"))]
        for pin, bits in into.items():
            for bit in bits:
                yield "end", bit, bit, _count()
                if pin in reading:
                    for driven in (bit for bits in out.values() for bit in bits):
                        yield "arc", driven, bit, _count(lookups=1)
        for driven in (bit for bits in out.values() for bit in bits):
            yield "start", driven, driven, _count(lookups=1)
    elif kind in ("CCU2C", "CARRY4", "CARRY8"):
        yield from _carry(kind, into, out)
    elif kind in ("PFUMX", "L6MUX21", "MUXF7", "MUXF8", "MUXF9"):
        select = {"PFUMX": "C0", "L6MUX21": "SD"}.get(kind, "S")
        for pin, bits in into.items():
            for bit in bits:
                for driven in (bit for bits in out.values() for bit in bits):
                    yield "arc", driven, bit, _count(levels=int(pin == select))
    else:
        for bit in (bit for bits in into.values() for bit in bits):
            for driven in (bit for bits in out.values() for bit in bits):
                yield "arc", driven, bit, _count(levels=int(kind.startswith("LUT") and not free))


def _sequential(
    into: Mapping[str, list[Bit]], out: Mapping[str, list[Bit]], counts: Counts
) -> Iterator[tuple[str, Bit, Bit, Counts]]:
    for bit in (bit for bits in into.values() for bit in bits):
        yield "end", bit, bit, counts
    for bit in (bit for bits in out.values() for bit in bits):
        yield "start", bit, bit, counts


def _product(
    into: Mapping[str, list[Bit]], out: Mapping[str, list[Bit]], prefixes: str
) -> Iterator[tuple[str, Bit, Bit, Counts]]:
    for pin, bits in into.items():
        if pin.rstrip("0123456789") in tuple(prefixes):
            for bit in bits:
                for driven in (bit for name, bits in out.items() if name.rstrip("0123456789") == "P" for bit in bits):
                    yield "arc", driven, bit, _count(products=1)


def _carry(kind: str, into: Mapping[str, list[Bit]], out: Mapping[str, list[Bit]]) -> Iterator[tuple[str, Bit, Bit, Counts]]:
    width = {"CCU2C": 2, "CARRY4": 4, "CARRY8": 8}[kind]
    for pin, bits in into.items():
        inside = pin in ("CIN", "CI")
        for position, bit in enumerate(bits):
            for name, driven in ((name, driven) for name, all_bits in out.items() for driven in all_bits):
                if kind == "CCU2C":
                    at, to = int(pin[-1]) if pin[-1].isdigit() else 0, {"S0": 0, "S1": 1}.get(name, 1)
                else:
                    at, to = (position if pin in ("S", "DI") else 0), out[name].index(driven)
                if to >= at:
                    full = name in ("COUT",) or (name == "CO" and to == width - 1)
                    yield "arc", driven, bit, _count(chains=int(not inside), carry=width if full and inside else to - at + 1)
