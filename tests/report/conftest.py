"""A study that several files of tests look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lepton_dse.data import Dataset
from lepton_dse.files import data_folder
from lepton_dse.study import Space, Study


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One device of each family, an FPGA that is planned among them, and zeros that some kernels skip."""
    root = tmp_path_factory.mktemp("families")
    rng = np.random.default_rng(3)
    data = Dataset(rng.random((40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40))
    space = Space(
        targets=(
            "amd-zynq-7020",
            "google-tpu-v1",
            "nvidia-jetson-orin-nano",
            {"target": "raspberry-pi-5", "numbers": {"clock_hz": [2.4e9]}},
        ),
        formats=("float16", "int8", "w4a8"),
        sparsities=(0.0, "2:4"),
    )
    options: dict[str, Any] = {"minimize": ("latency_s", "weight_bytes", "peak_bytes"), "subject_to": ("loss_points <= 90",)}
    options |= {"fpga": "plan", "screen": 10, "calibration": 8}
    model = data_folder("models") / "digits_cnn.onnx"
    return Study(model, space, folder=root / "out", data=data, root=root, **options).run(workers=0)
