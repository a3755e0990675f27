"""GPT-3 (175 billion parameters) trained on 64 to 3,072 A100s: which split, how fast, and what is lost to what?

For every number of devices all strategies are priced (tensor x data x pipeline, microbatches, interleaving, recomputation,
sequence parallelism, ZeRO) and the fastest that fits memory is shown, with the parts of its step that are no work of a layer:
filling and draining the pipeline, messages between stages, adding gradients. Utilization is of the model's own operations
(T. Brown et al., arXiv:2005.14165: 96 layers, hidden 12,288, 96 heads, sequences of 2,048) over the peak of 16-bit products.

Two kinds of software: as in arXiv:2205.05198, for which the model is held against measured runs (``lepton validate
sharding-korthikanti``), and one that fuses attention and adds gradients behind the backward pass, for which it is not. Beside
them stands what is published of this very size: 34 days, from a rate measured on 1,024 A100s (SC 2021, arXiv:2104.04473, section
5.1), whose software computed everything again; its fastest split is searched too.

    python studies/19_gpt3_over_a100s.py [--batch 1536] [--quick] [-o build/gpt3_over_a100s]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.strategy import MEGATRON_2021, MEGATRON_2022, Recompute, Software
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds, share
from lepton_dse.search.transformer.costs import Training
from lepton_dse.search.transformer.pricing import Pricer, pricer_of
from lepton_dse.search.transformer.training import TrainingPlan, TrainingSpace, plan_training

sys.path.insert(0, str(Path(__file__).parent / "models"))
from drawing import lines_svg

GPT3 = Transformer("GPT-3", 96, 12288, 96, 96, 128, 4 * 12288, 51200, 2048, positions=2048)
SEQUENCE = 2048
DEVICES = (64, 128, 256, 512, 1024, 1536, 2048, 3072)
FORMAT = "float16"
TOKENS = 300e9
"""Of the whole training (arXiv:2005.14165, table 2.1)."""
SOFTWARE = {"as in 2022": MEGATRON_2022, "fused and overlapped": Software()}
BATCH = 1536
PUBLISHED_DEVICES, PUBLISHED_DAYS = 1024, 34.0
"""With BATCH samples a step."""
AS_PUBLISHED = TrainingSpace(zero=(0,), sequence=(False,), recompute=(Recompute.FULL,))


@dataclass(frozen=True)
class Case:
    """The fastest split over a number of devices."""

    training: Training
    devices: int
    plan: TrainingPlan

    @property
    def used(self) -> float:
        """Operations of the model over those that the devices could make."""
        peak = max(2 * entry.mac_per_s.value for entry in DEVICE.peaks if entry.format == FORMAT)
        flop = self.training.model.training_flop(self.training.batch, SEQUENCE)
        return flop / (self.plan.step.time * self.devices * peak)

    @property
    def lost(self) -> dict[str, float]:
        """Shares of the step."""
        step = self.plan.step
        return {"filling": step.bubble / step.time, "messages": step.messages / step.time, "gradients": step.reduce / step.time}

    @property
    def days(self) -> float:
        """Of the whole training."""
        return TOKENS / (self.training.batch * SEQUENCE) * self.plan.step.time / 86400


DEVICE = ld.load_target("nvidia-a100-sxm-80gb")


def case_of(devices: int, batch: int, software: Software, pricer: Pricer, space: TrainingSpace | None = None) -> Case:
    """Search one number of devices."""
    training = Training(GPT3, batch, SEQUENCE, software)
    found = Case(training, devices, plan_training(training, devices, pricer, space))
    step = found.plan.step
    parts = step.work + step.bubble + step.messages + step.reduce + step.update
    assert abs(parts - step.time) <= 1e-9 * step.time, "the parts are the step"
    assert found.used < 1, "no device does more than it can"
    assert found.plan.violations or step.memory <= pricer.capacity
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=BATCH, help="samples of a step, all devices together")
    parser.add_argument("--quick", action="store_true", help="three numbers of devices")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/gpt3_over_a100s"))
    asked = parser.parse_args()
    pricer = pricer_of(ld.load_cluster("dgx-a100"), FORMAT)
    numbers = (64, 512, 3072) if asked.quick else DEVICES
    cases = {
        name: [case_of(devices, asked.batch, software, pricer) for devices in numbers] for name, software in SOFTWARE.items()
    }
    console = Console(width=None if sys.stdout.isatty() else 170)
    for name, found in cases.items():
        table = plain_table(
            f"{GPT3.name}, {count(GPT3.parameters)} parameters, software {name}, {asked.batch} x {SEQUENCE} tokens a step",
            *("A100s", "fastest split", "step", "utilization", "filling", "messages", "gradients", "memory", "days"),
        )
        for case in found:
            strategy = str(case.plan.strategy) if not case.plan.violations else "none fits"
            lost = map(share, case.lost.values())
            memory = scaled(case.plan.step.memory, "B")
            step = seconds(case.plan.step.time)
            table.add_row(count(case.devices), strategy, step, share(case.used), *lost, memory, f"{case.days:.1f}")
        console.print(table)
        times = [case.plan.step.time for case in found]
        assert times == sorted(times, reverse=True), "more devices are never slower"
    first, last = cases["as in 2022"][0], cases["as in 2022"][-1]
    gain = first.plan.step.time / last.plan.step.time
    print(f"{count(last.devices / first.devices)} times the devices train {gain:.1f} times as fast;")
    worst = max(last.lost, key=last.lost.__getitem__)
    print(f"on {count(last.devices)} most is lost to {worst}: {share(last.lost[worst])} of a step.")
    pairs = [(old.plan.step.time, new.plan.step.time) for old, new in zip(*cases.values(), strict=True)]
    assert all(new <= old for old, new in pairs), "software that fuses and overlaps is never slower"
    ratios = [old / new for old, new in pairs]
    print(f"Fused attention and overlapped gradients save a factor of {min(ratios):.2f} to {max(ratios):.2f}.")
    known = case_of(PUBLISHED_DEVICES, BATCH, MEGATRON_2021, pricer, AS_PUBLISHED)
    off = known.days / PUBLISHED_DAYS - 1
    print(f"Published: {PUBLISHED_DAYS:g} days on {count(PUBLISHED_DEVICES)} with the software of 2021;")
    print(f"predicted for its fastest split, {known.plan.strategy}: {known.days:.1f} days ({100 * off:+.0f}%).")
    assert abs(off) < 0.2, "about as near as the suites of published runs are"
    lines = {f"utilization, {name}": [(case.devices, 100 * case.used) for case in found] for name, found in cases.items()}
    shown = cases["as in 2022"]
    lines |= {f"lost to {part}": [(case.devices, 100 * case.lost[part]) for case in shown] for part in shown[0].lost}
    title = f"{GPT3.name} on A100s: utilization, and what of a step is lost (2022), %"
    published = known.used * known.days / PUBLISHED_DAYS
    picture = lines_svg(title, "devices", "%", lines, 100 * published, logarithmic=(True, False))
    write_text(asked.output / "gpt3_over_a100s.svg", picture)
    print(f"Dashed in the picture: the published run's utilization, {share(published)}.")


if __name__ == "__main__":
    main()
