"""Figures transcribed from publications, one CSV file each; the comments at a file's head name its source."""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["figures"]


def figures(name: str) -> list[dict[str, str]]:
    """Rows of ``<name>.csv``, its comments left out."""
    lines = (Path(__file__).parent / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
