"""The hardware model of a GPU with constants fitted to kernels of this project, as the TOML file that ``lepton targets`` reads.

It is the base target's, number for number, but for the formats that were measured: their constants are the fitted ones, and
no error band is claimed for them. A band says how far ``lepton cost`` is off, which prices libraries' kernels; the error of the
fit, which is that of plans' own kernels, stands with its source.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from lepton_dse.targets import GpuTarget
from lepton_dse.targets.gpu import GpuCalibration, KernelConstants
from lepton_dse.targets.schema import Band, Source, SourceKind
from lepton_dse.validate.gpu_emitted import EMITTED_FREE, EmittedFit
from lepton_dse.verify.cuda.device import Gpu

__all__ = ["calibrated_target", "target_toml"]

_Part = TypeVar("_Part", GpuCalibration, Band)


def calibrated_target(base: GpuTarget, fits: Sequence[EmittedFit], gpu: Gpu, name: str) -> GpuTarget:
    """The base target with fitted constants.

    Parameters
    ----------
    base : GpuTarget
    fits : sequence of EmittedFit
        One for each pair of formats.
    gpu : Gpu
        What was measured on.
    name : str
        Of the new target.
    """
    formats = {str(fit.precision) for fit in fits}
    before = {quantity.source for _, quantity in base.quantities()}
    found = base.model_copy(
        update={
            "name": name,
            "calibrations": (*_without(base.calibrations, formats), *(_calibration(base, fit) for fit in fits)),
            "bands": _without(base.bands, formats),
            "sources": {**base.sources, **{_source_name(fit): _source(base, fit, gpu) for fit in fits}},
        }
    )
    used = {quantity.source for _, quantity in found.quantities()}
    sources = {key: source for key, source in found.sources.items() if key in used or key not in before}
    return GpuTarget.model_validate(found.model_copy(update={"sources": sources}).model_dump())


def _without(parts: Sequence[_Part], formats: set[str]) -> tuple[_Part, ...]:
    """Parts without some formats; one that had no others is left out."""
    rest = ((part, tuple(form for form in part.formats if form not in formats)) for part in parts)
    return tuple(part.model_copy(update={"formats": left}) for part, left in rest if left)


def _source_name(fit: EmittedFit) -> str:
    return f"emitted-{fit.precision}"


def _source(base: GpuTarget, fit: EmittedFit, gpu: Gpu) -> Source:
    count = len(fit.rows)
    return Source(
        kind=SourceKind.MEASURED,
        title=f"{count} matrix products in {fit.precision}, kernels of this project, on {gpu.name}, driver {gpu.driver}; "
        f"soft-L1 least squares of the logarithms on {fit.fitted} of them",
        place=f"lepton calibrate --gpu {base.name}: medians of runs between events, after warm-up; "
        f"mean absolute error over the other {count - fit.fitted} products: {fit.error_pct:.1f}%",
    )


def _calibration(base: GpuTarget, fit: EmittedFit) -> GpuCalibration:
    """Fitted constants with their source; the others as the fit found them, general, with the source that they have."""
    general = base.kernels.model_dump()
    fitted = {name: {"value": getattr(fit.constants, name), "source": _source_name(fit)} for name in EMITTED_FREE}
    return GpuCalibration(formats=(str(fit.precision),), constants=KernelConstants.model_validate(general | fitted))


# --- TOML -----------------------------------------------------------------------------------------------------------


def target_toml(target: GpuTarget) -> str:
    """A hardware model as the text of a file of its name, every number exactly.

    The name is the file's; what has its default is left out.
    """
    document = target.model_dump(mode="json", exclude_defaults=True, exclude={"name", "sources"})
    document = {"family": target.family, **document, "sources": target.model_dump(mode="json")["sources"]}
    text = "\n".join(_table(document, "")) + "\n"
    assert GpuTarget.model_validate({"name": target.name, **tomllib.loads(text)}) == target, "the file says what the target says"
    return text


def _table(table: Mapping[str, Any], path: str) -> Iterator[str]:
    """Lines of a table: its values first, then the tables in it."""
    inner = {key: value for key, value in table.items() if not _is_value(value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        name = f"{path}{_key(key)}"
        for heading, part in [(f"[{name}]", value)] if isinstance(value, dict) else [(f"[[{name}]]", part) for part in value]:
            if not isinstance(value, dict) or any(map(_is_value, part.values())):
                yield from ("", heading)
            yield from _table(part, f"{name}.")


def _is_value(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() == {"value", "source"}
    return not (isinstance(value, list) and any(isinstance(part, dict) for part in value))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ value = {_value(value['value'])}, source = {_value(value['source'])} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        if 1e-3 <= value < 1e6 or not value:
            return str(int(value)) if value.is_integer() else repr(value)
        return f"{Decimal(repr(value)).normalize():e}".replace("e+", "e")
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)
