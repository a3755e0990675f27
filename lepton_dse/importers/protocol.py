"""What an importer is, what it is asked, and how it says what it cannot read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir.graph import Graph

__all__ = ["ImportOptions", "Importer", "Unsupported", "UnsupportedError", "printable"]

_LISTED = 5


def printable(text: str) -> str:
    """The text on one line and without control characters: names in a file may hold anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


@dataclass(frozen=True)
class ImportOptions:
    """What a file leaves open.

    Parameters
    ----------
    batch : int or None
        Extent of an unknown batch axis; None means 1.
    shapes : mapping of str to tuple of int
        Whole shapes of graph inputs whose file form has other unknown axes.
    bind : mapping of str to ndarray
        Values for graph inputs that are to become constants.
    dims : mapping of str to int
        Extents of open axes by the name that the file gives them, such as the length of a sequence.
    """

    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bind: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """One way to read a model, registered in the group ``lepton_dse.importers``.

    Parameters
    ----------
    name : str
        Name of the format, for people.
    suffixes : tuple of str
        File name endings it reads, with the dot, in lower case.
    load : callable
        Reads a file under the given options; raises only :class:`~lepton_dse.errors.LeptonError`.
    """

    name: str
    suffixes: tuple[str, ...]
    load: Callable[[Path, ImportOptions], Graph]


@dataclass(frozen=True)
class Unsupported:
    """One part of a model that cannot be expressed: its name, its operator and why."""

    name: str
    op_type: str
    why: str

    def __str__(self) -> str:
        return printable(f"'{self.name}' ({self.op_type}: {self.why})")


class UnsupportedError(InvalidModelError):
    """A valid model with parts that are not supported; it lists every one of them.

    Parameters
    ----------
    unsupported : sequence of Unsupported
        All of them, at least one.
    where : str, optional
        The file.
    """

    def __init__(self, unsupported: Sequence[Unsupported], *, where: str = "") -> None:
        self.unsupported = tuple(unsupported)
        shown = ", ".join(str(entry) for entry in self.unsupported[:_LISTED])
        more = len(self.unsupported) - _LISTED
        noun = "operation is" if len(self.unsupported) == 1 else "operations are"
        what = f"{len(self.unsupported)} {noun} not supported: {shown}" + (f" and {more} more" if more > 0 else "")
        super().__init__(what, where=where, fix="replace them in the model and export it again")
