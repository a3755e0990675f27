"""Meshes and layouts: numbering, groups, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.parallel.layout import Layout, Mesh, local_shape, replicated


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    count = draw(st.integers(1, 3))
    return Mesh(tuple((name, draw(st.integers(1, 4))) for name in ("x", "y", "z")[:count]))


@given(meshes(), st.data())
def test_groups_share_all_coordinates_but_those_of_their_axes(mesh: Mesh, data: st.DataObject) -> None:
    axes = tuple(data.draw(st.lists(st.sampled_from(mesh.names), min_size=1, unique=True)))
    places = list(mesh.places())
    groups = mesh.groups(axes)
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(mesh.devices))
    for group in groups:
        assert len(group) == mesh.size(axes)
        assert len({tuple(places[device][name] for name in mesh.names if name not in axes) for device in group}) == 1
        assert [mesh.index(places[device], axes) for device in group] == list(range(len(group)))


@given(meshes())
def test_the_stride_of_an_axis_is_the_distance_of_neighbours(mesh: Mesh) -> None:
    places = list(mesh.places())
    for axis, size in mesh.axes:
        if size == 1:
            continue
        for group in mesh.groups((axis,)):
            assert all(after - before == mesh.stride(axis) for before, after in itertools.pairwise(group))
    assert places[-1] == {name: size - 1 for name, size in mesh.axes}


@given(meshes())
def test_a_mesh_is_read_as_it_is_written(mesh: Mesh) -> None:
    assert Mesh.parse(str(mesh)) == mesh


@pytest.mark.parametrize(
    "text", ["", "x", "x=", "x=0", "x=2,x=2", "2x=2", "x=two", "x=-2", "x y=2", "x=2,,y=2", "x=1e3", "x=9999999999"]
)
def test_what_is_no_mesh_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(LeptonError) as caught:
        Mesh.parse(text)
    assert "\n" not in str(caught.value)


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(LeptonError, match="devices"):
        Mesh.parse("x=99999,y=99999")


def test_an_axis_cuts_one_dimension() -> None:
    with pytest.raises(LeptonError, match="twice"):
        Layout((("x",), ("x",)))
    with pytest.raises(LeptonError, match="twice"):
        Layout((("x",),), ("x",))


def test_what_does_not_divide_is_refused() -> None:
    mesh = Mesh.parse("x=2,y=3")
    assert local_shape((6, 4), Layout((("x", "y"), ())), mesh) == (1, 4)
    with pytest.raises(LeptonError, match="4 elements over 3"):
        local_shape((6, 4), Layout(((), ("y",))), mesh)
    with pytest.raises(LeptonError, match="each dimension"):
        local_shape((6,), replicated(2), mesh)
