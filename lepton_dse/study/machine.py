"""What runs a candidate: one device, or a cluster whose devices share the network over a mesh."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lepton_dse.errors import InvalidTargetError, LeptonError
from lepton_dse.plan import explain_validation
from lepton_dse.search.sharded import prices_of
from lepton_dse.study.space import Hardware, Sweep
from lepton_dse.targets import (
    AnyTarget,
    Cluster,
    cluster_names,
    load_cluster,
    load_target,
    target_from_json,
    target_names,
    target_to_json,
    with_numbers,
)
from lepton_dse.targets.reading import document_of

__all__ = [
    "Machine",
    "Pool",
    "check_sweep",
    "device_of",
    "machine_from_json",
    "machine_of",
    "machine_to_json",
    "with_choices",
]

_FAMILY = "cluster"


@dataclass(frozen=True)
class Pool:
    """A cluster, and the hardware model of its devices as it was.

    Parameters
    ----------
    cluster : Cluster
    device : AnyTarget
    """

    cluster: Cluster
    device: AnyTarget

    @property
    def name(self) -> str:
        """The cluster's."""
        return self.cluster.name

    @property
    def digest(self) -> str:
        """SHA-256 over all numbers of the cluster and of its device."""
        return hashlib.sha256(machine_to_json(self).encode()).hexdigest()


Machine = AnyTarget | Pool


def machine_of(sweep: Sweep, root: Path) -> Machine:
    """The target of a sweep; a ``.toml`` file says whether it is a hardware model or a cluster.

    Parameters
    ----------
    sweep : Sweep
    root : Path
        Folder at which paths start.

    Raises
    ------
    LeptonError
        If there is neither, the file does not fit the schema, or the devices of a cluster have no prices for being shared.
    """
    name = sweep.target
    path = root / name if name.endswith(".toml") else Path(name)
    if path.suffix == ".toml":
        clustered = document_of(path, path.stem).get("family") == _FAMILY
    else:
        clustered = name not in target_names() and (bool(sweep.meshes) or name in cluster_names())
    if not clustered:
        return load_target(path)
    cluster = load_cluster(path)
    return Pool(cluster, prices_of(cluster).device)


def check_sweep(sweep: Sweep, machine: Machine) -> tuple[str, LeptonError] | None:
    """What of a sweep its hardware does not have, and the complaint; None where it has all of it.

    Parameters
    ----------
    sweep : Sweep
    machine : Machine
        Its target.
    """
    known: dict[str, Any] = {} if isinstance(machine, Pool) else dict(machine.quantities())
    for path in sweep.numbers:
        if path not in known:
            pooled = "numbers of a cluster are not swept" if isinstance(machine, Pool) else ""
            fix = pooled or f"'lepton targets {sweep.target}' lists them"
            return path, LeptonError(f"no number '{path}'", where=sweep.target, fix=fix)
    if isinstance(machine, Pool) and not sweep.meshes:
        what, fix = "a cluster without a mesh of its devices", f'write {{ target = "{sweep.target}", meshes = ["x=1", "x=2"] }}'
        return sweep.target, LeptonError(what, where=sweep.target, fix=fix)
    if not isinstance(machine, Pool) and (sweep.meshes or sweep.stages != (1,)):
        named = "meshes" if sweep.meshes else "stages"
        what, fix = f"{named} of a single device", f"leave them out, or name a cluster: {', '.join(cluster_names())}"
        return named, LeptonError(what, where=sweep.target, fix=fix)
    return None


def with_choices(machine: Machine, hardware: Hardware) -> Machine:
    """A machine with the numbers that a candidate chose; a cluster is as it is."""
    return machine if isinstance(machine, Pool) else with_numbers(machine, dict(hardware.numbers))


def device_of(machine: Machine) -> AnyTarget:
    """The hardware model of the device, or of each of a cluster's devices."""
    return machine.device if isinstance(machine, Pool) else machine


def machine_to_json(machine: Machine) -> str:
    """Canonical JSON text, as it is kept in a study's folder."""
    if not isinstance(machine, Pool):
        return target_to_json(machine)
    document = {"family": _FAMILY, "cluster": machine.cluster.model_dump(mode="json"), "device": target_to_json(machine.device)}
    return json.dumps(document, indent=1) + "\n"


def machine_from_json(text: str, *, where: str) -> Machine:
    """Read what :func:`machine_to_json` wrote.

    Raises
    ------
    LeptonError
        If the text is no hardware model and no cluster.
    """
    try:
        document = json.loads(text)
        if isinstance(document, dict) and document.get("family") == _FAMILY:
            return Pool(Cluster.model_validate(document["cluster"]), target_from_json(document["device"], where=where))
    except KeyError as error:
        raise InvalidTargetError(f"a cluster without its {error.args[0]}", where=where, fix="run the study again") from error
    except ValidationError as error:
        raise InvalidTargetError(explain_validation(error), where=where, fix="run the study again") from error
    except ValueError:
        pass  # no JSON: told as it is of a hardware model
    return target_from_json(text, where=where)
