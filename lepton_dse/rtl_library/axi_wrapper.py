"""Declares ``rtl/axi_wrapper.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.components import counter_bits, weighted
from lepton_dse.rtl_library.declaration import (
    Direction,
    End,
    Family,
    ModuleDeclaration,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
)
from lepton_dse.rtl_library.paths import LEVEL, added, loaded, logic

__all__ = ["AXI_REGISTERS", "AXI_WRAPPER", "AxiRegister", "AxiWrapper"]


@dataclass(frozen=True)
class AxiRegister:
    """A register of 32 bits of the AXI4-Lite slave.

    Parameters
    ----------
    name : str
    offset : int
        Bytes from the slave's base address.
    access : str
        ``read`` or ``read/write``.
    meaning : str
        One line for a person.
    """

    name: str
    offset: int
    access: str
    meaning: str


AXI_REGISTERS = (
    AxiRegister("IDENTITY", 0x00, "read", 'the bytes "LEPT", `0x4c455054`'),
    AxiRegister("VERSION", 0x04, "read", "of this map: 1"),
    AxiRegister("DESIGN", 0x08, "read", "31 bits of the digest of the plan"),
    AxiRegister("CONTROL", 0x0C, "read/write", "bit 0: let frames in while 1; bit 1: let one frame in; reads 1 until it begins"),
    AxiRegister("STATUS", 0x10, "read", "bit 0: a frame is inside; bit 1: the gate is open; bit 2: neither"),
    AxiRegister("FRAMES", 0x14, "read", "frames that have left since reset"),
    AxiRegister(
        "LATENCY",
        0x18,
        "read",
        "cycles from first beat in to last beat out of the latest frame that entered an empty design; counts on until then",
    ),
    AxiRegister("INTERVAL", 0x1C, "read", "cycles between the last beats of the latest two frames"),
)


@dataclass(frozen=True)
class AxiWrapper(Parameters):
    """A design of streams behind AXI: a gate for frames, and an AXI4-Lite slave that starts, counts and times them.

    Parameters
    ----------
    in_width, out_width : int
        Bits of a beat that comes in and of one that leaves.
    beats : int
        Beats of a frame that comes in.
    design : int
        What the register DESIGN holds.
    """

    in_width: Annotated[int, Range(1, 65536)]
    out_width: Annotated[int, Range(1, 65536)]
    beats: Annotated[int, Range(1, 1 << 24)]
    design: Annotated[int, Range(0, (1 << 31) - 1)] = 0


def _ports(p: AxiWrapper) -> tuple[Port, ...]:
    into, out = Direction.INPUT, Direction.OUTPUT
    return (
        Port("aclk", into, 1),
        Port("aresetn", into, 1),
        Port("core_rst", out, 1),
        *_stream("s_axis_t", into, p.in_width),
        *_stream("core_in_", out, p.in_width),
        *_stream("core_out_", into, p.out_width),
        Port("core_out_last", into, 1),
        *_stream("m_axis_t", out, p.out_width),
        Port("m_axis_tlast", out, 1),
        *_channel("aw", into, ("addr", 5)),
        *_channel("w", into, ("data", 32), ("strb", 4)),
        *_channel("b", out, ("resp", 2)),
        *_channel("ar", into, ("addr", 5)),
        *_channel("r", out, ("data", 32), ("resp", 2)),
    )


def _stream(prefix: str, way: Direction, width: int) -> tuple[Port, ...]:
    back = Direction.OUTPUT if way is Direction.INPUT else Direction.INPUT
    return Port(f"{prefix}valid", way, 1), Port(f"{prefix}ready", back, 1), Port(f"{prefix}data", way, width)


def _channel(name: str, way: Direction, *payload: tuple[str, int]) -> tuple[Port, ...]:
    valid, ready, _ = _stream(f"s_axil_{name}", way, 1)
    return valid, ready, *(Port(f"s_axil_{name}{field}", way, width) for field, width in payload)


def _resources(p: AxiWrapper, family: Family) -> Resources:
    # Five registers of 32 bits, a counter of 16, the handshakes, and the counter of beats; the streams pass without a register.
    beat = counter_bits(p.beats)
    return Resources(lut=weighted(family, (beat, 1.2, 2.0), (1, 88.0, 390.0)), ff=188 + beat)


# It passes beats through without a register, so it is no stage of its own in the timed event graph.
def _paths(p: AxiWrapper, family: Family) -> tuple[Path, ...]:
    # A beat that begins or ends a frame moves counters of 16 and 32 bits.
    counted = LEVEL + added(16, family)
    return (
        Path(End.INPUT, End.OUTPUT, LEVEL),
        Path(End.READY_IN, End.READY_OUT, LEVEL),
        Path(End.INPUT, End.REGISTER, counted),
        Path(End.READY_IN, End.REGISTER, counted),
        Path(End.REGISTER, End.OUTPUT, LEVEL),
        Path(End.REGISTER, End.READY_OUT, LEVEL),
        Path(End.REGISTER, End.REGISTER, counted),
        Path(End.REGISTER, End.REGISTER, added(32, family) + LEVEL),
        Path(End.REGISTER, End.REGISTER, logic(32, family) + LEVEL + loaded(32)),
    )


AXI_WRAPPER = ModuleDeclaration("axi_wrapper", AxiWrapper, _ports, _resources, None, None, _paths)
