"""Rooflines: by hand on unit devices, against element-by-element counts, and never below what physics allows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.compress.groups import absorbed_clip
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import INT32, Precision
from lepton_dse.plan import CostReport, Evidence
from lepton_dse.sim.report import compulsory_bytes
from lepton_dse.sim.roofline import machine_of, roofline
from lepton_dse.targets import AnyTarget, FpgaTarget, load_target, target_names
from lepton_dse.targets.schema import Quantity
from lepton_dse.testing.strategies import graphs, precisions

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import counting

PROCESSORS = ("unit-cpu", "unit-gpu", "unit-tpu")
INTEGERS = precisions(2, 16)


def bound(graph: Graph, target: str | AnyTarget, form: str = "int8", batch: int = 1) -> CostReport:
    device = load_target(target) if isinstance(target, str) else target
    return roofline(graph, device, Precision.parse(form), batch)


EXAMPLES = settings(max_examples=40)


def dense(*, relu: bool = False) -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", (1, 3))
    y = builder.add(
        ops.MatMul(),
        [x, builder.constant("w", np.ones((3, 2), np.float32)), builder.constant("b", np.ones(2, np.float32))],
        output="y",
    )
    return builder.build([builder.add(ops.Clip(0.0, 6.0), [y], output="z") if relu else y])


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(
    ("form", "batch", "bytes_", "peak"),
    [
        ("int8", 1, 3 + 6 + 8 + 2, 6 + 8 + 2 * 64),  # x, w, b as 32-bit accumulators, y; x and y in a block of 64 each
        ("w4a8", 1, 3 + 3 + 8 + 2, 3 + 8 + 2 * 64),
        ("int16", 1, 6 + 12 + 8 + 4, 12 + 8 + 2 * 64),
        ("float32", 1, 12 + 24 + 8 + 8, 24 + 8 + 2 * 64),
        ("int8", 4, 12 + 6 + 8 + 8, 6 + 8 + 2 * 64),
        ("float32", 6, 72 + 24 + 8 + 48, 24 + 8 + 3 * 64),
    ],
)
def test_a_dense_layer_by_hand(name: str, form: str, batch: int, bytes_: int, peak: int) -> None:
    """Six products a sample, every rate 1 a second: moving the bytes takes longer."""
    report = bound(dense(), name, form, batch)
    assert report.ops[0].macs == 6 * batch
    assert report.latency_s == max(bytes_, 6 * batch) == bytes_
    assert set(report.traffic_bytes.values()) == {bytes_}
    assert report.peak_bytes == peak
    assert report.throughput_per_s == batch / bytes_
    assert report.bound_by != "arithmetic"
    assert report.ops[0].utilization == 6 * batch / bytes_
    energy = {"int8": 6 * batch + 2 * bytes_, "float32": 6 * batch + 2 * bytes_}.get(form)
    assert report.energy_j == energy  # one joule a product, and one a byte and level
    assert report.evidence is Evidence.UNCHECKED
    assert report.feasible


def test_an_absorbed_clip_is_free_and_another_is_not() -> None:
    report = bound(dense(relu=True), "unit-cpu")
    assert [(op.kind, op.latency_s) for op in report.ops] == [("MatMul", 19), ("Clip", 0)]
    builder = GraphBuilder("clip")
    alone = builder.build([builder.add(ops.Clip(0.0, 6.0), [builder.input("x", (1, 5))], output="y")])
    assert bound(alone, "unit-cpu").latency_s == 10


def picked(kind: ops.Attributes, rows: int, *more: str) -> Graph:
    builder = GraphBuilder("picked")
    table = builder.input("table", (rows, 8))
    operands = [table, *(builder.input(name, (1, 5), INT32) for name in more)]
    return builder.build([builder.add(kind, operands, output="y")])


@pytest.mark.parametrize(
    ("graph", "read"),
    [
        (picked(ops.Gather(0), 1000, "ids"), 5 * 8),  # five rows of a table of a thousand
        (picked(ops.Gather(0), 3, "ids"), 3 * 8),  # no more than the table has
        (picked(ops.Slice((10, 0), (4, 8), (2, 1)), 1000), 4 * 8),
        (picked(ops.Reduce(ops.ReduceFunction.SUM, (0,), True), 1000), 1000 * 8),
    ],
)
def test_what_is_picked_from_is_read_where_it_is_picked(graph: Graph, read: int) -> None:
    indices = sum(graph.tensors[name].elements * 4 for name in graph.inputs[1:])
    written = graph.tensors["y"].elements * 4
    assert compulsory_bytes(graph, graph.ops[0], Precision.parse("float32")) == read * 4 + indices + written


def test_products_bind_where_memory_is_fast() -> None:
    target = load_target("unit-cpu")
    fast = [level.model_copy(update={"bandwidth_byte_per_s": Quantity(value=1e9, source="unit")}) for level in target.levels]  # type: ignore[union-attr]
    report = roofline(dense(), target.model_copy(update={"levels": tuple(fast)}), Precision.parse("int8"), 1)
    assert (report.latency_s, report.bound_by, report.ops[0].utilization) == (6, "arithmetic", 1)
    slow = target.model_copy(update={"launch_s": Quantity(value=100, source="unit")})
    report = roofline(dense(), slow, Precision.parse("int8"), 1)
    assert (report.latency_s, report.bound_by) == (119, "launch")


def test_an_fpga_by_hand() -> None:
    """DSPs make one product each and LUTs one a bit pair; block RAMs give 36 bits a cycle."""
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    machine = machine_of(target, Precision.parse("w4a8"))
    assert machine.rate == 1e6 + 1e9 / 32
    assert machine.levels[0].bandwidth == 1e6 * 36 / 8
    assert machine.levels[0].capacity == 1e6 * 18 * 1024 / 8
    report = bound(dense(), target)
    assert report.latency_s == 19 / machine.levels[0].bandwidth


@EXAMPLES
@given(graphs(branches=True), INTEGERS, st.integers(1, 3))
def test_counts_are_those_of_the_oracle(graph: Graph, precision: Precision, batch: int) -> None:
    report = bound(graph, "unit-cpu", str(precision), batch)
    batched = graph.with_batch(batch)
    absorbed = {clip.name for op in batched.ops if (clip := absorbed_clip(batched, op)) is not None}
    for op, cost in zip(batched.ops, report.ops, strict=True):
        macs = counting.macs(batched, op)
        bits = counting.traffic_bits(batched, op, precision.weights.bits, precision.activations.bits)
        idle = op.name in absorbed or cost.kind == "Reshape"
        assert cost.macs == macs
        assert set(cost.traffic_bytes.values()) == {0 if idle else bits / 8}
        assert cost.latency_s == (0 if idle else max(macs or counting.steps(batched, op), bits / 8))


@EXAMPLES
@given(graphs(branches=True), INTEGERS, st.integers(1, 4), st.sampled_from(target_names()))
def test_totals_are_sums_and_no_bound_is_beaten(graph: Graph, precision: Precision, batch: int, name: str) -> None:
    target = load_target(name)
    report = roofline(graph, target, precision, batch)
    machine = machine_of(target, precision)
    assert report.latency_s == pytest.approx(sum(op.latency_s for op in report.ops), rel=1e-12)
    assert report.throughput_per_s == pytest.approx(batch / report.latency_s, rel=1e-12)
    for level in machine.levels:
        assert report.traffic_bytes[level.name] == sum(op.traffic_bytes[level.name] for op in report.ops)
        assert report.latency_s * (1 + 1e-9) >= report.traffic_bytes[level.name] / level.bandwidth
    if machine.rate is None:
        assert not report.feasible  # the device has no arithmetic for these formats
    else:
        assert report.latency_s * (1 + 1e-9) >= sum(op.macs for op in report.ops) / machine.rate
    assert report.feasible == (not report.violations)
    assert all(0 <= op.utilization <= 1 for op in report.ops)
    assert report.peak_bytes >= sum(
        batched.elements * precision.activations.bits / 8 for batched in [graph.with_batch(batch).tensors[graph.inputs[0]]]
    )
    assert CostReport.model_validate_json(report.model_dump_json()) == report


@EXAMPLES
@given(graphs(branches=True), st.integers(2, 15), st.integers(1, 4), st.sampled_from(target_names()))
def test_more_work_never_takes_less(graph: Graph, bits: int, batch: int, name: str) -> None:
    def figures(form: str, samples: int) -> tuple[float, ...]:
        report = bound(graph, name, form, samples)
        return (report.latency_s, report.peak_bytes, *report.traffic_bytes.values())

    base = figures(f"int{bits}", batch)
    for more in (figures(f"int{bits}", batch + 1), figures(f"int{bits + 1}", batch), figures(f"w{bits}a{bits + 1}", batch)):
        assert all(a <= b * (1 + 1e-12) for a, b in zip(base, more, strict=True))


def scaled(target: AnyTarget, factor: float, field: str) -> AnyTarget:
    """Every level or peak faster by a factor."""
    changed = []
    for entry in getattr(target, {"bandwidth_byte_per_s": "levels", "mac_per_s": "peaks"}[field]):
        quantity = getattr(entry, field)
        changed.append(entry.model_copy(update={field: quantity.model_copy(update={"value": quantity.value * factor})}))
    return target.model_copy(update={{"bandwidth_byte_per_s": "levels", "mac_per_s": "peaks"}[field]: tuple(changed)})


@EXAMPLES
@given(
    graphs(branches=True),
    INTEGERS,
    st.floats(1, 100),
    st.sampled_from(["bandwidth_byte_per_s", "mac_per_s"]),
    st.sampled_from([name for name in target_names() if load_target(name).family != "fpga"]),
)
def test_a_faster_device_is_never_slower(graph: Graph, precision: Precision, factor: float, field: str, name: str) -> None:
    target = load_target(name)
    before, after = (roofline(graph, device, precision, 1).latency_s for device in (target, scaled(target, factor, field)))
    assert before / factor * (1 - 1e-9) <= after <= before * (1 + 1e-12)


def test_a_model_that_does_not_fit_is_a_violation() -> None:
    target = load_target("unit-cpu")
    levels = tuple(level.model_copy(update={"capacity_bytes": Quantity(value=141, source="unit")}) for level in target.levels)  # type: ignore[union-attr]
    report = roofline(dense(), target.model_copy(update={"levels": levels}), Precision.parse("int8"), 1)
    assert not report.feasible
    violation = report.violations[0]
    assert (violation.demand, violation.bound, violation.unit) == (142, 141, "B")
    assert "dram" in violation.what
    assert violation.levers


def test_formats_that_a_device_lacks_are_violations() -> None:
    report = flow.cost(dense(), "amd-zynq-7020", format="float32")
    assert not report.feasible
    assert "float32" in report.violations[0].what


def test_a_batch_must_be_at_least_one() -> None:
    with pytest.raises(LeptonError, match="batch"):
        flow.cost(dense(), "unit-cpu", batch=0)


@pytest.mark.parametrize("name", target_names())
def test_the_digits_model_on_every_target(name: str) -> None:
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    report = flow.cost(graph, name, format="int8")
    assert report.feasible
    assert sum(op.macs for op in report.ops) == graph.macs
    assert report.latency_s > 0
