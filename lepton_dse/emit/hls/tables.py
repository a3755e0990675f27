"""Weights, biases, multipliers and tables of an instance as constant arrays of C++."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lepton_dse.emit.writer import Writer
from lepton_dse.schedule.stream import Instance, Memory, MemoryPort

__all__ = ["TABLES_FOLDER", "array_name", "table_file", "table_text"]

TABLES_FOLDER = "tables"
_LINE = 120  # characters of a line of numbers
_NAMES = {
    MemoryPort.WEIGHTS: "weights",
    MemoryPort.BIAS: "bias",
    MemoryPort.MULTIPLIERS: "multipliers",
    MemoryPort.TABLE: "table",
}


def array_name(instance: Instance, memory: Memory) -> str:
    """The identifier of a memory's array."""
    return f"{instance.name}_{_NAMES[memory.port]}"


def table_file(instance: Instance) -> str:
    """Name of the file with the memories of an instance."""
    return f"{TABLES_FOLDER}/{instance.name}.h"


def table_text(instance: Instance) -> str:
    """The memories of an instance; one row of an array is one word of the memory, read at once."""
    out = Writer()
    guard = f"LEPTON_{instance.name.upper()}_H"
    out.lines([f"#ifndef {guard}", f"#define {guard}", "", '#include "../hls/words.h"', ""])
    for memory in instance.memories:
        # Multipliers are unsigned, and the arrays are not.
        bits = memory.field_bits + (memory.port is MemoryPort.MULTIPLIERS)
        shape = f"[{memory.depth}][{memory.fields}]"
        with out.block(f"static const lepton::Constant<{bits}>::type {array_name(instance, memory)}{shape} = {{", "};"):
            for row in memory.values.tolist():
                out.lines(_row(row))
        out.line()
    out.line("#endif")
    return out.text()


def _row(values: Sequence[int]) -> Iterator[str]:
    line = "{"
    for index, value in enumerate(values):
        text = _literal(value) + (", " if index + 1 < len(values) else "},")
        if len(line) + len(text) > _LINE:
            yield line.rstrip()
            line = ""
        line += text
    yield line


def _literal(value: int) -> str:
    # The most negative number of 64 bits has no literal of its own.
    if value == -(1 << 63):
        return f"{value + 1}LL - 1"
    return f"{value}LL" if abs(value) >= 1 << 31 else str(value)
