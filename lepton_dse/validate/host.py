"""What this host reaches, measured by generated C programs: clock, multiply-adds, bandwidth of every level, depth of look-ahead.

Every figure is the best of several rounds of a program that times itself with ``clock_gettime``; a round runs all measurements
one after another, so that a disturbance spoils one round of each and not all rounds of one.

=============  =====================================================================================================
clock          cycles of a chain of dependent integer additions, one a cycle
fma            independent chains of vector multiply-adds in float32; one thread, then one on every core
fma_latency    one chain of them
fma_short      chains of 64, one after another: their overlap gives the instructions in flight
int8           dot products of bytes (VNNI, or multiply-add instructions of AVX2)
loads          independent loads of four bytes that hit the first level
read, update   sums over a buffer of vectors, and x[i] += 1; 1 byte and 2 bytes moved a byte of buffer
=============  =====================================================================================================
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.errors import LeptonError
from lepton_dse.validate.cpu_tools import compiled, gcc, run_program

__all__ = ["OPTIONS", "CacheShape", "Host", "cache_shapes", "lanes_of_host", "measure_host", "program_text"]

OPTIONS = ("-O3", "-march=native", "-fno-tree-vectorize", "-fno-tree-slp-vectorize", "-fno-tree-loop-distribute-patterns")
"""The nest and the measurements run as written: the compiler may not vectorise what is vectorised already."""
CHAIN = 64
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
    int8_per_s: float | None
    int8_per_s_all: float | None
    fma_cycles: float
    window: float
    load_ports: float
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


def program_text(lanes: int, buffers: tuple[int, ...]) -> str:
    """The C program: ``program THREADS SCALE`` runs every measurement once and prints ``name rate`` lines.

    Parameters
    ----------
    lanes : int
        Float32 lanes of a vector.
    buffers : tuple of int
        Bytes of the buffer of one thread for each level, from inner to outer.
    """
    sizes = ", ".join(f"{size}L" for size in buffers)
    chains = range(12)
    declare = " ".join(f"vec s{i} = a;" for i in chains)
    step = " ".join(f"s{i} = s{i} * a + b; PIN(s{i});" for i in chains)
    integers = " ".join(f"ints s{i} = a;" for i in chains)
    dots = " ".join(f"DOT(s{i}); PIN(s{i}); PIN(left);" for i in chains)
    total = " + ".join(f"s{i}" for i in chains)
    chain = " ".join(["x = x * a + b;"] * CHAIN)
    loads = " ".join(f"(void)p[{index * 4}];" for index in range(16))
    adds = " ".join(['__asm__ volatile("" : "+r"(x)); x += y;'] * 32)
    return f"""#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define PIN(x) __asm__ volatile("" : "+v"(x))
#elif defined(__aarch64__)
#define PIN(x) __asm__ volatile("" : "+w"(x))
#else
#define PIN(x) __asm__ volatile("" : : : "memory")
#endif
#define LANES {lanes}
typedef float vec __attribute__((vector_size(LANES * 4), aligned(LANES * 4)));
static const long sizes[] = {{ {sizes} }};
static double scale = 1.0;
static pthread_barrier_t barrier;

static double now(void) {{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}}

static vec zero(float value) {{
    vec x;
    for (int i = 0; i < LANES; ++i) x[i] = value;
    return x;
}}

static volatile float sink;
static volatile int64_t isink;

static double clock_rate(char *buffer, long size) {{
    (void)buffer; (void)size;
    const long count = (long)(400000 * scale);
    int64_t x = 1, y = isink + 3;
    const double start = now();
    for (long i = 0; i < count; ++i) {{ {adds} }}
    const double stop = now();
    isink = x;
    return 32.0 * (double)count / (stop - start);
}}

static double fma_rate(char *buffer, long size) {{
    (void)buffer; (void)size;
    const long count = (long)(2000000 * scale);
    const vec a = zero(0.999f), b = zero(0.5f);
    {declare}
    const double start = now();
    for (long i = 0; i < count; ++i) {{ {step} }}
    const double stop = now();
    sink = ({total})[0];
    return {len(chains)}.0 * LANES * (double)count / (stop - start);
}}

static double fma_latency(char *buffer, long size) {{
    (void)buffer; (void)size;
    const long count = (long)(60000 * scale);
    const vec a = zero(0.999f), b = zero(0.5f);
    vec x = a;
    const double start = now();
    for (long i = 0; i < count; ++i) {{ {chain} PIN(x); }}
    const double stop = now();
    sink = x[0];
    return {CHAIN}.0 * (double)count / (stop - start);
}}

static double fma_short(char *buffer, long size) {{
    (void)buffer; (void)size;
    const long count = (long)(60000 * scale);
    const vec a = zero(0.999f), b = zero(0.5f);
    vec x = a;
    const double start = now();
    for (long i = 0; i < count; ++i) {{ x = a; PIN(x); {chain} PIN(x); }}
    const double stop = now();
    sink = x[0];
    return {CHAIN}.0 * (double)count / (stop - start);
}}

static double int8_rate(char *buffer, long size) {{
    (void)buffer; (void)size;
    const long count = (long)(1500000 * scale);
#if defined(__AVX512BW__)
    typedef __m512i ints;
    const ints a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2), one = _mm512_set1_epi16(1);
#if defined(__AVX512VNNI__)
#define DOT(s) s = _mm512_dpbusd_epi32(s, a, b)
#else
#define DOT(s) s = _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(left, b), one))
#endif
#elif defined(__AVX2__)
    typedef __m256i ints;
    const ints a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2), one = _mm256_set1_epi16(1);
#define DOT(s) s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(left, b), one))
#endif
#if defined(DOT)
    ints left = a;
    {integers}
    (void)one;
    const double start = now();
    for (long i = 0; i < count; ++i) {{ PIN(left); {dots} }}
    const double stop = now();
    const ints sum = {total};
    isink = sum[0];
    return {len(chains)}.0 * sizeof(ints) * (double)count / (stop - start);
#else
    (void)count;
    return 0.0;
#endif
}}

static double load_rate(char *buffer, long size) {{
    (void)size;
    const long count = (long)(1000000 * scale);
    volatile float *p = (volatile float *)buffer;
    const double start = now();
    for (long i = 0; i < count; ++i) {{ {loads} }}
    const double stop = now();
    return 16.0 * (double)count / (stop - start);
}}

static double read_rate(char *buffer, long size) {{
    const long vectors = size / (long)sizeof(vec) / 8 * 8;
    const long passes = 1 + (long)(6.4e7 * scale) / size;
    vec s0 = zero(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    const double start = now();
    for (long pass = 0; pass < passes; ++pass) {{
        const vec *p = (const vec *)buffer;
        for (long i = 0; i < vectors; i += 8) {{
            s0 += p[i]; s1 += p[i + 1]; s2 += p[i + 2]; s3 += p[i + 3];
            s4 += p[i + 4]; s5 += p[i + 5]; s6 += p[i + 6]; s7 += p[i + 7];
        }}
        __asm__ volatile("" : : : "memory");  // passes may not be merged
    }}
    const double stop = now();
    sink = (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7)[0];
    return (double)passes * (double)vectors * sizeof(vec) / (stop - start);
}}

static double update_rate(char *buffer, long size) {{
    const long vectors = size / (long)sizeof(vec) / 8 * 8;
    const long passes = 1 + (long)(3.2e7 * scale) / size;
    const vec one = zero(1.0f);
    const double start = now();
    for (long pass = 0; pass < passes; ++pass) {{
        vec *p = (vec *)buffer;
        for (long i = 0; i < vectors; i += 8) {{
            p[i] += one; p[i + 1] += one; p[i + 2] += one; p[i + 3] += one;
            p[i + 4] += one; p[i + 5] += one; p[i + 6] += one; p[i + 7] += one;
        }}
        __asm__ volatile("" : : : "memory");
    }}
    const double stop = now();
    sink = ((vec *)buffer)[0][0];
    return 2.0 * (double)passes * (double)vectors * sizeof(vec) / (stop - start);
}}

typedef double (*measure)(char *, long);

struct job {{ measure run; long size; char *buffer; double rate; }};

static void *work(void *argument) {{
    struct job *job = argument;
    if (job->size) memset(job->buffer, 0, (size_t)job->size);
    pthread_barrier_wait(&barrier);
    job->rate = job->run(job->buffer, job->size ? job->size : 4096);
    return NULL;
}}

static void together(const char *name, int level, measure run, long size, int threads, char **buffers) {{
    struct job jobs[256];
    pthread_t handles[256];
    double sum = 0.0;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; ++i) {{
        jobs[i] = (struct job){{ run, size, buffers[i], 0.0 }};
        if (pthread_create(&handles[i], NULL, work, &jobs[i])) exit(3);
    }}
    for (int i = 0; i < threads; ++i) {{
        pthread_join(handles[i], NULL);
        sum += jobs[i].rate;
    }}
    pthread_barrier_destroy(&barrier);
    printf("%s %d %.9e\\n", name, level, sum);
}}

int main(int argc, char **argv) {{
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    scale = argc > 2 ? atof(argv[2]) : 1.0;
    const int levels = (int)(sizeof sizes / sizeof sizes[0]);
    char *buffers[256];
    if (threads < 1 || threads > 256) return 2;
    for (int i = 0; i < threads; ++i) {{
        buffers[i] = aligned_alloc(4096, ((size_t)sizes[levels - 1] + 8191) / 4096 * 4096);
        if (!buffers[i]) return 4;
        memset(buffers[i], 0, 4096);
    }}
    together("clock", 0, clock_rate, 0, threads, buffers);
    together("fma", 0, fma_rate, 0, threads, buffers);
    together("fma_latency", 0, fma_latency, 0, threads, buffers);
    together("fma_short", 0, fma_short, 0, threads, buffers);
    together("int8", 0, int8_rate, 0, threads, buffers);
    together("loads", 0, load_rate, 0, threads, buffers);
    for (int level = 0; level < levels; ++level) {{
        together("read", level, read_rate, sizes[level], threads, buffers);
        together("update", level, update_rate, sizes[level], threads, buffers);
    }}
    return 0;
}}
"""


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
    progress("compiling the measurements")
    best: dict[tuple[str, int, int], float] = {}
    with compiled(program_text(lanes, (*private, max(memory, 2 * private[-1]))), OPTIONS) as program:
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
        int8_per_s=int8[0] or None,
        int8_per_s_all=int8[1] or None,
        fma_cycles=latency,
        window=max(0.0, CHAIN * (latency / overlapped - 1.0)),
        load_ports=best["loads", 0, 1] / clock,
        caches=caches,
        read=tuple((one, every) for one, every in reach),
        memory_bytes=max(pages * page, 1 << 30),
    )
