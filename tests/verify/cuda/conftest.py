"""Tools that these tests run, and a program of one's own beside the device library."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton_dse.emit.cuda.emitter import library
from lepton_dse.verify.cuda.compiled import has_compiler


def _require(present: bool, what: str) -> None:
    """Skip where something optional is missing, and fail in continuous integration, which installs everything."""
    if not present:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


@pytest.fixture(scope="session")
def cxx() -> str:
    """The C++ compiler."""
    found = shutil.which("g++")
    _require(found is not None, "g++")
    return str(found)


@pytest.fixture(scope="session")
def nvrtc() -> None:
    """NVIDIA's compiler, as the package uses it."""
    _require(has_compiler(), "NVRTC")


@pytest.fixture(scope="session")
def probe(cxx: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles a program that uses the device library, without a warning."""

    def build(text: str) -> Path:
        folder = tmp_path_factory.mktemp("probe")
        (folder / "lepton").mkdir()
        for name, data in library().items():
            (folder / name).write_bytes(data)
        (folder / "probe.cc").write_text(text)
        options = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
        done = subprocess.run([cxx, *options, "probe.cc", "-o", "probe"], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return folder / "probe"

    return build
