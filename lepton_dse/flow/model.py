"""A planned model, and its files: the plan, and beside it bundle and hardware model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lepton_dse.bundle import Bundle
from lepton_dse.errors import InvalidPlanError
from lepton_dse.files import read_text, write_bytes, write_text
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.lower import lower
from lepton_dse.plan import CostReport, Plan
from lepton_dse.targets import AnyTarget, load_target, target_from_json, target_to_json

__all__ = ["PlannedModel", "read_plan", "target_of"]


@dataclass(frozen=True)
class PlannedModel:
    """A plan with its bundle and its hardware model: all that emission needs.

    Parameters
    ----------
    plan : Plan
    bundle : Bundle
    target : AnyTarget
    """

    plan: Plan
    bundle: Bundle
    target: AnyTarget

    @property
    def lowered(self) -> LoweredGraph:
        """The lowered graph, integer-exact where the plan is."""
        return lower(self.plan, self.bundle)

    @property
    def predicted(self) -> CostReport:
        """The plan's predicted cost."""
        return self.plan.predicted

    def save(self, path: Path) -> None:
        """Write the plan to `path`, and beside it ``bundles/<digest>/`` and ``targets/<digest>.json``.

        Raises
        ------
        LeptonError
            If writing fails; an earlier plan is then left whole.
        """
        folder = _bundle_folder(path, self.plan.bundle_digest)
        for name, data in self.bundle.to_files().items():
            write_bytes(folder / name, data)
        write_text(_target_file(path, self.plan.target_digest), target_to_json(self.target))
        write_text(path, self.plan.to_json())


def _bundle_folder(path: Path, digest: str) -> Path:
    return path.parent / "bundles" / digest


def _target_file(path: Path, digest: str) -> Path:
    return path.parent / "targets" / f"{digest}.json"


def read_plan(path: Path) -> PlannedModel:
    """Read a plan, its bundle and its hardware model.

    Raises
    ------
    InvalidPlanError
        If either is missing, damaged or edited.
    """
    plan = Plan.read(path)
    bundle = Bundle.read(_bundle_folder(path, plan.bundle_digest), digest=plan.bundle_digest)
    stored = _target_file(path, plan.target_digest)
    target = target_from_json(read_text(stored), where=str(stored))
    if target.digest != plan.target_digest:
        raise InvalidPlanError("not the hardware model that the plan was made with", where=str(stored), fix="plan again")
    return PlannedModel(plan, bundle, target)


def target_of(target: str | Path | AnyTarget) -> AnyTarget:
    """A hardware model given by name, by file or as itself."""
    return load_target(target) if isinstance(target, str | Path) else target
