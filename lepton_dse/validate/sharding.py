"""Suites that hold the model of training over many devices against published runs.

One constant is fitted, the factor by which kernels and collectives of a model take longer than alone
(``kernel_slowdown`` of the cluster); kernels and links keep what was fitted to them alone. It minimises the squares of relative
errors, ``s = sum(r) / sum(r^2)`` with r predicted over measured at s = 1. The two tables of A100 runs are scored with the
cluster's constant, which was fitted to both, and each with the constant of the other.

SC 2021 gives neither the samples of a microbatch nor the pieces of a stage. The rule: the fastest that fits memory by the
model itself, of powers of two and of what the layers of a stage divide into.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

from lepton_dse.ir.transformer import Norm, Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.strategy import MEGATRON_2021, MEGATRON_2022, Recompute, Software, Strategy
from lepton_dse.schedule.transformer import block_of
from lepton_dse.search.transformer.costs import Training, training_step
from lepton_dse.search.transformer.pricing import Pricer, pricer_of
from lepton_dse.search.transformer.training import TrainingSpace, plan_training
from lepton_dse.sim.network import Fabric, Group, exchange_time
from lepton_dse.sim.transformer.step import GRADIENT, STATE, WEIGHT
from lepton_dse.targets import Cluster, load_cluster
from lepton_dse.validate.figures import figures
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, row, score

__all__ = ["SUITES", "Case", "fit_slowdown", "korthikanti", "megatron"]

_VOCABULARY = 51_200
_GIB = 2.0**30
_RULE = "microbatch and pieces of a stage are not published: the fastest that fits memory, by the model itself"
_READING = "gradients are taken to be added in a pass of their own in the runs of 2021, and in the product in those of 2022"


@dataclass(frozen=True)
class Case:
    """A published run: seconds as predicted without slowdown, and as measured."""

    name: str
    predicted: float
    measured: float


def _gpt(name: str, hidden: int, heads: int, layers: int, longest: int = 2048) -> Transformer:
    return Transformer(name, layers, hidden, heads, heads, hidden // heads, 4 * hidden, _VOCABULARY, longest, positions=longest)


@cache
def _pricer(cluster: str) -> Pricer:
    loaded = load_cluster(cluster)
    unit = loaded.kernel_slowdown.model_copy(update={"value": 1.0})
    return pricer_of(loaded.model_copy(update={"kernel_slowdown": unit}), "float16" if cluster == "dgx-a100" else "bfloat16")


@cache
def korthikanti() -> tuple[Case, ...]:
    """The runs of arXiv:2205.05198, table 5."""
    cases = []
    for entry in figures("korthikanti2022"):
        number = {name: int(value) for name, value in entry.items() if value.isdigit()}
        both = entry["mode"] == "seqsel"
        strategy = Strategy(
            tensor=number["tensor"],
            data=number["data"],
            pipeline=number["pipeline"],
            microbatch=number["microbatch"],
            interleave=number["interleave"],
            sequence=both,
            recompute=Recompute.SELECTIVE if both else Recompute.FULL,
        )
        model = _gpt(entry["model"], number["hidden"], number["heads"], number["layers"])
        training = Training(model, number["batch"], number["sequence"], MEGATRON_2022)
        step = training_step(training, strategy, _pricer("dgx-a100"))
        how = "sequence parallel, selective" if both else "full recompute"
        cases.append(Case(f"{entry['model']}, {how}", step.time, float(entry["seconds"])))
    return tuple(cases)


@cache
def megatron() -> tuple[Case, ...]:
    """The runs of SC 2021, table 1; seconds follow from the published rate and the authors' count of operations."""
    cases = []
    for entry in figures("megatron_sc21"):
        hidden, heads, layers, batch, gpus = (int(entry[name]) for name in ("hidden", "heads", "layers", "batch", "gpus"))
        sequence = 2048
        operations = 96.0 * batch * sequence * layers * hidden**2
        operations *= 1 + sequence / (6 * hidden) + _VOCABULARY / (16 * layers * hidden)
        space = TrainingSpace(
            tensor=(int(entry["tensor"]),),
            pipeline=(int(entry["pipeline"]),),
            zero=(0,),
            sequence=(False,),
            recompute=(Recompute.FULL,),
        )
        training = Training(_gpt(f"{entry['billion_parameters']}B", hidden, heads, layers), batch, sequence, MEGATRON_2021)
        plan = plan_training(training, gpus, _pricer("dgx-a100"), space)
        measured = operations / (gpus * float(entry["teraflop_per_s"]) * 1e12)
        cases.append(Case(f"{training.model.name}: {plan.strategy}", plan.step.time, measured))
    return tuple(cases)


def fit_slowdown(cases: tuple[Case, ...]) -> float:
    """The factor with the least squares of relative errors."""
    ratios = [case.predicted / case.measured for case in cases]
    return sum(ratios) / sum(ratio**2 for ratio in ratios)


def _scored(suite: Suite, context: Context, *, table: str, fitted_on: str) -> SuiteResult:
    tables = {"korthikanti": korthikanti, "megatron": megatron}
    cases = tables[table]()
    others = (*korthikanti(), *megatron()) if fitted_on == "both" else tables[fitted_on]()
    slowdown = fit_slowdown(others)
    if fitted_on == "both":
        slowdown = load_cluster("dgx-a100").kernel_slowdown.value
    rows = [row(case.name, slowdown * case.predicted, case.measured) for case in cases]
    where = "both tables" if fitted_on == "both" else f"the table of {fitted_on}"
    notes = (*((_RULE,) if table == "megatron" else ()), _READING)
    return score(suite, rows, fitted=(f"kernel_slowdown = {slowdown:.4g} on {where}",), notes=notes)


def _memory(suite: Suite, context: Context) -> SuiteResult:
    shapes = {entry["model"]: entry for entry in figures("korthikanti2022") if entry["mode"] == "seqsel"}
    rows: list[Row] = []
    for entry in figures("korthikanti2022_memory"):
        shape = {name: int(value) for name, value in shapes[entry["model"]].items() if value.isdigit()}
        model = _gpt(entry["model"], shape["hidden"], shape["heads"], shape["layers"])
        plain = Strategy(tensor=shape["tensor"], pipeline=shape["pipeline"], microbatch=shape["microbatch"])
        pieces, stages = shape["interleave"], shape["pipeline"]
        in_flight = model.layers * (1 + (stages - 1) / (stages * pieces) if pieces > 1 else 1)
        layer = block_of(model, plain, MEGATRON_2022, shape["sequence"])
        static = (WEIGHT + GRADIENT + STATE) * layer.parameters * model.layers / stages
        rows.append(row(f"{model.name}: weights, gradients, optimizer", static / _GIB, float(entry["static_gib"])))

        def kept(strategy: Strategy, model: Transformer = model, sequence: int = shape["sequence"]) -> float:
            return sum(part.size for part in block_of(model, strategy, MEGATRON_2022, sequence).kept)

        both = replace(plain, sequence=True, recompute=Recompute.SELECTIVE)
        rows.append(row(f"{model.name}: activations", in_flight * kept(plain) / _GIB, float(entry["none_gib"])))
        rows.append(row(f"{model.name}: activations, both", in_flight * kept(both) / _GIB, float(entry["both_gib"])))
        for name, strategy in (
            ("sequence", replace(plain, sequence=True)),
            ("selective", replace(plain, recompute=Recompute.SELECTIVE)),
            ("both", both),
            ("full", replace(plain, recompute=Recompute.FULL)),
        ):
            share = 100 * kept(strategy) / kept(plain)
            rows.append(row(f"{model.name}: percent with {name}", share, float(entry[f"{name}_pct"])))
    return score(suite, rows, notes=("figures of the paper's bars, which leave out biases, normalisations and embeddings",))


_NETWORK = {
    "family": "cluster",
    "name": "big-basin",
    "title": "Servers of 8 P100, one 50 Gbit/s port each: a server counts as one device",
    "device": "unit-gpu",
    "devices": {"value": 44, "source": "paper"},
    "node_devices": {"value": 1, "source": "paper"},
    "kernel_slowdown": {"value": 1.0, "source": "paper"},
    "network": {
        "topology": "fat_tree",
        "byte_per_s": {"value": 50e9 / 8, "source": "paper"},
        "start_s": {"value": 0.0, "source": "paper"},
        "hop_s": {"value": 0.0, "source": "paper"},
        "share": {"value": 1.0, "source": "paper"},
    },
    "sources": {"paper": {"kind": "paper", "title": "P. Goyal et al.", "place": "arXiv:1706.02677, section 4"}},
}
_RESNET_BYTES = 4 * 25_557_032
_PICTURES, _SERVER_BATCH, _EPOCH_S = 1_281_167, 256, 16 * 60


def _goyal(suite: Suite, context: Context) -> SuiteResult:
    fabric = Fabric(Cluster.model_validate(_NETWORK), None)
    alone = _EPOCH_S * _SERVER_BATCH / _PICTURES
    rows = []
    for entry in figures("goyal2017"):
        servers = int(entry["gpus"]) // 8
        exchange = exchange_time(Collective.ALL_REDUCE, float(_RESNET_BYTES), Group(servers), fabric)
        for name, seen in (("nothing overlapped", exchange), ("all overlapped", 0.0)):
            ratio = (alone + seen) / alone
            predicted = 1 / ratio if entry["figure"] == "efficiency" else ratio
            case = f"{entry['gpus']} GPUs, {entry['figure']}, {name}"
            rows.append(row(case, predicted, float(entry["value"]), scored=seen > 0))
    notes = (
        "relative to 8 GPUs, where an iteration takes 0.192 s: 256 pictures at 16 minutes an epoch, a least by the paper",
        "gradients of 102 MB at the full rate of a server's port; overlapped with the backward pass, which would hide all: "
        "what they lose besides is not in the model, whose time without overlap is an upper bound of this part",
    )
    return score(suite, rows, notes=notes)


_LLAMA_405B = Transformer(
    "llama-3-405b",
    126,
    16384,
    128,
    8,
    128,
    53248,
    128_256,
    131_072,
    gated=True,
    tied=False,
    biases=False,
    dropout=False,
    norm=Norm.RMS,
)
_TURING_530B = _gpt("turing-530B", 20480, 128, 105)
_RUNS = {"llama-3-405b": (_LLAMA_405B, Software()), "turing-530B": (_TURING_530B, MEGATRON_2021)}


def _runs(suite: Suite, context: Context) -> SuiteResult:
    rows = []
    for entry in figures("training_runs"):
        model, software = _RUNS[entry["model"]]
        gpus, batch, sequence = (int(entry[name]) for name in ("gpus", "batch", "sequence"))
        training = Training(model, batch, sequence, software)
        pricer = _pricer(entry["cluster"])
        recompute = Recompute(entry["recompute"])
        space = TrainingSpace(
            tensor=(int(entry["tensor"]),),
            context=(int(entry["context"]),),
            pipeline=(int(entry["pipeline"]),),
            data=(int(entry["data"]),),
            zero=(0, 1, 2),
            sequence=(recompute is not Recompute.FULL,),
            recompute=(recompute,),
        )
        plan = plan_training(training, gpus, pricer, space)
        seconds = load_cluster(entry["cluster"]).kernel_slowdown.value * plan.step.time
        rate = model.training_flop(batch, sequence) / (seconds * gpus) / 1e12
        predicted = seconds if entry["kind"] == "seconds" else rate
        rows.append(row(f"{entry['run']}: {plan.strategy}", predicted, float(entry["value"])))
    notes = (
        "degrees as published; all else is the fastest that fits memory, by the model itself",
        "kernel_slowdown as fitted on A100s",
    )
    return score(suite, rows, notes=notes)


_SC21 = "D. Narayanan et al., SC 2021 (arXiv:2104.04473), table 1"
_K22 = "V. Korthikanti et al., arXiv:2205.05198, table 5"
_SECONDS = "seconds of an iteration"
SUITES = (
    Suite("sharding-korthikanti", _K22, _SECONDS, partial(_scored, table="korthikanti", fitted_on="both")),
    Suite("sharding-megatron", _SC21, _SECONDS, partial(_scored, table="megatron", fitted_on="both")),
    Suite("sharding-korthikanti-crossed", _K22, _SECONDS, partial(_scored, table="korthikanti", fitted_on="megatron")),
    Suite("sharding-megatron-crossed", _SC21, _SECONDS, partial(_scored, table="megatron", fitted_on="korthikanti")),
    Suite(
        "sharding-memory", "V. Korthikanti et al., arXiv:2205.05198, figures 1 and 7", "GiB, and percent of activations", _memory
    ),
    Suite("sharding-goyal", "P. Goyal et al., arXiv:1706.02677", "time relative to 8 GPUs", _goyal),
    Suite(
        "sharding-runs", "MT-NLG (arXiv:2201.11990), Llama 3 (arXiv:2407.21783)", "seconds, or teraFLOP a second of a GPU", _runs
    ),
)
