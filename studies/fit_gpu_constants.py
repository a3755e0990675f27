"""Do the constants in hwmodels/gpu still follow from the measurements? Fit them again, and write what the fit gives.

Each ``[[calibrations]]`` block of a GPU's hardware model, and the error band beside it, comes from one table of measured matrix
products. After a change to the model of matrix products or to its declared tiles, run this script: it fits every table again on
the rows set aside for fitting, scores the others, and rewrites those numbers, and nothing else, in place.

    python studies/fit_gpu_constants.py [TABLE ...]     # such as h100-bf16; all tables without a name
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lepton_dse.files import write_text
from lepton_dse.sim.gpu.gemm import Constants
from lepton_dse.validate.gpu_gemm import SUITES, calibrate, suite_name, table_of
from lepton_dse.validate.gpu_tables import TABLES, GemmTable
from lepton_dse.validate.protocol import Context

HWMODELS = Path(__file__).parent.parent / "hwmodels" / "gpu"


def rewritten(text: str, table: GemmTable, constants: Constants, error_pct: float) -> str:
    """A hardware model's text with the constants and the band of one table replaced."""
    source = f"gemm-{table.format}"
    for name, value in constants._asdict().items():
        text, count = re.subn(
            rf'^{name} = {{ value = [^,]+, source = "{source}" }}$',
            f'{name} = {{ value = {value:.4g}, source = "{source}" }}'.replace("e-0", "e-").replace("e+", "e"),
            text,
            flags=re.MULTILINE,
        )
        if count != 1:
            raise SystemExit(f"{table.target}: {count} lines give {name} with source {source}, not one")
    return re.sub(
        rf'mape_pct = {{ value = [^,]+, source = "{source}" }}',
        f'mape_pct = {{ value = {error_pct:.3g}, source = "{source}" }}',
        text,
    )


def main(names: list[str]) -> None:
    suites = {suite.name: suite for suite in SUITES}
    for table in [table_of(*name.split("-", 1)) for name in names] or TABLES:
        path = HWMODELS / f"{table.target}.toml"
        constants = calibrate(table)
        suite = suites[suite_name(table, calibrated=True)]
        result = suite.run(suite, Context(None))
        write_text(path, rewritten(path.read_text(encoding="utf-8"), table, constants, result.mape_pct))
        print(f"{path.name}: {table.format}, mean error {result.mape_pct:.2f}% over {len(result.rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1:])
