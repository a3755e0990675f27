"""What this host reaches, measured by a generated C program (:mod:`lepton_dse.validate.host_program`), and its caches.

Every figure is the best of several rounds of a program that times itself with ``clock_gettime``; a round runs all measurements
one after another, so that a disturbance spoils one round of each and not all rounds of one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.errors import LeptonError
from lepton_dse.validate.cpu_tools import compiled, gcc, run_program
from lepton_dse.validate.host_program import CHAIN, NEAR, OPTIONS, program_text

__all__ = ["CacheShape", "Host", "cache_shapes", "lanes_of_host", "measure_host"]

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class CacheShape:
    """One data cache of the host as the system describes it."""

    name: str
    size_bytes: int
    ways: int
    line_bytes: int
    shared_by: int


@dataclass(frozen=True)
class Host:
    """What was measured; rates a second."""

    title: str
    cores: int
    lanes: int
    """Float32 elements of a vector."""
    registers: int
    clock_hz: float
    mac_per_s: float
    """float32, one core."""
    mac_per_s_all: float
    narrow_per_s: float
    """float32 on single values, one core."""
    int8_per_s: float | None
    int8_per_s_all: float | None
    fma_cycles: float
    window: float
    load_ports: float
    fill_cycles: float
    """Between lines brought into one set of the first level."""
    load_window: float
    """Loads in flight."""
    caches: tuple[CacheShape, ...]
    read: tuple[tuple[float, float], ...]
    """Bytes a second of each cache and then of main memory: one core, all cores."""
    memory_bytes: int


def lanes_of_host() -> tuple[int, int]:
    """Float32 lanes of a vector and architectural vector registers that ``gcc -march=native`` uses here.

    Raises
    ------
    MissingToolError
        If gcc is not installed.
    """
    command = [gcc(), "-march=native", "-dM", "-E", "-x", "c", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LeptonError("gcc does not know this processor (-march=native)", where="gcc", fix="install a newer gcc")
    macros = {line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 1}
    if "__AVX512F__" in macros:
        return 16, 32
    if "__AVX2__" in macros:
        return 8, 16
    return 4, 32 if "__aarch64__" in macros else 16


def cache_shapes(folder: Path = _CACHES) -> tuple[CacheShape, ...]:
    """Data caches from inner to outer, from the files that Linux keeps, or from ``sysconf``.

    Raises
    ------
    LeptonError
        If neither says anything.
    """
    found = []
    for entry in sorted(folder.glob("index*")):
        try:
            kind, level, size, ways, line, sharers = (
                (entry / name).read_text().strip()
                for name in ("type", "level", "size", "ways_of_associativity", "coherency_line_size", "shared_cpu_list")
            )
            if kind in ("Data", "Unified"):
                scale = {"K": 1024, "M": 1024**2}.get(size[-1:], 1)
                shape = CacheShape(f"l{level}", int(size.rstrip("KM")) * scale, max(1, int(ways)), int(line), _count(sharers))
                if shape.size_bytes > 0 and shape.line_bytes > 0:
                    found.append(shape)
        except (OSError, ValueError):
            continue
    if not found:
        for number, name in ((1, "LEVEL1_DCACHE"), (2, "LEVEL2_CACHE"), (3, "LEVEL3_CACHE")):
            known = [_system(f"SC_{name}_{what}") for what in ("SIZE", "ASSOC", "LINESIZE")]
            if known[0] > 0:
                sharing = 1 if number < 3 else os.cpu_count() or 1
                found.append(CacheShape(f"l{number}", known[0], max(1, known[1]), max(1, known[2]), sharing))
    if not found:
        raise LeptonError("the system describes no caches", where=str(folder), fix="write the hardware model by hand")
    return tuple(found)


def _system(name: str) -> int:
    try:
        return os.sysconf(name)
    except (ValueError, OSError):
        return 0


def _count(cpus: str) -> int:
    """Processors in a list like ``0-3,8``."""
    total = 0
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return max(1, total)


def _title() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "this host"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "this host")


def measure_host(progress: Callable[[str], None], *, rounds: int = 10, scale: float = 1.0) -> Host:
    """Measure this host.

    Parameters
    ----------
    progress : callable
        Told what is about to run: once for compiling, then once a round.
    rounds : int
        At least 1; the best of them counts.
    scale : float
        Length of every measurement; 1 is a few hundredths of a second.

    Raises
    ------
    MissingToolError
        If gcc is not installed.
    LeptonError
        If the program does not compile or run.
    """
    if rounds < 1 or not scale > 0:
        raise LeptonError(f"{rounds} rounds of length {scale:g}", fix="use at least 1 round and a length above 0")
    lanes, registers = lanes_of_host()
    caches = cache_shapes()
    cores = min(256, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    private = [cache.size_bytes // 2 // min(cache.shared_by, cores) for cache in caches]
    memory = max(64 << 20, min(256 << 20, 4 * caches[-1].size_bytes)) // cores
    first = caches[0]
    way = max(first.line_bytes, first.size_bytes // first.ways)
    progress("compiling the measurements")
    best: dict[tuple[str, int, int], float] = {}
    with compiled(program_text(lanes, (*private, max(memory, 2 * private[-1])), way, first.ways), OPTIONS) as program:
        for index in range(rounds):
            progress(f"round {index + 1} of {rounds}")
            for threads in sorted({1, cores}):
                for line in run_program(program, (str(threads), str(scale))).splitlines():
                    name, level, rate = line.split()
                    key = (name, int(level), threads)
                    best[key] = max(best.get(key, 0.0), float(rate))
    clock = best["clock", 0, 1]
    latency = clock / best["fma_latency", 0, 1]
    overlapped = clock / best["fma_short", 0, 1]
    pages, page = _system("SC_PHYS_PAGES"), _system("SC_PAGE_SIZE")
    reach = [
        tuple(min(best["read", at, count], best["update", at, count]) for count in (1, cores)) for at in range(len(caches) + 1)
    ]
    int8 = (best["int8", 0, 1], best["int8", 0, cores])
    return Host(
        title=_title(),
        cores=cores,
        lanes=lanes,
        registers=registers,
        clock_hz=clock,
        mac_per_s=best["fma", 0, 1],
        mac_per_s_all=best["fma", 0, cores],
        narrow_per_s=best["narrow", 0, 1],
        int8_per_s=int8[0] or None,
        int8_per_s_all=int8[1] or None,
        fma_cycles=latency,
        window=max(0.0, CHAIN * (latency / overlapped - 1.0)),
        load_ports=best["loads", 0, 1] / clock,
        fill_cycles=clock / best["fills", 0, 1],
        load_window=NEAR * first.ways * best["merged", 0, 1] / best["fills", 0, 1],
        caches=caches,
        read=tuple((one, every) for one, every in reach),
        memory_bytes=max(pages * page, 1 << 30),
    )
