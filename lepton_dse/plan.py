"""The hub types: what was decided, what it is predicted to cost, and how each figure is known.

All are frozen pydantic models with a versioned JSON form. The same inputs give the same bytes: no time, date or path is in
a plan.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.files import read_text
from lepton_dse.numerics.formats import Precision

__all__ = [
    "Calibration",
    "CalibrationMethod",
    "Check",
    "CheckStatus",
    "ClockBand",
    "CostReport",
    "CycleReport",
    "ErrorBand",
    "Evidence",
    "Mapping",
    "MemoryMap",
    "OpCost",
    "OpPlan",
    "Place",
    "Plan",
    "SearchResult",
    "Sharding",
    "Shared",
    "Unroll",
    "Violation",
    "Zeros",
    "explain_validation",
]

SCHEMA_VERSION: Final = 3
"""Of plans; 1 had no memory map, 2 no sharding."""

NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Evidence(StrEnum):
    """How a figure is known."""

    EXECUTED = "executed"
    """Observed on the artefact, or predicted by a model that the artefact equals."""
    BANDED = "banded"
    """A model whose error on a named validation suite is known."""
    UNCHECKED = "unchecked"
    """A model that nothing has confirmed."""


class CheckStatus(StrEnum):
    """Outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    REPORTED = "reported"
    """Observed, and predicted by nothing: it can neither pass nor fail."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Violation(_Frozen):
    """Why something does not fit: a value, never an exception."""

    what: str
    """What does not fit, and where."""
    demand: NonNegativeFloat
    """What is needed, in `unit`."""
    bound: NonNegativeFloat
    """What there is, in `unit`."""
    unit: str
    """Unit of both."""
    levers: tuple[str, ...] = ()
    """What a person could change so that it fits."""

    def __str__(self) -> str:
        text = f"{self.what}: needs {self.demand:g} {self.unit}, {self.bound:g} available"
        return f"{text}; {' or '.join(self.levers)}" if self.levers else text


class Unroll(_Frozen):
    """One loop computed in parallel: `factor` iterations of `loop` side by side along the hardware axis `axis`."""

    loop: str
    factor: PositiveInt
    axis: str


class Mapping(_Frozen):
    """Where an operation's iterations run: spatial unrolling, tile sizes per level, and loop order."""

    spatial: tuple[Unroll, ...] = ()
    tiles: dict[str, dict[str, PositiveInt]] = Field(default_factory=dict)
    """Level name to loop name to tile size."""
    order: tuple[str, ...] = ()
    """Loops from outer to inner."""

    def factor(self, axis: str) -> int:
        """Unrolling along a hardware axis; 1 if there is none."""
        return next((unroll.factor for unroll in self.spatial if unroll.axis == axis), 1)


class OpPlan(_Frozen):
    """Decisions for one operation."""

    op: str
    precision: str
    """Formats of weights and activations, for example ``int8`` or ``w4a8``."""
    mapping: Mapping = Mapping()
    fifo_depth: PositiveInt | None = None
    """Words of the stream FIFO behind the operation's stage (streaming targets)."""
    buffer_rows: NonNegativeInt | None = None
    """Input rows that the stage's sliding window holds beyond the least (streaming targets); None for one stride."""
    multiplier: Literal["dsp", "lut", "packed"] | None = None
    """What the stage's multipliers are made of (FPGA); ``packed`` for two products in one hard multiplier."""
    feed_depths: tuple[NonNegativeInt, ...] = ()
    """For each operand the words of a FIFO in front of the stage, 0 for none (streaming targets); empty for none at all."""

    @model_validator(mode="after")
    def _known_precision(self) -> OpPlan:
        Precision.parse(self.precision)
        return self


class CalibrationMethod(StrEnum):
    """How the scale beta of an activation is chosen."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    KL = "kl"
    OUTPUT = "output"


class Calibration(_Frozen):
    """How activation scales were found."""

    method: CalibrationMethod
    samples: PositiveInt
    source: Literal["data", "noise"]
    """Real samples, or seeded noise when a person gave none."""
    rounding: str = "nearest"
    """How the integer of each weight was chosen."""
    bias_correction: bool = False
    """Whether biases make up for what rounding shifts."""


class ClockBand(_Frozen):
    """Between which clocks a placed design's greatest is expected, by the longest path between its registers."""

    low_hz: NonNegativeFloat
    high_hz: NonNegativeFloat
    through: tuple[str, ...]
    """The instances that the longest path runs through, from its start to its end."""

    @model_validator(mode="after")
    def _ordered(self) -> ClockBand:
        if not 0 < self.low_hz <= self.high_hz or not self.through:
            raise ValueError(f"a band from {self.low_hz:g} to {self.high_hz:g} Hz through {len(self.through)} instances")
        return self


class CycleReport(_Frozen):
    """Cycles of a streaming design; evidence ``executed`` once a testbench confirmed them."""

    latency: NonNegativeInt
    """First input beat accepted to last output beat transferred, pipeline empty before."""
    interval: NonNegativeInt
    """Last output to last output in the steady state."""
    clock_hz: NonNegativeFloat
    """The clock that turns cycles into seconds."""
    slowest: str
    """Stage that sets the interval."""
    band: ClockBand | None = None
    """Of the clock that the design reaches; None where the hardware model has no timing of its fabric."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a band the form, and so the digest, is that of plans from before there was one."""
        document: dict[str, Any] = handler(self)
        if self.band is None:
            document.pop("band", None)
        return document


class SearchResult(_Frozen):
    """What a search looked at, what it found, and what bounds it."""

    objective: str
    space: str
    """The declared space, for people."""
    evaluated: NonNegativeInt
    best: NonNegativeFloat
    lower_bound: NonNegativeFloat
    gap: NonNegativeFloat
    """``(best - lower_bound) / best``."""
    optimal: bool
    """True only when the gap is 0 over the whole space."""


class Zeros(_Frozen):
    """Zeros among an operation's weights, and whether its cost is that of a kernel which skips them."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Of the weights that are zero."""
    two_of_four: bool
    """Whether of every four neighbours along the summed axis at most two are not zero."""
    skipped: bool = False
    """Whether the kernel that was priced skips them; elsewhere they cost what other weights cost."""

    def __str__(self) -> str:
        share = f"{100 * self.share:.0f}%"
        what = share if not self.two_of_four else "2:4" if self.share == 1 / 2 else f"{share} in 2:4"
        return f"{what}, priced" if self.skipped else f"{what}, not skipped here"


class OpCost(_Frozen):
    """Predicted cost of one operation."""

    name: str
    kind: str
    macs: NonNegativeInt
    latency_s: NonNegativeFloat
    energy_j: NonNegativeFloat | None
    bound_by: str
    utilization: NonNegativeFloat
    """Share of the peak arithmetic rate."""
    traffic_bytes: dict[str, NonNegativeFloat]
    mapping: Mapping = Mapping()
    zeros: Zeros | None = None
    """Of its weights; None where it has none, or none of them is zero."""


class ErrorBand(_Frozen):
    """Error of the cost model on the validation suite that covers a report."""

    suite: str
    mape_pct: NonNegativeFloat
    """Mean absolute error in percent."""


class CostReport(_Frozen):
    """Predicted cost of a model on a target for one pass over a batch."""

    target: str
    feasible: bool
    latency_s: NonNegativeFloat
    throughput_per_s: NonNegativeFloat
    """Samples a second."""
    energy_j: NonNegativeFloat | None
    """None where the hardware model has no energy figures."""
    peak_bytes: NonNegativeFloat
    """Weights plus the arena that holds all activations (docs/memory.md); of a streaming design, its memories."""
    traffic_bytes: dict[str, NonNegativeFloat]
    """Bytes moved at each memory level."""
    resources: dict[str, NonNegativeFloat]
    """Device resources in use, by name."""
    bound_by: str
    evidence: Evidence
    band: ErrorBand | None = None
    """Of the latency, where a suite holds it."""
    violations: tuple[Violation, ...] = ()
    search: SearchResult | None = None
    cycles: CycleReport | None = None
    ops: tuple[OpCost, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> CostReport:
        if self.feasible == bool(self.violations):
            raise ValueError("feasible exactly when there are no violations")
        return self


class Place(_Frozen):
    """One tensor's storage in an arena."""

    offset: NonNegativeInt
    """Bytes from the start of the arena."""
    bytes: NonNegativeInt
    first: NonNegativeInt
    """The operation, by its place in the graph, that writes it; 0 for an input."""
    last: NonNegativeInt
    """The last operation that reads it; for an output, one after the last of all."""
    block: str
    """The tensor that gave the block its name; several tensors in one block are views, or overwrite one another."""


class MemoryMap(_Frozen):
    """An arena for everything that a graph computes, without its constants; blocks that are needed at once do not overlap."""

    places: dict[str, Place]
    """Of every tensor that is not a constant."""
    peak: NonNegativeInt
    """Bytes of the arena."""
    bound: NonNegativeInt
    """Bytes that no placement of these blocks is below; equal to the peak where it is proved least."""
    alignment: PositiveInt
    """Bytes of which every offset, and the arena, is a multiple."""

    @model_validator(mode="after")
    def _sound(self) -> MemoryMap:
        if self.bound > self.peak or self.peak % self.alignment:
            raise ValueError(f"an arena of {self.peak} bytes, at least {self.bound}, aligned to {self.alignment}")
        blocks: dict[str, Place] = {}
        for name, place in self.places.items():
            owner = self.places.get(place.block)
            if owner is None or owner.block != place.block:
                raise ValueError(f"tensor '{name}' lies in the block of '{place.block}', which has none")
            if place.last < place.first:
                raise ValueError(f"tensor '{name}' is read for the last time before it is written")
            if place.offset % self.alignment:
                raise ValueError(f"tensor '{name}' lies at {place.offset}, which is no multiple of {self.alignment}")
            if place.offset < owner.offset or place.offset + place.bytes > min(owner.offset + owner.bytes, self.peak):
                raise ValueError(f"tensor '{name}' reaches out of its block or of the arena")
            known = blocks.get(place.block, owner)
            lives = {"first": min(known.first, place.first), "last": max(known.last, place.last)}
            blocks[place.block] = owner.model_copy(update=lives)
        clash = _overlap(blocks.values())
        if clash is not None:
            raise ValueError(f"tensors '{clash[0]}' and '{clash[1]}' are needed at once and overlap")
        return self


def _overlap(blocks: Iterable[Place]) -> tuple[str, str] | None:
    """Two blocks that are needed at once and share a byte."""
    held = [place for place in blocks if place.bytes]
    events = [(place.first, True, place) for place in held] + [(place.last + 1, False, place) for place in held]
    live: list[tuple[int, int, str]] = []  # apart from one another, by offset
    for _, starts, place in sorted(events, key=lambda event: event[:2]):
        entry = (place.offset, place.offset + place.bytes, place.block)
        at = bisect(live, entry)
        if not starts:
            del live[at - 1]
            continue
        for other in live[max(at - 1, 0) : at + 1]:
            if other[0] < entry[1] and entry[0] < other[1]:
                return other[2], entry[2]
        live.insert(at, entry)
    return None


Cuts = tuple[tuple[str, ...], ...]
"""For each dimension of a tensor the axes of a mesh that cut it into equal parts, the first one outermost."""


class Shared(_Frozen):
    """How the devices of a mesh share one operation."""

    loops: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Axes by loop; loops that are not named are whole on every device."""
    home: Cuts
    """How the result lies from then on."""


class Sharding(_Frozen):
    """How a mesh of devices shares a lowered graph."""

    cluster: str
    """The cluster that the devices are of."""
    mesh: str
    """Axes and their devices, such as ``x=2,y=4``; the last one is numbered innermost."""
    batch: PositiveInt
    """Samples of a pass, all devices together."""
    inputs: dict[str, Cuts]
    """How the graph's inputs arrive."""
    ops: dict[str, Shared]
    """By operation of the lowered graph."""
    stages: tuple[str, ...] = ()
    """Operations with which the stages of a pipeline after the first begin; each stage has a mesh of its own."""


class Plan(_Frozen):
    """Every decision for one model on one target; with its bundle it is all that lowering and emission need."""

    schema_version: Literal[3] = SCHEMA_VERSION
    model: str
    """Name of the model, for people."""
    bundle_digest: Digest
    target: str
    target_digest: Digest
    precision: str
    calibration: Calibration | None
    """None for float formats."""
    seed: NonNegativeInt
    objective: str
    ops: tuple[OpPlan, ...]
    memory: MemoryMap
    """Where a program that runs the operations in order keeps what they compute, each element in whole bytes."""
    sharding: Sharding | None = None
    """None for one device."""
    predicted: CostReport

    @model_validator(mode="after")
    def _each_op_once(self) -> Plan:
        names = [entry.op for entry in self.ops]
        if len(set(names)) != len(names):
            raise ValueError("an operation is planned twice")
        Precision.parse(self.precision)
        return self

    def op(self, name: str) -> OpPlan:
        """Decisions for the operation called `name`; the plan's defaults where it says nothing."""
        return next((entry for entry in self.ops if entry.op == name), OpPlan(op=name, precision=self.precision))

    def to_json(self) -> str:
        """Canonical JSON text: sorted keys, one trailing newline, and a digest of all the rest, so that an edit shows."""
        return json.dumps({**self.model_dump(mode="json"), "digest": self.digest}, indent=1, sort_keys=True) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str, *, where: str = "plan") -> Plan:
        """Read a plan.

        Raises
        ------
        InvalidPlanError
            If the text is no plan, or was edited; the message names the first wrong field.
        """
        try:
            document = json.loads(text)
            version = document.get("schema_version", SCHEMA_VERSION) if isinstance(document, dict) else SCHEMA_VERSION
            digest = document.pop("digest", None) if isinstance(document, dict) else None
            plan = None if version != SCHEMA_VERSION else cls.model_validate_json(json.dumps(document))
        except (ValidationError, LeptonError) as error:
            raise InvalidPlanError(explain_validation(error), where=where, fix="plan again, or undo the edit") from error
        except (ValueError, RecursionError) as error:
            raise InvalidPlanError("not valid JSON", where=where, fix="plan again, or undo the edit") from error
        if plan is None:
            raise InvalidPlanError(
                f"schema_version {version}, this release reads {SCHEMA_VERSION}", where=where, fix="plan again"
            )
        if digest != plan.digest:
            raise InvalidPlanError("the plan was edited after it was made", where=where, fix="plan again, or undo the edit")
        return plan

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan from a file; see :meth:`from_json`."""
        return cls.from_json(read_text(path), where=str(path))


class Check(_Frozen):
    """One comparison of a prediction with an observation."""

    name: str
    predicted: float | int | str | None
    observed: float | int | str | None
    tolerance: float = 0.0
    """Relative; 0 means equal."""
    status: CheckStatus
    reason: str = ""
    """Where it went wrong, why it is unavailable, or what a reported figure counts."""


def explain_validation(error: Exception) -> str:
    """The first problem of a pydantic error in one clause; other errors as they are."""
    if not isinstance(error, ValidationError):
        return str(error)
    errors = error.errors()
    # A misspelt name shows twice, as missing and as unknown; the unknown one is what a person typed.
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg']}{more}" if place else f"{first['msg']}{more}"
