"""Plans and bundles: what must always hold, and that both come back from disk as they were."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.errors import InvalidPlanError
from lepton_dse.files import write_bytes
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import (
    Calibration,
    CalibrationMethod,
    Check,
    CheckStatus,
    ClockBand,
    CostReport,
    CycleReport,
    Evidence,
    Mapping,
    MemoryMap,
    OpCost,
    OpPlan,
    Place,
    Plan,
    SearchResult,
    Unroll,
    Violation,
)
from lepton_dse.testing.strategies import graphs, precisions

names = st.text(min_size=1, max_size=12)
amounts = st.floats(0, 1e30, allow_nan=False)
counts = st.integers(0, 2**60)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
formats = st.sampled_from(["int8", "w4a8", "w2a16", "float32", "bfloat16", "w4-float16"])
mappings = st.builds(
    Mapping,
    spatial=st.lists(st.builds(Unroll, loop=names, factor=st.integers(1, 2**40), axis=names), max_size=3).map(tuple),
    tiles=st.dictionaries(names, st.dictionaries(names, st.integers(1, 2**40), max_size=2), max_size=2),
    order=st.lists(names, max_size=3).map(tuple),
)
op_plans = st.builds(
    OpPlan,
    op=names,
    precision=formats,
    mapping=mappings,
    fifo_depth=st.none() | st.integers(1, 4096),
    buffer_rows=st.none() | st.integers(0, 9),
    multiplier=st.sampled_from([None, "dsp", "lut", "packed"]),
)
violations = st.builds(
    Violation, what=names, demand=amounts, bound=amounts, unit=names, levers=st.lists(names, max_size=3).map(tuple)
)
searches = st.builds(
    SearchResult,
    objective=names,
    space=names,
    evaluated=counts,
    best=amounts,
    lower_bound=amounts,
    gap=amounts,
    optimal=st.booleans(),
)
clock_bands = st.tuples(st.floats(1e3, 1e9), st.floats(1e3, 1e9), st.lists(names, min_size=1, max_size=3)).map(
    lambda drawn: ClockBand(low_hz=min(drawn[:2]), high_hz=max(drawn[:2]), through=tuple(drawn[2]))
)
cycles = st.builds(CycleReport, latency=counts, interval=counts, clock_hz=amounts, slowest=names, band=st.none() | clock_bands)
traffic = st.dictionaries(names, amounts, max_size=3)
costs = st.builds(
    OpCost,
    name=names,
    kind=names,
    macs=counts,
    latency_s=amounts,
    energy_j=st.none() | amounts,
    bound_by=names,
    utilization=amounts,
    traffic_bytes=traffic,
    mapping=mappings,
)


@st.composite
def reports(draw: st.DrawFn) -> CostReport:
    found = tuple(draw(st.lists(violations, max_size=2)))
    return CostReport(
        target=draw(names),
        feasible=not found,
        latency_s=draw(amounts),
        throughput_per_s=draw(amounts),
        energy_j=draw(st.none() | amounts),
        peak_bytes=draw(amounts),
        traffic_bytes=draw(traffic),
        resources=draw(traffic),
        bound_by=draw(names),
        evidence=draw(st.sampled_from(Evidence)),
        violations=found,
        search=draw(st.none() | searches),
        cycles=draw(st.none() | cycles),
        ops=tuple(draw(st.lists(costs, max_size=2))),
    )


@st.composite
def maps(draw: st.DrawFn) -> MemoryMap:
    """Blocks on top of one another or in the same place one after the other, some with a second tensor."""
    alignment, top, step = draw(st.sampled_from([1, 8, 64])), 0, 0
    places: dict[str, Place] = {}
    for name in draw(st.lists(names, max_size=6, unique=True)):
        size, last = draw(st.integers(0, 5)) * alignment, step + draw(st.integers(0, 4))
        offset = 0 if draw(st.booleans()) and all(place.last < step for place in places.values()) else top
        places[name] = Place(offset=offset, bytes=size, first=step, last=last, block=name)
        if draw(st.booleans()) and f"{name} again" not in places:
            places[f"{name} again"] = Place(offset=offset, bytes=size, first=last, last=last + 1, block=name)
        top = max(top, offset + size)
        step = draw(st.integers(step, last + 3))
    return MemoryMap(places=places, peak=top, bound=draw(st.integers(0, top)), alignment=alignment)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    calibrations = st.builds(
        Calibration,
        method=st.sampled_from(CalibrationMethod),
        samples=st.integers(1, 99),
        source=st.sampled_from(["data", "noise"]),
    )
    return Plan(
        model=draw(names),
        bundle_digest=draw(digests),
        target=draw(names),
        target_digest=draw(digests),
        precision=draw(formats),
        calibration=draw(st.none() | calibrations),
        seed=draw(counts),
        objective=draw(names),
        ops=tuple(draw(st.lists(op_plans, max_size=4, unique_by=lambda entry: entry.op))),
        memory=draw(maps()),
        predicted=draw(reports()),
    )


@given(plans())
def test_a_plan_reads_back_equal_and_writes_the_same_bytes(plan: Plan) -> None:
    text = plan.to_json()
    again = Plan.from_json(text)
    assert again == plan
    assert again.to_json() == text
    assert text.endswith("}\n")
    assert again.digest == plan.digest


@given(plans())
def test_a_plan_without_a_clocks_band_reads_as_before_there_were_any(plan: Plan) -> None:
    cycles = plan.predicted.cycles
    document = json.loads(plan.to_json())
    assert (cycles is not None and cycles.band is not None) == ("band" in (document["predicted"]["cycles"] or {}))


@pytest.mark.parametrize(
    "wrong", [{"low_hz": 2e8}, {"low_hz": 0}, {"high_hz": -1}, {"high_hz": float("inf")}, {"through": ()}, {"middle_hz": 1}]
)
def test_a_clocks_band_is_ordered_and_runs_through_something(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClockBand.model_validate({"low_hz": 8e7, "high_hz": 1e8, "through": ("l0_matrix",), **wrong})


@given(plans(), st.data())
def test_any_changed_number_is_noticed(plan: Plan, data: st.DataObject) -> None:
    document = json.loads(plan.to_json())
    places = [(document, "seed"), (document["predicted"], "latency_s"), (document["predicted"], "peak_bytes")]
    places += [(op, "macs") for op in document["predicted"]["ops"]]
    places += [(document["memory"], "bound")] if plan.memory.bound < plan.memory.peak else []
    place, key = data.draw(st.sampled_from(places))
    place[key] += max(1, abs(place[key]) // 1000)
    with pytest.raises(InvalidPlanError, match="edited"):
        Plan.from_json(json.dumps(document))


@given(st.text(max_size=40) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlanError, match="some/where"):
        Plan.from_json(text, where="some/where")


@given(plans())
def test_plans_are_values(plan: Plan) -> None:
    with pytest.raises(ValidationError):
        plan.seed = 4  # type: ignore[misc]
    for entry in plan.ops:
        assert plan.op(entry.op) == entry
    assert plan.op("\0 nothing") == OpPlan(op="\0 nothing", precision=plan.precision)


@settings(max_examples=200)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=6))
def test_a_map_is_refused_exactly_where_two_blocks_share_a_byte_in_one_step(drawn: list[tuple[int, ...]]) -> None:
    held = [(offset, offset + size, first, first + length) for offset, size, first, length in drawn]
    places = {
        str(index): {"offset": start, "bytes": end - start, "first": first, "last": last, "block": str(index)}
        for index, (start, end, first, last) in enumerate(held)
    }
    document = {"places": places, "peak": max(entry[1] for entry in held), "bound": 0, "alignment": 1}
    shared = any(
        max(one[0], other[0]) < min(one[1], other[1]) and max(one[2], other[2]) <= min(one[3], other[3])
        for one, other in combinations(held, 2)
    )
    if not shared:
        assert MemoryMap.model_validate(document).model_dump() == document
        return
    with pytest.raises(ValidationError, match="are needed at once and overlap"):
        MemoryMap.model_validate(document)


WHOLE = {"offset": 64, "bytes": 10, "first": 0, "last": 1, "block": "x"}


@pytest.mark.parametrize(
    ("place", "arena", "message"),
    [
        ({}, {"bound": 129}, "an arena of 128 bytes, at least 129"),
        ({}, {"peak": 100, "bound": 64}, "an arena of 100 bytes, at least 64, aligned to 64"),
        ({}, {"alignment": 0}, "greater than 0"),
        ({"block": "z"}, {}, "tensor 'y' lies in the block of 'z', which has none"),
        ({"block": "y", "offset": 128, "bytes": 1}, {}, "tensor 'y' reaches out of its block or of the arena"),
        ({"offset": 0}, {}, "tensor 'y' reaches out of its block"),
        ({"bytes": 11}, {}, "tensor 'y' reaches out of its block"),
        ({"offset": 65, "bytes": 1}, {}, "tensor 'y' lies at 65, which is no multiple of 64"),
        ({"offset": -64}, {}, "greater than or equal to 0"),
        ({"first": 2}, {}, "tensor 'y' is read for the last time before it is written"),
    ],
)
def test_a_map_that_is_not_sound_is_refused(place: dict[str, object], arena: dict[str, object], message: str) -> None:
    document = {"places": {"x": WHOLE, "y": WHOLE}, "peak": 128, "bound": 64, "alignment": 64}
    assert MemoryMap.model_validate(document).places["y"].block == "x"
    with pytest.raises(ValidationError, match=message):
        MemoryMap.model_validate({**document, **arena, "places": {"x": WHOLE, "y": {**WHOLE, **place}}})


def test_feasible_means_no_violations() -> None:
    base = {"target": "t", "latency_s": 1, "throughput_per_s": 1, "energy_j": None, "peak_bytes": 1, "traffic_bytes": {}}
    base |= {"resources": {}, "bound_by": "x", "evidence": "unchecked"}
    violation = {"what": "LUT of t", "demand": 20, "bound": 10, "unit": "LUT", "levers": ["fold more", "prune"]}
    assert CostReport.model_validate(base | {"feasible": True}).violations == ()
    report = CostReport.model_validate(base | {"feasible": False, "violations": [violation]})
    assert str(report.violations[0]) == "LUT of t: needs 20 LUT, 10 available; fold more or prune"
    for wrong in ({"feasible": False}, {"feasible": True, "violations": [violation]}):
        with pytest.raises(ValidationError, match="no violations"):
            CostReport.model_validate(base | wrong)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_figures_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValidationError):
        Violation(what="x", demand=value, bound=0, unit="B")


def test_checks_say_how_they_ended() -> None:
    check = Check(name="latency_cycles", predicted=1, observed=None, status=CheckStatus.UNAVAILABLE, reason="no simulator")
    assert set(check.model_dump(mode="json")) >= {"name", "predicted", "observed", "tolerance", "status"}
    assert check.model_dump(mode="json")["status"] == "unavailable"


@settings(max_examples=30)
@given(graph=graphs(branches=True), precision=precisions(2, 16), samples=st.integers(1, 5))
def test_a_bundle_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, graph: Graph, precision: Precision, samples: int
) -> None:
    bundle, _ = quantize(graph, Recipe(precision), noise(graph, 0, 4))
    bundle = Bundle(bundle.graph, bundle.scales, noise(graph, 1, samples).x)
    folder = tmp_path_factory.mktemp("bundle")
    for name, data in bundle.to_files().items():
        write_bytes(folder / name, data)
    again = Bundle.read(folder, digest=bundle.digest)
    assert again.digest == bundle.digest
    assert again.graph.digest == bundle.graph.digest
    assert dict(again.scales) == dict(bundle.scales)
    assert np.array_equal(again.samples, bundle.samples)
    assert again.to_files() == bundle.to_files()
    with pytest.raises(InvalidPlanError, match="not the one"):
        Bundle.read(folder, digest="0" * 64)


def test_the_digest_of_a_bundle_sees_all_of_it(tmp_path: Path) -> None:
    from lepton_dse.ir import ops
    from lepton_dse.ir.graph import GraphBuilder

    def bundle(weight: float = 1.0, form: str = "int8", seed: int = 0) -> Bundle:
        builder = GraphBuilder("b")
        w = builder.constant("w", np.asarray([[1.0], [weight]], np.float32))
        graph = builder.build([builder.add(ops.MatMul(), [builder.input("x", (1, 2)), w], output="y")])
        found, _ = quantize(graph, Recipe(Precision.parse(form)), noise(graph, 0, 4))
        return Bundle(found.graph, found.scales, noise(graph, seed, 4).x)

    assert bundle().digest == bundle().digest
    assert len({bundle().digest, bundle(weight=0.5).digest, bundle(form="w4a8").digest, bundle(seed=1).digest}) == 4
