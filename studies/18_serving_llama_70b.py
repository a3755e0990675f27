"""Llama 3 70B answered by five clusters: how fast a token, how many tokens a second, and what binds?

For every cluster and format all ways to share the devices are tried (devices that share a layer, stages, copies, sequences at
once); the best answers most tokens a second while no token takes longer than a limit. Prompts of 4,096 tokens, answers of 1,024.
The shapes are those of meta-llama/Meta-Llama-3-70B, config.json. Keys and values have the width of the format.

Nothing published is held against these figures: kernels and links are, each alone (``lepton validate``), but how they come
together while a model answers is the closed form of ``lepton_dse/search/transformer/serving.py`` and nothing else.

    python studies/18_serving_llama_70b.py [--tpot 50] [--quick] [-o build/serving_llama_70b]
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
from lepton_dse.numerics.formats import Precision
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds, share
from lepton_dse.schedule.transformer.serving import cache_bytes
from lepton_dse.search.transformer.serving import Serving, ServingPlan, ServingPoint, plan_serving
from lepton_dse.targets import Cluster

sys.path.insert(0, str(Path(__file__).parent / "models"))
from drawing import lines_svg

CONFIG = Path(__file__).parent / "models" / "llama-3-70b.json"
PARAMETERS = 70_553_706_496  # as published: elements of the safetensors
CLUSTERS = {"dgx-h100": 8, "dgx-h200": 8, "dgx-b200": 8, "google-v5e-pod": 16, "google-v5p-pod": 8}
"""And how many devices of each: a node, or what holds the weights."""
WIDE, NARROW = "bfloat16", {"dgx": "float8_e4m3", "google": "int8"}
PROMPT, ANSWER = 4096, 1024


@dataclass(frozen=True)
class Case:
    """One cluster and format, and the plan without a limit and within it."""

    serving: Serving
    cluster: Cluster
    devices: int
    free: ServingPlan
    within: ServingPlan

    @property
    def name(self) -> str:
        """For tables and pictures."""
        return f"{self.devices} of {self.cluster.name}, {self.serving.format}"

    def least_step(self, point: ServingPoint) -> float:
        """Seconds to read what a step of decoding must: weights of all stages, and keys and values of the sequences in it."""
        model, element = self.serving.model, Precision.parse(self.serving.format).weights.bits / 8
        cached = Precision.parse(self.serving.cache).activations.bits / 8
        products = model.layers * (model.attention_parameters + model.expert_parameters)
        weights = (element * products + 2 * model.vocabulary * model.hidden) / point.tensor
        together = point.sequences / point.pipeline
        behind = model.layers * cache_bytes(model, point.tensor, cached) * (PROMPT + ANSWER / 2)
        return (weights + together * behind) / ld.load_target(self.cluster.device).levels[-1].bandwidth_byte_per_s.value

    def on_prompts(self) -> float:
        """The share of its time in which the best way reads prompts instead of answering."""
        best = self.within.best
        whole = best.copies * best.sequences * ANSWER / best.tokens_per_s
        return 1 - ANSWER * best.tpot_s / whole

    def binds(self) -> str:
        """What keeps the best way from running twice as many sequences at once."""
        best = self.within.best
        if self.within.violations:
            return self.within.violations[0].what
        way = (best.tensor, best.pipeline, 2 * best.sequences)
        more = {(point.tensor, point.pipeline, point.sequences): point for point in self.free.points}.get(way)
        if more is None:
            return "memory"
        return "time of a token" if more.tpot_s > self.serving.tpot_s else "nothing: more are no faster"


def case_of(model: Transformer, name: str, devices: int, form: str, tpot_s: float) -> Case:
    """Plan one cluster in one format."""
    cluster = ld.load_cluster(name)
    cache = "bfloat16" if form == WIDE else "int8"  # its width is all that is looked at
    served = Serving(model, PROMPT, ANSWER, form, cache, tpot_s=tpot_s)
    free = plan_serving(Serving(model, PROMPT, ANSWER, form, cache), cluster, devices)
    return Case(served, cluster, devices, free, plan_serving(served, cluster, devices))


def front(case: Case) -> list[tuple[float, float]]:
    """Milliseconds a token and tokens a second of a device, of ways that none beats in both."""
    found: list[tuple[float, float]] = []
    for point in sorted(case.free.points, key=lambda point: (point.tpot_s, -point.tokens_per_s)):
        rate = point.tokens_per_s / case.devices
        if not found or rate > found[-1][1]:
            found.append((1e3 * point.tpot_s, rate))
    return found


def check(cases: dict[tuple[str, str], Case]) -> None:
    """What must hold of any such figures."""
    for case in cases.values():
        for point in case.free.points:
            assert point.tpot_s >= case.least_step(point), "no step is faster than memory"
            assert point.tokens_per_s <= point.copies * point.sequences / point.tpot_s
        if not case.within.violations:
            assert case.within.best.tpot_s <= case.serving.tpot_s
            assert case.within.best.tokens_per_s <= case.free.best.tokens_per_s, "a limit never helps"
    for form in (WIDE, NARROW["dgx"]):
        h100, h200 = cases.get(("dgx-h100", form)), cases.get(("dgx-h200", form))
        if h100 is not None and h200 is not None:
            rates = [case.within.best.tokens_per_s for case in (h100, h200)]
            assert rates[0] <= rates[1], "more memory of more bandwidth never hurts"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tpot", type=float, default=50.0, help="longest time of a token, in milliseconds")
    parser.add_argument("--quick", action="store_true", help="two clusters")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/serving_llama_70b"))
    asked = parser.parse_args()
    model = ld.read_transformer(CONFIG)
    assert model.parameters == PARAMETERS
    names = ("dgx-h100", "dgx-h200") if asked.quick else CLUSTERS
    cases = {
        (name, form): case_of(model, name, CLUSTERS[name], form, asked.tpot / 1e3)
        for name in names
        for form in (WIDE, NARROW[name.partition("-")[0]])
    }
    check(cases)
    table = plain_table(
        f"{model.name}: most tokens a second, none later than {asked.tpot:g} ms; prompts of {PROMPT}, answers of {ANSWER}",
        *("devices, format", "in a layer x stages x copies", "sequences", "first token", "a token"),
        *("tokens/s", "of a device", "on prompts", "reading", "memory", "binds"),
    )
    for case in cases.values():
        best = case.within.best
        way = f"{best.tensor} x {best.pipeline} x {best.copies}"
        rates = (count(round(best.tokens_per_s)), count(round(best.tokens_per_s / case.devices)))
        shares = (share(case.on_prompts()), share(case.least_step(best) / best.tpot_s))
        figures = (str(best.copies * best.sequences), seconds(best.ttft_s), seconds(best.tpot_s), *rates, *shares)
        table.add_row(case.name, way, *figures, scaled(best.memory_bytes, "B"), case.binds())
    Console(width=None if sys.stdout.isatty() else 170).print(table)
    print('"On prompts": share of all time in which prompts are read.')
    print('"Reading": share of the time of a token in which weights and cache come in at the full bandwidth of main memory.')
    times = {case.name: min(point.tpot_s for point in case.free.points) for case in cases.values()}
    fastest = min(times, key=times.__getitem__)
    gains = [
        cases[name, NARROW[name.partition("-")[0]]].within.best.tokens_per_s / cases[name, WIDE].within.best.tokens_per_s
        for name in names
    ]
    print(f"Shortest time of a token: {seconds(times[fastest])} ({fastest}).")
    print(f"Eight bits answer {min(gains):.2f} to {max(gains):.2f} times as many tokens a second as sixteen.")
    print("Nothing published is held against these figures.")
    lines = {case.name: front(case) for case in cases.values()}
    narrow = {case.cluster.name: case.name for case in cases.values() if case.serving.format != WIDE}
    dashed = {case.name: narrow[case.cluster.name] for case in cases.values() if case.serving.format == WIDE}
    picture = lines_svg(
        f"{model.name}: tokens a second of a device against the time of one",
        *("time of a token, ms", "tokens/s of a device", lines),
        logarithmic=(True, True),
        dashed=dashed,
    )
    write_text(asked.output / "serving_llama_70b.svg", picture)


if __name__ == "__main__":
    main()
