"""How many cycles a second the cell-by-cell systolic array runs; also a table of its own.

python studies/bench/systolic.py [--quick]
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from measuring import Row, least_seconds
from rich.console import Console
from rich.table import Table

from lepton_dse.sim.systolic import Array, Dataflow, array_cycles, simulate

# Array side, and M, N, K of an int8 product.
CASES = [(32, (512, 512, 512)), (32, (3136, 64, 576)), (128, (512, 512, 512)), (128, (3136, 64, 576))]


def rows(repetitions: int) -> list[Row]:
    """Cycles a second of both machines, every result compared with NumPy's and every count with the closed form."""
    rng = np.random.default_rng(0)
    found = []
    for side, (m, n, k) in CASES:
        x = rng.integers(-128, 128, (m, k)).astype(np.int8)
        w = rng.integers(-128, 128, (k, n)).astype(np.int8)
        for dataflow in (Dataflow.WEIGHT, Dataflow.OUTPUT):
            array = Array(side, side)
            run = simulate(x, w, array, dataflow)
            assert np.array_equal(run.result, x.astype(np.int64) @ w.astype(np.int64)), "the array multiplies"
            assert run.cycles == array_cycles(array, dataflow, m, n, k), "the closed form counts"
            seconds = least_seconds(lambda x=x, w=w, a=array, d=dataflow: simulate(x, w, a, d), 3 * repetitions)
            where = f"{side}x{side}, {dataflow} stationary, int8 {m}x{n}x{k}"
            found.append(Row("systolic array, cell by cell", where, run.cycles / seconds, "cycles/s"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of each")
    table = Table("what", "on", "figure", "unit")
    for row in rows(1 if parser.parse_args().quick else 3):
        table.add_row(row.what, row.where, f"{row.value:,.0f}", row.unit)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    main()
