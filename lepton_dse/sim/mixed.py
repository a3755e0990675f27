"""The cost of a network whose operations have different formats, put together from reports of one format each.

A family's cost model prices a whole network in one pair of formats. Here it is asked once for every pair that occurs, and every
operation takes its cost from the report of its own pair: the format of its weights, and that in which its first input is stored.
An operation is priced as a whole in that pair. Its result is therefore counted in the width of its input although its reader may
ask for another one: a network in which neighbours differ is wrong by the bytes of that difference, and exact where they do not.

Zeros are those of the weights as they are stored: a weight that its scale rounds to the integer zero is one of them. What they
are worth is the cost model's affair, and which of them it priced stands in each operation's cost
(:class:`lepton_dse.plan.Zeros`).

What a target has no figure for gains nothing. Where it lacks arithmetic in a pair of formats the values are widened first: the
operation takes the time and the energy that it has in the default formats. Where it has no energy for a pair, it takes the
default's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lepton_dse import registry
from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import weight_axis
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import packed_bytes
from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.plan import CostReport, OpCost, Violation
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.report import assemble, peak_bytes, stored_format
from lepton_dse.sim.roofline import machine_of
from lepton_dse.sim.zeros import as_stored
from lepton_dse.targets import AnyTarget

__all__ = ["Prices", "formats_of", "mixed_cost"]


@dataclass(frozen=True)
class _Priced:
    report: CostReport
    lacking: tuple[Violation, ...]
    by_name: Mapping[str, OpCost]


class Prices:
    """Costs of operations on a target, the cost model asked once for each pair of formats.

    Parameters
    ----------
    graph : Graph
        Float graph; zeros among its weights count as zeros.
    target : AnyTarget
    default : Precision
        What stands in where the target has no figure.
    batch : int
        Samples a pass, at least 1.
    """

    def __init__(self, graph: Graph, target: AnyTarget, default: Precision, *, batch: int = 1) -> None:
        self.graph = graph.with_batch(batch)
        self.target = target
        self.default = default
        self.batch = batch
        self._model: CostModel = registry.load(registry.Group.COST_MODELS, target.family)
        self._found: dict[Precision, _Priced] = {}

    def op(self, name: str, precision: Precision) -> OpCost:
        """Cost of one operation in a pair of formats."""
        cost, plain = self._priced(precision).by_name[name], self._priced(self.default).by_name[name]
        if precision == self.default:
            return cost
        if self._priced(precision).lacking:
            return plain
        return cost if cost.energy_j is not None else cost.model_copy(update={"energy_j": plain.energy_j})

    def report(self, precision: Precision) -> CostReport:
        """The cost model's own report in one pair of formats."""
        return self._priced(precision).report

    def lacking(self, precision: Precision) -> tuple[Violation, ...]:
        """What the target says against arithmetic in a pair of formats."""
        return self._priced(precision).lacking

    def _priced(self, precision: Precision) -> _Priced:
        if precision not in self._found:
            report = self._model(self.graph, self.target, precision, self.batch)
            lacking = tuple(violation for violation in report.violations if violation.unit != "B")
            self._found[precision] = _Priced(report, lacking, {cost.name: cost for cost in report.ops})
        return self._found[precision]


def formats_of(bundle: Bundle, default: Precision | None = None) -> dict[str, Precision]:
    """The pair of formats of every operation of a bundle: its weights, and how its first input is stored.

    Operations without weights have those of the activations they read, and the weights of `default`: what most of the bundle has
    where there is none.
    """
    found, usual = {}, default or bundle.precision
    for op in bundle.graph.ops:
        scale = bundle.scales.get(op.inputs[0])
        activations = FLOAT32 if scale is None else scale.format
        weights = usual.weights
        if weight_axis(op) is not None and op.inputs[1] in bundle.graph.constants:
            weights = bundle.scales[op.inputs[1]].format if op.inputs[1] in bundle.scales else FLOAT32
        elif weights.is_float and activations.is_integer:
            weights = activations  # no pair of formats has float weights and integer activations
        found[op.name] = Precision(weights, activations)
    return found


def mixed_cost(
    bundle: Bundle, target: AnyTarget, *, batch: int = 1, default: Precision | None = None, prices: Prices | None = None
) -> CostReport:
    """Predicted cost of a quantised network whose operations may have different formats.

    Parameters
    ----------
    bundle : Bundle
    target : AnyTarget
    batch : int
        Samples a pass.
    default : Precision, optional
        What stands in where the target has no figure; the widest pair that occurs by default.
    prices : Prices, optional
        Of the same network with the same zeros, target, batch and default, where some are known already.

    Returns
    -------
    CostReport
        The cost model's own where all operations have one pair of formats that the target computes in. Otherwise it claims the
        error band of the formats that most of its time is spent in, if there is one.

    Raises
    ------
    LeptonError
        If the target's cost model cannot price the network.
    """
    formats = formats_of(bundle)
    distinct = tuple(dict.fromkeys(formats.values()))
    widest = max(distinct, key=lambda entry: (entry.weights.bits, entry.activations.bits))
    prices = prices or Prices(as_stored(bundle), target, default or widest, batch=batch)
    plain = prices.default
    if len(distinct) == 1 and (distinct[0] == plain or not prices.lacking(distinct[0])):
        return prices.report(distinct[0])
    costs = [prices.op(op.name, formats[op.name]) for op in prices.graph.ops]
    time = dict.fromkeys(distinct, 0.0)
    for cost in costs:
        time[formats[cost.name]] += cost.latency_s
    main = max(time, key=time.__getitem__)
    widened = any(entry == plain or prices.lacking(entry) for entry in distinct)
    outer = machine_of(target, main).levels[-1]
    peak = stored_peak(bundle, prices.graph)
    violations = list(prices.lacking(plain)) if widened else []
    if peak > outer.capacity:
        levers = ("use narrower formats", "prune the model", "choose a device with more memory")
        what = f"{outer.name} of {target.name}"
        violations.append(Violation(what=what, demand=peak, bound=outer.capacity, unit="B", levers=levers))
    report = assemble(prices.graph, target, main, prices.batch, costs, main_memory=(outer.name, float("inf")), counted=True)
    return report.model_copy(update={"peak_bytes": peak, "violations": tuple(violations), "feasible": not violations})


def stored_peak(bundle: Bundle, graph: Graph) -> int:
    """The memory of a network (:func:`lepton_dse.sim.report.peak_bytes`), each tensor in the format that the bundle stores it in.

    Parameters
    ----------
    bundle : Bundle
    graph : Graph
        Its graph with a batch applied.
    """

    def bytes_of(tensor: Tensor) -> int:
        form = bundle.scales[tensor.name].format if tensor.name in bundle.scales else tensor.format
        if tensor.name in graph.constants and len(tensor.shape) < 2:
            form = stored_format(graph, tensor.name, bundle.precision)
        return packed_bytes(replace(tensor, format=form))

    return peak_bytes(graph, bytes_of)
