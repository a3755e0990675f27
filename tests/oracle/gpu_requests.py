"""Every access of every thread of a contraction kernel, walked by plain loops as the kernel's text makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lepton_dse.schedule.gpu import Blocks, Columns, Contraction, Matrix, Operand, Packed4, Windows

Place = int | None


def walked(work: Contraction) -> Counter[str]:
    """Requests, bytes, sectors, passes and barriers of one launch, under the names that kernels report."""
    found: Counter[str] = Counter()
    down, across, products = work.grid
    for product in range(products):
        for column in range(across):
            for row in range(down):
                _block(work, row, column, product, found)
    return found


def _block(work: Contraction, down: int, across: int, product: int, found: Counter[str]) -> None:
    tile = work.tile
    warps = tile.warp_rows * tile.warp_columns
    if isinstance(work.b, Blocks):
        number = product * work.grid[1] + across
        steps = list(work.b.lists[number])
        before = sum(len(entry) for entry in work.b.lists[:number])
        for _ in range(warps):  # where the list begins, and where it ends
            _global(found, "load", [4 * number] * 32, 4)
            _global(found, "load", [4 * number + 4] * 32, 4)
    else:
        steps = list(range(-(-work.depth * work.engine.element_bytes // tile.pitch)))
        before = 0
    for position, step in enumerate(steps):
        if isinstance(work.b, Blocks):
            for _ in range(warps):
                _global(found, "load", [4 * (before + position)] * 32, 4)
        right = before + position if isinstance(work.b, Blocks) else step
        _bring(work, work.a, tile.rows, tile.row_pitch, down * tile.rows, product, step, found)
        _bring(work, work.b, tile.columns, tile.pitch, across * tile.columns, product, right, found)
        for warp in range(warps):
            _multiply(work, warp, down, product, step, found)
    for warp in range(warps):
        _epilogue(work, warp, down, across, product, found)
    if tile.asynchronous:
        found["barriers"] += len(steps)
    elif steps:
        found["barriers"] += 1
        for _ in steps[1:]:
            found["barriers"] += 2 if tile.stages == 1 else 1


def _global(found: Counter[str], kind: str, places: list[Place], size: int) -> None:
    """One request of a warp: a byte address, or nothing, for each lane."""
    asked = [place for place in places if place is not None]
    if asked:
        found[f"{kind}_requests"] += 1
        found[f"{kind}_bytes"] += size * len(asked)
        found[f"{kind}_sectors"] += len({place // 32 for place in asked})


def _shared(found: Counter[str], kind: str, places: list[Place], size: int) -> None:
    """The same in shared memory: in each pass a bank serves one word; 128 bytes are served at a time."""
    asked = [place for place in places if place is not None]
    if not asked:
        return
    found[f"shared_{kind}s"] += 1
    at_a_time = 128 // size
    for first in range(0, len(asked), at_a_time):
        waiting = {(place + byte) // 4 for place in asked[first : first + at_a_time] for byte in range(0, size, 4)}
        while waiting:
            served: dict[int, int] = {}
            for word in waiting:
                served[word % 32] = word
            waiting -= set(served.values())
            found[f"shared_{kind}_passes"] += 1


def _lies(work: Contraction, pitch: int, row: int, byte: int) -> int:
    """Where a byte of a row of a strip is stored."""
    chunks = pitch // 16
    chunk = byte // 16
    if work.tile.swizzled:
        chunk ^= row % 8 if chunks == 8 else row // (8 // chunks) % chunks
    return row * pitch + chunk * 16 + byte % 16


def _pieces(operand: Operand, row: int, k: int, product: int) -> Iterator[tuple[Place, int]]:
    """Byte addresses and widths of the accesses that bring 16 bytes of a row from element k on."""
    size = operand.element_bytes
    if isinstance(operand, Packed4):
        inside = row < operand.rows and k < operand.depth
        yield ((product * operand.batch + row * operand.stride + k) // 2 if inside else None), 8
        return
    width = operand.piece_bytes
    for first in range(0, 16, width):
        yield _address(operand, row, k + first // size, product), width


def _address(operand: Operand, row: int, k: int, product: int) -> Place:
    size = operand.element_bytes
    match operand:
        case Matrix():
            inside = row < operand.rows and k < operand.depth
            return (product * operand.batch + row * operand.stride + k) * size if inside else None
        case Columns():
            inside = row < operand.rows and k < operand.depth
            return (product * operand.batch + k * operand.stride + row) * size if inside else None
        case Blocks():
            elements = operand.pitch // size
            return ((k // elements * operand.extent + row % operand.extent) * elements + k % elements) * size
        case Windows():
            if row >= operand.images * operand.out_height * operand.out_width:
                return None
            image, pixel = divmod(row, operand.out_height * operand.out_width)
            out_y, out_x = divmod(pixel, operand.out_width)
            tap, channel = divmod(k, operand.group_channels)
            tap_y, tap_x = divmod(tap, operand.kernel[1])
            if tap_y >= operand.kernel[0]:
                return None
            y = out_y * operand.strides[0] - operand.pads[0] + tap_y * operand.dilations[0]
            x = out_x * operand.strides[1] - operand.pads[1] + tap_x * operand.dilations[1]
            if not (0 <= y < operand.height and 0 <= x < operand.width):
                return None
            pixels = (image * operand.height + y) * operand.width + x
            return (pixels * operand.channels + product * operand.group_channels + channel) * size
    raise AssertionError(operand)


def _bring(
    work: Contraction, operand: Operand, extent: int, pitch: int, first_row: int, product: int, step: int, found: Counter[str]
) -> None:
    """A strip of one operand, chunk by chunk, from global to shared memory."""
    tile, chunks = work.tile, pitch // 16
    in_chunk = 16 // operand.element_bytes
    threads = 32 * tile.warp_rows * tile.warp_columns
    for turn in range(-(-extent * chunks // threads)):
        for warp in range(threads // 32):
            reads: list[list[Place]] = []
            widths: list[int] = []
            writes: list[Place] = []
            for lane in range(32):
                chunk = turn * threads + warp * 32 + lane
                row, q = divmod(chunk, chunks)
                inside = chunk < extent * chunks
                own = list(_pieces(operand, first_row + row, (step * chunks + q) * in_chunk, product))
                reads.append([place if inside else None for place, _ in own])
                widths = [width for _, width in own]
                writes.append(_lies(work, pitch, row, q * 16) if inside else None)
            for piece, width in enumerate(widths):
                _global(found, "load", [lane_reads[piece] for lane_reads in reads], width)
            _shared(found, "store", writes, 16)


def _multiply(work: Contraction, warp: int, down: int, product: int, step: int, found: Counter[str]) -> None:
    """What a warp reads of both strips, and of the positions of what is kept."""
    tile = work.tile
    tall, wide = tile.rows // tile.warp_rows, tile.columns // tile.warp_columns
    top, left = warp // tile.warp_columns * tall, warp % tile.warp_columns * wide
    right_strip = tile.rows * tile.row_pitch
    lanes = range(32)
    if not work.engine.tensor_cores:
        for byte in range(0, tile.pitch, 16):
            for row in range(0, tall, 4):
                _shared(found, "load", [_lies(work, tile.pitch, top + row + lane // 8, byte) for lane in lanes], 16)
            for column in range(0, wide, 8):
                places = [right_strip + _lies(work, tile.pitch, left + column + lane % 8, byte) for lane in lanes]
                _shared(found, "load", places, 16)
        return
    bytes_of_product = 64 if work.engine.skips else 32
    for byte in range(0, tile.pitch, bytes_of_product):
        stored = byte // 2 if work.engine.skips else byte
        for row in range(0, tall, 16):
            if work.engine.skips:
                block, segment = (down * tile.rows + top + row) // 16, (step * tile.pitch + byte) // 64
                blocks, segments = -(-work.a.rows // 16), work.a.depth // 16
                inside = block < blocks and segment < segments
                first = ((product * blocks + block) * segments + segment) * 16
                words: list[Place] = [first + lane // 4 * 2 + lane % 4 if inside and lane % 4 < 2 else None for lane in lanes]
                _global(found, "load", [None if word is None else 4 * word for word in words], 4)
            for half in (0, 16):
                for eight in (0, 8):
                    places = [
                        _lies(work, tile.row_pitch, top + row + eight + lane // 4, stored + half + lane % 4 * 4) for lane in lanes
                    ]
                    _shared(found, "load", places, 4)
        for column in range(0, wide, 8):
            for word in range(0, bytes_of_product, 16):
                places = [
                    right_strip + _lies(work, tile.pitch, left + column + lane // 4, byte + word + lane % 4 * 4) for lane in lanes
                ]
                _shared(found, "load", places, 4)


def _epilogue(work: Contraction, warp: int, down: int, across: int, product: int, found: Counter[str]) -> None:
    """What a warp reads and writes for its sums."""
    tile = work.tile
    tall, wide = tile.rows // tile.warp_rows, tile.columns // tile.warp_columns
    top = down * tile.rows + warp // tile.warp_columns * tall
    left = across * tile.columns + warp % tile.warp_columns * wide
    for group in _sums(work, tall, wide):
        for touch in work.touches:
            places: list[Place] = []
            for row, column in group:
                r, c = top + row, left + column
                if r >= work.a.rows or c >= work.b.rows:
                    places.append(None)
                    continue
                if work.swapped:
                    r, c = c, r
                places.append((product * touch.product + r * touch.row + c * touch.column) * touch.element_bytes)
            _global(found, "store" if touch.store else "load", places, touch.element_bytes)


def _sums(work: Contraction, tall: int, wide: int) -> Iterator[list[tuple[int, int]]]:
    """Row and column of the sum of each lane, one after another."""
    if not work.engine.tensor_cores:
        for row in range(0, tall, 4):
            for column in range(0, wide, 8):
                yield [(row + lane // 8, column + lane % 8) for lane in range(32)]
        return
    for row in range(0, tall, 16):
        for column in range(0, wide, 8):
            for eight in (0, 8):
                for one in (0, 1):
                    yield [(row + eight + lane // 4, column + lane % 4 * 2 + one) for lane in range(32)]
