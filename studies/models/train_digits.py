"""Trains the small CNN that ``lepton demo`` uses and writes ``digits_cnn.onnx`` beside this file.

Data: the 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn. A fixed permutation leaves out 450 images
that training never sees. Needs the extras ``torch`` and ``demo``; takes about ten seconds::

    python studies/models/train_digits.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lepton_dse.demo.digits import load_digits_split

SEED = 0
EPOCHS = 60
BATCH = 64
OUTPUT = Path(__file__).with_name("digits_cnn.onnx")


def network() -> nn.Sequential:
    """Three convolutions with batch normalisation, two pools and a dense layer: 5,746 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def train(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> None:
    """Adam with a one-cycle learning rate; images are shifted by up to one pixel."""
    generator = torch.Generator().manual_seed(SEED)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimiser = torch.optim.Adam(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for chunk in torch.randperm(len(x), generator=generator).split(BATCH):
            shift = [int(value) for value in torch.randint(-1, 2, (2,), generator=generator)]
            images = torch.roll(nn.functional.pad(x[chunk], (1, 1, 1, 1)), shift, (2, 3))[:, :, 1:-1, 1:-1]
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), y[chunk]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


def to_onnx(model: nn.Sequential) -> onnx.ModelProto:
    """The trained network node by node; batch normalisations stay for the importer to fold."""
    nodes, weights, tensor = [], [], "image"

    def constant(name: str, value: torch.Tensor) -> str:
        weights.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    for index, layer in enumerate(model):
        output = f"t{index}"
        name = f"{type(layer).__name__.lower()}{index}"
        if isinstance(layer, nn.Conv2d):
            inputs = [tensor, constant(f"{name}.weight", layer.weight)]
            nodes.append(helper.make_node("Conv", inputs, [output], name, pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
        elif isinstance(layer, nn.BatchNorm2d):
            parts = {"scale": layer.weight, "bias": layer.bias, "mean": layer.running_mean, "var": layer.running_var}
            inputs = [tensor, *(constant(f"{name}.{key}", value) for key, value in parts.items())]
            nodes.append(helper.make_node("BatchNormalization", inputs, [output], name, epsilon=layer.eps))
        elif isinstance(layer, nn.MaxPool2d):
            nodes.append(helper.make_node("MaxPool", [tensor], [output], name, kernel_shape=[2, 2], strides=[2, 2]))
        elif isinstance(layer, nn.Linear):
            inputs = [tensor, constant(f"{name}.weight", layer.weight), constant(f"{name}.bias", layer.bias)]
            nodes.append(helper.make_node("Gemm", inputs, [output], name, transB=1))
        else:
            nodes.append(
                helper.make_node({"ReLU": "Relu"}.get(type(layer).__name__, type(layer).__name__), [tensor], [output], name)
            )
        tensor = output
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    scores = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "digits_cnn", [image], [scores], weights)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(built)
    return built


def main() -> None:
    """Train, report the accuracy on the left-out images, write the file."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in a fixed order: the same weights every time
    training, held_out = load_digits_split()
    model = network()
    train(model, torch.from_numpy(training.x), torch.from_numpy(training.y))
    with torch.no_grad():
        predicted = model(torch.from_numpy(held_out.x)).argmax(1).numpy()
    print(f"{sum(value.numel() for value in model.parameters())} parameters")
    print(f"held-out accuracy {np.mean(predicted == held_out.y):.4f} on {len(held_out)} images")
    onnx.save(to_onnx(model), OUTPUT)


if __name__ == "__main__":
    main()
