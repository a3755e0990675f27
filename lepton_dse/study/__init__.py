"""Studies: hardware and compression searched together, as one space, and a Pareto front whose every member was measured."""

from lepton_dse.study.driver import Study
from lepton_dse.study.reading import Finished, Standing, read_finished
from lepton_dse.study.run import Found, Row, Step
from lepton_dse.study.settings import Settings, schema
from lepton_dse.study.space import Candidate, Hardware, Space, Sweep, Variant

__all__ = [
    "Candidate",
    "Finished",
    "Found",
    "Hardware",
    "Row",
    "Settings",
    "Space",
    "Standing",
    "Step",
    "Study",
    "Sweep",
    "Variant",
    "read_finished",
    "schema",
]
