"""What stands behind the figures of a study, found once: plans of members, rooflines, observations, how the front grew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_dse.report.study_report.evidence import Holding, Screened, holdings_of, observed_json, screened_of, stored_suites
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.study_report.members import HEADINGS, Member, members_of, plan_of
from lepton_dse.report.study_report.progress import Moment, growth
from lepton_dse.report.study_report.roofline import Rooflines
from lepton_dse.study import Finished
from lepton_dse.study.detail import Detail
from lepton_dse.validate.protocol import SuiteResult

__all__ = ["Details", "details_of"]


@dataclass(frozen=True)
class Details:
    """What stands behind the figures of a study.

    Parameters
    ----------
    study : Finished
    members : tuple of Member
        Of the front, priced again.
    holdings : tuple of Holding
    suites : tuple of SuiteResult
        Whose observations are part of the package.
    screened : tuple of Screened
    growth : tuple of Moment
    """

    study: Finished
    members: tuple[Member, ...]
    holdings: tuple[Holding, ...]
    suites: tuple[SuiteResult, ...]
    screened: tuple[Screened, ...]
    growth: tuple[Moment, ...]

    def document(self) -> dict[str, Any]:
        """All of it that is drawn or shown on demand, as data for the page's script."""
        rooflines, devices = Rooflines(self.study.graph), []
        plans = {}
        for member in self.members:
            device, after = rooflines.of(member)
            if device not in devices:
                devices.append(device)
            plans[member.entry.index] = {**plan_of(member), "device": devices.index(device), **after}
        return {
            "headings": HEADINGS,
            "devices": devices,
            "plans": plans,
            **observed_json(self.suites, self.screened),
            "growth": self.growth,
        }


def details_of(folder: str | Path, study: Finished, progress: Callable[[str], None] = lambda text: None) -> Details:
    """Find in a study's folder what stands behind its figures.

    Parameters
    ----------
    folder : str or Path
    study : Finished
        As it was read from that folder.
    progress : callable
        Told what is about to be done.

    Raises
    ------
    LeptonError
        If the folder is damaged, or a member costs something else than was recorded.
    """
    facts, detail = Facts(study), Detail(folder, study)
    holdings = holdings_of(facts, detail)
    return Details(
        study,
        members_of(facts, detail, progress),
        holdings,
        stored_suites(holdings, progress),
        screened_of(facts, detail),
        growth(facts, detail.order),
    )
