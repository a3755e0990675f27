"""Is the systolic array as exact as SCALE-Sim, and how much faster? Both run the same products, here and now.

python studies/peers/scalesim.py [--python build/peers/scalesim/bin/python] [--quick]

SCALE-Sim runs in an environment of its own, which needs: scalesim==3.0.0 'numpy<2'. Cycles are compared in its convention
(folds do not overlap and take as long as full ones; one less than the cycles taken), in which its output-stationary
counts lack the way out of the array (docs/tpu.md). Its time is that of one run without traces on disk, after its imports; ours
is that of computing the values of the product cell by cell, the best of three.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lepton_dse.sim.systolic import Array, Dataflow, folds, simulate

REQUIREMENTS = "scalesim==3.0.0 'numpy<2'"
# Rows, columns, dataflow, M, N, K; the first product is small enough for a quick look.
CASES = [
    (16, 16, Dataflow.WEIGHT, 100, 70, 50),
    (32, 32, Dataflow.WEIGHT, 512, 512, 512),
    (32, 32, Dataflow.OUTPUT, 512, 512, 512),
    (32, 32, Dataflow.INPUT, 512, 512, 512),
    (128, 128, Dataflow.WEIGHT, 512, 512, 512),
    (32, 32, Dataflow.WEIGHT, 3136, 64, 576),
    (128, 128, Dataflow.WEIGHT, 3136, 64, 576),
]

CONFIGURATION = """\
[general]
run_name = run
[architecture_presets]
ArrayHeight : {rows}
ArrayWidth : {columns}
IfmapSramSzkB : 4096
FilterSramSzkB : 4096
OfmapSramSzkB : 4096
IfmapOffset : 0
FilterOffset : 100000000
OfmapOffset : 200000000
Dataflow : {dataflow}
Bandwidth : 1000
ReadRequestBuffer : 512
WriteRequestBuffer : 512
[layout]
IfmapCustomLayout : False
IfmapSRAMBankBandwidth : 10
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterCustomLayout : False
FilterSRAMBankBandwidth : 10
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2
[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false
BlockSize : 8
RandomNumberGeneratorSeed : 40
[run_presets]
InterfaceBandwidth : CALC
UseRamulatorTrace : False
"""

# Runs in SCALE-Sim's environment, from a folder with config.cfg, products.csv and layout.csv; prints cycles and seconds.
PROGRAM = """\
import contextlib, io, json, sys, time
from scalesim.scale_sim import scalesim
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    begin = time.perf_counter()
    run = scalesim(save_disk_space=True, verbose=False, config="config.cfg", topology="products.csv", layout="layout.csv",
                   input_type_gemm=True)
    run.run_scale(top_path=".")
    seconds = time.perf_counter() - begin
print(json.dumps([int(run.runner.single_layer_sim_object_list[0].total_cycles), seconds]))
"""


def theirs(python: Path, rows: int, columns: int, dataflow: Dataflow, m: int, n: int, k: int) -> tuple[int, float]:
    """Cycles and seconds of SCALE-Sim."""
    short = {Dataflow.WEIGHT: "ws", Dataflow.OUTPUT: "os", Dataflow.INPUT: "is"}[dataflow]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.cfg").write_text(CONFIGURATION.format(rows=rows, columns=columns, dataflow=short))
        (Path(folder) / "products.csv").write_text(f"Layer,M,N,K,\nproduct,{m},{n},{k},\n")
        (Path(folder) / "layout.csv").write_text("none\n")
        done = subprocess.run([python, "-c", PROGRAM], cwd=folder, check=True, capture_output=True, text=True)
    cycles, seconds = json.loads(done.stdout.splitlines()[-1])
    return cycles, seconds


def ours(rows: int, columns: int, dataflow: Dataflow, m: int, n: int, k: int) -> tuple[int, float]:
    """Cycles and seconds of the machine, its result checked."""
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (m, k)).astype(np.int8)
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    array = Array(rows, columns, overlapped=False, padded=True)
    run = simulate(x, w, array, dataflow)
    assert np.array_equal(run.result, x.astype(np.int64) @ w.astype(np.int64)), "the array multiplies"
    best = math.inf
    for _ in range(3):
        begin = time.perf_counter()
        simulate(x, w, array, dataflow)
        best = min(best, time.perf_counter() - begin)
    return run.cycles, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path("build/peers/scalesim/bin/python"), help="of SCALE-Sim's environment")
    parser.add_argument("--quick", action="store_true", help="the smallest product alone")
    options = parser.parse_args()
    python = options.python.absolute()
    if not python.exists():
        sys.exit(f"no SCALE-Sim at {options.python}: make an environment with {REQUIREMENTS}, or name its python by --python")
    table = Table("product", "array", "stationary", "cycles, ours", "theirs", "expected difference", "s, ours", "theirs", "ratio")
    ratios = []
    for rows, columns, dataflow, m, n, k in CASES[: 1 if options.quick else None]:
        case = (rows, columns, dataflow, m, n, k)
        own, own_s = ours(*case)
        peer, peer_s = theirs(python, *case)
        missing = rows * folds(m, rows) * folds(n, columns) if dataflow is Dataflow.OUTPUT else 0
        assert own - peer == 1 + missing, f"{case}: {own} cycles here, {peer} there"
        ratios.append(peer_s / own_s)
        figures = (f"{own:,}", f"{peer:,}", f"1 + {missing:,}", f"{own_s:.4f}", f"{peer_s:.2f}", f"{ratios[-1]:.0f}")
        table.add_row(f"{m} x {n} x {k}", f"{rows} x {columns}", str(dataflow), *figures)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    print(f"geometric mean of the ratios: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.0f}")


if __name__ == "__main__":
    main()
