"""Orders of axes in memory: strides, what lies alike, and which tensors lie channels innermost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.schedule.gpu.layout import Layout, layouts

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@given(shape=SHAPES, data=st.data())
def test_strides_reach_every_element_once(shape: tuple[int, ...], data: st.DataObject) -> None:
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    values = np.arange(np.prod(shape)).reshape(shape)
    lying = values.transpose(order).reshape(-1)
    strides = Layout(order).strides(shape)
    for index in np.ndindex(shape):
        assert lying[sum(i * step for i, step in zip(index, strides, strict=True))] == values[index]


@given(shape=SHAPES, data=st.data())
def test_layouts_are_the_same_where_memory_is(shape: tuple[int, ...], data: st.DataObject) -> None:
    orders = st.permutations(range(len(shape))).map(tuple)
    one, other = Layout(data.draw(orders)), Layout(data.draw(orders))
    values = np.arange(np.prod(shape)).reshape(shape)
    alike = np.array_equal(values.transpose(one.order).reshape(-1), values.transpose(other.order).reshape(-1))
    assert one.same(other, shape) == alike


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (Layout.row_major(4), "NCHW"),
        (Layout.channels_last(4), "NHWC"),
        (Layout.channels_last(3), "NWC"),
        (Layout.channels_last(5), "NDHWC"),
        (Layout.row_major(2), "0,1"),
    ],
)
def test_names(layout: Layout, text: str) -> None:
    assert str(layout) == text


def test_images_lie_channels_innermost_and_nothing_else() -> None:
    ones = (1, 1)
    window = ops.Window(ones, ones, ones, (0, 0), (0, 0))
    builder = GraphBuilder("g")
    builder.input("x", (1, 3, 4, 4))
    builder.constant("w", np.ones((3, 3, 1, 1), np.float32))
    builder.constant("c", np.ones((1, 3, 4, 4), np.float32))
    builder.add(ops.Clip(0.0, 1.0), ["x"], output="before")  # a convolution reads it
    builder.add(ops.Conv(window), ["before", "w"], output="image")
    builder.add(ops.Add(), ["image", "c"], output="after")  # keeps the axes of an image
    builder.add(ops.Transpose((0, 2, 3, 1)), ["after"], output="turned")
    builder.add(ops.Sigmoid(), ["turned"], output="behind")
    builder.add(ops.Reshape((1, 48)), ["after"], output="flat")
    builder.add(ops.Tanh(), ["x"], output="apart")
    found = layouts(builder.build(["behind", "flat", "apart"]))
    last = {name for name, layout in found.items() if layout == Layout.channels_last(4)}
    assert last == {"before", "image", "after"}
    assert all(layout == Layout.row_major(len(layout.order)) for name, layout in found.items() if name not in last)
