"""What artefacts of a streaming schedule share: the words at both ends, and how they are described."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.artefact import EmitRequest
from lepton_dse.emit.images import hex_lines, words
from lepton_dse.emit.writer import comment
from lepton_dse.schedule.stream import StreamSchedule

__all__ = ["axis_width", "described_ends", "expected_beats", "input_beats", "measured_ends", "vector_files"]


def axis_width(lanes: int, bits: int) -> int:
    """Width of an AXI-Stream data port: whole bytes."""
    return (lanes * bits + 7) // 8 * 8


def input_beats(request: EmitRequest) -> list[int]:
    """Words of all samples at the design's input."""
    assert request.stream is not None, "checked by the emitter"
    streams, lanes = request.stream.streams, request.stream.input_lanes
    return _beats(request.vectors.tensors[streams.input.name], streams.input_layout, lanes, request.stream.input_bits)


def expected_beats(request: EmitRequest) -> list[int]:
    """Words of all samples at the design's output."""
    assert request.stream is not None, "checked by the emitter"
    streams, lanes = request.stream.streams, request.stream.output_lanes
    return _beats(request.vectors.tensors[streams.output.name], streams.output_layout, lanes, request.stream.output_bits)


def _beats(values: NDArray[np.generic], layout: NDArray[np.int64], lanes: int, bits: int) -> list[int]:
    ordered = values.reshape(len(values), -1)[:, layout].astype(np.int64)
    return words(ordered.reshape(-1, lanes), bits)


def vector_files(request: EmitRequest, schedule: StreamSchedule) -> dict[str, bytes]:
    """The words of all samples at both ends, one a line."""
    return {
        "vectors/input.hex": hex_lines(input_beats(request), axis_width(schedule.input_lanes, schedule.input_bits)),
        "vectors/expected.hex": hex_lines(expected_beats(request), axis_width(schedule.output_lanes, schedule.output_bits)),
    }


def measured_ends(request: EmitRequest, schedule: StreamSchedule) -> Mapping[str, int]:
    """Words, lanes and bits at both ends, and the samples, as ``design.json`` names them."""
    return {
        "input_beats": schedule.input_beats,
        "output_beats": schedule.output_beats,
        "input_lanes": schedule.input_lanes,
        "output_lanes": schedule.output_lanes,
        "input_bits": schedule.input_bits,
        "output_bits": schedule.output_bits,
        "frames": len(request.vectors.x),
    }


def described_ends(schedule: StreamSchedule) -> Iterator[str]:
    """Lines that tell a reader what the words at both ends are."""
    ends = (
        ("Input", schedule.input_beats, schedule.input_lanes, schedule.input_bits, schedule.streams.input),
        ("Output", schedule.output_beats, schedule.output_lanes, schedule.output_bits, schedule.streams.output),
    )
    for name, beats, lanes, bits, tensor in ends:
        shape, label = " x ".join(map(str, tensor.shape)), comment(tensor.name).replace("`", "_")
        yield f"{name}: {beats} words a frame of {lanes} elements of {bits} bits: tensor `{label}`, {shape}, channels last."
    yield "Elements are two's complement; element 0 is in the least significant bits."
