"""A mesh of named axes, and how a tensor lies on it: which axes cut which dimension, and over which a sum is still open."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lepton_dse.errors import LeptonError

__all__ = ["Layout", "Mesh", "local_shape", "replicated"]

_MOST = 1 << 20


@dataclass(frozen=True)
class Mesh:
    """Devices as a grid; the last axis is numbered innermost.

    Parameters
    ----------
    axes : tuple of (str, int)
        Name and devices of each axis.

    Raises
    ------
    LeptonError
        If two axes share a name, a name is no identifier, or an axis has no device.
    """

    axes: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.axes]
        if len(set(names)) != len(names):
            raise LeptonError("two axes share a name", where="mesh", fix="name each axis once")
        for name, size in self.axes:
            if not name.isidentifier() or not name.isascii():
                raise LeptonError(f"'{name}' names an axis", where="mesh", fix="use a letter, then letters and digits")
            if size < 1:
                raise LeptonError(f"axis '{name}' has {size} devices", where="mesh", fix="use 1 or more")
        if self.devices > _MOST:
            raise LeptonError(f"{self.devices} devices", where="mesh", fix=f"use at most {_MOST}")

    @classmethod
    def parse(cls, text: str) -> Mesh:
        """Read ``x=2,y=4``.

        Raises
        ------
        LeptonError
            If it is written otherwise.
        """
        axes = []
        for part in text.split(","):
            name, _, size = part.partition("=")
            if not size.strip().isdecimal() or len(size) > 9:
                raise LeptonError(f"'{part}' is no axis of a mesh", where=text, fix="write name=devices, as in x=2,y=4")
            axes.append((name.strip(), int(size)))
        return cls(tuple(axes))

    def __str__(self) -> str:
        return ",".join(f"{name}={size}" for name, size in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(name for name, _ in self.axes)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Devices of each axis."""
        return dict(self.axes)

    @property
    def devices(self) -> int:
        """All of them."""
        return math.prod(size for _, size in self.axes)

    def size(self, axes: tuple[str, ...]) -> int:
        """Devices that some axes span together."""
        return math.prod(self.sizes[name] for name in axes)

    def stride(self, axis: str) -> int:
        """Difference of the numbers of neighbours along an axis."""
        position = self.names.index(axis)
        return math.prod(size for _, size in self.axes[position + 1 :])

    def places(self) -> Iterator[dict[str, int]]:
        """Coordinates of every device, in the order of their numbers."""
        for place in itertools.product(*(range(size) for _, size in self.axes)):
            yield dict(zip(self.names, place, strict=True))

    def index(self, place: Mapping[str, int], axes: tuple[str, ...]) -> int:
        """Number of a device among those that `axes` span, the first axis outermost."""
        number = 0
        for name in axes:
            number = number * self.sizes[name] + place[name]
        return number

    def groups(self, axes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """Numbers of the devices that exchange along `axes`, group by group, each in the order of :meth:`index`."""
        found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for number, place in enumerate(self.places()):
            rest = tuple(place[name] for name in self.names if name not in axes)
            found.setdefault(rest, []).append((self.index(place, axes), number))
        return tuple(tuple(number for _, number in sorted(members)) for members in found.values())


@dataclass(frozen=True)
class Layout:
    """How one tensor lies on a mesh.

    Parameters
    ----------
    cuts : tuple of tuple of str
        For each dimension the axes that cut it into equal parts, the first one outermost; () where it is whole.
    partial : tuple of str
        Axes along which the devices hold addends of the tensor, in the order of the mesh.

    Raises
    ------
    LeptonError
        If an axis stands twice.
    """

    cuts: tuple[tuple[str, ...], ...]
    partial: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        used = [*itertools.chain.from_iterable(self.cuts), *self.partial]
        if len(set(used)) != len(used):
            raise LeptonError(f"an axis stands twice in the layout {self}", fix="let each axis cut one dimension")

    @property
    def used(self) -> tuple[str, ...]:
        """Axes that cut a dimension."""
        return tuple(itertools.chain.from_iterable(self.cuts))

    def __str__(self) -> str:
        parts = ["+".join(axes) if axes else "-" for axes in self.cuts]
        open_sums = f" sum over {'+'.join(self.partial)}" if self.partial else ""
        return f"[{', '.join(parts)}]{open_sums}"


def replicated(rank: int) -> Layout:
    """The layout of a tensor that every device holds whole."""
    return Layout(((),) * rank)


def local_shape(shape: tuple[int, ...], layout: Layout, mesh: Mesh) -> tuple[int, ...]:
    """Extents on one device.

    Raises
    ------
    LeptonError
        If a dimension does not divide, or the layout has another rank.
    """
    if len(shape) != len(layout.cuts):
        raise LeptonError(f"a layout {layout} of a tensor of shape {list(shape)}", fix="give an entry for each dimension")
    for extent, axes in zip(shape, layout.cuts, strict=True):
        if extent % mesh.size(axes):
            raise LeptonError(f"{extent} elements over {mesh.size(axes)} devices", fix="choose an axis that divides them")
    return tuple(extent // mesh.size(axes) for extent, axes in zip(shape, layout.cuts, strict=True))
