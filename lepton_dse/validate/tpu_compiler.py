"""The TPU cost model against the TPU compiler, which runs without a TPU.

XLA's TPU back end (libtpu) compiles for a named topology and writes its estimate of the cycles of every operation into the
scheduled program. The estimate is a model too: what this suite reports is agreement with the vendor's compiler, not with a
measurement. It tells whether two models that know nothing of each other order shapes alike, and where they part.

What is compared:

1. A fixed list of bfloat16 products, the same for every generation, each a program of its own with its operands and its result
   in main memory. A few convolutions are shown beside them and stand outside the mean.
2. By default the compiler copies an operand to vector memory before a program begins and does not count that copy; an option
   that allows no such copy (`OPTIONS`) makes the estimate whole. Programs with an operation that has no estimate are not scored.
3. Our side is the time of the `tpu` cost model, launch included, times the clock of the hardware model. Nothing is fitted.
4. A device of the compiler is a chip, both cores of v5p together, if a topology has as many devices as chips. On v4 it has
   twice as many, so a device is one core, and is held against half of the chip: half of its arrays, memories and bandwidth.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
from pydantic import BaseModel, ValidationError

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tpu import tpu_cost
from lepton_dse.targets import TpuTarget, load_target
from lepton_dse.targets.schema import Quantity
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, UnavailableError, row, score
from lepton_dse.validate.tpu_compiler_worker import Compiled, Request

__all__ = [
    "CONVOLUTIONS",
    "GENERATIONS",
    "PRODUCTS",
    "SUITES",
    "Estimate",
    "compile_for",
    "convolution_graph",
    "device_of",
    "drawn_products",
    "estimate",
    "predicted_cycles",
    "product_graph",
    "rows_of",
    "worker_answer",
]

INSTALL = (
    "pip install 'lepton_dse[tpu]' (jax and libtpu; the latter comes under the Google Cloud terms of service, "
    "so it is an extra and never a default)"
)
CHIPS = 4
GENERATIONS = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
"""Generation, and a topology of `CHIPS` chips."""
OPTIONS = {"xla_max_cross_program_prefetches": "0"}
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "JAX_PLATFORMS": "cpu",
    "LIBTPU_INIT_ARGS": "",
}
LIMIT_S = 600
_SQUARE = ((128,) * 3, (256,) * 3, (512,) * 3, (1024,) * 3, (2048,) * 3, (4096,) * 3, (8192,) * 3)
_TALL = ((16384, 128, 128), (16384, 256, 512), (8192, 512, 1024), (65536, 64, 64), (32768, 1024, 256), (4096, 1024, 4096))
_WIDE = ((128, 16384, 128), (256, 32768, 512), (512, 8192, 1024), (64, 65536, 64), (1024, 50257, 768))
_DEEP = ((128, 128, 16384), (256, 256, 32768), (512, 512, 8192), (64, 64, 65536))
_SKINNY = (
    (1, 4096, 4096),
    (1, 1000, 2048),
    (8, 4096, 4096),
    (8, 8192, 8192),
    (16, 11008, 4096),
    (32, 4096, 14336),
    (64, 14336, 4096),
)
_SMALL = ((8, 128, 128), (16, 64, 32), (32, 32, 32), (64, 256, 64), (100, 100, 100), (5, 7, 11))
_RAGGED = (
    (129, 129, 129),
    (1000, 1000, 1000),
    (197, 768, 768),
    (197, 3072, 768),
    (1023, 2047, 511),
    (3000, 300, 700),
    (777, 333, 555),
)
PRODUCTS: tuple[tuple[int, int, int], ...] = (*_SQUARE, *_TALL, *_WIDE, *_DEEP, *_SKINNY, *_SMALL, *_RAGGED)
"""M, N and K."""
DRAWN_GENERATIONS = ("v5e", "v6e")


def drawn_products(count: int = 150) -> tuple[tuple[int, int, int], ...]:
    """Products with extents from 64 to 8,192, even in their logarithms, in eights, below 2^37 multiply-accumulates."""
    generator = np.random.default_rng(20)
    found: list[tuple[int, int, int]] = []
    while len(found) < count:
        m, n, k = (int(8 * max(1, round(2**exponent / 8))) for exponent in generator.uniform(6, 13, 3))
        if m * n * k < 1 << 37:
            found.append((m, n, k))
    return tuple(found)


CONVOLUTIONS = (
    (8, 64, 56, 64, 3, 1),
    (8, 64, 56, 256, 1, 1),
    (8, 128, 28, 128, 3, 1),
    (8, 512, 7, 512, 3, 1),
    (8, 3, 224, 64, 7, 2),
    (8, 256, 56, 512, 1, 2),
)
"""Images, channels, side of an image, filters, side of the window, stride."""
_BF16 = Precision.parse("bfloat16")
_FREE = frozenset({"parameter", "constant", "bitcast", "tuple", "get-tuple-element"})
_OPCODE = re.compile(r" ([a-z][a-z0-9-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True)
class Estimate:
    """What the compiler says of a program."""

    cycles: int
    """Sum over its operations."""
    unpriced: tuple[str, ...]
    """Operations that do something and have no estimate."""


def estimate(text: str) -> Estimate:
    """The compiler's estimate of a program, from its scheduled HLO text.

    Parameters
    ----------
    text : str

    Raises
    ------
    LeptonError
        If the text has no entry computation, or no operation in it has an estimate.
    """
    body: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("ENTRY"):
            body = []
        elif body is not None:
            if line.startswith("}"):
                break
            body.append(line)
    if body is None:
        raise LeptonError("a program without entry computation", where="HLO text", fix="pass the whole text of a compiled module")
    cycles, unpriced = 0, []
    for line in body:
        opcode = _OPCODE.search(line.partition(" = ")[2])
        if opcode is None or opcode[1] in _FREE:
            continue
        found = _CYCLES.search(line)
        if found is None or opcode[1] == "while":
            unpriced.append(opcode[1])
        else:
            cycles += int(found[1])
    if cycles == 0:
        raise LeptonError(
            "no operation has estimated_cycles", where="HLO text", fix="libtpu 0.0.52 writes them; use that release"
        )
    return Estimate(cycles, tuple(unpriced))


def compile_for(
    topology: str,
    products: Sequence[tuple[int, int, int]] = PRODUCTS,
    convolutions: Sequence[tuple[int, int, int, int, int, int]] = CONVOLUTIONS,
    *,
    limit_s: float = LIMIT_S,
) -> Compiled:
    """Programs for one device of a topology, from a process of its own.

    Parameters
    ----------
    topology : str
    products, convolutions : sequences
    limit_s : float
        Seconds after which the compiler is given up.

    Raises
    ------
    UnavailableError
        If JAX or libtpu is not installed, cannot be initialised, or takes longer.
    """
    request = Request(topology=topology, options=OPTIONS, products=tuple(products), convolutions=tuple(convolutions))
    text = worker_answer("lepton_dse.validate.tpu_compiler_worker", request, topology, limit_s=limit_s)
    try:
        return Compiled.model_validate_json(text)
    except ValidationError as error:
        raise UnavailableError(f"the TPU compiler's process printed no result for {topology}") from error


def worker_answer(module: str, request: BaseModel, topology: str, *, limit_s: float = LIMIT_S) -> str:
    """The last line that a worker prints for a request, from a process of its own.

    Raises
    ------
    UnavailableError
        If JAX or libtpu is not installed, cannot be initialised, or takes longer.
    """
    missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(f"no {' and no '.join(missing)}: {INSTALL}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=request.model_dump_json(),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | ENVIRONMENT,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as late:
        raise UnavailableError(f"the TPU compiler took more than {limit_s:g} s for {topology}") from late
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise UnavailableError(f"the TPU compiler failed for {topology}, status {done.returncode}: {' '.join(said)[:400]}")
    return (done.stdout.splitlines() or [""])[-1]


def device_of(target: TpuTarget, share: float) -> TpuTarget:
    """The part of a chip that is one device of the compiler: `share` of its arrays, vector units, memories and bandwidth."""

    peaks = tuple(peak.model_copy(update={"mac_per_s": _part(peak.mac_per_s, share)}) for peak in target.peaks)
    levels = tuple(
        level.model_copy(
            update={name: _part(getattr(level, name), share) for name in ("capacity_bytes", "bandwidth_byte_per_s")},
        )
        for level in target.levels
    )
    own = {name: _part(getattr(target, name), share) for name in ("array_count", "vector_op_per_s")}
    return target.model_copy(update={**own, "levels": levels, "peaks": peaks})


def _part(quantity: Quantity | None, share: float) -> Quantity | None:
    return None if quantity is None else quantity.model_copy(update={"value": quantity.value * share})


def product_graph(m: int, n: int, k: int) -> Graph:
    """One product of an activation (m, k) with a constant (k, n)."""
    builder = GraphBuilder("product")
    x = builder.input("x", (m, k))
    w = builder.constant("w", np.broadcast_to(np.float32(0), (k, n)))
    return builder.build([builder.add(ops.MatMul(), [x, w], output="y")])


def convolution_graph(images: int, channels: int, extent: int, filters: int, side: int, stride: int) -> Graph:
    """One convolution, padded by half its window."""
    pad = side // 2
    window = ops.Window((side, side), (stride, stride), (1, 1), (pad, pad), (pad, pad))
    builder = GraphBuilder("convolution")
    x = builder.input("x", (images, channels, extent, extent))
    w = builder.constant("w", np.broadcast_to(np.float32(0), (filters, channels, side, side)))
    return builder.build([builder.add(ops.Conv(window), [x, w], output="y")])


def predicted_cycles(graph: Graph, target: TpuTarget) -> float:
    """Cycles of the target's clock for one pass in bfloat16, launch included."""
    return tpu_cost(graph, target, _BF16, graph.batch).latency_s * target.clock_hz.value


def rows_of(generation: str, compiled: Compiled, products: Sequence[tuple[int, int, int]]) -> list[Row]:
    """Our cycles beside the compiler's, products scored where every operation has an estimate.

    Parameters
    ----------
    generation : str
        A key of `GENERATIONS`.
    compiled : Compiled
    products : sequence
        What was compiled, M, N and K.

    Raises
    ------
    LeptonError
        If a program has no estimate.
    """
    chip = load_target(f"google-tpu-{generation}")
    assert isinstance(chip, TpuTarget), "the shipped models are of the tpu family"
    target = device_of(chip, CHIPS / compiled.devices)
    found = []
    for (m, n, k), text in zip(products, compiled.products, strict=True):
        theirs, ours = estimate(text), predicted_cycles(product_graph(m, n, k), target)
        found.append(row(f"{generation} {m}x{n}x{k}", ours, theirs.cycles, scored=not theirs.unpriced))
    for shape, text in zip(CONVOLUTIONS[: len(compiled.convolutions)], compiled.convolutions, strict=True):
        images, channels, extent, filters, side, stride = shape
        name = f"{generation} convolution {images}x{channels}x{extent}x{extent} by {filters}x{side}x{side} / {stride}"
        found.append(row(name, predicted_cycles(convolution_graph(*shape), target), estimate(text).cycles, scored=False))
    return found


def _summary(suite: Suite, generation: str, rows: Sequence[Row], compiled: Compiled) -> str:
    own = score(suite, rows)
    scored = [entry.error_pct for entry in rows if entry.scored]
    shown = [entry.error_pct for entry in rows if "convolution" in entry.case]
    rank = "none" if own.spearman is None else f"{own.spearman:.3f}"
    counts = "a whole chip" if compiled.devices == CHIPS else "one of two cores, held against half of the chip"
    beside = f"; convolutions, not scored: mean {math.fsum(map(abs, shown)) / len(shown):.1f}%" if shown else ""
    return (
        f"{generation}: mean {own.mape_pct:.1f}%, largest {own.max_pct:.1f}%, Spearman {rank}, "
        f"median signed {median(scored):+.1f}% over {len(scored)} products; the estimate counts {counts}{beside}"
    )


def _run(
    suite: Suite,
    context: Context,
    *,
    generations: Sequence[str] = tuple(GENERATIONS),
    products: Sequence[tuple[int, int, int]] = PRODUCTS,
    convolutions: Sequence[tuple[int, int, int, int, int, int]] = CONVOLUTIONS,
) -> SuiteResult:
    rows: list[Row] = []
    notes = [
        "agreement with the vendor's compiler, whose estimate is a model too, not with a measurement; nothing is fitted",
        "operands and results in main memory; the compiler may copy nothing before a program begins",
    ]
    for generation in generations:
        context.progress(f"{suite.name}: compiling for {generation}")
        compiled = compile_for(GENERATIONS[generation], products, convolutions)
        try:
            own = rows_of(generation, compiled, products)
        except LeptonError as error:
            raise UnavailableError(f"{generation}, {compiled.versions}: {error}") from error
        notes.append(_summary(suite, generation, own, compiled))
        rows += own
    notes.append(f"compiled by {compiled.versions}")
    return score(suite, rows, notes=notes)


SUITES = (
    Suite(
        "tpu-compiler",
        "estimated_cycles of XLA's TPU back end (libtpu) in the scheduled program; a compiler's estimate, not a measurement",
        "cycles of a bfloat16 product MxNxK",
        _run,
    ),
    Suite(
        "tpu-compiler-drawn",
        "the same estimates, of 150 products drawn once; a compiler's estimate, not a measurement",
        "cycles of a bfloat16 product MxNxK",
        partial(_run, generations=DRAWN_GENERATIONS, products=drawn_products(), convolutions=()),
    ),
)
