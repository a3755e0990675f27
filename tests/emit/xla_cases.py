"""Many programs in one process of JAX: starting it takes longer than running them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.xla.emitter import program_files
from lepton_dse.emit.xla.module import interpreted_text
from lepton_dse.numerics.formats import BOOL
from lepton_dse.schedule.sharded import ShardedProgram, fold

DEVICES = 8
DRIVER = """
import importlib.util, json, sys, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import run
run.prepare(8)
for folder in map(Path, sys.argv[2:]):
    description = run.Description(folder / "arguments.json")
    for form in json.loads((folder / "forms.json").read_text()):
        try:
            if form == "text":
                function = run.compiled(description, run.exported(description, (folder / "model.mlir").read_text(), "cpu").call)
            elif form == "source":
                spec = importlib.util.spec_from_file_location("model", folder / "model.py")
                model = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(model)
                function = run.compiled(description, model.sharded(description.mesh()))
            else:
                function = run.interpreted((folder / "interpreted.mlir").read_text())
            run.observe(folder / form, function, run.run(folder, description, function))
        except Exception:
            (folder / f"{form}.error").write_text(traceback.format_exc())
"""


@dataclass(frozen=True)
class Found:
    """What one form of a program gave."""

    results: list[NDArray[Any]]
    said: dict[str, Any]
    hlo: str


def run_cases(
    folder: Path, cases: list[tuple[ShardedProgram, dict[str, NDArray[Any]]]], forms: tuple[str, ...] = ("text",)
) -> list[dict[str, Found]]:
    """Results of every program and form; feeds are whole inputs of one pass.

    Raises
    ------
    AssertionError
        If one does not compile or run.
    """
    places = []
    for number, (program, feeds) in enumerate(cases):
        place = folder / f"case{number}"
        dummy = {name: np.zeros(program.graph.tensors[name].shape, np.int8) for name in program.graph.outputs}
        for name, data in program_files(program, feeds, dummy).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
        if "interpret" in forms and is_interpretable(program):
            (place / "interpreted.mlir").write_text(interpreted_text(fold(program)))
        (place / "forms.json").write_text(json.dumps(_chosen(program, forms)))
        places.append(place)
    templates = Path(str(files("lepton_dse.emit.xla") / "templates"))
    command = [sys.executable, "-c", DRIVER, str(templates), *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr[-4000:]
    return [
        {form: _found(program, place, form) for form in _chosen(program, forms)}
        for (program, _), place in zip(cases, places, strict=True)
    ]


def is_interpretable(program: ShardedProgram) -> bool:
    """Whether the interpreter's binding takes and gives every tensor: it lacks truth values and the floats that NumPy lacks."""
    forms = [
        program.graph.tensors[name].format for name in (*program.graph.inputs, *program.graph.constants, *program.graph.outputs)
    ]
    return program.mesh.devices == 1 and all(form != BOOL and form.numpy.isbuiltin == 1 for form in forms)


def _chosen(program: ShardedProgram, forms: tuple[str, ...]) -> list[str]:
    return [form for form in forms if form != "interpret" or is_interpretable(program)]


def _found(program: ShardedProgram, place: Path, form: str) -> Found:
    error = place / f"{form}.error"
    assert not error.exists(), f"{error.read_text()}\n{(place / 'model.mlir').read_text()}\n{(place / 'model.py').read_text()}"
    results = []
    for number, name in enumerate(program.graph.outputs):
        tensor = program.graph.tensors[name]
        results.append(np.fromfile(place / form / f"result_{number}.bin", tensor.format.numpy).reshape(tensor.shape))
    hlo = place / form / "compiled.hlo"
    return Found(results, json.loads((place / form / "observed.json").read_text()), hlo.read_text() if hlo.exists() else "")
