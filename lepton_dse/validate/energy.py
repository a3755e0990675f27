"""Predicted energy beside the published power of two chips, Eyeriss and TPU v1. Energy stays ``unchecked``: no band follows.

Symbols
-------
======  ============================================================================================================
n       multiply-accumulates
e       joules of a multiply-accumulate of 16 bits at 65 nm (:func:`lepton_dse.validate.energy_table.mac16_j`)
G       bytes that pass the global buffer, in and out
======  ============================================================================================================

Eyeriss (Y.-H. Chen et al., JSSC 2017). An access of 16 bits costs e at the scratchpad of a unit, 6 e at the global buffer and
200 e at DRAM (Y.-H. Chen et al., ISCA 2016: normalised costs of a 65 nm process; recalled). A multiply-accumulate makes four
accesses to the scratchpad: activation, weight, partial sum in and out. The chip's energy, without DRAM as the published power is,

    ``n (e + 4 e) + (G / 2) 6 e``  plus what fills the scratchpads in the mapped case,

once with the buffer traffic that the authors counted, and once with that of the mapping of least energy, which the exact tile
search proves. Hops between units (2 e each), the network, clocks, control and leakage are in neither; zero activations, which the
chip skips in part, cost as much as others.

TPU v1 (N. Jouppi et al., ISCA 2017): the energies of the hardware model, times what one pass over a batch computes and moves; the
layers are those of :mod:`lepton_dse.validate.tpu_v1`. The reference is 40 W times the time that the measured rate takes.

Figures at 28 and 65 nm follow from published ones at 7 and 45 nm, of which some are recalled
(:mod:`lepton_dse.validate.energy_table`); a factor of two in either direction would be no surprise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tiling import Hierarchy, Level, MapSpace, Objective, TileResult, Tiles, remembered_tiles
from lepton_dse.search.tpu import chip_of, search_product
from lepton_dse.sim.loopnest import Problem, problem_of, traffic
from lepton_dse.sim.tpu import matrix_product
from lepton_dse.targets import TpuTarget, load_target
from lepton_dse.validate.energy_table import mac16_j
from lepton_dse.validate.figures import figures
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, row, score
from lepton_dse.validate.tpu_v1 import layer_extents

__all__ = [
    "EYERISS_LAYERS",
    "SUITES",
    "ChipEnergy",
    "ConvLayer",
    "EyerissLayer",
    "eyeriss",
    "eyeriss_layer",
    "problem",
    "published_j",
    "tpu_v1_energy",
    "watts",
]

_SPAD_ACCESSES, _WORD = 4, 2.0
_SPAD, _BUFFER, _DRAM = 1.0, 6.0, 200.0
"""Normalised cost of an access of 16 bits."""
_ROWS, _COLUMNS, _BUFFER_BYTES = 12, 14, 108.0 * 1024
_SPAD_BYTES = {"x": 24.0, "w": 448.0, "y": 48.0}
"""12 words of activations, 224 of weights and 24 of sums."""
_INT16 = Precision.parse("int16")


@dataclass(frozen=True)
class ConvLayer:
    """A square convolution: input channels and extent, output channels, kernel, stride, padding, groups."""

    channels: int
    extent: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


def _vgg(channels: int, extent: int, outputs: int) -> ConvLayer:
    return ConvLayer(channels, extent, outputs, 3, padding=1)


EYERISS_LAYERS: dict[str, dict[str, ConvLayer]] = {
    "AlexNet": {
        "CONV1": ConvLayer(3, 227, 96, 11, stride=4),
        "CONV2": ConvLayer(96, 27, 256, 5, padding=2, groups=2),
        "CONV3": ConvLayer(256, 13, 384, 3, padding=1),
        "CONV4": ConvLayer(384, 13, 384, 3, padding=1, groups=2),
        "CONV5": ConvLayer(384, 13, 256, 3, padding=1, groups=2),
    },
    "VGG-16": {
        "CONV1-1": _vgg(3, 224, 64),
        "CONV1-2": _vgg(64, 224, 64),
        "CONV2-1": _vgg(64, 112, 128),
        "CONV2-2": _vgg(128, 112, 128),
        "CONV3-1": _vgg(128, 56, 256),
        "CONV3-2": _vgg(256, 56, 256),
        "CONV3-3": _vgg(256, 56, 256),
        "CONV4-1": _vgg(256, 28, 512),
        "CONV4-2": _vgg(512, 28, 512),
        "CONV4-3": _vgg(512, 28, 512),
        "CONV5-1": _vgg(512, 14, 512),
        "CONV5-2": _vgg(512, 14, 512),
        "CONV5-3": _vgg(512, 14, 512),
    },
}
"""Convolutions of both networks (A. Krizhevsky et al., NIPS 2012; K. Simonyan and A. Zisserman, ICLR 2015, configuration D)."""


def problem(layer: ConvLayer, batch: int) -> Problem:
    """The nest of a convolution with words of 16 bits, partial sums included."""
    builder = GraphBuilder("layer")
    x = builder.input("x", (batch, layer.channels, layer.extent, layer.extent))
    shape = (layer.outputs, layer.channels // layer.groups, layer.kernel, layer.kernel)
    weights = builder.constant("w", np.zeros(shape, np.float32))
    pads = (layer.padding,) * 2
    window = ops.Window((layer.kernel,) * 2, (layer.stride,) * 2, (1, 1), pads, pads)
    graph = builder.build([builder.add(ops.Conv(window, layer.groups), [x, weights], output="y")])
    return replace(problem_of(graph, graph.ops[0], _INT16), accumulator_bits=16)


def eyeriss() -> Hierarchy:
    """Eyeriss as three levels: 12 x 14 units with scratchpads of 12, 224 and 24 words, 108 KiB of global buffer, DRAM.

    The chip's dataflow fixes the loops along each axis; here any loop may lie along either, a bound fewer than the chip's own.
    """
    e = mac16_j()
    return Hierarchy(
        _ROWS,
        _COLUMNS,
        (
            Level(
                "scratchpad",
                sum(_SPAD_BYTES.values()),
                math.inf,
                _SPAD * e / _WORD,
                bypass=False,
                operand_capacity_bytes=tuple(_SPAD_BYTES.items()),
            ),
            Level("global_buffer", _BUFFER_BYTES, 64.0, _BUFFER * e / _WORD),
            Level("dram", 1e12, 8.0, _DRAM * e / _WORD),
        ),
        e,
    )


@dataclass(frozen=True)
class EyerissLayer:
    """What the mapping of least energy moves and costs, and the chip's energy with the traffic that the authors counted.

    Parameters
    ----------
    macs : int
    buffer_bytes, dram_bytes : float
        Of the least-energy mapping.
    best_j, counted_j : float
        Energy of the chip, DRAM excluded; `counted_j` is NaN where the authors give no traffic.
    result : TileResult
        The mapping and its proof.
    """

    macs: int
    buffer_bytes: float
    dram_bytes: float
    best_j: float
    counted_j: float
    result: TileResult


def eyeriss_layer(entry: dict[str, str]) -> EyerissLayer:
    """Predict one layer of the published tables.

    Parameters
    ----------
    entry : dict
        A row of ``figures/eyeriss_jssc2017.csv`` that is no total.
    """
    nest, machine = problem(EYERISS_LAYERS[entry["network"]][entry["layer"]], int(entry["batch"])), eyeriss()
    found = remembered_tiles(nest, machine, Objective.ENERGY, MapSpace(Tiles.DIVISOR))
    assert found.mapping is not None, "every layer fits Eyeriss"
    moved = traffic(nest, found.mapping)
    dram = moved.level_bytes("dram")
    e = machine.energy_j_per_mac
    counted = float(entry["buffer_mb"]) * 1e6 / _WORD * _BUFFER * e if entry["buffer_mb"] else math.nan
    return EyerissLayer(
        macs=nest.iterations,
        buffer_bytes=moved.level_bytes("global_buffer"),
        dram_bytes=dram,
        best_j=found.energy_j - dram * machine.levels[-1].energy_j_per_byte,
        counted_j=nest.iterations * (1 + _SPAD_ACCESSES * _SPAD) * e + counted,
        result=found,
    )


def published_j(entry: dict[str, str]) -> float:
    """Power times latency of a row of the published tables."""
    return float(entry["power_mw"]) * 1e-3 * float(entry["latency_ms"]) * 1e-3


@dataclass(frozen=True)
class ChipEnergy:
    """Joules of one pass over a batch by where they go, and the seconds that the measured rate takes for it."""

    arithmetic_j: float
    buffer_j: float
    memory_j: float
    seconds: float

    @property
    def total_j(self) -> float:
        """All that is modelled."""
        return self.arithmetic_j + self.buffer_j + self.memory_j


def tpu_v1_energy(entry: dict[str, str], target: TpuTarget) -> ChipEnergy:
    """Energy of an application on TPU v1 by the figures of its hardware model.

    Parameters
    ----------
    entry : dict
        A row of ``figures/tpu_v1_jouppi2017.csv``.
    target : TpuTarget
        TPU v1.

    Raises
    ------
    LeptonError
        If the hardware model lacks an energy.
    """
    text = "w8a16" if entry["app"].startswith("LSTM") else "int8"
    precision, per_mac = Precision.parse(text), target.energy_j_per_mac.get(text)
    inner, outer = target.levels[0].energy_j_per_byte, target.levels[-1].energy_j_per_byte
    if per_mac is None or inner is None or outer is None:
        raise LeptonError(f"{target.name} lacks an energy of {text} or of a level", fix="add it to the hardware model")
    chip, bits = chip_of(target, precision), precision.activations.bits
    dense, conv, vector, pool = (int(entry[name]) for name in ("fc", "conv", "vector", "pool"))
    k, n, dense_m, conv_m = layer_extents(entry)
    macs, buffer, memory = 0.0, 0.0, 0.0
    for count, m in ((dense, dense_m), (conv, conv_m)):
        if count:
            price = search_product(matrix_product(round(m), n, k, x_bits=bits, y_bits=bits), chip).price
            macs += count * m * n * k
            buffer += count * price.inner_bytes
            memory += count * price.outer_bytes
    buffer += 2 * (vector * dense_m + pool * conv_m) * n * bits / 8
    seconds = 2 * macs / (float(entry["measured_tops"]) * 1e12)
    return ChipEnergy(macs * per_mac.value, buffer * inner.value, memory * outer.value, seconds)


def watts(state: str) -> float:
    """Published power of TPU v1, ``busy`` or ``idle``."""
    return next(float(entry["watt"]) for entry in figures("tpu_v1_power") if entry["state"] == state)


_UNCHECKED = "energy is unchecked: no figure here is confirmed, no constant is fitted, and no band follows"
_MISSING = "not modelled: clock tree, control, leakage, network between units, pads; zero activations cost as much as others"


def _eyeriss(suite: Suite, context: Context) -> SuiteResult:
    rows: list[Row] = []
    for network, layers in EYERISS_LAYERS.items():
        entries = {entry["layer"]: entry for entry in figures("eyeriss_jssc2017") if entry["network"] == network}
        found = {}
        for name in layers:
            context.progress(f"{network} {name}")
            found[name] = eyeriss_layer(entries[name])
        sums = {
            "counted traffic": {name: layer.counted_j for name, layer in found.items()},
            "least-energy mapping": {name: layer.best_j for name, layer in found.items()},
        }
        for what, energies in sums.items():
            if any(math.isnan(energy) for energy in energies.values()):
                continue
            named = {**energies, "total": math.fsum(energies.values())}
            rows += [
                row(f"{network} {name}, {what}", energy, published_j(entries[name]), scored=entries[name]["kind"] == "paper")
                for name, energy in named.items()
            ]
    notes = (
        _UNCHECKED,
        _MISSING,
        f"a 16-bit multiply-accumulate at 65 nm is taken as {mac16_j() * 1e12:.2f} pJ, from 45 and 7 nm; all scales with it",
        "chip without DRAM; only totals are scored, whose power and frame rate were read; layers are recalled from the tables",
    )
    return score(suite, rows, notes=notes)


def _tpu_v1(suite: Suite, context: Context) -> SuiteResult:
    target = load_target("google-tpu-v1")
    assert isinstance(target, TpuTarget), "the shipped model is of the tpu family"
    rows = []
    for entry in figures("tpu_v1_jouppi2017"):
        found = tpu_v1_energy(entry, target)
        rows.append(row(entry["app"], found.total_j, watts("busy") * found.seconds))
    notes = (
        _UNCHECKED,
        _MISSING,
        f"reference: {watts('busy'):g} W times the time at the measured rate; {watts('idle'):g} W are drawn idle (recalled)",
        "layer shapes are those that the suite tpu-v1 derives; DRAM is in the prediction",
    )
    return score(suite, rows, notes=notes)


SUITES = (
    Suite(
        "energy-eyeriss",
        "Y.-H. Chen et al., Eyeriss, IEEE JSSC 52(1), 2017, tables V and VI",
        "joules of convolutions on the chip without DRAM, one batch",
        _eyeriss,
    ),
    Suite(
        "energy-tpu-v1",
        "N. Jouppi et al., ISCA 2017, tables 1 and 3; K. Sato and C. Young, Google Cloud blog, 2017",
        "joules of one pass over the batch at the measured rate",
        _tpu_v1,
    ),
)
