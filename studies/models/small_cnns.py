"""A residual and a depthwise-separable CNN for images of 32 x 32, and the script that trains them.

The first is after the ResNet-8 of MLPerf Tiny (C. Banbury et al., arXiv:2106.07597), the second after MobileNet (A. Howard et
al., arXiv:1704.04861), both narrower and without batch normalisation. They are trained on Fashion-MNIST, enlarged from 28 x 28
by bilinear interpolation, with this project's own trainer.

    python studies/models/small_cnns.py        # trains both and prints their accuracy
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import lepton_dse as ld
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder

sys.path.insert(0, str(Path(__file__).parent))
from fashion import MODELS, load_fashion

__all__ = ["NETWORKS", "enlarged", "trained_cnn"]

SIZE, CLASSES = 32, 10


class _Layers:
    """A graph under construction with weights drawn for rectifiers (K. He et al., arXiv:1502.01852)."""

    def __init__(self, name: str, seed: int) -> None:
        self.builder = GraphBuilder(name)
        self.generator = np.random.default_rng(seed)
        self.count = 0

    def conv(self, x: str, outputs: int, kernel: int = 3, stride: int = 1, *, depthwise: bool = False, scale: float = 1.0) -> str:
        """A padded convolution with a bias."""
        self.count += 1
        name, inputs = f"conv{self.count}", self.builder.tensors[x].shape[1]
        groups, pad = inputs if depthwise else 1, (kernel // 2,) * 2
        shape = (outputs, inputs // groups, kernel, kernel)
        drawn = self.generator.normal(0, scale * np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        weights = self.builder.constant(f"{name}.weight", drawn)
        bias = self.builder.constant(f"{name}.bias", np.zeros(outputs, np.float32))
        window = ops.Window((kernel,) * 2, (stride,) * 2, (1, 1), pad, pad)
        return self.builder.add(ops.Conv(window, groups), [x, weights, bias], output=name)

    def relu(self, x: str) -> str:
        """Rectified."""
        return self.builder.add(ops.Clip(0.0, float("inf")), [x], output=f"{x}.relu")

    def head(self, x: str) -> ld.Graph:
        """The mean of every channel, and a dense layer."""
        channels, *extent = self.builder.tensors[x].shape[1:]
        mean = self.builder.add(ops.AveragePool(ops.Window.full(tuple(extent)), False), [x], output="mean")
        flat = self.builder.add(ops.Reshape((1, channels)), [mean], output="flat")
        drawn = self.generator.normal(0, channels**-0.5, (channels, CLASSES)).astype(np.float32)
        weights = self.builder.constant("dense.weight", drawn)
        bias = self.builder.constant("dense.bias", np.zeros(CLASSES, np.float32))
        return self.builder.build([self.builder.add(ops.MatMul(), [flat, weights, bias], output="scores")])


def resnet8(seed: int) -> ld.Graph:
    """A stem and three residual blocks of 8, 16 and 32 channels; strides of 2 where the channels double."""
    layers = _Layers("resnet-8", seed)
    x = layers.relu(layers.conv(layers.builder.input("image", (1, 1, SIZE, SIZE)), 8))
    for number, channels in enumerate((8, 16, 32)):
        stride = 1 if number == 0 else 2
        main = layers.conv(layers.relu(layers.conv(x, channels, stride=stride)), channels, scale=0.5)
        bypass = x if stride == 1 else layers.conv(x, channels, kernel=1, stride=stride, scale=0.7)
        x = layers.relu(layers.builder.add(ops.Add(), [main, bypass], output=f"sum{number}"))
    return layers.head(x)


def mobilenet(seed: int) -> ld.Graph:
    """A stem and six pairs of a depthwise and a pointwise convolution, up to 64 channels."""
    layers = _Layers("mobilenet", seed)
    x = layers.relu(layers.conv(layers.builder.input("image", (1, 1, SIZE, SIZE)), 8, stride=2))
    for channels, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        depth = layers.relu(layers.conv(x, layers.builder.tensors[x].shape[1], stride=stride, depthwise=True))
        x = layers.relu(layers.conv(depth, channels, kernel=1))
    return layers.head(x)


NETWORKS: dict[str, Callable[[int], ld.Graph]] = {"resnet-8": resnet8, "mobilenet": mobilenet}


def enlarged(data: ld.Dataset) -> ld.Dataset:
    """Images of 28 x 28 as 32 x 32."""
    images = torch.nn.functional.interpolate(torch.tensor(data.x), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return ld.Dataset(images.numpy(), data.y)


def trained_cnn(name: str, *, samples: int = 30_000, epochs: int = 3, seed: int = 0) -> ld.Graph:
    """One of :data:`NETWORKS`, trained on the first images; trained once, then read from ``build/models``."""
    path = MODELS / f"{name}-fashion-{samples}-{epochs}-{seed}.onnx"
    if not path.exists():
        data = enlarged(load_fashion().train.take(samples))
        schedule = ld.Schedule(epochs=epochs, rate=3e-3, seed=seed)
        graph = ld.fine_tune(NETWORKS[name](seed), data, schedule, keep_zeros=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        ld.to_onnx(graph, path)
    return ld.load(path)


def main() -> None:
    test = enlarged(load_fashion().test)
    for name in NETWORKS:
        graph = trained_cnn(name)
        print(f"{name}: {graph.parameters:,} parameters, test accuracy {ld.accuracy(graph, test).value:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
