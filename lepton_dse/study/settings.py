"""All that a study is asked, as TOML or as arguments; the two have the same names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, field_validator, model_validator

from lepton_dse.errors import LeptonError
from lepton_dse.files import inside, read_text
from lepton_dse.plan import explain_validation
from lepton_dse.reference.metrics.protocol import metric_named
from lepton_dse.study.machine import check_sweep, machine_of
from lepton_dse.study.objectives import RESOURCES, Constraint, Objective, figures_of, needs_data
from lepton_dse.study.space import Name, Space
from lepton_dse.targets import target_names

__all__ = ["Settings", "StudyFile", "read_study", "schema"]

_FIX = "see 'lepton study --schema'"
_EVERY = "all"


class Settings(BaseModel):
    """How a study searches, apart from its model and its data."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    space: Space
    """What may be chosen."""
    minimize: Annotated[tuple[Name, ...], Field(min_length=1)] = ("latency_s", "energy_j")
    """Objectives by the names of figures; throughput_per_s and accuracy are made large instead."""
    subject_to: tuple[Name, ...] = ()
    """Constraints such as "latency_s <= 1e-3" or "loss_points <= 1"."""
    fpga: Literal["bound", "plan"] = "bound"
    """Price an FPGA by the roofline, which no design is faster than, or by planning a streaming design."""
    metric: Name = "top1"
    """What accuracy is: top1, top5 (any number), auc, cosine, agreement or another registered one."""
    calibration: PositiveInt = 128
    """Samples that integer formats are calibrated on."""
    screen: PositiveInt = 256
    """Samples that every variant of the network is measured on."""
    samples: PositiveInt | None = None
    """Samples that variants on the front are measured on; all of the data where nothing is said."""
    sampler: Literal["nsga2", "random"] = "nsga2"
    """How a space that is too large to be enumerated is sampled."""
    enumerate_up_to: NonNegativeInt = 20_000
    """Candidates up to which a space is evaluated whole."""
    trials: PositiveInt = 2_000
    """Candidates that are evaluated of a space that is sampled."""
    population: Annotated[int, Field(ge=2)] = 64
    """Candidates of a batch of sampling."""
    patience: PositiveInt = 10
    """Batches without gain after which sampling ends."""
    least_gain: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Share by which the hypervolume must grow over those batches."""
    seed: NonNegativeInt = 0
    """Of the choice of samples, and of sampling."""

    @field_validator("minimize")
    @classmethod
    def _known_objectives(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _as_value_error(Objective, name)
        if len(set(names)) < len(names):
            raise ValueError("an objective is given twice")
        return names

    @field_validator("subject_to")
    @classmethod
    def _known_constraints(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            _as_value_error(Constraint.parse, text)
        return texts

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        _as_value_error(metric_named, name)
        return name

    @model_validator(mode="after")
    def _resources_are_planned(self) -> Settings:
        asked = [figure for figure in figures_of(self.objectives, self.constraints) if figure in RESOURCES]
        if asked and self.fpga != "plan":
            raise ValueError(f"'{asked[0]}' is a figure of a planned FPGA design; set fpga to \"plan\"")
        return self

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is minimised."""
        return tuple(map(Objective, self.minimize))

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What must be kept."""
        return tuple(map(Constraint.parse, self.subject_to))

    @property
    def measures(self) -> bool:
        """Whether accuracy takes part; where it does not, none is measured."""
        return needs_data(self.objectives, self.constraints)

    @property
    def enumerates(self) -> bool:
        """Whether every candidate is evaluated."""
        return self.space.size <= self.enumerate_up_to


class StudyFile(Settings):
    """A study as a TOML file; paths are below the file's folder."""

    model: Name
    """The model file: .onnx, or a graph's .json."""
    data: Name | None = None
    """Samples x and labels y as .npz, of a split that choices may be made on."""

    @property
    def settings(self) -> Settings:
        """What is not the model or the data."""
        return Settings(**{name: getattr(self, name) for name in Settings.model_fields})


def read_study(path: Path) -> StudyFile:
    """Read a study's TOML file. Paths in it are returned as they are written; the target ``all`` stands for every shipped one.

    Raises
    ------
    LeptonError
        If the file does not fit the schema, or a path in it is absolute or leaves its folder; it names file, line and key.
    """
    text = read_text(path, limit_bytes=1 << 20)
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise LeptonError(f"not valid TOML: {error}", where=str(path), fix=_FIX) from error
    _expand(document)
    try:
        study = StudyFile.model_validate(document)
    except ValidationError as error:
        entries = error.errors()
        loc = next((entry for entry in entries if entry["type"] == "extra_forbidden"), entries[0])["loc"]
        raise LeptonError(explain_validation(error), where=_place(path, text, loc), fix=_FIX) from error
    for loc, name in _paths(study):
        try:
            found = inside(path.parent, name)
        except LeptonError as error:
            raise LeptonError(error.what, where=_place(path, text, loc), fix=error.fix) from error
        if not found.is_file():
            fix = "paths start at the study file's folder"
            raise LeptonError(f"no such file: {name}", where=_place(path, text, loc), fix=fix)
    for sweep in study.space.targets:
        try:
            machine = machine_of(sweep, path.parent)
        except LeptonError as error:
            where = _place(path, text, ("space", "targets"), sweep.target)
            raise LeptonError(f"{error.where}: {error.what}".removeprefix(": "), where=where, fix=error.fix) from error
        wrong = check_sweep(sweep, machine)
        if wrong is not None:
            named, complaint = wrong
            raise LeptonError(complaint.what, where=_place(path, text, ("space", "targets"), named), fix=complaint.fix)
    return study


def schema() -> dict[str, Any]:
    """The JSON schema of a study's TOML file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudyFile.model_json_schema()}


def _expand(document: dict[str, Any]) -> None:
    space = document.get("space")
    if isinstance(space, dict) and space.get("targets") == [_EVERY]:
        space["targets"] = list(target_names(unit=False))


def _paths(study: StudyFile) -> list[tuple[tuple[str, ...], str]]:
    found = [(("model",), study.model)]
    if study.data is not None:
        found.append((("data",), study.data))
    targets = (sweep.target for sweep in study.space.targets)
    return found + [(("space", "targets"), name) for name in targets if name.endswith(".toml")]


def _place(path: Path, text: str, loc: Sequence[int | str], value: str | None = None) -> str:
    """File and line of a key; the line of a value where that stands in one of its own."""
    keys = [entry for entry in loc if isinstance(entry, str)]
    line = _line(text, keys)
    if value is not None and line is not None:
        rest = enumerate(text.splitlines()[line - 1 :], line)
        line = next((number for number, content in rest if value in content), line)
    return str(path) if line is None else f"{path}, line {line}"


def _line(text: str, keys: Sequence[str]) -> int | None:
    """Line of the longest part of a dotted key that the text spells out."""
    table: list[str] = []
    best, line = 0, None
    for number, content in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\[\]]+)\]+\s*(#.*)?$", content)
        assigned = re.match(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*'|\s*\.\s*)+?)\s*=", content)
        if header:
            table = _parts(header[1])
            named = table
        elif assigned:
            named = table + _parts(assigned[1])
        else:
            continue
        if len(named) > best and list(keys[: len(named)]) == named:
            best, line = len(named), number
    return line


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted)]


def _as_value_error(function: Any, text: str) -> None:
    """What pydantic reports with its place in the document."""
    try:
        function(text)
    except LeptonError as error:
        raise ValueError(str(error)) from error
