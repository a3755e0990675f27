"""What both loaders of hwmodels/ share: finding a file by name, and reading its TOML."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lepton_dse.errors import InvalidTargetError
from lepton_dse.files import read_text

__all__ = ["document_of", "path_of"]


def path_of(name: str | Path, files: Mapping[str, Path], *, kind: str, known: Sequence[str], listed: str) -> Path:
    """The file that a name or a path means.

    Parameters
    ----------
    name : str or Path
        A path ends in ``.toml``.
    files : mapping of str to Path
    kind : str
        What is looked for, for messages.
    known : sequence of str
        Names to suggest.
    listed : str
        What to say where none is near.

    Raises
    ------
    InvalidTargetError
        If no file has the name.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return path
    found = files.get(str(name))
    if found is None:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else listed
        raise InvalidTargetError(f"no {kind} called '{name}'", fix=hint)
    return found


def document_of(path: Path, name: str) -> dict[str, Any]:
    """A file's document; it is called `name` where it does not say.

    Raises
    ------
    InvalidTargetError
        If it is no TOML.
    """
    try:
        document: dict[str, Any] = tomllib.loads(read_text(path, limit_bytes=1 << 20))
    except (ValueError, RecursionError) as error:  # besides TOMLDecodeError: numbers too long, lists too deep
        raise InvalidTargetError(
            f"not valid TOML: {error}", where=str(path), fix="see the shipped files under hwmodels/"
        ) from error
    document.setdefault("name", name)
    return document
