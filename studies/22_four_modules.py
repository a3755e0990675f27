"""One network compressed, shared over TPUs, emitted for TPU and FPGA, its memory mapped: what does each step cost?

784-128-10 with ReLU and Softmax, the dense network of Keras' first tutorial, trained by script on Fashion-MNIST:

1. half of the hidden units pruned and the rest trained again, and weights of 4 bits beside activations of 8;
2. shared over a mesh of four TPU v5e, by the cheapest strategies, and run by JAX on four devices of this host;
3. emitted as Verilog for a Zynq-7020 and run in simulation, cycles as predicted;
4. everything that it computes placed in one arena.

Accuracy is measured before and after each step on the official 10,000 test images.

    python studies/22_four_modules.py [--quick] [-o build/four_modules]     # --quick: 1,000 images to train on, 300 to test
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.report.arena import arena_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds

sys.path.insert(0, str(Path(__file__).parent / "models"))
from fashion import load_fashion, network_on
from sizes import weight_bytes

MESH, CLUSTER, FPGA = "x=4", "google-v5e-pod", "amd-zynq-7020"
CHANNELS, FORMAT = 0.5, "w4a8"


def verified(folder: Path) -> dict[str, Check]:
    """Checks of an artefact by name; none has failed."""
    checks = {check.name: check for check in ld.verify(folder).checks}
    failed = [check for check in checks.values() if check.status is CheckStatus.FAILED]
    assert not failed, failed
    return checks


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/four_modules"))
    given = parser.parse_args()
    data = load_fashion(flat=True)
    train = data.train.take(1000) if given.quick else data.train
    test = data.test.take(300) if given.quick else data.test
    graph = network_on("mlp-128", train, "fashion-1000" if given.quick else "fashion", seed=0)
    calibration = train.take(512)

    pruned = ld.prune(graph, CHANNELS, kind="channels", score="hessian", data=calibration)
    torch.set_num_threads(1)
    retrained = ld.fine_tune(pruned, train, ld.Schedule(epochs=1 if given.quick else 4))
    bundle = ld.quantize(retrained, FORMAT, calibration, rounding="adaround")
    table = plain_table("784-128-10 on Fashion-MNIST", "step", "accuracy", "bytes of weights", "what it comes to")
    models = {
        "as trained": graph,
        f"{CHANNELS:.0%} of the units pruned": pruned,
        "trained again": retrained,
        f"in {FORMAT}": bundle,
    }
    for name, model in models.items():
        table.add_row(name, f"{100 * ld.accuracy(model, test).value:.2f}%", f"{weight_bytes(model):,.0f}", "")
    after = f"{100 * ld.accuracy(bundle, test).value:.2f}%"

    shared = ld.shard(bundle, CLUSTER, MESH, batch=8)
    checks = verified(ld.emit(shared, given.output / "tpu", emitter="xla", data=test.take(8)))
    if checks["outputs_equal"].status is CheckStatus.UNAVAILABLE:
        sys.exit("JAX is not here: pip install 'lepton_dse[xla]'")
    exchanges = checks["collectives_equal"].observed
    what = f"{seconds(shared.predicted.latency_s)} a pass of 8, unchecked; {exchanges} exchanges, outputs equal"
    table.add_row(f"over {MESH} of {CLUSTER}", after, "", what)

    designed = ld.plan(bundle, FPGA, minimize="throughput")
    checks = verified(ld.emit(designed, given.output / "fpga", data=test.take(4)))
    assert designed.predicted.cycles is not None
    what = f"interval {count(designed.predicted.cycles.interval)} cycles predicted, {checks['interval_cycles'].observed} observed"
    table.add_row(f"as Verilog on {FPGA}", after, "", f"{what}; outputs {checks['outputs_equal'].status.value}")

    mapped = designed.plan.memory
    bare = sum(place.bytes for place in mapped.places.values())
    assert mapped.peak == mapped.bound
    table.add_row(
        "its memory", after, "", f"{scaled(mapped.peak, 'B')} in one arena, proved least; {scaled(bare, 'B')} side by side"
    )
    write_text(given.output / "arena.svg", arena_svg(designed.lowered, mapped))
    console = Console()
    console.print(table)
    console.print(f"wrote {given.output / 'arena.svg'}", soft_wrap=True)


if __name__ == "__main__":
    main()
