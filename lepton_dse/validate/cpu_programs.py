"""Self-contained C programs of blocked matrix products: what cachegrind counts and what a clock times.

The text of a kernel follows :mod:`lepton_dse.sim.cache.nest` loop for loop; the register tile is written out, each accumulator a
variable of a GCC vector type (or a float for one lane). Extents are whole register tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.sim.cache import PACK_COLUMNS, Blocking, Layout

__all__ = ["Gemm", "counted_program", "operand_bytes", "timed_program"]

_FLOAT = 4
_LOOPS = {"m": ("ic", "MC"), "n": ("jc", "NC"), "p": ("pc", "KC")}


@dataclass(frozen=True)
class Gemm:
    """A blocked product of row-major float32 matrices, C[m, n] += A[m, k] B[k, n].

    Parameters
    ----------
    m, n, k : int
    blocking : Blocking
    lda, ldb : int
        Elements from one row to the next, at least k and n.

    Raises
    ------
    LeptonError
        If m or n is not whole register tiles, or rows overlap.
    """

    m: int
    n: int
    k: int
    blocking: Blocking
    lda: int
    ldb: int

    def __post_init__(self) -> None:
        if self.m % self.blocking.rows or self.n % self.blocking.columns or min(self.m, self.n, self.k) < 1:
            tile = f"{self.blocking.rows} x {self.blocking.columns}"
            raise LeptonError(f"a program for {self.m} x {self.n} in tiles of {tile}", fix="extents are whole register tiles")
        if self.blocking.a is Layout.PREPACKED:
            raise LeptonError("a program whose first operand is packed beforehand", fix="swap the operands")
        if self.lda < self.k or self.ldb < self.n:
            raise LeptonError(f"rows {self.lda} and {self.ldb} elements apart", fix="rows may not overlap")

    @property
    def case(self) -> str:
        """One line for tables."""
        b = self.blocking
        packed = {Layout.UNPACKED: "unpacked", Layout.PACKED: "packed", Layout.PREPACKED: "prepacked"}
        strides = f" (lda {self.lda}, ldb {self.ldb})" if (self.lda, self.ldb) != (self.k, self.n) else ""
        inner = "ir" if b.rows_inner else "jr"
        return (
            f"{self.m}x{self.n}x{self.k}{strides} tile {b.rows}x{b.columns} blocks {b.mc},{b.nc},{b.kc} "
            f"order {b.order}-{inner} A {packed[b.a]} B {packed[b.b]}"
        )


def operand_bytes(gemm: Gemm) -> dict[str, int]:
    """Bytes of each array of the program, by its name there; 0 for those that the layout does not need."""
    b = gemm.blocking
    deep, wide = min(b.kc, gemm.k), min(b.nc, gemm.n)
    packed_b = {Layout.UNPACKED: 0, Layout.PACKED: deep * wide, Layout.PREPACKED: gemm.k * gemm.n}[b.b]
    return {
        "a": gemm.m * gemm.lda * _FLOAT,
        "b": 0 if b.b is Layout.PREPACKED else gemm.k * gemm.ldb * _FLOAT,
        "c": gemm.m * gemm.n * _FLOAT,
        "pa": min(b.mc, gemm.m) * deep * _FLOAT if b.a is Layout.PACKED else 0,
        "pb": packed_b * _FLOAT,
    }


def counted_program(gemm: Gemm) -> str:
    """A program that sets a, b and c in this order (pb in place of b where that is packed beforehand) and runs `kernel`."""
    sizes = operand_bytes(gemm)
    out = Writer()
    _vectors(out, [gemm])
    _arrays(out, sizes)
    _kernel(out, "kernel", gemm)
    with out.block("int main(void) {"):
        for name in ("a", "pb" if gemm.blocking.b is Layout.PREPACKED else "b", "c"):
            elements = sizes[name] // _FLOAT
            out.line(f"for (long i = 0; i < {elements}; ++i) {name}[i] = (float)(i % 7) - 3.0f;")
        out.line("kernel();")
        out.line("float sum = 0.0f;")
        out.line(f"for (long i = 0; i < {sizes['c'] // _FLOAT}; ++i) sum += c[i];")
        out.line("return sum != sum;")
    return out.text()


def timed_program(gemms: Sequence[Gemm], rounds: int) -> str:
    """A program that runs every kernel once a round and prints, one line a round, the seconds that each took.

    Parameters
    ----------
    gemms : sequence of Gemm
        All run on the same arrays.
    rounds : int
        After one round that is not timed.
    """
    sizes = {name: max(operand_bytes(gemm)[name] for gemm in gemms) for name in ("a", "b", "c", "pa", "pb")}
    out = Writer()
    out.line("#define _POSIX_C_SOURCE 199309L")
    out.line("#include <stdio.h>")
    out.line("#include <time.h>")
    _vectors(out, gemms)
    _arrays(out, sizes)
    for index, gemm in enumerate(gemms):
        _kernel(out, f"kernel{index}", gemm)
    names = ", ".join(f"kernel{index}" for index in range(len(gemms)))
    out.line(f"static void (*const kernels[])(void) = {{ {names} }};")
    with out.block("static double now(void) {"):
        out.line("struct timespec t;")
        out.line("clock_gettime(CLOCK_MONOTONIC, &t);")
        out.line("return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;")
    with out.block("int main(void) {"):
        for name, size in sizes.items():
            if size:
                out.line(f"for (long i = 0; i < {size // _FLOAT}; ++i) {name}[i] = (float)(i % 7) - 3.0f;")
        with out.block(f"for (int round = -1; round < {rounds}; ++round) {{"):
            with out.block(f"for (int index = 0; index < {len(gemms)}; ++index) {{"):
                out.line("const double start = now();")
                out.line("kernels[index]();")
                out.line("const double stop = now();")
                out.line(f"if (round >= 0) printf(\"%.9e%c\", stop - start, index == {len(gemms) - 1} ? '\\n' : ' ');")
            # Sums stay finite however many rounds there are.
            out.line(f"for (long i = 0; i < {sizes['c'] // _FLOAT}; ++i) c[i] = (float)(i % 5) - 2.0f;")
        out.line("return 0;")
    return out.text()


def _vectors(out: Writer, gemms: Sequence[Gemm]) -> None:
    # A compiler would rather read a vector of B from memory once for each row than hold it: an empty instruction pins it.
    out.line("#if defined(__x86_64__)")
    out.line('#define KEEP(x) __asm__("" : "+v"(x))')
    out.line("#elif defined(__aarch64__)")
    out.line('#define KEEP(x) __asm__("" : "+w"(x))')
    out.line("#else")
    out.line("#define KEEP(x)")
    out.line("#endif")
    # It would also copy several rows or columns at once and touch them in another order.
    out.line('#define ORDER __asm__ volatile("" : : : "memory")')
    for lanes in sorted({gemm.blocking.lanes for gemm in gemms}):
        if lanes == 1:
            out.line("typedef float vec1;")
        else:
            out.line(f"typedef float vec{lanes} __attribute__((vector_size({lanes * _FLOAT}), aligned(4), may_alias));")


def _arrays(out: Writer, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        if size:
            out.line(f"static float {name}[{size // _FLOAT}] __attribute__((aligned(4096)));")


def _kernel(out: Writer, name: str, gemm: Gemm) -> None:
    b = gemm.blocking
    extents = {"m": gemm.m, "n": gemm.n, "p": gemm.k}
    steps = {"m": b.mc, "n": b.nc, "p": b.kc}
    with ExitStack() as stack:
        stack.enter_context(out.block(f"__attribute__((noinline, noclone)) static void {name}(void) {{"))
        for depth, loop in enumerate(b.order):
            variable = _LOOPS[loop][0]
            header = f"for (long {variable} = 0; {variable} < {extents[loop]}; {variable} += {steps[loop]}) {{"
            stack.enter_context(out.block(header))
            size = f"{extents[loop]} - {variable}"
            length = {"m": "high", "n": "wide", "p": "deep"}[loop]
            out.line(f"const long {length} = {size} < {steps[loop]} ? {size} : {steps[loop]};")
            known = set(b.order[: depth + 1])
            if b.b is Layout.PACKED and {"n", "p"} <= known and loop in "np":
                _pack_b(out, gemm)
            if b.a is Layout.PACKED and {"m", "p"} <= known and loop in "mp":
                _pack_a(out, gemm)
        rows = f"for (long ir = 0; ir < high; ir += {b.rows}) {{"
        columns = f"for (long jr = 0; jr < wide; jr += {b.columns}) {{"
        for header in (columns, rows) if b.rows_inner else (rows, columns):
            stack.enter_context(out.block(header))
        _tile(out, gemm)


def _pack_a(out: Writer, gemm: Gemm) -> None:
    rows = gemm.blocking.rows
    with out.block(f"for (long ir = 0; ir < high; ir += {rows}) {{"):
        out.line("float *to = &pa[ir * deep];")
        out.line(f"const float *from = &a[(ic + ir) * {gemm.lda} + pc];")
        out.line("long p = 0;")
        with out.block(f"for (; p + {PACK_COLUMNS} <= deep; p += {PACK_COLUMNS}) {{"):
            for i in range(rows):
                for column in range(PACK_COLUMNS):
                    out.line(f"to[p * {rows} + {column * rows + i}] = from[p + {i * gemm.lda + column}];")
                out.line("ORDER;")
        with out.block(f"for (long i = 0; i < {rows}; ++i) {{"):
            out.line(f"for (long q = p; q < deep; ++q) {{ to[q * {rows} + i] = from[q + i * {gemm.lda}]; ORDER; }}")


def _pack_b(out: Writer, gemm: Gemm) -> None:
    b = gemm.blocking
    with out.block(f"for (long jr = 0; jr < wide; jr += {b.columns}) {{"), out.block("for (long p = 0; p < deep; ++p) {"):
        for v in range(b.vectors):
            to, source = (
                f"pb[(jr * deep) + p * {b.columns} + {v * b.lanes}]",
                f"b[(pc + p) * {gemm.ldb} + jc + jr + {v * b.lanes}]",
            )
            out.line(f"vec{b.lanes} r{v} = *(const vec{b.lanes} *)&{source};")
            out.line(f"KEEP(r{v});")
            out.line(f"*(vec{b.lanes} *)&{to} = r{v};")


def _tile(out: Writer, gemm: Gemm) -> None:
    b = gemm.blocking
    vector = f"vec{b.lanes}"
    cells = [(i, v) for i in range(b.rows) for v in range(b.vectors)]
    zero = "0.0f" if b.lanes == 1 else "{ 0.0f }"
    for i, v in cells:
        out.line(f"{vector} s{i}_{v} = {zero};")
    with out.block("for (long p = 0; p < deep; ++p) {"):
        for v in range(b.vectors):
            at = {
                Layout.UNPACKED: f"b[(pc + p) * {gemm.ldb} + jc + jr + {v * b.lanes}]",
                Layout.PACKED: f"pb[jr * deep + p * {b.columns} + {v * b.lanes}]",
                Layout.PREPACKED: f"pb[pc * {gemm.n} + (jc + jr) * deep + p * {b.columns} + {v * b.lanes}]",
            }[b.b]
            out.line(f"{vector} b{v} = *(const {vector} *)&{at};")
            out.line(f"KEEP(b{v});")
        for i in range(b.rows):
            packed = f"pa[ir * deep + p * {b.rows} + {i}]"
            out.line(f"const float a{i} = {packed if b.a is Layout.PACKED else f'a[(ic + ir + {i}) * {gemm.lda} + pc + p]'};")
            for v in range(b.vectors):
                out.line(f"s{i}_{v} += a{i} * b{v};")
    for i, v in cells:
        out.line(f"*({vector} *)&c[(ic + ir + {i}) * {gemm.n} + jc + jr + {v * b.lanes}] += s{i}_{v};")
