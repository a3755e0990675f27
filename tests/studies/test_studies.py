"""Studies run as a person runs them, on their smallest configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "studies" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_array_size(tmp_path: Path) -> None:
    printed = run("01_array_size.py", "--quick", "-o", str(tmp_path), "--model", str(ROOT / "studies/models/digits_cnn.onnx"))
    assert "machines are on the front" in printed
    ElementTree.parse(tmp_path / "array_size.svg")
    assert "plotly" in (tmp_path / "array_size.html").read_text()[:5_000_000]
