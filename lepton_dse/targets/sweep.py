"""Hardware models with other numbers: an architect's knob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lepton_dse.errors import InvalidTargetError
from lepton_dse.plan import explain_validation
from lepton_dse.targets.loader import AnyTarget, Target
from lepton_dse.targets.schema import Source, SourceKind

__all__ = ["with_numbers"]

_ADAPTER: TypeAdapter[AnyTarget] = TypeAdapter(Target)
_SOURCE = "sweep"


def with_numbers(target: AnyTarget, numbers: Mapping[str, float]) -> AnyTarget:
    """A hardware model in which some numbers are others; its name says which, and their source is that they were chosen.

    Parameters
    ----------
    target : AnyTarget
    numbers : mapping of str to float
        By path, as ``lepton targets NAME`` lists them: ``array_rows``, ``levels[vmem].capacity_bytes`` ...

    Raises
    ------
    InvalidTargetError
        If there is no such number, or the hardware model does not hold together with it.
    """
    known = dict(target.quantities())
    document = target.model_dump(mode="python")
    for path, value in numbers.items():
        if path not in known:
            raise InvalidTargetError(f"no number '{path}'", where=target.name, fix=f"'lepton targets {target.name}' lists them")
        _put(document, path, {"value": value, "source": _SOURCE})
    if numbers:
        chosen = Source(kind=SourceKind.DEFINITION, title="Chosen in a sweep over hardware", place="the sweep's own arguments")
        document["sources"][_SOURCE] = chosen.model_dump()
        document["name"] = f"{target.name}[{', '.join(f'{path}={value:g}' for path, value in numbers.items())}]"
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        raise InvalidTargetError(explain_validation(error), where=document["name"], fix="choose other numbers") from error


def _put(document: dict[str, Any], path: str, quantity: dict[str, Any]) -> None:
    node: Any = document
    *parts, last = path.replace("[", ".[").split(".")
    for part in parts:
        node = _child(node, part)
    if last.startswith("["):
        raise InvalidTargetError(f"'{path}' is no number", fix="name the number of the entry too")
    node[last] = quantity


def _child(node: Any, part: str) -> Any:
    if not part.startswith("["):
        return node[part]
    label = part[1:-1]
    for index, entry in enumerate(node):
        if label in (entry.get("name"), entry.get("format"), entry.get("suite"), str(index)):
            return entry
    raise KeyError(label)
