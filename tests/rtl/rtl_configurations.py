"""Parameter sets of every module at which its contract with the tools is checked.

None of them is among the sets from which the coefficients of the resource formulas were taken.
"""

from pathlib import Path

from lepton_dse.rtl_library import (
    AddRequantize,
    Argmax,
    AveragePool,
    AxiWrapper,
    DepthwiseUnit,
    FrameLast,
    Lookup,
    MatrixVectorUnit,
    MaxPool,
    MemoryStyle,
    Multiplier,
    Parameters,
    Requantize,
    Rom,
    SlidingWindow,
    StreamConcat,
    StreamFifo,
    StreamFork,
    StreamRegister,
    WidthConverter,
    WindowShape,
)

SMALL, BLOCK = MemoryStyle.DISTRIBUTED, MemoryStyle.BLOCK
DSP, LUT, PACKED = Multiplier.DSP, Multiplier.LUT, Multiplier.PACKED


def window(shape: WindowShape, slack: int, element: int, lanes: int, style: MemoryStyle) -> SlidingWindow:
    """Return a window with ``slack`` words more than the least buffer."""
    buffer = shape.minimum_buffer + slack
    return SlidingWindow(**vars(shape), element=element, lanes=lanes, pad=-1, buffer=buffer, style=style)


CONFIGURATIONS: list[Parameters] = [
    StreamRegister(24),
    FrameLast(8, 300),
    StreamFifo(20, 1),
    StreamFifo(10, 12),
    StreamFifo(32, 48),
    StreamFifo(16, 700, BLOCK),
    StreamFifo(40, 200, BLOCK),
    StreamFork(20, 2),
    StreamFork(16, 4),
    StreamConcat(16, 3, 5),
    StreamConcat(32, 1, 12),
    Lookup(8, 8, 3),
    AddRequantize(8, 8, 3, -4, 91234, 70001, 17, 18, 8, -3, -128, 127, 3),
    AddRequantize(6, 8, 0, 5, 131071, 43691, 17, 19, 8, 4, 0, 127, 2),
    DepthwiseUnit(8, 8, 21, 3, 1, 9, DSP),
    DepthwiseUnit(8, 4, 18, 2, 6, 9, LUT),
    DepthwiseUnit(6, 6, 17, 4, 10, 25, DSP),
    WidthConverter(8, 2, 4),
    WidthConverter(4, 12, 3),
    MaxPool(8, 3, 1, 9),
    MaxPool(6, 4, 12, 4),
    AveragePool(8, 2, 1, 36, 14, 0),
    AveragePool(8, 3, 10, 16, 12, 7),
    AxiWrapper(24, 8, 300, 1193046),
    AxiWrapper(64, 16, 25),
    Argmax(12, 1, 10, 4),
    Argmax(8, 4, 3, 8),
    Requantize(22, 17, 19, 8, 3, -128, 127, 2, 1),
    Requantize(20, 17, 22, 4, 0, -7, 7, 4, 6),
    MatrixVectorUnit(8, 8, 22, 3, 3, 5, 12, DSP, SMALL),
    MatrixVectorUnit(6, 6, 18, 2, 8, 4, 20, DSP, SMALL),
    MatrixVectorUnit(8, 4, 18, 3, 3, 2, 6, LUT, SMALL),
    MatrixVectorUnit(4, 4, 14, 2, 6, 1, 9, LUT, SMALL),
    MatrixVectorUnit(8, 8, 22, 4, 3, 5, 12, PACKED, SMALL),
    MatrixVectorUnit(8, 4, 18, 2, 6, 4, 9, PACKED, SMALL),
    MatrixVectorUnit(6, 5, 17, 6, 1, 1, 9, PACKED, SMALL),
    window(WindowShape(1, 20, 20, 3, 3, 1, 1, 1, 1, 1, 1, 20, 20), 20, 8, 3, SMALL),
    window(WindowShape(2, 30, 30, 5, 5, 1, 1, 1, 1, 2, 2, 30, 30), 60, 8, 4, BLOCK),
    window(WindowShape(3, 10, 9, 2, 2, 2, 2, 1, 1, 0, 0, 5, 4), 6, 6, 2, BLOCK),
]

# Corner cases that lint and elaborate differently: counters of one value, one-bit words, odd widths.
CORNERS: list[Parameters] = [
    StreamRegister(1),
    FrameLast(1, 1),
    FrameLast(3, 2),
    StreamFifo(1, 2),
    StreamFifo(1, 1),
    StreamFifo(1, 2, BLOCK),
    StreamFifo(6, 1, BLOCK),
    StreamFork(1, 2),
    StreamConcat(1, 1, 1),
    StreamConcat(3, 1, 2),
    Lookup(1, 1, 1),
    Lookup(12, 2, 2),
    AddRequantize(2, 2, -2, 1, 1, 0, 1, 1, 2, 0, -2, 1, 1),
    AddRequantize(16, 3, 32768, -4, 131071, 5, 17, 60, 16, -32768, -32768, 32767, 1),
    DepthwiseUnit(2, 2, 4, 1, 1, 1, LUT),
    DepthwiseUnit(16, 16, 36, 1, 2, 1, DSP),
    DepthwiseUnit(3, 9, 5, 2, 3, 2, LUT),
    WidthConverter(1, 3, 3),
    WidthConverter(1, 1, 2),
    WidthConverter(1, 6, 2),
    MaxPool(2, 1, 1, 1),
    MaxPool(3, 1, 2, 2),
    AveragePool(8, 1, 1, 1, 8, 0),
    AveragePool(4, 1, 3, 4, 7, -5),
    AxiWrapper(1, 1, 1, (1 << 31) - 1),
    AxiWrapper(3, 5, 2),
    Argmax(1, 1, 1, 1),
    Argmax(3, 7, 2, 4),
    Requantize(4, 1, 1, 2, 0, -2, 1, 1, 1),
    Requantize(18, 17, 60, 8, 0, -128, 127, 1, 2),
    Requantize(64, 32, 1, 32, 0, -(1 << 31), (1 << 31) - 1, 1, 1),
    MatrixVectorUnit(2, 2, 4, 1, 1, 1, 1, LUT, SMALL),
    MatrixVectorUnit(2, 5, 9, 1, 3, 2, 1, LUT, SMALL),
    MatrixVectorUnit(16, 16, 36, 1, 16, 2, 4, DSP, BLOCK),
    window(WindowShape(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1), 0, 1, 1, SMALL),
    window(WindowShape(1, 8, 8, 4, 4, 1, 1, 1, 1, 0, 0, 5, 5), 4, 8, 1, SMALL),
    window(WindowShape(1, 9, 7, 2, 3, 2, 1, 3, 2, 1, 2, 4, 6), 1, 4, 1, BLOCK),
]


def roms(folder: Path) -> list[Parameters]:
    """Return memories with an image in ``folder``, whose name the Verilog resolves from there."""
    shapes = [(3, 1, SMALL), (24, 32, SMALL), (18, 1024, BLOCK), (9, 2000, BLOCK)]
    for width, depth, _ in shapes:
        words = (f"{(i * 2654435761 + 12345) % (1 << width):x}\n" for i in range(depth))
        (folder / f"image_{width}_{depth}.hex").write_text("".join(words))
    return [Rom(width, depth, f"image_{width}_{depth}.hex", style) for width, depth, style in shapes]
