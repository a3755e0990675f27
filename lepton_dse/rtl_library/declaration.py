"""What is declared about a module of ``rtl/``: parameters, ports, timing, resources and paths.

The emitter reads the ports, the simulator the timing, the cost model the resources, the clock's band the paths, and the tests
hold each against the Verilog: ports against what synthesis sees, timing against a simulation, resources and paths against
synthesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar, get_type_hints

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.timing import ModuleTiming

__all__ = [
    "Depth",
    "Direction",
    "End",
    "Family",
    "MemoryStyle",
    "ModuleDeclaration",
    "Multiplier",
    "Pace",
    "Parameters",
    "Path",
    "Port",
    "Range",
    "Resources",
    "bits",
    "clock_ports",
    "stream_input",
    "stream_output",
    "stream_ports",
]

Value = int | str


class Direction(Enum):
    """Which way a port points."""

    INPUT = "input"
    OUTPUT = "output"


class Family(Enum):
    """A family of devices whose primitives the resources are counted in."""

    XC7 = "xc7"
    XCUP = "xcup"
    ECP5 = "ecp5"

    @property
    def amd(self) -> bool:
        """Whether its look-up tables have 6 inputs and its memories the shapes of AMD's."""
        return self is not Family.ECP5

    @property
    def absorbs(self) -> bool:
        """Whether Yosys moves registers and adders beside a product into the multiplier: into a DSP48E1, not a DSP48E2."""
        return self is Family.XC7

    @classmethod
    def _missing_(cls, value: object) -> None:
        """Refuse a fabric whose resource formulas no synthesis has checked."""
        known = ", ".join(family.value for family in cls)
        raise LeptonError(f"no resource formulas for the fabric '{value}'", fix=f"choose a device of {known}")


class MemoryStyle(Enum):
    """What a memory is made of."""

    BLOCK = "block"
    DISTRIBUTED = "distributed"


class Multiplier(Enum):
    """What a product is made of: a hard multiplier, additions in logic, or half a hard multiplier that makes two at once."""

    DSP = "dsp"
    LUT = "lut"
    PACKED = "packed"


@dataclass(frozen=True)
class Port:
    """One port of a module.

    Parameters
    ----------
    name : str
        Its name in the Verilog.
    direction : Direction
        Seen from the module.
    width : int
        Bits.
    """

    name: str
    direction: Direction
    width: int


@dataclass(frozen=True)
class Resources:
    """Primitives of one family.

    Parameters
    ----------
    lut : int
        Look-up tables, those used as memory or beside a carry chain included (xc7 and xcup: of 6 inputs; ecp5: of 4).
    ff : int
        Flip-flops outside hard blocks.
    dsp : int
        DSP48E1, DSP48E2 or MULT18X18D.
    bram18 : int
        Block memories of 18 kbit (RAMB18 or DP16KD; a RAMB36 counts twice).
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram18: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp, self.bram18 + other.bram18)


class End(Enum):
    """Where a path through combinational logic starts or ends, seen from the module."""

    REGISTER = "register"
    """In the module itself."""
    INPUT = "input"
    """Valid and data of the streams that come in."""
    OUTPUT = "output"
    """Valid and data of the stream that goes out."""
    READY_IN = "ready in"
    """From the consumers."""
    READY_OUT = "ready out"
    """To the producers."""
    WORD = "word"
    """Data of the memories beside the module."""
    ADDRESS = "address"
    """Addresses and enables of those memories."""


@dataclass(frozen=True)
class Depth:
    """What a path runs through, counted.

    Parameters
    ----------
    levels : int
        Look-up tables behind one another, not counting those that are part of a carry chain.
    chains, carry : int
        Carry chains behind one another, and the bits of all of them together.
    outs : int
        Carries that leave their chain for other logic, as that of a comparison does.
    lookups : int
        Reads of memories made of look-up tables.
    blocks : int
        Reads of block memories: such a path starts at their clock.
    products : int
        Hard multipliers.
    loads : int
        Cells that its nets drive; the product over those that drive many, since time grows with the logarithm.
    """

    levels: int = 0
    chains: int = 0
    carry: int = 0
    outs: int = 0
    lookups: int = 0
    blocks: int = 0
    products: int = 0
    loads: int = 1

    def __add__(self, other: Depth) -> Depth:
        return Depth(
            self.levels + other.levels,
            self.chains + other.chains,
            self.carry + other.carry,
            self.outs + other.outs,
            self.lookups + other.lookups,
            self.blocks + other.blocks,
            self.products + other.products,
            self.loads * other.loads,
        )


@dataclass(frozen=True)
class Path:
    """The longest way from one kind of end to another.

    Parameters
    ----------
    start, end : End
    depth : Depth
    """

    start: End
    end: End
    depth: Depth = Depth()


@dataclass(frozen=True)
class Range:
    """The values that an integer parameter may take; annotates the field of a :class:`Parameters` class.

    Parameters
    ----------
    low, high : int
        Both included.
    """

    low: int
    high: int


@cache
def _annotations(cls: type[Parameters]) -> Mapping[str, Any]:
    return get_type_hints(cls, include_extras=True)


class Parameters:
    """Base of the parameter classes: frozen dataclasses whose upper-case field names are the Verilog's parameters.

    Raises
    ------
    LeptonError
        On construction, if a field is outside its :class:`Range` or the fields contradict one another.
    """

    def __post_init__(self) -> None:
        hints = _annotations(type(self))  # type: ignore[arg-type]  # mypy takes the class for an unhashable value
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            for rule in getattr(hints[field.name], "__metadata__", ()):
                if isinstance(rule, Range) and not rule.low <= value <= rule.high:
                    raise LeptonError(f"{field.name} = {value} is outside {rule.low} to {rule.high}", where=type(self).__name__)
        self.check()

    def check(self) -> None:
        """Check what no single field shows; subclasses override it where there is such a rule."""

    def verilog_parameters(self) -> dict[str, Value]:
        """Return the value of each parameter of the Verilog module, in the order of the fields."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return {name.upper(): value.value if isinstance(value, Enum) else value for name, value in pairs}


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True)
class Pace:
    """What the timing of one period amounts to, in closed form: a search counts by it without building tables.

    Parameters
    ----------
    input_beats, output_beats : int
        Beats taken and emitted.
    steps : int
        Steps of the busiest process, and so the least cycles that a period takes.
    further : tuple of int
        Beats taken from each input stream beyond the first.
    """

    input_beats: int
    output_beats: int
    steps: int
    further: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModuleDeclaration(Generic[P]):
    """The contract of one module.

    Parameters
    ----------
    name : str
        The module's name; its file is ``rtl/<name>.v``.
    parameters : type
        Its parameter class.
    ports : callable
        The ports for given parameters.
    resources : callable
        A closed-form estimate for given parameters and family.
    timing : callable, optional
        The timed event graph of one period; None for a module that is no stage of a stream.
    pace : callable, optional
        The counts of that graph; None exactly where `timing` is.
    paths : callable
        The longest paths for given parameters and family, between every two ends that logic joins.
    uses : tuple of str
        Modules that its Verilog instantiates.
    """

    name: str
    parameters: type[P]
    ports: Callable[[P], tuple[Port, ...]]
    resources: Callable[[P, Family], Resources]
    timing: Callable[[P], ModuleTiming] | None
    pace: Callable[[P], Pace] | None
    paths: Callable[[P, Family], tuple[Path, ...]]
    uses: tuple[str, ...] = ()


def bits(count: int) -> int:
    """Return the width of a counter or address of ``count`` values, at least 1."""
    return max(1, (count - 1).bit_length())


def clock_ports() -> tuple[Port, ...]:
    """Return the clock and the synchronous, active-high reset."""
    return (Port("clk", Direction.INPUT, 1), Port("rst", Direction.INPUT, 1))


def stream_input(prefix: str, width: int) -> tuple[Port, ...]:
    """Return the ports of one stream that comes in.

    Parameters
    ----------
    prefix : str
        Of the ports' names.
    width : int
        Bits of its data.
    """
    return (
        Port(f"{prefix}_valid", Direction.INPUT, 1),
        Port(f"{prefix}_ready", Direction.OUTPUT, 1),
        Port(f"{prefix}_data", Direction.INPUT, width),
    )


def stream_output(width: int, copies: int = 1) -> tuple[Port, ...]:
    """Return the ports of the stream that goes out, ``m``.

    Parameters
    ----------
    width : int
        Bits of its data.
    copies : int
        Consumers, each with a bit of valid and of ready.
    """
    return (
        Port("m_valid", Direction.OUTPUT, copies),
        Port("m_ready", Direction.INPUT, copies),
        Port("m_data", Direction.OUTPUT, width),
    )


def stream_ports(input_width: int, output_width: int) -> tuple[Port, ...]:
    """Return the ports of a module with one stream in and one out.

    Parameters
    ----------
    input_width, output_width : int
        Bits of ``s_data`` and ``m_data``.
    """
    return (*stream_input("s", input_width), *stream_output(output_width))
