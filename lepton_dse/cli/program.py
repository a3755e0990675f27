"""The ``lepton`` program: its commands, and how errors become one line and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from lepton_dse.errors import LeptonError

__all__ = ["main"]

app = typer.Typer(
    name="lepton",
    help="Hardware-aware design-space exploration for neural networks: predict, plan, emit, and verify what was emitted.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[Path, typer.Argument(help="Model file: .onnx, or a graph's .json.", show_default=False)]
PlanFile = Annotated[Path, typer.Argument(help="Plan file, its bundle beside it.", show_default=False)]
Dims = Annotated[list[str] | None, typer.Option("--dim", help="NAME=N for an axis that the model leaves open; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Format = Annotated[str, typer.Option(help="Formats of weights and activations: int8, w4a8, float32 ...")]


@app.callback()
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", help="Folder for plans, artefacts and pictures.")] = Path("lepton-demo"),
    synthesis: Annotated[bool, typer.Option(help="Also synthesise two designs with Yosys and compare resources.")] = True,
) -> None:
    """Run the main job end to end on a real model and real data."""
    from lepton_dse.cli.demo import run

    _finish(run(output, synthesis=synthesis))


@app.command()
def doctor(json: Json = False) -> None:
    """Show which tools and extras are present, and what each would unlock."""
    from lepton_dse.cli import inspection

    inspection.doctor(as_json=json)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="A target's name, or a .toml file.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the hardware models, or show every number of one with its source."""
    from lepton_dse.cli import inspection

    inspection.targets(name, as_json=json)


@app.command()
def inspect(model: Model, dims: Dims = None, json: Json = False) -> None:
    """Show a model's operations, arithmetic, parameters and bytes, and what of it is not supported."""
    from lepton_dse.cli import inspection

    _finish(inspection.inspect(model, dims or [], as_json=json))


@app.command()
def memory(
    model: Model,
    format: Format = "float32",
    batch: Annotated[int, typer.Option(help="Samples a pass.")] = 1,
    alignment: Annotated[int, typer.Option(help="Bytes that every offset is a multiple of.")] = 64,
    in_place: Annotated[bool, typer.Option(help="Elementwise results may overwrite what they read.")] = True,
    svg: Annotated[Path | None, typer.Option(help="Also draw the arena over time there.")] = None,
    dims: Dims = None,
    json: Json = False,
) -> None:
    """Place everything that a model computes in one arena, and prove how small that can be."""
    from lepton_dse.cli.memory import memory as placed

    placed(model, dims or [], format, batch=batch, alignment=alignment, in_place=in_place, svg=svg, as_json=json)


@app.command()
def cost(
    model: Model,
    target: Annotated[list[str] | None, typer.Option(help="A target's name or .toml file; may be repeated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All targets.")] = False,
    format: Format = "int8",
    batch: Annotated[int, typer.Option(help="Samples a pass.")] = 1,
    ops: Annotated[bool, typer.Option(help="Also print one row an operation.")] = False,
    dims: Dims = None,
    json: Json = False,
) -> None:
    """Predict latency, energy and memory of a model on targets."""
    from lepton_dse.cli import planning

    _finish(planning.cost(model, target or [], dims or [], every=every, format=format, batch=batch, ops=ops, as_json=json))


@app.command()
def plan(
    model: Model,
    target: Annotated[str, typer.Option(help="A target's name or .toml file.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", help="The plan file to write.", show_default=False)],
    format: Format = "int8",
    data: Annotated[Path | None, typer.Option(help="Samples 'x' and labels 'y' as .npz.")] = None,
    minimize: Annotated[str, typer.Option(help="latency or throughput.")] = "latency",
    method: Annotated[str, typer.Option(help="Calibration: minmax, percentile, mse, kl or output.")] = "mse",
    rounding: Annotated[str, typer.Option(help="Integers of weights: nearest, adaround, gptq or quantease.")] = "nearest",
    correct_bias: Annotated[bool, typer.Option("--correct-bias", help="Biases make up for what rounding shifts.")] = False,
    override: Annotated[list[str] | None, typer.Option(help="OP=FORMAT for one operation; may be repeated.")] = None,
    prune: Annotated[float, typer.Option(help="Share of weights or channels to prune first.")] = 0.0,
    kind: Annotated[str, typer.Option(help="What to prune: weights, channels, n:m (2 of 4) or block.")] = "channels",
    score: Annotated[str, typer.Option(help="How to choose: magnitude, hessian, variance, taylor or batch_norm.")] = "magnitude",
    measure: Annotated[int, typer.Option(help="Measure accuracy on this many labelled samples.")] = 0,
    metric: Annotated[str, typer.Option(help="What to measure: top1, top5 (any number), auc, cosine or agreement.")] = "top1",
    seed: Annotated[int, typer.Option(help="Seed of the noise that calibrates without data.")] = 0,
    dims: Dims = None,
    json: Json = False,
) -> None:
    """Quantise a model and decide how it runs on a target."""
    from lepton_dse.cli import planning

    compression = planning.Compression(method, rounding, correct_bias, override or [], prune, kind, score)
    wanted = (format, data, minimize, compression, measure, metric, seed)
    request = planning.PlanArguments(model, dims or [], target, output, *wanted)
    _finish(planning.plan(request, as_json=json))


@app.command()
def allocate(
    model: Model,
    target: Annotated[str, typer.Option(help="A target's name or .toml file: its cost model says what a choice gains.")],
    data: Annotated[Path, typer.Option(help="Samples 'x' and labels 'y' as .npz, of the training data.")],
    output: Annotated[Path | None, typer.Option("-o", help="The plan file to write.")] = None,
    choice: Annotated[list[str] | None, typer.Option(help="int8, w4a8, int8+2:4 ...; may be repeated. int8 and w4a8.")] = None,
    channels: Annotated[list[float] | None, typer.Option(help="Share of channels that may leave; may be repeated.")] = None,
    minimize: Annotated[str, typer.Option(help="loss, latency, energy, bytes or bits.")] = "latency",
    loss_points: Annotated[float | None, typer.Option(help="Budget: accuracy lost, in points, as measured.")] = None,
    metric: Annotated[str | None, typer.Option(help="What is lost: top1, top5, auc, cosine ...; top1 by default.")] = None,
    latency: Annotated[float | None, typer.Option(help="Budget: seconds.")] = None,
    energy: Annotated[float | None, typer.Option(help="Budget: joules.")] = None,
    size: Annotated[float | None, typer.Option("--bytes", help="Budget: bytes of the weights.")] = None,
    bits: Annotated[float | None, typer.Option(help="Budget: bits of a weight, on average.")] = None,
    rounding: Annotated[str, typer.Option(help="Integers of weights: nearest, adaround, gptq or quantease.")] = "nearest",
    dims: Dims = None,
    json: Json = False,
) -> None:
    """Choose a format for every layer under budgets, and measure the result."""
    from lepton_dse.cli import allocation

    choices = choice or ["int8", "w4a8"]
    budgets = (loss_points, latency, energy, size, bits)
    wanted = (choices, channels or [], minimize, *budgets, metric, rounding)
    request = allocation.AllocateArguments(model, dims or [], target, data, output, *wanted)
    _finish(allocation.allocate(request, as_json=json))


@app.command()
def study(
    path: Annotated[Path | None, typer.Argument(metavar="STUDY.toml", help="What to search.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("-o", help="The study's folder.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default, 0 for this one alone.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what the folder holds.")] = False,
    reuse: Annotated[Path | None, typer.Option(help="Folder of an earlier study: search again only what has changed.")] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, whose workers compute instead.")] = None,
    storage: Annotated[str | None, typer.Option(help="URL of a PostgreSQL database in which drivers share the study.")] = None,
    study_name: Annotated[str | None, typer.Option(help="The study's name there; the network's by default.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of STUDY.toml.")] = False,
    json: Json = False,
) -> None:
    """Search hardware and compression together, and measure the Pareto front."""
    from lepton_dse.cli import study as command

    if schema:
        command.print_schema()
        return
    request = command.StudyArguments(path, output, workers, resume, reuse, dask, storage, study_name)
    code = command.study(request, as_json=json)
    if code:
        raise typer.Exit(code)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished study.", show_default=False)],
    output: Annotated[Path | None, typer.Option("-o", help="The page to write; report.html in the folder by default.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write a picture of the front as SVG too.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a picture of the front as PNG too.")] = None,
) -> None:
    """Write a finished study as one HTML page that needs nothing else."""
    from lepton_dse.cli import report as command

    command.report(folder, output, svg, png)


@app.command()
def explain(
    path: Annotated[
        Path, typer.Argument(metavar="PLAN.json|DIR", help="A plan, or the folder of a finished study.", show_default=False)
    ],
    candidate: Annotated[
        int | None, typer.Option(help="Of a study, by index; the best in its first objective by default.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Of a study: write the candidate's plan, for 'lepton emit'.")] = None,
) -> None:
    """Say why a plan, or a study's candidate, is as it is: what binds, and what the next lever would give."""
    from lepton_dse.cli import explaining, planning

    if candidate is not None or output is not None or path.is_dir():
        _finish(explaining.explain_study(path, candidate, output))
    else:
        _finish(planning.explain(path))


@app.command()
def emit(
    plan: PlanFile,
    output: Annotated[Path, typer.Option("-o", help="The artefact's folder.", show_default=False)],
    kind: Annotated[
        str | None, typer.Option("--as", help="verilog, hls, cpp, cuda, xla, onnx; the family's own by default.")
    ] = None,
) -> None:
    """Write a plan as code with test vectors."""
    from lepton_dse.cli import artefacts

    artefacts.emit(plan, output, kind)


@app.command()
def verify(
    artefact: Annotated[Path, typer.Argument(help="The artefact's folder.", show_default=False)],
    synthesis: Annotated[bool, typer.Option(help="Also synthesise and compare resources; seconds to minutes.")] = False,
    placement: Annotated[
        bool, typer.Option("--placement", help="Also place designs for ECP5 and compare the clock; minutes.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Unavailable checks fail too.")] = False,
    json: Json = False,
) -> None:
    """Run an artefact and print predicted beside observed."""
    from lepton_dse.cli import artefacts

    _finish(artefacts.verify(artefact, synthesis=synthesis, placement=placement, strict=strict, as_json=json))


@app.command()
def validate(
    suites: Annotated[list[str] | None, typer.Argument(help="Suites; all by default.", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with measurement files that are not shipped.")] = None,
    rows: Annotated[bool, typer.Option(help="Also print every row.")] = False,
    json: Json = False,
) -> None:
    """Hold the cost models against published and executed figures."""
    from lepton_dse.cli import validation

    validation.validate(suites or [], data, rows=rows, as_json=json)


@app.command()
def shard(
    model: Annotated[Path, typer.Argument(help="A model file, or a transformer's config.json.", show_default=False)],
    cluster: Annotated[str, typer.Option(help="A cluster's name or .toml file.", show_default=False)],
    mesh: Annotated[str | None, typer.Option(help="Of a model file: axes and their devices, such as x=2,y=4.")] = None,
    stages: Annotated[int, typer.Option(help="Of a model file: stages of a pipeline, each on a mesh of its own.")] = 1,
    output: Annotated[Path | None, typer.Option("-o", help="Of a model file: the plan to write.")] = None,
    data: Annotated[Path | None, typer.Option(help="Of a model file: samples 'x' as .npz, to calibrate integers.")] = None,
    devices: Annotated[int | None, typer.Option(help="Of a config.json: how many; a node by default.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples of a pass or of a training step.")] = None,
    sequence: Annotated[int | None, typer.Option(help="Of a config.json: tokens of a sample or of a prompt.")] = None,
    answer: Annotated[int | None, typer.Option(help="Of a config.json: serve it, with this many tokens an answer.")] = None,
    ttft: Annotated[float | None, typer.Option(help="Of serving: most seconds to the first token.")] = None,
    tpot: Annotated[float | None, typer.Option(help="Of serving: most seconds a token.")] = None,
    launch: Annotated[Path | None, typer.Option(help="Of serving: folder for the settings of vLLM and TensorRT-LLM.")] = None,
    format: Annotated[str | None, typer.Option(help="Formats: float32, int8 ... of a model file, bfloat16 ... else.")] = None,
    dims: Dims = None,
    json: Json = False,
) -> None:
    """Share a model over many devices: a graph over a mesh, a transformer's training or serving over a cluster."""
    from lepton_dse.cli import sharding

    limits = (sequence, answer, ttft, tpot, launch, stages)
    request = sharding.ShardArguments(model, dims or [], cluster, mesh, devices, batch, format, data, output, *limits)
    _finish(sharding.share(request, as_json=json))


@app.command()
def calibrate(
    output: Annotated[
        Path | None, typer.Option("-o", help="The .toml file to write; the target 'host', or NAME-measured of a GPU, by default.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of every measurement of the host; the best counts. 10.")] = None,
    gpu: Annotated[
        str | None, typer.Option(help="Instead: time this project's kernels on a GPU; its name or .toml file.")
    ] = None,
    format: Annotated[list[str] | None, typer.Option(help="With --gpu: int8, float16 ...; may be repeated. All it has.")] = None,
) -> None:
    """Measure this host's arithmetic and memory, or a GPU's kernels, and write its hardware model."""
    from lepton_dse.cli import calibration

    if gpu is not None:
        if rounds is not None:
            raise LeptonError("rounds are the host's", where="--rounds", fix="leave it out beside --gpu")
        calibration.calibrate_gpu(gpu, format or [], output)
        return
    if format:
        raise LeptonError("formats are a GPU's", where="--format", fix="name it with --gpu")
    calibration.calibrate(output, rounds=10 if rounds is None else rounds)


def _finish(ok: bool) -> None:
    """Exit 1 where a check failed or nothing is feasible."""
    if not ok:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> Any:
    """Run the program and exit: 0 done, 1 a check failed or nothing feasible, 2 wrong input, 130 interrupted."""
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except LeptonError as error:
        _complain(str(error))
        sys.exit(2)
    except TyperException as error:
        _complain(f"{error.format_message()} (see 'lepton --help')")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; nothing is left to say to it
        sys.exit(0)
    except RecursionError:
        _complain("the file nests deeper than any that this program writes")
        sys.exit(2)
    except MemoryError:
        _complain("not enough memory for this model")
        sys.exit(2)


def _complain(message: str) -> None:
    line = " ".join(message.split())
    print(f"lepton: error: {line}", file=sys.stderr)
