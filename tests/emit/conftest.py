"""One planned model for all emitters."""

from __future__ import annotations

import pytest

import lepton_dse as ld
from lepton_dse.files import data_folder


@pytest.fixture(scope="session")
def digits() -> ld.PlannedModel:
    """The digits model for an FPGA, planned on seeded noise."""
    return ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "amd-zynq-7020", minimize="throughput")
