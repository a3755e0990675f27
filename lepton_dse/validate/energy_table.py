"""Energy of operations and of memory accesses by process node, from the published table ``figures/energy_operations.csv``.

Horowitz (ISSCC 2014) gives 45 nm, Jouppi et al. (ISCA 2021) 7 nm. In between a figure follows the power law through both
(:func:`lepton_dse.sim.energy.between_nodes`); no newer node has a published table, so figures below 7 nm are those of 7 nm.
Hardware models carry numbers that these functions gave, marked ``unverified`` where a node lies between or a figure is recalled.
"""

from __future__ import annotations

import math
from functools import cache

from lepton_dse.errors import LeptonError
from lepton_dse.sim.energy import between_nodes
from lepton_dse.validate.figures import figures

__all__ = ["NODES", "fabric_j", "mac16_j", "mac_j", "operation_j", "sram_j_per_byte"]

NODES = (45.0, 7.0)
"""Nodes of the published figures, in nanometres."""
_UNIT = 1e-12
_FABRIC = 14


@cache
def _table() -> dict[tuple[str, float], float]:
    return {
        (entry["operation"], float(entry["node_nm"])): float(entry["picojoule"]) * _UNIT for entry in figures("energy_operations")
    }


def operation_j(operation: str, node_nm: float) -> float:
    """Joules of an operation, or of an access of 64 bits, at a node: as published, by the power law between, as at 7 nm below it.

    A bfloat16 operation above 7 nm, where none is published, grows as a float16 one does.

    Raises
    ------
    LeptonError
        If no figure of the operation is known.
    """
    old, new = NODES
    node, table = max(node_nm, new), _table()
    if (operation, node) in table:
        return table[operation, node]
    if operation.startswith("bfloat16 "):
        like = operation.removeprefix("b")
        return operation_j(operation, new) * operation_j(like, node) / operation_j(like, new)
    if (operation, old) not in table or (operation, new) not in table:
        raise LeptonError(f"no published energies of '{operation}' at both nodes", fix="use an operation of the table")
    return between_nodes(node, (old, table[operation, old]), (new, table[operation, new]))


def mac_j(precision: str, node_nm: float) -> float:
    """Joules of a multiply-accumulate: the product in its format, the addition in 32 bits.

    Parameters
    ----------
    precision : {"int8", "bfloat16", "float16", "float32"}
    node_nm : float

    Raises
    ------
    LeptonError
        For other formats.
    """
    accumulator = "int32" if precision == "int8" else "float32"
    return operation_j(f"{precision} multiply", node_nm) + operation_j(f"{accumulator} add", node_nm)


def sram_j_per_byte(size: str, node_nm: float) -> float:
    """Joules of a byte of an on-chip memory whose arrays have one of the published sizes; the wires to them are not in it.

    Parameters
    ----------
    size : {"8 KB", "32 KB", "1 MB"}
    node_nm : float

    Raises
    ------
    LeptonError
        For other sizes.
    """
    return operation_j(f"sram {size}", node_nm) / 8


def fabric_j(operation: str, node_nm: float) -> float:
    """Joules of an operation in an FPGA's logic: the dynamic power there is 14 times that of standard cells at the same work.

    The ratio is the mean over circuits of look-up tables and flip-flops at 90 nm (I. Kuon and J. Rose, "Measuring the Gap Between
    FPGAs and ASICs", IEEE Trans. CAD 26(2), 2007); with hard multipliers it is smaller.

    Raises
    ------
    LeptonError
        If no figure of the operation is known.
    """
    return _FABRIC * operation_j(operation, node_nm)


def mac16_j(node_nm: float = 65.0) -> float:
    """Joules of a multiply-accumulate of 16-bit integers: product and sum each halfway, in logarithms, between 8 and 32 bits."""
    halfway = 0.0
    for part in ("multiply", "add"):
        halfway += math.sqrt(operation_j(f"int8 {part}", node_nm) * operation_j(f"int32 {part}", node_nm))
    return halfway
