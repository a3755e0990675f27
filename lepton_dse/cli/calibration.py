"""The command that measures this host, or a GPU in it, and writes its hardware model."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from lepton_dse.cli.console import out, progress
from lepton_dse.errors import LeptonError
from lepton_dse.files import user_folder, write_text
from lepton_dse.numerics.formats import Precision
from lepton_dse.targets import GpuTarget, load_target
from lepton_dse.validate.gpu_emitted import PRODUCTS, calibrate_emitted, check_formats, emitted_formats, gpu_timer
from lepton_dse.validate.gpu_model import calibrated_target, target_toml
from lepton_dse.validate.host import measure_host
from lepton_dse.validate.host_model import host_target, host_toml
from lepton_dse.verify.cuda.device import find_gpu_of, find_nvcc

__all__ = ["calibrate", "calibrate_gpu"]


def calibrate(output: Path | None, *, rounds: int) -> None:
    """Measure, write, and print what was found."""
    path = _path(output, "host")
    if rounds < 1:
        raise LeptonError(f"{rounds} rounds", fix="use 1 or more")
    with progress(rounds + 1) as step:
        host = measure_host(step, rounds=rounds)
    target = host_target(host, rounds)
    write_text(path, host_toml(host, rounds))
    table = Table("number", "value", "measured as", title=f"{path}: {target.title}", title_justify="left")
    for name, quantity in target.quantities():
        table.add_row(name, f"{quantity.value:.6g}", target.sources[quantity.source].title)
    out().print(table)
    out().print(f"one core: {host.mac_per_s / 1e9:.1f} G multiply-adds a second in float32, {_int8(host.int8_per_s)} in int8")
    out().print(f"use it as --target {path.stem if output is None else path}")


def calibrate_gpu(name: str, formats: list[str], output: Path | None) -> None:
    """Fit a GPU's constants to kernels of this project, write its hardware model, and print the errors."""
    target = load_target(name)
    if not isinstance(target, GpuTarget):
        raise LeptonError(
            f"{target.name} is of family {target.family}", where="--gpu", fix="name a GPU: 'lepton targets' lists them"
        )
    path = _path(output, f"{target.name}-measured")
    chosen = [Precision.parse(form) for form in dict.fromkeys(formats or emitted_formats(target))]
    check_formats(chosen, target)
    gpu, nvcc = find_gpu_of(target.compute_capability.value, target.name), find_nvcc()
    with progress(len(chosen) * (len(PRODUCTS) + 1)) as step:
        fits = [calibrate_emitted(target, precision, gpu_timer(nvcc), step, PRODUCTS) for precision in chosen]
    write_text(path, target_toml(calibrated_target(target, fits, gpu, path.stem)))
    out().print(f"{path}: kernels of this project on {gpu.name}; errors of products that were not fitted on", soft_wrap=True)
    table = Table("format", "fitted on", "others", "mean error before", "mean error")
    for fit in fits:
        rest = str(len(fit.rows) - fit.fitted)
        table.add_row(str(fit.precision), str(fit.fitted), rest, f"{fit.error_before_pct:.1f}%", f"{fit.error_pct:.1f}%")
    out().print(table)
    out().print(f"use it as --target {path.stem if output is None else path}", soft_wrap=True)


def _path(output: Path | None, name: str) -> Path:
    """Where a hardware model goes: among the person's own unless said otherwise."""
    path = output or user_folder() / "hwmodels" / f"{name}.toml"
    if path.suffix != ".toml":
        raise LeptonError("not the name of a hardware model", where=str(path), fix="end it in .toml")
    return path


def _int8(rate: float | None) -> str:
    return "none measured" if rate is None else f"{rate / 1e9:.1f} G"
