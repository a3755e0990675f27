"""Errors that a person can act on.

Every message answers three questions: what is wrong, where it is, and what to do about it. Infeasibility is never an
exception: it is a :class:`lepton_dse.plan.Violation`, a value that names the demand, the bound and the levers.
"""

from __future__ import annotations

__all__ = ["InvalidDataError", "InvalidModelError", "InvalidPlanError", "InvalidTargetError", "LeptonError", "MissingToolError"]


class LeptonError(Exception):
    """Wrong input or a wrong environment; the command line turns it into one line and exit code 2.

    Parameters
    ----------
    what : str
        What is wrong, in one clause.
    where : str, optional
        The file, node, tensor or field at fault.
    fix : str, optional
        What the person can do about it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text


class InvalidModelError(LeptonError):
    """A model file or graph that cannot be read, is inconsistent, or uses what is not supported."""


class InvalidTargetError(LeptonError):
    """A hardware model that does not exist or does not fit its schema."""


class InvalidPlanError(LeptonError):
    """A plan, bundle or artefact that was edited, truncated, or does not belong to what it is used with."""


class InvalidDataError(LeptonError):
    """A data set that cannot be read or does not fit the model."""


class MissingToolError(LeptonError):
    """An external tool or an optional package that is needed and not installed."""
