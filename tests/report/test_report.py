"""Numbers as text, tables, and the picture of a design."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

import lepton_dse as ld
from lepton_dse.data import Interval
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.plan import Check, CheckStatus, ClockBand, CycleReport
from lepton_dse.report import tables
from lepton_dse.report.clock import clock_sentence, clock_words
from lepton_dse.report.dataflow import dataflow_svg
from lepton_dse.report.text import count, scaled, seconds, share

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (999.9, "1 kB"),
        (1234, "1.23 kB"),
        (5e6, "5 MB"),
        (7.5e12, "7.5 TB"),
        (2e16, "20,000 TB"),
        (0.25, "0.25 B"),
    ],
)
def test_scaled(value: float, text: str) -> None:
    assert scaled(value, "B") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.5 s"),
        (0.9999, "1 s"),
        (0.9991, "999 ms"),
        (1.23e-5, "12.3 us"),
        (4e-9, "4 ns"),
        (5e-11, "0.05 ns"),
        (0, "0 ns"),
        (12345, "12,300 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1234567, "1,234,567"), (3.0, "3"), (0.12345, "0.123"), (1234.5, "1,230")])
def test_count(value: float, text: str) -> None:
    assert count(value) == text


def test_share() -> None:
    assert share(0.12345) == "12.3%"
    assert share(1) == "100.0%"


@given(st.floats(1e-3, 1e14))
def test_a_scaled_value_reads_back_to_three_digits(value: float) -> None:
    number, _, prefix = scaled(value, "").partition(" ")
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix]
    assert float(number) * factor == pytest.approx(value, rel=5.1e-3)


@given(st.floats(1e-9, 1e5))
def test_a_duration_reads_back_to_three_digits(value: float) -> None:
    number, _, unit = seconds(value).partition(" ")
    assert float(number.replace(",", "")) * {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit] == pytest.approx(value, rel=5.1e-3)


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    return ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "amd-zynq-7020", minimize="throughput")


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_picture_names_each_stage_in_order_and_marks_the_slowest(planned: ld.PlannedModel) -> None:
    svg = dataflow_svg(planned.plan, planned.lowered)
    report = planned.predicted
    found = texts(svg)
    positions = [found.index(op.name) for op in report.ops]
    assert positions == sorted(positions)
    assert report.cycles is not None
    assert any(count(report.cycles.latency) in text and count(report.cycles.interval) in text for text in found)
    bars = [
        node.get("class") for node in ElementTree.fromstring(svg).iter(f"{SVG}rect") if node.get("class") in ("busy", "slowest")
    ]
    busiest = max(op.latency_s for op in report.ops)
    assert bars == ["slowest" if op.latency_s == busiest else "busy" for op in report.ops]


def test_the_picture_is_the_same_every_time(planned: ld.PlannedModel) -> None:
    again = ld.Plan.from_json(planned.plan.to_json())
    assert dataflow_svg(again, planned.lowered) == dataflow_svg(planned.plan, planned.lowered)


def cycles_at(clock_mhz: float, *through: str) -> CycleReport:
    band = ClockBand(low_hz=88.4e6, high_hz=121.2e6, through=through) if through else None
    return CycleReport(latency=900, interval=400, clock_hz=1e6 * clock_mhz, slowest="conv", band=band)


@pytest.mark.parametrize(
    ("cycles", "text"),
    [
        (cycles_at(100), "100 MHz (planned; not a timing result)"),
        (cycles_at(100, "l1_matrix"), "100 MHz (planned; this design: 88 to 121 MHz by its longest path, in l1_matrix)"),
        (
            cycles_at(62.5, "l1_fifo", "l1_matrix", "l1_window"),
            "62.5 MHz (planned; this design: 88 to 121 MHz by its longest path, from l1_fifo to l1_window)",
        ),
    ],
)
def test_a_clock_in_words(cycles: CycleReport, text: str) -> None:
    assert clock_words(cycles) == text
    assert clock_sentence(cycles) == f"Seconds assume {text}."


def test_a_planning_clock_above_the_band_is_told() -> None:
    assert "above the band" in clock_sentence(cycles_at(122, "l1_matrix"))
    assert "above the band" not in clock_sentence(cycles_at(121, "l1_matrix"))


def test_the_picture_and_the_table_say_which_clock_is_assumed(planned: ld.PlannedModel) -> None:
    cycles = planned.predicted.cycles
    assert cycles is not None
    assert cycles.band is not None
    words = clock_words(cycles)
    assert any(words in text for text in texts(dataflow_svg(planned.plan, planned.lowered)))
    assert tables.stage_table(planned.plan).caption == clock_sentence(cycles)


def pointwise(builder: GraphBuilder, x: str, name: str) -> str:
    weights = builder.constant(f"{name}.w", np.random.default_rng(len(name)).normal(0, 1, (2, 2, 1, 1)).astype(np.float32))
    return builder.add(ops.Conv(ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))), [x, weights], output=f"{name}.y", name=name)


def test_names_from_a_model_do_not_break_the_picture() -> None:
    builder = GraphBuilder('</text><script>"')
    planned = ld.plan(builder.build([pointwise(builder, builder.input("x", (1, 2, 3, 3)), "<a & b>")]), "unit-fpga")
    svg = dataflow_svg(planned.plan, planned.lowered)
    assert "<a & b>" in texts(svg)
    assert not list(ElementTree.fromstring(svg).iter(f"{SVG}script"))


def test_the_picture_draws_what_leads_where() -> None:
    """A sum of a stage and of what comes from two stages before it: one arrow passes below the boxes."""
    builder = GraphBuilder("bypass")
    first = pointwise(builder, builder.input("x", (1, 2, 3, 3)), "first")
    second = pointwise(builder, first, "second")
    planned = ld.plan(builder.build([builder.add(ops.Add(), [second, first], output="sum", name="sum")]), "unit-fpga")
    svg = dataflow_svg(planned.plan, planned.lowered)
    wires = [node.get("d") or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    assert len(wires) == 3
    assert sum("V" in wire for wire in wires) == 1
    (feed,) = (depth for depth in planned.plan.op("sum").feed_depths if depth)
    assert any(text.endswith(f" x{feed}") for text in texts(svg))


def test_a_plan_without_stages_or_of_another_graph_has_no_picture(planned: ld.PlannedModel) -> None:
    processor = ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "unit-cpu")
    with pytest.raises(LeptonError, match="no stages"):
        dataflow_svg(processor.plan, processor.lowered)
    builder = GraphBuilder("other")
    other = ld.plan(builder.build([pointwise(builder, builder.input("x", (1, 2, 3, 3)), "first")]), "unit-fpga")
    with pytest.raises(LeptonError, match="not the one"):
        dataflow_svg(planned.plan, other.lowered)


def shown(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(table)
    return stream.getvalue()


def test_tables_hold_what_they_are_about(planned: ld.PlannedModel) -> None:
    graph, report = planned.bundle.graph, planned.predicted
    assert all(op.name in shown(tables.ops_table(graph)) for op in graph.ops)
    assert all(op.name in shown(tables.op_cost_table(report)) for op in report.ops)
    assert all(op.name in shown(tables.stage_table(planned.plan)) for op in report.ops)
    assert "amd-zynq-7020" in shown(tables.cost_table("t", [report]))
    assert "optimal" in shown(tables.plan_table([planned.plan])) or "gap" in shown(tables.plan_table([planned.plan]))
    usage = shown(tables.resource_table("t", {"LUT": 5.0, "DSP": 2.0}, {"LUT": 10.0, "DSP": 0.0}))
    assert "50.0%" in usage
    accuracy = shown(tables.accuracy_table("t", {"int8": Interval(0.9, 0.85, 0.93, 100)}))
    assert "90.0%" in accuracy
    assert "85.0% to 93.0%" in accuracy


def test_checks_show_both_numbers_and_the_reason() -> None:
    checks = [
        Check(name="latency_cycles", predicted=10, observed=12, status=CheckStatus.FAILED, reason="layer 'a' word 3"),
        Check(
            name="resource_LUT", predicted=10, observed=None, tolerance=0.25, status=CheckStatus.UNAVAILABLE, reason="no Yosys"
        ),
    ]
    text = shown(tables.checks_table("t", checks))
    assert "FAILED: layer 'a' word 3" in text
    assert "unavailable: no Yosys" in text
    assert "25.0%" in text


@pytest.mark.parametrize("name", ["conv[red]", "[/]", "[bold", "a[0]"])
def test_brackets_in_names_are_shown_as_they_are(name: str, planned: ld.PlannedModel) -> None:
    report = planned.predicted
    op = report.ops[0].model_copy(update={"name": name})
    changed = report.model_copy(update={"ops": (op,), "bound_by": name})
    assert name in shown(tables.op_cost_table(changed))
    assert name in shown(tables.cost_table("t", [changed]))
    check = Check(name="outputs_equal", predicted=0, observed=1, status=CheckStatus.FAILED, reason=f"layer '{name}'")
    assert name in shown(tables.checks_table(name, [check]))
    builder = __import__("lepton_dse.ir.graph", fromlist=["GraphBuilder"]).GraphBuilder(name)
    x = builder.input("x", (1, 2))
    from lepton_dse.ir import ops

    graph = builder.build([builder.add(ops.MatMul(), [x, builder.constant("w", np.ones((2, 2), np.float32))], output=name)])
    assert shown(tables.ops_table(graph)).count(name) >= 1
