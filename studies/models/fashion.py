"""Fashion-MNIST, and the three networks that the studies train on it.

The images (H. Xiao et al., arXiv:1708.07747) come from the Debian package ``dataset-fashion-mnist``: ``apt-get install`` it, or
let :func:`load_fashion` download and unpack it into ``build/data`` (``apt-get download``, no root needed). The official 60,000
training images are split once: the last 5,000 are for choices (which bits, which ranges, when to stop), and the official 10,000
test images are only scored.

    python studies/models/fashion.py        # trains all three with seed 0 and prints their accuracy
"""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import lepton_dse as ld
from lepton_dse.errors import MissingToolError

sys.path.insert(0, str(Path(__file__).parent))
from exporting import to_onnx

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "data"
MODELS = ROOT / "build" / "models"
_PLACE = Path("usr/share/datasets/fashion-mnist")
_CHOICES = 5_000
EPOCHS = {"lenet-300-100": 20, "lenet-5": 5, "mlp-128": 20}
_MEAN, _SPREAD = 0.286, 0.353  # of the training pixels


@dataclass(frozen=True)
class Fashion:
    """The three parts of the data: for training, for choices, for scoring."""

    train: ld.Dataset
    choose: ld.Dataset
    test: ld.Dataset


def _folder() -> Path:
    for root in (Path("/"), CACHE / "fashion"):
        if (root / _PLACE).is_dir():
            return root / _PLACE
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=CACHE, check=True, capture_output=True)
        (package,) = CACHE.glob("dataset-fashion-mnist_*.deb")
        subprocess.run(["dpkg", "-x", package, CACHE / "fashion"], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise MissingToolError("Fashion-MNIST is not here", fix="apt-get install dataset-fashion-mnist") from error
    return CACHE / "fashion" / _PLACE


def _read(folder: Path, part: str, shape: tuple[int, ...]) -> ld.Dataset:
    pixels, labels = (
        np.frombuffer(gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for kind, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    x = (pixels.reshape(-1, *shape).astype(np.float32) / 255 - _MEAN) / _SPREAD
    return ld.Dataset(x.astype(np.float32), labels.astype(np.int64))


def load_fashion(*, flat: bool = False) -> Fashion:
    """The data as rows of 784 or as images (1, 28, 28), standardised: the mean of the pixels is 0, their spread 1."""
    shape = (784,) if flat else (1, 28, 28)
    folder = _folder()
    every, test = _read(folder, "train", shape), _read(folder, "t10k", shape)
    cut = len(every) - _CHOICES
    return Fashion(ld.Dataset(every.x[:cut], every.y[:cut]), ld.Dataset(every.x[cut:], every.y[cut:]), test)


def network(name: str) -> nn.Sequential:
    """One of the three: LeNet-300-100 and the LeNet-5 of Caffe (as in Deep Compression), and 784-128-10."""
    match name:
        case "lenet-300-100":
            return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
        case "lenet-5":
            convolutions = (nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2))
            return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
        case _:
            return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1))


def train(name: str, data: ld.Dataset, *, seed: int) -> nn.Sequential:
    """AdamW on smoothed labels with one cycle of rates, batches of 128; deterministic for a seed on one thread."""
    torch.manual_seed(seed)
    model = network(name)
    body = model[:-1] if isinstance(model[-1], nn.Softmax) else model
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    steps = EPOCHS[name] * -(-len(x) // 128)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for _ in range(EPOCHS[name]):
        for picked in torch.split(torch.randperm(len(x)), 128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(body(x[picked]), y[picked], label_smoothing=0.1).backward()
            optimiser.step()
            cycle.step()
    return model.eval()


def network_on(name: str, data: ld.Dataset, label: str, *, seed: int = 0) -> ld.Graph:
    """A network trained on some data as a graph; trained once, then read from ``build/models``."""
    path = MODELS / f"{name}-{label}-{seed}.onnx"
    if not path.exists():
        model = train(name, data, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_onnx(model, data.x.shape[1:], name).SerializeToString())
    return ld.load(path)


def trained(name: str, *, seed: int = 0) -> ld.Graph:
    """The network trained on Fashion-MNIST's training images."""
    return network_on(name, load_fashion(flat=name != "lenet-5").train, "fashion", seed=seed)


def main() -> None:
    for name in EPOCHS:
        data = load_fashion(flat=name != "lenet-5")
        graph = trained(name)
        print(f"{name}: {graph.parameters:,} parameters, test accuracy {ld.accuracy(graph, data.test).value:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
