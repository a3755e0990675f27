"""Where data files live, and the only code that writes to disk.

A write goes to a temporary file beside its destination and is renamed over it, so a failure leaves the old file whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lepton_dse.errors import LeptonError

__all__ = ["cache_folder", "data_folder", "inside", "read_text", "user_folder", "write_bytes", "write_folder", "write_text"]

_PACKAGE = Path(__file__).resolve().parent


_CHECKOUT = {"hwmodels": "hwmodels", "rtl": "rtl", "models": "studies/models"}


def data_folder(name: str) -> Path:
    """Folder of shipped data (``hwmodels``, ``rtl`` or ``models``), from the wheel or from a checkout.

    Raises
    ------
    LeptonError
        If neither place holds it.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / _CHECKOUT[name]):
        if candidate.is_dir():
            return candidate
    raise LeptonError(f"the data folder '{name}' is missing", where=str(_PACKAGE), fix="reinstall lepton_dse")


def user_folder() -> Path:
    """The folder for a person's own hardware models: ``~/.config/lepton_dse`` (not created here)."""
    return Path.home() / ".config" / "lepton_dse"


def cache_folder() -> Path:
    """The folder for results that may be computed again: ``$XDG_CACHE_HOME/lepton_dse`` or ``~/.cache/lepton_dse``."""
    parent = os.environ.get("XDG_CACHE_HOME")
    return (Path(parent) if parent else Path.home() / ".cache") / "lepton_dse"


def inside(folder: Path, name: str) -> Path:
    """Resolve `name` against `folder` and refuse a path that leaves it.

    Raises
    ------
    LeptonError
        If the resolved path, symbolic links followed, is not below `folder`.
    """
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise LeptonError(f"the path '{name}' leaves its folder", where=str(folder), fix="use a relative path below it")
    return path


def read_text(path: Path, *, limit_bytes: int = 1 << 30) -> str:
    """Read a UTF-8 text file of at most `limit_bytes`.

    Raises
    ------
    LeptonError
        If the file is absent, not a regular file, too large or not UTF-8.
    """
    try:
        if not path.is_file():
            raise LeptonError("no such file", where=str(path), fix="check the path")
        if path.stat().st_size > limit_bytes:
            raise LeptonError(f"larger than {limit_bytes} bytes", where=str(path), fix="is this the right file?")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LeptonError("not UTF-8 text", where=str(path), fix="is this the right file?") from error
    except OSError as error:
        raise LeptonError(f"cannot be read: {error.strerror}", where=str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, creating parent folders.

    Raises
    ------
    LeptonError
        If the file cannot be written; what was there before is left whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LeptonError(f"cannot be written: {error.strerror}", where=str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a set of files as one folder: all of them appear, or none.

    An existing folder is replaced only if it holds an earlier artefact (its ``manifest.json`` says so) or is empty.

    Raises
    ------
    LeptonError
        If a name leaves the folder, the folder holds something else, or writing fails.
    """
    folder = Path(os.path.abspath(folder))  # a bare "." has no name to put a temporary folder beside
    if folder.exists() and not _is_artefact(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise LeptonError("exists and is not an artefact", where=str(folder), fix="choose an empty folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise LeptonError(f"cannot be written: {error.strerror}", where=str(folder)) from error
    try:
        for name, data in contents.items():
            path = inside(staging, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        staging.chmod(0o755)
        _exchange(staging, folder)
    except OSError as error:
        raise LeptonError(f"cannot be written: {error.strerror}", where=str(folder)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_artefact(folder: Path) -> bool:
    """Whether a folder's manifest is one of this package: other programs keep files of that name too."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("made_by", "")).startswith("lepton_dse")


def _exchange(staging: Path, folder: Path) -> None:
    """Put `staging` in the place of `folder`; the old one is moved aside first and moved back if that fails."""
    if not folder.exists():
        os.replace(staging, folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)) / "old"
    try:
        os.rename(folder, aside)
        try:
            os.replace(staging, folder)
        except BaseException:
            os.rename(aside, folder)
            raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)
