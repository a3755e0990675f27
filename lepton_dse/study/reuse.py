"""Answers of an earlier study, for one whose devices, bounds, axes or weights are others: what the change did not touch.

An answer is taken over where all that it depends on is equal (:mod:`lepton_dse.study.keys`). What had failed is tried again: a
worker that died, or a memory that was full, says nothing of the candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.study.keys import Keys, Shapes
from lepton_dse.study.machine import Machine
from lepton_dse.study.settings import Settings
from lepton_dse.study.software import software
from lepton_dse.study.space import Candidate, Variant
from lepton_dse.study.state import read_record, stored_inputs, stored_measured, stored_records
from lepton_dse.study.work import Measured, Priced, read_data, read_inputs, read_machines

__all__ = ["Reuse", "read_earlier"]


@dataclass(frozen=True)
class Reuse:
    """What can be taken over.

    Parameters
    ----------
    keys : Keys
        Of the study that takes it.
    prices : mapping of str to Priced
        By key.
    accuracies : mapping of str to Measured
        By key.
    """

    keys: Keys
    prices: Mapping[str, Priced]
    accuracies: Mapping[str, Measured]

    def priced(self, candidate: Candidate) -> Priced | None:
        """A candidate's price; None where it is not known."""
        try:
            return self.prices.get(self.keys.price(candidate))
        except Exception:  # whatever is wrong with it is found out where it is priced
            return None

    def measured(self, variant: Variant, samples: int) -> Measured | None:
        """A variant's accuracy; None where it is not known."""
        return self.accuracies.get(self.keys.accuracy(variant, samples))


def read_earlier(folder: Path, settings: Settings, graph: Graph, data: Dataset | None, machines: Mapping[str, Machine]) -> Reuse:
    """What a new study can take over from the folder of an earlier one, finished or not.

    Parameters
    ----------
    folder : Path
        Of the earlier study; it is only read.
    settings : Settings
        Of the new study.
    graph : Graph
    data : Dataset, optional
        The samples that the new study uses, in its order.
    machines : mapping of str to Machine
        By the names that the new study's space has.

    Raises
    ------
    LeptonError
        If the folder holds no study, is damaged, or was computed by other software.
    """
    asked = read_record(folder)
    _refuse_other_software(folder, asked.get("software"))
    shapes = Shapes(graph)
    try:
        before = Settings.model_validate(asked["settings"])
        kept = stored_inputs(folder)
        old, _ = read_inputs(kept)
        if old.digest != asked["model_digest"]:
            raise ValueError("another model")
        keys = Keys(before, shapes if old.digest == graph.digest else Shapes(old), read_data(kept), read_machines(kept))
        prices = {}
        for record in stored_records(folder, before.space.size):
            if not record.priced.failed:
                prices[keys.price(before.space.candidate(record.index))] = record.priced
        known = stored_measured(folder).items()
        accuracies = {keys.accuracy(*place): found for place, found in known if found.accuracy is not None}
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError, SafetensorError, OSError) as error:
        raise LeptonError("the study's record is damaged", where=str(folder), fix="choose another one to reuse") from error
    return Reuse(Keys(settings, shapes, data, machines), prices, accuracies)


def _refuse_other_software(folder: Path, before: object) -> None:
    """Formulas may differ between versions, and then so do prices."""
    now = software()
    if before == now:
        return
    known = before if isinstance(before, dict) else {}
    changed = [f"{name} {known.get(name, 'unknown')}" for name in now if known.get(name) != now[name]]
    what = f"cannot be reused: it was computed by {', '.join(changed) or 'other software'}, and here is other software"
    raise LeptonError(what, where=str(folder), fix="run the study anew, without it")
