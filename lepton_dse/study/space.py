"""What a study may choose from: hardware, and what becomes of the network.

A space is the product of five axes, from outer to inner: shares of channels that leave, sparsities, formats, hardware, batches.
Hardware is a device, its numbers swept, or a cluster, the mesh of its devices that share the network swept. It is never written
out. A candidate has an index, in mixed radix, and both ways between the two take no longer in a large space.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, field_validator

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision
from lepton_dse.parallel.layout import Mesh

__all__ = ["Candidate", "Hardware", "Name", "Space", "Sweep", "Variant"]

_LARGEST = 2**62
Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]


@dataclass(frozen=True)
class Variant:
    """What the network becomes; its accuracy is the same on all hardware.

    Parameters
    ----------
    format : str
        Formats of weights and activations, as for :func:`~lepton_dse.flow.compression.quantize`.
    sparsity : float or str
        Share of every layer's weights that is zero, or a pattern such as ``2:4``.
    channels : float
        Share of channels that is cut out before.
    """

    format: str
    sparsity: float | str
    channels: float

    @property
    def digest(self) -> str:
        """SHA-256 over the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def shape(self) -> tuple[float | str, float]:
        """What decides on its weights before they get formats."""
        return self.sparsity, self.channels

    @property
    def pattern(self) -> tuple[int, int] | None:
        """N and M of an N:M sparsity; None for a share."""
        if not isinstance(self.sparsity, str):
            return None
        kept, of = self.sparsity.split(":")
        return int(kept), int(of)

    def __str__(self) -> str:
        zeros = self.sparsity if isinstance(self.sparsity, str) else f"{100 * self.sparsity:g}% zeros" if self.sparsity else ""
        cut = f"{100 * self.channels:g}% of channels cut" if self.channels else ""
        return ", ".join(filter(None, (self.format, zeros, cut)))


@dataclass(frozen=True)
class Hardware:
    """A target, some of its numbers replaced, or a cluster with a mesh of its devices.

    Parameters
    ----------
    target : str
        A name or a path, as the space says it.
    numbers : tuple of (str, float)
        For :func:`~lepton_dse.targets.sweep.with_numbers`.
    mesh : str
        Such as ``x=2,y=4``; empty where one device runs the network by itself.
    stages : int
        Of a pipeline, each on a mesh of its own.
    """

    target: str
    numbers: tuple[tuple[str, float], ...] = ()
    mesh: str = ""
    stages: int = 1

    @property
    def devices(self) -> int:
        """Devices of all stages."""
        return self.stages * (Mesh.parse(self.mesh).devices if self.mesh else 1)

    @property
    def sharing(self) -> str:
        """The mesh, and the stages where there are several; empty where one device runs the network by itself."""
        return f"{self.mesh}; {self.stages} stages" if self.stages > 1 else self.mesh

    def __str__(self) -> str:
        chosen = ", ".join(f"{path}={value:g}" for path, value in self.numbers) or self.sharing
        return f"{self.target}[{chosen}]" if chosen else self.target


@dataclass(frozen=True)
class Candidate:
    """One point of a space: a variant of the network, on hardware, for a batch of samples a pass."""

    variant: Variant
    hardware: Hardware
    batch: int

    def __str__(self) -> str:
        return f"{self.variant} on {self.hardware}, batch {self.batch}"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Sweep(_Frozen):
    """A target with numbers of its hardware model that an architect may choose, or a cluster with meshes of its devices."""

    target: Name
    """Name of a target or of a cluster, or path of a TOML file below the study's folder."""
    numbers: dict[str, Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Path of a number, as ``lepton targets NAME`` lists it, to its values."""
    meshes: tuple[PositiveInt | Name, ...] = ()
    """Of a cluster: meshes such as "x=2,y=4"; a number of devices stands for every mesh of them with one axis or two."""
    stages: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1,)
    """Of a cluster: stages of a pipeline, each on a mesh of its own."""

    @field_validator("numbers")
    @classmethod
    def _distinct(cls, numbers: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for path, values in numbers.items():
            _refuse_twice(path, values)
        return numbers

    @field_validator("meshes")
    @classmethod
    def _known_meshes(cls, meshes: tuple[int | str, ...]) -> tuple[int | str, ...]:
        try:
            written = tuple(entry if isinstance(entry, int) else str(Mesh.parse(entry)) for entry in meshes)
            _refuse_twice("meshes", _all_meshes(written))
        except LeptonError as error:
            raise ValueError(str(error)) from error
        return written

    @field_validator("stages")
    @classmethod
    def _distinct_stages(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        _refuse_twice("stages", stages)
        return stages

    @cached_property
    def every_mesh(self) -> tuple[str, ...]:
        """The meshes, those that a number of devices stands for one by one; an empty text alone where there are none."""
        return _all_meshes(self.meshes) or ("",)

    @cached_property
    def size(self) -> int:
        """How many choices of hardware it stands for."""
        return math.prod(self._radices)

    @cached_property
    def _radices(self) -> tuple[int, ...]:
        return *(len(values) for values in self.numbers.values()), len(self.every_mesh), len(self.stages)

    def hardware(self, index: int) -> Hardware:
        """One of them; stages change fastest, then meshes, then the last number."""
        *digits, mesh, stage = _digits(index, self._radices)
        chosen = zip(self.numbers.items(), digits, strict=True)
        numbers = tuple((path, values[digit]) for (path, values), digit in chosen)
        return Hardware(self.target, numbers, self.every_mesh[mesh], self.stages[stage])

    def index(self, hardware: Hardware) -> int:
        """The inverse of :meth:`hardware`."""
        chosen = dict(hardware.numbers)
        digits = [values.index(chosen[path]) for path, values in self.numbers.items()]
        return _number([*digits, self.every_mesh.index(hardware.mesh), self.stages.index(hardware.stages)], self._radices)


class Space(_Frozen):
    """All candidates of a study.

    Values that are given twice, an axis without values and a space of more than 2^62 candidates are refused.
    """

    targets: Annotated[tuple[Sweep, ...], Field(min_length=1)]
    """Names, paths of TOML files below the study's folder, tables ``{target, numbers}`` that sweep a hardware model, or tables
    ``{target, meshes, stages}`` whose target is a cluster."""
    formats: Annotated[tuple[str, ...], Field(min_length=1)] = ("int8",)
    """float32, float16, int8, w4a8 ..."""
    sparsities: Annotated[tuple[Share | str, ...], Field(min_length=1)] = (0.0,)
    """Shares of zero weights from 0 to below 1, or patterns such as "2:4"."""
    channels: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.0,)
    """Shares of channels that are cut out, from 0 to below 1."""
    batches: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1,)
    """Samples a pass."""

    @field_validator("targets", mode="before")
    @classmethod
    def _named(cls, targets: Any) -> Any:
        if not isinstance(targets, list | tuple):
            return targets
        return tuple({"target": entry} if isinstance(entry, str) else entry for entry in targets)

    @field_validator("targets")
    @classmethod
    def _each_target_once(cls, targets: tuple[Sweep, ...]) -> tuple[Sweep, ...]:
        _refuse_twice("targets", [sweep.target for sweep in targets])
        return targets

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = tuple(str(Precision.parse(text)) for text in formats)
        except LeptonError as error:
            raise ValueError(str(error)) from error
        _refuse_twice("formats", names)
        return names

    @field_validator("sparsities")
    @classmethod
    def _known_sparsities(cls, sparsities: tuple[float | str, ...]) -> tuple[float | str, ...]:
        for entry in sparsities:
            match = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", entry) if isinstance(entry, str) else None
            if isinstance(entry, str) and (match is None or int(match[1]) >= int(match[2])):
                raise ValueError(f"'{entry}' is no sparsity; use a share from 0 to below 1, or a pattern such as \"2:4\"")
        _refuse_twice("sparsities", sparsities)
        return sparsities

    @field_validator("channels", "batches")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        _refuse_twice("the list", values)
        return values

    def model_post_init(self, context: Any) -> None:
        """Refuse what no index can count."""
        if self.size > _LARGEST:
            fix = f"at most {_LARGEST:.3g} can be counted"
            raise LeptonError(f"a space of {self.size:.3g} candidates", where="space", fix=fix)

    @cached_property
    def size(self) -> int:
        """How many candidates there are."""
        return math.prod(self._radices)

    def __len__(self) -> int:
        return self.size

    @cached_property
    def _radices(self) -> tuple[int, ...]:
        hardware = sum(sweep.size for sweep in self.targets)
        return len(self.channels), len(self.sparsities), len(self.formats), hardware, len(self.batches)

    def candidate(self, index: int) -> Candidate:
        """The candidate at an index.

        Raises
        ------
        IndexError
            If the index is below 0 or not below :attr:`size`.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"candidate {index} of {self.size}")
        machine, batch = _digits(index % self.each, self._radices[3:])
        return Candidate(self.variant(index // self.each), self.hardware(machine), self.batches[batch])

    @cached_property
    def each(self) -> int:
        """Candidates of each variant, which follow one another."""
        return math.prod(self._radices[3:])

    def variant(self, number: int) -> Variant:
        """One of the variants of the network; that of the candidate at an index has the number ``index // each``."""
        cut, zeros, form = _digits(number, self._radices[:3])
        return Variant(self.formats[form], self.sparsities[zeros], self.channels[cut])

    def index(self, candidate: Candidate) -> int:
        """The index of a candidate.

        Raises
        ------
        ValueError
            If the space does not hold it.
        """
        variant, first = candidate.variant, 0
        for sweep in self.targets:
            if sweep.target == candidate.hardware.target:
                machine = first + sweep.index(candidate.hardware)
                break
            first += sweep.size
        else:
            raise ValueError(f"no target {candidate.hardware.target} in the space")
        digits = (
            self.channels.index(variant.channels),
            self.sparsities.index(variant.sparsity),
            self.formats.index(variant.format),
            machine,
            self.batches.index(candidate.batch),
        )
        return _number(digits, self._radices)

    @cached_property
    def meshed(self) -> bool:
        """Whether devices may share the network."""
        return any(sweep.meshes for sweep in self.targets)

    def hardware(self, index: int) -> Hardware:
        """One of the choices of hardware, all sweeps in their order."""
        for sweep in self.targets:
            if index < sweep.size:
                return sweep.hardware(index)
            index -= sweep.size
        raise IndexError("no such hardware in the space")

    def candidates(self) -> Iterator[Candidate]:
        """All candidates, in the order of their indices, one at a time."""
        return map(self.candidate, range(self.size))

    def with_targets(self, targets: tuple[Sweep, ...]) -> Self:
        """The same space over other targets."""
        return type(self)(**{**dict(self), "targets": targets})


def _digits(index: int, radices: Sequence[int]) -> list[int]:
    digits = []
    for radix in reversed(radices):
        index, digit = divmod(index, radix)
        digits.append(digit)
    return digits[::-1]


def _number(digits: Sequence[int], radices: Sequence[int]) -> int:
    """The inverse of :func:`_digits`."""
    found = 0
    for digit, radix in zip(digits, radices, strict=True):
        found = found * radix + digit
    return found


def _all_meshes(meshes: Sequence[int | str]) -> tuple[str, ...]:
    """Meshes in words: a number of devices as one axis, then as two, the outer one growing."""
    found: list[str] = []
    for entry in meshes:
        if isinstance(entry, str):
            found.append(entry)
            continue
        found.append(str(Mesh((("x", entry),))))
        outer = (size for size in range(2, entry // 2 + 1) if entry % size == 0)
        found += [str(Mesh((("x", size), ("y", entry // size)))) for size in outer]
    return tuple(found)


def _refuse_twice(what: str, values: Any) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what}: {value} is given twice")
        seen.add(value)
