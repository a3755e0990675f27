"""Finds and reads hardware models: by name among the shipped and the person's own, or by the path of a TOML file."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from lepton_dse.errors import InvalidTargetError, LeptonError
from lepton_dse.files import data_folder, read_text, user_folder
from lepton_dse.plan import explain_validation
from lepton_dse.targets.cluster import CLUSTERS
from lepton_dse.targets.cpu import CpuTarget
from lepton_dse.targets.fpga import FpgaTarget
from lepton_dse.targets.gpu import GpuTarget
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
    path = Path(name)
    if path.suffix != ".toml":
        found = _files().get(str(name))
        if found is None:
            near = difflib.get_close_matches(str(name), target_names(), n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "'lepton targets' lists them"
            raise InvalidTargetError(f"no target called '{name}'", fix=hint)
        path = found
    try:
        document: dict[str, Any] = tomllib.loads(read_text(path, limit_bytes=1 << 20))
    except (ValueError, RecursionError) as error:  # besides TOMLDecodeError: numbers too long, lists too deep
        raise InvalidTargetError(
            f"not valid TOML: {error}", where=str(path), fix="see the shipped files under hwmodels/"
        ) from error
    document.setdefault("name", _name(path))
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
