"""A trained stack of PyTorch layers as an ONNX model, node by node; batch normalisations stay for the importer to fold."""

from __future__ import annotations

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def to_onnx(model: nn.Sequential, shape: tuple[int, ...], name: str) -> onnx.ModelProto:
    """The model over samples of `shape`, any number of them at a time."""
    nodes, weights, tensor = [], [], "image"

    def constant(label: str, value: torch.Tensor) -> str:
        weights.append(numpy_helper.from_array(value.detach().numpy(), label))
        return label

    for index, layer in enumerate(model):
        output, label = f"t{index}", f"{type(layer).__name__.lower()}{index}"
        match layer:
            case nn.Conv2d():
                inputs = [tensor, constant(f"{label}.weight", layer.weight)]
                if layer.bias is not None:
                    inputs.append(constant(f"{label}.bias", layer.bias))
                pads = [*layer.padding, *layer.padding]
                extra = {
                    "pads": pads,
                    "strides": list(layer.stride),
                    "kernel_shape": list(layer.kernel_size),
                    "group": layer.groups,
                }
                nodes.append(helper.make_node("Conv", inputs, [output], label, **extra))
            case nn.BatchNorm2d():
                parts = {"scale": layer.weight, "bias": layer.bias, "mean": layer.running_mean, "var": layer.running_var}
                inputs = [tensor, *(constant(f"{label}.{key}", value) for key, value in parts.items())]
                nodes.append(helper.make_node("BatchNormalization", inputs, [output], label, epsilon=layer.eps))
            case nn.Linear():
                inputs = [tensor, constant(f"{label}.weight", layer.weight), constant(f"{label}.bias", layer.bias)]
                nodes.append(helper.make_node("Gemm", inputs, [output], label, transB=1))
            case nn.MaxPool2d():
                size = [layer.kernel_size] * 2
                nodes.append(helper.make_node("MaxPool", [tensor], [output], label, kernel_shape=size, strides=size))
            case nn.Flatten() | nn.ReLU() | nn.Softmax():
                kinds = {"Flatten": "Flatten", "ReLU": "Relu", "Softmax": "Softmax"}
                nodes.append(helper.make_node(kinds[type(layer).__name__], [tensor], [output], label))
            case _:
                raise TypeError(f"no ONNX form of {type(layer).__name__} here")
        tensor = output
    last = next(layer for layer in reversed(model) if isinstance(layer, nn.Linear))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", last.out_features])],
        weights,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(built, full_check=True)
    return built
