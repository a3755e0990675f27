"""Programs that stand in for those of a machine with a GPU: nvidia-smi, and an nvcc whose programs answer from a file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

__all__ = ["played_machine"]

_NVCC = """\
#!/bin/sh
echo "$@" >> "@LOG@"
for last; do :; done
cat > "$last" <<'END'
#!/bin/sh
@PROGRAM@
END
chmod +x "$last"
"""


def played_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, gpu: str | None = "NVIDIA A100-SXM4-80GB, 580.65.06, 8.0", program: str = ""
) -> Path:
    """Put the tools before all others on the path.

    Parameters
    ----------
    folder : Path
    monkeypatch : MonkeyPatch
    gpu : str or None
        What nvidia-smi answers; None where it fails.
    program : str
        Shell text of every compiled program.

    Returns
    -------
    Path
        A file with a line for each call of nvcc.
    """
    shell = shutil.which("sh")
    assert shell is not None
    tools = folder / "tools"
    tools.mkdir()
    log = folder / "nvcc.log"
    log.write_text("")
    answer = "echo 'no devices were found'; exit 6" if gpu is None else f"echo '{gpu}'"
    (tools / "nvidia-smi").write_text(f"#!{shell}\n{answer}\n")
    (tools / "nvcc").write_text(_NVCC.replace("@LOG@", str(log)).replace("@PROGRAM@", program))
    for path in tools.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return log
