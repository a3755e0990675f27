"""The C program that measures a host, and the options that it and the timed kernels are compiled with.

=============  =====================================================================================================
clock          cycles of a chain of dependent integer additions, one a cycle
fma            independent chains of vector multiply-adds in float32; one thread, then one on every core
narrow         the same with single values in place of vectors, which some cores start more of a cycle
fma_latency    one chain of them
fma_short      chains of 64, one after another: their overlap gives the instructions in flight
int8           dot products of bytes (VNNI, or multiply-add instructions of AVX2)
loads          independent loads of four bytes that hit the first level
fills          loads of four bytes, each from another line of one set of the first level, which holds a sixteenth of them
merged         the same with only twice the lines that the set holds: loads whose line is on its way wait for it, and how much
               less a load takes gives the loads in flight
read, update   sums over a buffer of vectors, and x[i] += 1; 1 byte and 2 bytes moved a byte of buffer
=============  =====================================================================================================
"""

from __future__ import annotations

import os

__all__ = ["CHAIN", "FAR", "NEAR", "OPTIONS", "program_text"]

_X86 = hasattr(os, "uname") and os.uname().machine in ("x86_64", "amd64")
OPTIONS = (
    "-O3",
    "-march=native",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-fno-tree-loop-distribute-patterns",
    *(("--param=avoid-fma-max-bits=0",) if _X86 else ()),
)
"""The nest and the measurements run as written: the compiler may not vectorise what is vectorised already, nor, as it does for
some processors, make a multiply-add a multiplication and an addition."""
CHAIN = 64
FAR, NEAR = 16, 2
"""Lines of the walks through one set, as multiples of its ways: when a line comes again, it is lost, or lost and on its way."""


def program_text(lanes: int, buffers: tuple[int, ...], way: int, ways: int) -> str:
    """The C program: ``program THREADS SCALE`` runs every measurement once and prints ``name rate`` lines.

    Parameters
    ----------
    lanes : int
        Float32 lanes of a vector.
    buffers : tuple of int
        Bytes of the buffer of one thread for each level, from inner to outer.
    way, ways : int
        Bytes of a way of the first level, and how many it has.
    """
    far, near = FAR * ways * way, NEAR * ways * way
    sizes = ", ".join(f"{size}L" for size in buffers)
    chains = range(12)
    singles = " ".join(f"float s{i} = a;" for i in chains)
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

static double narrow_rate(char *buffer, long size) {{
    (void)buffer; (void)size;
    const long count = (long)(2000000 * scale);
    const float a = 0.999f, b = 0.5f;
    {singles}
    const double start = now();
    for (long i = 0; i < count; ++i) {{ {step} }}
    const double stop = now();
    sink = {total};
    return {len(chains)}.0 * (double)count / (stop - start);
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

static double fill_rate(char *buffer, long size) {{
    const long lines = size / {way}, passes = 1 + (long)(400000 * scale) / lines;
    const double start = now();
    for (long pass = 0; pass < passes; ++pass) {{
        for (long i = 0; i < size; i += {way}) (void)*(volatile float *)(buffer + i);
    }}
    const double stop = now();
    return (double)lines * (double)passes / (stop - start);
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
    const long largest = sizes[levels - 1] > {far}L ? sizes[levels - 1] : {far}L;
    char *buffers[256];
    if (threads < 1 || threads > 256) return 2;
    for (int i = 0; i < threads; ++i) {{
        buffers[i] = aligned_alloc(4096, ((size_t)largest + 8191) / 4096 * 4096);
        if (!buffers[i]) return 4;
        memset(buffers[i], 0, 4096);
    }}
    together("clock", 0, clock_rate, 0, threads, buffers);
    together("fma", 0, fma_rate, 0, threads, buffers);
    together("narrow", 0, narrow_rate, 0, threads, buffers);
    together("fma_latency", 0, fma_latency, 0, threads, buffers);
    together("fma_short", 0, fma_short, 0, threads, buffers);
    together("int8", 0, int8_rate, 0, threads, buffers);
    together("loads", 0, load_rate, 0, threads, buffers);
    together("fills", 0, fill_rate, {far}L, threads, buffers);
    together("merged", 0, fill_rate, {near}L, threads, buffers);
    for (int level = 0; level < levels; ++level) {{
        together("read", level, read_rate, sizes[level], threads, buffers);
        together("update", level, update_rate, sizes[level], threads, buffers);
    }}
    return 0;
}}
"""
