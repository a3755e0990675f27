"""How much of a chip's published energy do operations and traffic explain?

Two chips: Eyeriss (AlexNet and VGG-16, layer by layer) and TPU v1 (six applications). What the published figures per operation
and per byte give is set beside what the chips drew. No constant is fitted; the ratios are as they come.

python studies/02_energy_of_published_chips.py [--network AlexNet] [--layer CONV3 ...]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from scipy import stats

from lepton_dse.targets import TpuTarget, load_target
from lepton_dse.validate.energy import EYERISS_LAYERS, EyerissLayer, eyeriss_layer, published_j, tpu_v1_energy, watts
from lepton_dse.validate.energy_table import mac16_j
from lepton_dse.validate.figures import figures

OUT = Console(width=150)
EYERISS_MAC_PER_S = 168 * 200e6
"""One a cycle in each unit, at the clock of the published tables."""
REMARKS = (
    f"A 16-bit multiply-accumulate at 65 nm is {mac16_j() * 1e12:.2f} pJ here, from 45 and 7 nm; Eyeriss scales with it.",
    "'counted' takes the authors' buffer traffic, 'mapped' that of the proved mapping of least energy over divisor tiles.",
    "Missing in both: clock tree, control, leakage, the network between units, pads.",
    "Zero activations cost as much as others here; the chip skips part of their work, and compresses what goes to DRAM.",
    "Energy is unchecked: rows of layers are recalled from the paper's tables, only the totals' power and frame rate were read.",
)


def eyeriss_rows(network: str, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], dict[str, EyerissLayer]]:
    """Published rows by layer, and what is predicted for those named."""
    entries = {entry["layer"]: entry for entry in figures("eyeriss_jssc2017") if entry["network"] == network}
    return entries, {name: eyeriss_layer(entries[name]) for name in names}


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _published(text: str) -> float:
    return float(text) if text else math.nan


def eyeriss_table(network: str, names: Sequence[str]) -> list[float]:
    """Print one network on Eyeriss; returns the ratio of predicted to published energy of each layer and of all together."""
    entries, found = eyeriss_rows(network, names)
    whole = list(names) == list(EYERISS_LAYERS[network])
    batch = next(iter(entries.values()))["batch"]
    table = Table(title=f"{network} on Eyeriss, batch {batch}; power and energy of the chip without DRAM, traffic in MB")
    heads = ("layer", "GMAC", "array used", "drawn mW", "drawn mJ", "counted mJ", "ratio", "mapped mJ", "ratio", "rest mW")
    for head in (*heads, "buffer", "theirs", "DRAM", "theirs"):
        table.add_column(head, justify="left" if head == "layer" else "right")
    ratios, sums = [], [0.0] * 6
    for name, layer in found.items():
        assert layer.result.certificate.optimal, f"{name}: the mapping is not proved"
        reference, latency = published_j(entries[name]), float(entries[name]["latency_ms"]) * 1e-3
        figures_of = (layer.macs, reference, layer.counted_j, layer.best_j, layer.buffer_bytes, layer.dram_bytes)
        sums = [total + figure for total, figure in zip(sums, figures_of, strict=True)]
        _row(table, name, figures_of, latency, entries[name])
        ratios.append(layer.best_j / reference)
    if whole:
        latency = float(entries["total"]["latency_ms"]) * 1e-3
        sums[1] = published_j(entries["total"])
        table.add_section()
        _row(table, "all", sums, latency, entries["total"])
        ratios.append(sums[3] / sums[1])
    OUT.print(table)
    if len(found) > 2:
        latencies = [float(entries[name]["latency_ms"]) * 1e-3 for name in found]
        used = [layer.macs / latency for layer, latency in zip(found.values(), latencies, strict=True)]
        powers = [float(entries[name]["power_mw"]) for name in found]
        rank = float(stats.spearmanr(used, ratios[: len(found)]).statistic)
        OUT.print(
            f"Power of the layers spans a factor of {max(powers) / min(powers):.1f}, multiply-accumulates a second a factor of "
            f"{max(used) / min(used):.1f}; rank correlation of array use and explained share: {rank:.2f}.\n",
            soft_wrap=True,
        )
    return ratios


def _row(table: Table, name: str, amounts: Sequence[float], latency: float, entry: dict[str, str]) -> None:
    macs, reference, counted, best, buffer, dram = amounts
    table.add_row(
        name,
        f"{macs / 1e9:.3f}",
        f"{macs / latency / EYERISS_MAC_PER_S:.0%}",
        f"{reference / latency * 1e3:.0f}",
        f"{reference * 1e3:.2f}",
        _number(counted * 1e3, ".2f"),
        _number(counted / reference, ".2f"),
        f"{best * 1e3:.2f}",
        f"{best / reference:.2f}",
        f"{(reference - best) / latency * 1e3:.0f}",
        f"{buffer / 1e6:.1f}",
        _number(_published(entry["buffer_mb"]), ".1f"),
        f"{dram / 1e6:.1f}",
        _number(_published(entry["dram_mb"]), ".1f"),
    )


def tpu_table() -> list[float]:
    """Print the six applications on TPU v1; returns the ratio of predicted to busy power of each."""
    target = load_target("google-tpu-v1")
    assert isinstance(target, TpuTarget)
    busy, idle = watts("busy"), watts("idle")
    table = Table(title=f"TPU v1 at its measured rates, {busy:g} W busy, {idle:g} W idle (recalled)")
    for head in (
        "application",
        "TOPS",
        "arithmetic W",
        "buffer W",
        "DRAM W",
        "predicted W",
        "ratio to busy",
        "with idle W",
        "ratio",
    ):
        table.add_column(head, justify="left" if head == "application" else "right")
    ratios = []
    for entry in figures("tpu_v1_jouppi2017"):
        energy = tpu_v1_energy(entry, target)
        parts = [part / energy.seconds for part in (energy.arithmetic_j, energy.buffer_j, energy.memory_j)]
        power = sum(parts)
        assert math.isclose(power, energy.total_j / energy.seconds)
        shown = [f"{value:.2f}" for value in (*parts, power, power / busy, power + idle, (power + idle) / busy)]
        table.add_row(entry["app"], entry["measured_tops"], *shown)
        ratios.append(power / busy)
    OUT.print(table)
    return ratios


def main(networks: Sequence[str] | None = None, layers: Sequence[str] | None = None) -> list[float]:
    """Print the tables and check that they make sense.

    Parameters
    ----------
    networks : sequence of str, optional
        Of Eyeriss; both by default.
    layers : sequence of str, optional
        Only these; a total is then left out.

    Returns
    -------
    list of float
        All ratios of predicted to published energy, Eyeriss before TPU v1.
    """
    ratios = []
    for network in networks or EYERISS_LAYERS:
        names = [name for name in EYERISS_LAYERS[network] if layers is None or name in layers]
        ratios += eyeriss_table(network, names)
    ratios += tpu_table()
    # What is modelled is a part of what a chip draws: nothing may come out above it, nor vanish.
    assert all(0.02 < ratio < 1 for ratio in ratios), ratios
    for line in REMARKS:
        OUT.print(f"- {line}", soft_wrap=True)
    return ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=sorted(EYERISS_LAYERS), action="append")
    parser.add_argument("--layer", action="append")
    chosen = parser.parse_args()
    main(chosen.network, chosen.layer)
