"""Where tensors lie, as C++ text: constants in one file, everything else in one arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.plan import MemoryMap
from lepton_dse.schedule.gpu import GPU_ALIGNMENT, GpuProgram

__all__ = ["Places", "places_of"]

_GUARD = 256  # bytes between buffers that lie apart, so that an access outside one is in none


@dataclass(frozen=True)
class Places:
    """Offsets by the owner of the storage.

    Parameters
    ----------
    constants : mapping of str to int
    shared, apart : mapping of str to int
        In the arena: sharing it by when they are needed, and each by itself.
    constants_bytes, shared_bytes, apart_bytes : int
    """

    constants: Mapping[str, int]
    shared: Mapping[str, int]
    apart: Mapping[str, int]
    constants_bytes: int
    shared_bytes: int
    apart_bytes: int

    def reading(self, owner: str) -> str:
        """Address of a buffer that is read."""
        return f"constants + {self.constants[owner]}" if owner in self.constants else self.writing(owner)

    def writing(self, owner: str) -> str:
        """Address of a buffer that is written."""
        return f"arena + PLACE({self.apart[owner]}, {self.shared[owner]})"


def _aligned(size: int, guard: int = 0) -> int:
    return -(-(size + guard) // GPU_ALIGNMENT) * GPU_ALIGNMENT


def places_of(program: GpuProgram, mapped: MemoryMap) -> tuple[Places, bytes]:
    """Offsets of everything, and the bytes of the constants.

    Raises
    ------
    LeptonError
        If the arena or the constants need more than 32-bit offsets.
    """
    image = {name: np.ascontiguousarray(values).tobytes() for name, values in program.constants.items()}
    *starts, whole = accumulate((_aligned(len(data)) for data in image.values()), initial=0)
    constants = dict(zip(image, starts, strict=True))
    shared = {name: entry.offset for name, entry in mapped.places.items()}
    owners = {buffer.owner: buffer.bytes for buffer in program.buffers.values()}
    *apart, far = accumulate((_aligned(size, _GUARD) for size in owners.values()), initial=0)
    if max(far, mapped.peak, whole) >= 1 << 31:
        raise LeptonError(
            f"constants of {whole} bytes and results of {mapped.peak}", fix="a smaller batch: offsets are of 32 bits"
        )
    file = b"".join(data.ljust(_aligned(len(data)), b"\0") for data in image.values())
    return Places(constants, shared, dict(zip(owners, apart, strict=True)), whole, mapped.peak, far), file
