"""Finds and reads hardware models: by name among the shipped and the person's own, or by the path of a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from lepton_dse.errors import InvalidTargetError, LeptonError
from lepton_dse.files import data_folder, user_folder
from lepton_dse.plan import explain_validation
from lepton_dse.targets.cluster import CLUSTERS
from lepton_dse.targets.cpu import CpuTarget
from lepton_dse.targets.fpga import FpgaTarget
from lepton_dse.targets.gpu import GpuTarget
from lepton_dse.targets.reading import document_of, path_of
from lepton_dse.targets.tpu import TpuTarget

__all__ = ["AnyTarget", "Target", "load_target", "target_from_json", "target_names", "target_to_json"]

AnyTarget = GpuTarget | TpuTarget | CpuTarget | FpgaTarget
Target = Annotated[AnyTarget, Field(discriminator="family")]
_ADAPTER: TypeAdapter[AnyTarget] = TypeAdapter(Target)


def _files() -> dict[str, Path]:
    """Hardware models by name; a person's own come last and so win over shipped ones."""
    found: dict[str, Path] = {}
    for folder in (data_folder("hwmodels"), user_folder() / "hwmodels"):
        for path in sorted(folder.rglob("*.toml")):
            if path.parent.name != CLUSTERS:
                found[_name(path)] = path
    return found


def _name(path: Path) -> str:
    return f"unit-{path.stem}" if path.parent.name == "unit" else path.stem


def target_names(*, unit: bool = True) -> tuple[str, ...]:
    """Names of all hardware models, sorted; `unit` includes the unit devices, in which every cost is 1."""
    return tuple(sorted(name for name in _files() if unit or not name.startswith("unit-")))


def load_target(name: str | Path) -> AnyTarget:
    """A hardware model by name, or from a ``.toml`` file.

    Raises
    ------
    InvalidTargetError
        If there is no such model, or the file does not fit the schema; the message names the field.
    """
    path = path_of(name, _files(), kind="target", known=target_names(), listed="'lepton targets' lists them")
    document = document_of(path, _name(path))
    try:
        return _ADAPTER.validate_python(document)
    except (ValidationError, LeptonError) as error:
        raise InvalidTargetError(
            explain_validation(error), where=str(path), fix="see 'lepton targets NAME' for a valid one"
        ) from error


def target_to_json(target: AnyTarget) -> str:
    """A hardware model as canonical JSON text, as it travels beside a plan."""
    return target.model_dump_json(indent=1) + "\n"


def target_from_json(text: str, *, where: str) -> AnyTarget:
    """Read what :func:`target_to_json` wrote.

    Raises
    ------
    InvalidTargetError
        If the text is no hardware model.
    """
    try:
        return _ADAPTER.validate_json(text)
    except (ValidationError, LeptonError) as error:
        raise InvalidTargetError(explain_validation(error), where=where, fix="plan again") from error
