"""A graph, or a quantised bundle, as a module whose constants are parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.codebook import Codebook
from lepton_dse.compress.groups import stored_scale
from lepton_dse.compress.trainable.functions import apply, fake_quantize, straight_through
from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.quantize import integer_bounds

__all__ = ["TrainableGraph", "scores_of"]

_TRAINED = (ops.Conv, ops.MatMul, ops.Affine)


def scores_of(graph: Graph) -> str:
    """The tensor of a classifier's scores: the first output, or what its final Softmax or ArgMax reads."""
    last = graph.producer(graph.outputs[0])
    ends = last is not None and isinstance(last.attributes, ops.Softmax | ops.ArgMax)
    return last.inputs[0] if last is not None and ends else graph.outputs[0]


class TrainableGraph(nn.Module):
    """The network with its weights and biases as parameters; it computes what the graph defines.

    Parameters
    ----------
    model : Graph or Bundle
        A bundle's tensors are rounded to their formats as they are stored, with straight-through gradients.
    keep_zeros : bool
        Weights that are exactly zero stay so: a pruned network stays pruned.
    learn_scales : bool
        The scales of a bundle are parameters too (learned step sizes).
    codebooks : mapping of str to Codebook, optional
        By name of the weights: their values are entries of the codebook, and the entries are what is trained; an entry of zero
        stays zero.
    layers : collection of str, optional
        Operations whose weights, biases and scales are trained; all by default. Scales that an operation in front of the first of
        them has a part in stay as they are, so that what comes before is computed once (:meth:`before`).

    Attributes
    ----------
    parameters_by_name : dict of str to Parameter
        Weights and biases by the name of their constant.
    scales_by_name : dict of str to Parameter
        Scales by the name of their tensor, where they are learned. Activations of one scale group share a parameter.
    """

    def __init__(
        self,
        model: Graph | Bundle,
        *,
        keep_zeros: bool = True,
        learn_scales: bool = False,
        codebooks: Mapping[str, Codebook] | None = None,
        layers: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.graph = model.graph if isinstance(model, Bundle) else model
        self.scales: Mapping[str, Scale] = model.scales if isinstance(model, Bundle) else {}
        self.parameters_by_name: dict[str, nn.Parameter] = {}
        self.scales_by_name: dict[str, nn.Parameter] = {}
        self.kept: dict[str, torch.Tensor] = {}
        self.entries: dict[str, torch.Tensor] = {}
        self.constants = {name: torch.tensor(np.array(value)) for name, value in self.graph.constants.items()}
        self._batched: dict[int, Graph] = {}
        able = {op.name for op in self.graph.ops if isinstance(op.attributes, _TRAINED)}
        if layers is not None and not able.issuperset(layers):
            unknown = ", ".join(sorted(set(layers) - able))
            raise LeptonError("no operation with weights", where=unknown, fix="'lepton inspect' lists the names")
        self._after = frozenset(op.name for op in self.graph.ops) if layers is None else self._following(layers)
        for op in self.graph.ops:
            if op.name in (able if layers is None else layers):
                for name in op.inputs[1:]:
                    if name in self.constants and name not in self.parameters_by_name:
                        self._add(name, keep_zeros=keep_zeros, codebook=(codebooks or {}).get(name))
        if learn_scales:
            self._add_scales()

    def _following(self, layers: Collection[str]) -> frozenset[str]:
        """Operations whose results change with the layers'; one that shares a trained constant follows itself."""
        trained = {name for op in self.graph.ops if op.name in layers for name in op.inputs[1:] if name in self.constants}
        made: set[str] = set()
        after = set()
        for op in self.graph.ops:
            if not made.isdisjoint(op.inputs) or not trained.isdisjoint(op.inputs):
                made.add(op.output)
                after.add(op.name)
        return frozenset(after)

    def _add(self, name: str, *, keep_zeros: bool, codebook: Codebook | None) -> None:
        value = self.constants[name].to(torch.float32)
        if codebook is not None:
            self.entries[name] = torch.tensor(codebook.indices.astype(np.int64)).reshape(value.shape)
            value = torch.tensor(codebook.values)
            self.kept[name] = value != 0
        elif keep_zeros and value.ndim > 1 and bool((value == 0).any()):
            self.kept[name] = value != 0
        parameter = nn.Parameter(value)
        self.parameters_by_name[name] = parameter
        self.register_parameter(f"p{len(self.parameters_by_name)}", parameter)

    def _add_scales(self) -> None:
        shared: dict[Scale, nn.Parameter] = {}
        made = {op.output for op in self.graph.ops if op.name in self._after}
        free = made if len(self._after) < len(self.graph.ops) else {*made, *self.graph.inputs}
        fixed = {self.scales[name] for name in self.scales.keys() - self.constants.keys() - free}
        for name, scale in self.scales.items():
            if scale.params.group is not None or scale.format.is_float:
                continue
            frozen = name not in self.parameters_by_name if name in self.constants else scale in fixed
            if frozen:
                continue
            if name in self.constants or scale not in shared:
                parameter = nn.Parameter(torch.tensor(scale.params.beta))
                self.register_parameter(f"s{len(self.scales_by_name)}", parameter)
                if name not in self.constants:
                    shared[scale] = parameter
                self.scales_by_name[name] = parameter
            else:
                self.scales_by_name[name] = shared[scale]

    # --- forward ------------------------------------------------------------------------------------------------------

    def value(self, name: str) -> torch.Tensor:
        """A constant as the network uses it: shared, masked and rounded."""
        value = self._constrained(name) if name in self.parameters_by_name else self.constants[name]
        scale = self.scales.get(name)
        if scale is None:
            return value
        if scale.format.is_integer:
            limit = float(integer_bounds(scale.format)[1])
            return self._rounded(value, name, scale, -limit, limit)
        return self._rounded(value, name, scale, 0.0, 0.0)

    def _constrained(self, name: str) -> torch.Tensor:
        """A parameter with its zeros, every weight that shares a value in its place."""
        value: torch.Tensor = self.parameters_by_name[name]
        if name in self.kept:
            value = value * self.kept[name]
        return value[self.entries[name]] if name in self.entries else value

    def stored(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """An activation as it is read again after it was stored in its format."""
        scale = stored_scale(self.graph, self.scales, name)
        if scale is None:
            return value
        low, high = (0.0, 0.0) if scale.format.is_float else (float(bound) for bound in integer_bounds(scale.format))
        return self._rounded(value, name, scale, low, high)

    def _accumulated(self, op: Op, bias: torch.Tensor) -> torch.Tensor:
        """A bias as an integer accumulator holds it, in units of the input's scale times the weights'."""
        x, w = (self.scales.get(name) for name in op.inputs[:2])
        if x is None or w is None or not (x.format.is_integer and w.format.is_integer):
            return bias
        beta_x, beta_w = (
            self.scales_by_name.get(name, torch.tensor(scale.params.beta))
            for name, scale in zip(op.inputs[:2], (x, w), strict=True)
        )
        unit = (beta_x * beta_w).detach()
        return straight_through(bias, torch.round(bias / unit) * unit)

    def _rounded(self, value: torch.Tensor, name: str, scale: Scale, low: float, high: float) -> torch.Tensor:
        shape = tuple(value.shape)
        if scale.format.is_float:
            limit = float(scale.format.maximum)
            beta = torch.tensor(np.array(scale.params.scale(shape)))
            kind = getattr(torch, {"float8_e4m3": "float8_e4m3fn"}.get(str(scale.format), str(scale.format)))
            stored = torch.clamp(value / beta, -limit, limit).to(kind).to(torch.float32) * beta
            return straight_through(value, stored)
        if name in self.scales_by_name:
            # Gradients of a scale are summed over all that it scales; this keeps its steps like those of a weight.
            parameter = self.scales_by_name[name]
            damping = (value.numel() / parameter.numel() * high) ** -0.5
            positive = parameter.clamp_min(1e-12)
            beta = positive * damping + (positive * (1 - damping)).detach()
            if scale.params.axis is not None and len(scale.params.beta) > 1:
                beta = beta.reshape([-1 if axis == scale.params.axis % len(shape) else 1 for axis in range(len(shape))])
        else:
            beta = torch.tensor(np.array(scale.params.scale(shape)))
        return fake_quantize(value, beta, scale.params.zero, low, high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch: the first output, or what its final Softmax or ArgMax reads.

        Parameters
        ----------
        x : Tensor of float32, shape (N, ...)
        """
        return self.after(self.before(x))

    def before(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the trained part reads, by tensor, each of shape (N, ...): no training changes it."""
        graph = self._of(len(x))
        if len(self._after) == len(graph.ops):
            return {graph.inputs[0]: x}
        inside = [op for op in graph.ops if op.name not in self._after]
        read = {name for op in graph.ops if op.name in self._after for name in op.inputs} | {scores_of(self.graph)}
        made = {graph.inputs[0], *(op.output for op in inside)}
        with torch.no_grad():
            return self._run(inside, {graph.inputs[0]: x}, sorted(read & made))

    def after(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Scores from what :meth:`before` gave, or a part of its samples."""
        count, scores = len(next(iter(values.values()))), scores_of(self.graph)
        inside = [op for op in self._of(count).ops if op.name in self._after]
        return self._run(inside, values, [scores])[scores].reshape(count, -1)

    def _of(self, count: int) -> Graph:
        if len(self.graph.inputs) != 1:
            found = f"{len(self.graph.inputs)} inputs cannot be trained"
            raise InvalidModelError(found, where=self.graph.name, fix="use one input")
        return self._batched.setdefault(count, self.graph.with_batch(count))

    def _run(self, inside: Sequence[Op], given: Mapping[str, torch.Tensor], wanted: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some operations in order; every tensor is let go after its last reader."""
        values = {name: self.stored(name, value) if name in self.graph.inputs else value for name, value in given.items()}
        remaining = Counter(name for op in inside for name in dict.fromkeys(op.inputs)) + Counter(wanted)
        for op in inside:
            if all(name in values for name in wanted):
                break
            operands = [values[name] if name in values else self.value(name) for name in op.inputs]
            if len(operands) > 2:
                operands[2] = self._accumulated(op, operands[2])
            values[op.output] = self.stored(op.output, apply(op, operands))
            for name in dict.fromkeys(op.inputs):
                remaining[name] -= 1
                if remaining[name] == 0:
                    values.pop(name, None)
        return {name: values[name] for name in wanted}

    # --- back to values -----------------------------------------------------------------------------------------------

    def to_model(self) -> Graph | Bundle:
        """The trained network, of the kind that it was made from; it computes what the module computes."""
        with torch.no_grad():
            trained = {name: self._constrained(name).numpy().astype(np.float32) for name in self.parameters_by_name}
        graph = self.graph.with_constants(trained)
        if not isinstance(self.model, Bundle):
            return graph
        scales = dict(self.model.scales)
        for name, parameter in self.scales_by_name.items():
            old = scales[name]
            beta = tuple(max(float(value), 1e-12) for value in parameter.detach().numpy())
            scales[name] = Scale(old.format, replace(old.params, beta=beta))
        return replace(self.model, graph=graph, scales=scales)
