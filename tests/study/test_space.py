"""Indices of a space, both ways, and what it refuses."""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_dse.errors import LeptonError
from lepton_dse.study.sampling import Axes, chunks
from lepton_dse.study.space import Hardware, Space, Sweep, Variant

FORMATS = ("float32", "float16", "bfloat16", "int8", "w4a8", "w4-float16")


@st.composite
def spaces(draw: Any) -> Space:
    def some(values: Any, most: int) -> Any:
        return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)

    names = draw(some(["a", "b", "c", "d.toml"], 3))
    numbers = st.dictionaries(st.sampled_from(["rows", "levels[x].bytes"]), some([1.0, 2.0, 4.0, 8.0], 3), max_size=2)
    shared = st.fixed_dictionaries({"meshes": some(["x=1", "x=2", "x=2,y=3"], 3), "stages": some([1, 2, 4], 2)})
    return Space(
        targets=[{"target": name, **draw(st.fixed_dictionaries({"numbers": numbers}) | shared)} for name in names],
        formats=draw(some(FORMATS, 3)),
        sparsities=draw(some([0.0, 0.5, "2:4", "1:4"], 3)),
        channels=draw(some([0.0, 0.25, 0.5], 3)),
        batches=draw(some([1, 8, 64], 2)),
    )


@given(spaces())
def test_every_index_is_a_candidate_of_its_own(space: Space) -> None:
    candidates = list(space.candidates())
    assert len(set(candidates)) == len(candidates) == space.size == len(space)
    assert [space.index(candidate) for candidate in candidates] == list(range(space.size))


@given(spaces())
def test_order_is_that_of_the_product_of_the_axes(space: Space) -> None:
    hardware = [
        Hardware(sweep.target, tuple(zip(sweep.numbers, values, strict=True)), mesh, stages)
        for sweep in space.targets
        for values in product(*sweep.numbers.values())
        for mesh in sweep.meshes or ("",)
        for stages in sweep.stages
    ]
    axes = (space.channels, space.sparsities, space.formats, hardware, space.batches)
    wanted = [(Variant(form, zeros, cut), machine, batch) for cut, zeros, form, machine, batch in product(*axes)]
    assert [(found.variant, found.hardware, found.batch) for found in space.candidates()] == wanted


@given(spaces())
def test_axes_of_a_sampler_reach_every_candidate(space: Space) -> None:
    axes = Axes(space)
    assert [axes.index(axes.digits(index)) for index in range(space.size)] == list(range(space.size))


@given(spaces(), st.integers(1, 50))
def test_chunks_cover_the_space_in_order(space: Space, length: int) -> None:
    assert [index for chunk in chunks(space, length) for index in chunk] == list(range(space.size))


@given(st.integers(0, 10**12 - 1))
def test_a_huge_space_is_never_written_out(index: int) -> None:
    thousand = tuple(range(1, 1001))
    space = Space(targets=[Sweep(target="a", numbers=dict.fromkeys("wxyz", thousand))])
    assert space.size == 10**12
    assert space.index(space.candidate(index)) == index
    assert len(list(islice(space.candidates(), 3))) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"targets": []}, "at least 1"),
        ({"formats": []}, "at least 1"),
        ({"targets": ["a", "a"]}, "a is given twice"),
        ({"formats": ["int8", "w8a8"]}, "int8 is given twice"),
        ({"formats": ["int99"]}, "outside 2 to 16 bits"),
        ({"sparsities": [0.5, 0.5]}, "0.5 is given twice"),
        ({"sparsities": ["4:2"]}, "is no sparsity"),
        ({"sparsities": ["half"]}, "is no sparsity"),
        ({"sparsities": [1.0]}, "less than 1"),
        ({"channels": [-0.1]}, "greater than or equal to 0"),
        ({"batches": [0]}, "greater than 0"),
        ({"batches": [2, 2]}, "2 is given twice"),
        ({"depth": [2]}, "Extra inputs"),
        ({"targets": [{"target": "a", "numbers": {"rows": []}}]}, "at least 1"),
        ({"targets": [{"target": "a", "numbers": {"rows": [1, 1.0]}}]}, "given twice"),
        ({"targets": [{"target": "a", "meshes": ["x=2", " x=2"]}]}, "x=2 is given twice"),
        ({"targets": [{"target": "a", "meshes": [4, "x=2,y=2"]}]}, "x=2,y=2 is given twice"),
        ({"targets": [{"target": "a", "meshes": ["two"]}]}, "'two' is no axis of a mesh"),
        ({"targets": [{"target": "a", "meshes": ["x=2,x=2"]}]}, "two axes share a name"),
        ({"targets": [{"target": "a", "meshes": [0]}]}, "greater than 0"),
        ({"targets": [{"target": "a", "meshes": [2_000_000_000]}]}, "use at most"),
        ({"targets": [{"target": "a", "stages": [0]}]}, "greater than 0"),
        ({"targets": [{"target": "a", "stages": [2, 2]}]}, "2 is given twice"),
        ({"targets": [{"target": "a", "stages": []}]}, "at least 1"),
    ],
)
def test_what_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Space(**{"targets": ["a"], **change})


def test_more_than_can_be_counted_is_refused() -> None:
    many = {f"n{axis}": tuple(range(1000)) for axis in range(7)}
    with pytest.raises(LeptonError, match=r"a space of 1e\+21 candidates"):
        Space(targets=[Sweep(target="a", numbers=many)])


def test_what_is_outside_has_no_index() -> None:
    space = Space(targets=["a"])
    for index in (-1, 1):
        with pytest.raises(IndexError):
            space.candidate(index)
    with pytest.raises(ValueError, match="no target b"):
        space.index(Space(targets=["b"]).candidate(0))


def test_digest_tells_variants_apart() -> None:
    variants = [Variant("int8", 0.5, 0.0), Variant("int8", 0.0, 0.5), Variant("int8", "2:4", 0.0), Variant("w4a8", 0.5, 0.0)]
    assert len({variant.digest for variant in variants}) == 4
    assert Variant("int8", 0.5, 0.0).digest == variants[0].digest


def test_candidates_read_well() -> None:
    space = Space(targets=[{"target": "a", "numbers": {"rows": [64]}}], sparsities=["2:4", 0.5], channels=[0.25])
    assert [str(candidate) for candidate in space.candidates()] == [
        "int8, 2:4, 25% of channels cut on a[rows=64], batch 1",
        "int8, 50% zeros, 25% of channels cut on a[rows=64], batch 1",
    ]
