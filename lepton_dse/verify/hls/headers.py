"""Where the integer and stream types of high-level synthesis lie: headers that Vitis HLS and hls4ml carry (Apache-2.0)."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from lepton_dse.errors import LeptonError, MissingToolError

__all__ = ["VARIABLE", "ap_types"]

VARIABLE = "LEPTON_AP_TYPES"
_NEEDED = ("ap_int.h", "hls_stream.h")


def ap_types() -> Path:
    """The folder of ``ap_int.h`` and ``hls_stream.h``: that of the environment variable, or an installed hls4ml's.

    Raises
    ------
    LeptonError
        If the environment variable names a folder without them.
    MissingToolError
        If they are not installed.
    """
    given = os.environ.get(VARIABLE)
    if given:
        missing = _missing(Path(given))
        if missing:
            raise LeptonError(f"{given} has no {missing[0]}", where=VARIABLE, fix="name the folder that holds it")
        return Path(given).resolve()
    # The package is only looked up: importing it takes seconds and packages that nothing here needs.
    spec = importlib.util.find_spec("hls4ml")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place) / "templates" / "vivado" / "ap_types"
        if not _missing(folder):
            return folder
    fix = f"pip install --no-deps hls4ml, or set {VARIABLE} to the folder of Vitis HLS's headers"
    raise MissingToolError("ap_int.h and hls_stream.h are not installed", fix=fix)


def _missing(folder: Path) -> list[str]:
    return [name for name in _NEEDED if not (folder / name).is_file()]
