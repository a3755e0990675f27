"""The streaming schedule: layers and the streams between them, as instances of the RTL library."""

from lepton_dse.schedule.stream.instances import Folding, Instance, Memory, MemoryPort
from lepton_dse.schedule.stream.layers import (
    AddLayer,
    ArgMaxLayer,
    ConcatLayer,
    DepthwiseLayer,
    Layer,
    LookupLayer,
    MatrixLayer,
    Operand,
    PoolLayer,
    Reader,
    Rounding,
    StreamGraph,
    channels_last,
)
from lepton_dse.schedule.stream.schedule import Link, StreamSchedule, foldings_of, stream_schedule
from lepton_dse.schedule.stream.stages import Stage, stage_of
from lepton_dse.schedule.stream.tails import needed_shares
from lepton_dse.schedule.stream.walk import stream_graph

__all__ = [
    "AddLayer",
    "ArgMaxLayer",
    "ConcatLayer",
    "DepthwiseLayer",
    "Folding",
    "Instance",
    "Layer",
    "Link",
    "LookupLayer",
    "MatrixLayer",
    "Memory",
    "MemoryPort",
    "Operand",
    "PoolLayer",
    "Reader",
    "Rounding",
    "Stage",
    "StreamGraph",
    "StreamSchedule",
    "channels_last",
    "foldings_of",
    "needed_shares",
    "stage_of",
    "stream_graph",
    "stream_schedule",
]
