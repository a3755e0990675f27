"""Is a training step priced as well as Calculon does, and how much faster is the search? Both here and now.

    python studies/peers/calculon.py PATH [--python PYTHON] [--seconds S]

PATH is a checkout of Calculon (github.com/calculon-ai/calculon, Apache-2.0; measured at caa4b11), which runs under PYTHON with
psutil. Its own validation gives its errors on the eight runs of arXiv:2205.05198. Its rate is that of its search over GPT-3 175B
on 64 A100s, members in their own order for S seconds in one process, its logging as it comes and off, and twice that for two
cores. Ours prices every member of the space for the same model and devices, on all cores, memory check included, layers priced
before; the space is repeated until a second has passed. A member is a complete configuration in both, though not of the same
choices.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.strategy import MEGATRON_2022
from lepton_dse.report.tables import plain_table
from lepton_dse.search.transformer.costs import Training, run_of
from lepton_dse.search.transformer.pricing import pricer_of
from lepton_dse.search.transformer.training import TrainingSpace, members, plan_training, price_all
from lepton_dse.targets import load_cluster
from lepton_dse.validate.protocol import Context
from lepton_dse.validate.sharding import SUITES

# Runs in a checkout; prints configurations and seconds, with logging and without.
PROGRAM = """\
import json, logging, sys, time
import calculon
from calculon.llm import *
from calculon.llm.optimal_execution import OptimalExecution
application = Llm.Application(calculon.io.read_json_file("models/gpt3-175B.json"))
system = System(calculon.io.read_json_file("systems/a100_80g.json"))
def rate(seconds):
    begin, count = time.perf_counter(), 0
    for tp in Llm.get_all_tensor_parallelisms(64, application.hidden, application.attn_heads):
        for pp in Llm.get_all_pipeline_parallelisms(64, tp, application.num_blocks):
            dp = Llm.get_data_parallelism(64, tp, pp)
            for pieces in Llm.get_valid_pipeline_interleavings(application.num_blocks, pp):
                batch = OptimalExecution.get_batch_size(dp, 64)
                for recompute in ("full", "attn_only", "none"):
                    found = OptimalExecution.search(False, 1, False, 64, 64, "float16", application, system, tp, pp, dp, pieces,
                                                    batch, recompute, False, "ar", [True], False, False, False)
                    count += found[1]
                    if time.perf_counter() - begin > seconds:
                        return count, time.perf_counter() - begin
    return count, time.perf_counter() - begin
logged = rate(float(sys.argv[1]))
logging.disable(logging.CRITICAL)
print(json.dumps([logged, rate(float(sys.argv[1]))]))
"""


def in_checkout(checkout: Path, python: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run([python, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout


def their_errors(checkout: Path, python: str) -> tuple[float, float]:
    """Mean and greatest error in percent on the end-to-end table of its own validation, its last one."""
    text = in_checkout(checkout, python, "bin/calculon", "llm-validation", "-v")
    end = [row for row in csv.reader(text.splitlines()) if row and row[0] in ("Ave", "Max")][-2:]
    return float(end[0][2].rstrip("%")), float(end[1][2].rstrip("%"))


def our_rate() -> tuple[int, float, float]:
    """Members priced, seconds, and seconds of a whole plan."""
    model = Transformer("gpt3-175B", 96, 12288, 96, 96, 128, 49152, 51200, 2048, positions=2048)
    training = Training(model, 64, 2048, MEGATRON_2022)
    pricer = pricer_of(load_cluster("dgx-a100"), "float16")
    plan_training(training, 64, pricer)  # compiles
    begin = time.perf_counter()
    plan_training(training, 64, pricer_of(load_cluster("dgx-a100"), "float16"))
    whole = time.perf_counter() - begin
    found, run = members(training, 64, pricer, TrainingSpace()), run_of(training, pricer)
    arrays = [np.tile(array, (64, 1)) for array in (found.costs, found.wires, found.degrees, found.pieces)]
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < 1.0:
        count += int(price_all(run, *arrays, found.zeros)[2][:, 0].sum())
    return count, time.perf_counter() - begin, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    checkout = given.checkout.resolve()
    if not (checkout / "calculon" / "llm").is_dir():
        sys.exit(f"{given.checkout}: no checkout of Calculon; clone github.com/calculon-ai/calculon and give its path")
    mean, most = their_errors(checkout, given.python)
    logged, quiet = json.loads(in_checkout(checkout, given.python, "-c", PROGRAM, str(given.seconds)))
    count, seconds, whole = our_rate()
    suites = {suite.name: suite for suite in SUITES}
    ours = suites["sharding-korthikanti"].run(suites["sharding-korthikanti"], Context())
    table = plain_table("GPT-3 175B on 64 A100s", "who", "configurations a second, two cores", "mean error", "greatest")
    for name, (priced, took) in (("Calculon, logging as it comes", logged), ("Calculon, logging off", quiet)):
        table.add_row(name, f"{2 * priced / took:,.0f}", f"{mean:.2f}%", f"{most:.2f}%")
    rate = count / seconds
    table.add_row("lepton_dse", f"{rate:,.0f}", f"{ours.mape_pct:.2f}%", f"{ours.max_pct:.2f}%")
    console = Console()
    console.print(table)
    console.print(f"{rate * quiet[1] / quiet[0] / 2:,.0f} times as many; a whole plan in {whole:.3f} s, layers priced anew")


if __name__ == "__main__":
    main()
