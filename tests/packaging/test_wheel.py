"""The wheel holds everything that the installed package looks for, with the checkout out of sight."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import lepton_dse, lepton_dse.files as files
from lepton_dse.targets import load_target, target_names
from lepton_dse.rtl_library import MODULES
print(lepton_dse.__file__)
print(len(target_names()), [load_target(name).digest[:4] for name in target_names()])
for name in MODULES:
    assert (files.data_folder("rtl") / f"{name}.v").is_file(), name
from lepton_dse.importers import load_model
print(load_model(files.data_folder("models") / "digits_cnn.onnx").macs)
from importlib.resources import files as resources
print((resources("lepton_dse.emit.verilog") / "templates" / "sim_main.cpp").read_text()[:2])
"""


@pytest.mark.slow
def test_wheel_is_complete(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        assert not [name for name in archive.namelist() if name.startswith(("tests", "studies"))]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    # The unpacked wheel comes before the checkout that this test runs from.
    assert Path(lines[0]).is_relative_to(tmp_path / "site")
    targets = [path for path in (ROOT / "hwmodels").rglob("*.toml") if path.parent.name != "cluster"]
    assert lines[1].startswith(f"{len(targets)} ")
    assert lines[2:] == ["134592", "//"]  # the digits network's multiply-accumulates; the C++ main's first characters
