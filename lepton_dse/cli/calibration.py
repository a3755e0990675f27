"""The command that measures this host and writes its hardware model."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from lepton_dse.cli.console import out, progress
from lepton_dse.errors import LeptonError
from lepton_dse.files import user_folder, write_text
from lepton_dse.validate.host import measure_host
from lepton_dse.validate.host_model import host_target, host_toml

__all__ = ["calibrate"]


def calibrate(output: Path | None, *, rounds: int) -> None:
    """Measure, write, and print what was found."""
    path = output or user_folder() / "hwmodels" / "host.toml"
    if path.suffix != ".toml":
        raise LeptonError("not the name of a hardware model", where=str(path), fix="end it in .toml")
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


def _int8(rate: float | None) -> str:
    return "none measured" if rate is None else f"{rate / 1e9:.1f} G"
