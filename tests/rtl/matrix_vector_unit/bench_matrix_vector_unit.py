"""Testbench: every vector times the matrix, plus the bias, modulo the accumulator's width."""

import random
from typing import Any

import cocotb
from bench_streams import Memory, check_case, load_case, pack


@cocotb.test()
async def multiplies_vectors(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    p = case["parameters"]
    pe, simd, nf, sf = p["PE"], p["SIMD"], p["NF"], p["SF"]

    def signed(bits: int) -> int:
        # The most negative operands now and then: their product needs every bit.
        return -(1 << (bits - 1)) if rng.random() < 0.2 else rng.randint(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    matrix = [[signed(p["W_WIDTH"]) for _ in range(sf * simd)] for _ in range(nf * pe)]
    bias = [signed(p["ACC_WIDTH"]) for _ in range(nf * pe)]
    beats, expected = [], []
    for _ in range(len(case["runs"][0]["input_cycles"]) // sf):
        vector = [signed(p["A_WIDTH"]) for _ in range(sf * simd)]
        beats += [pack(vector[i : i + simd], p["A_WIDTH"]) for i in range(0, len(vector), simd)]
        sums = [b + sum(w * a for w, a in zip(row, vector, strict=True)) for row, b in zip(matrix, bias, strict=True)]
        expected += [pack(sums[i : i + pe], p["ACC_WIDTH"]) for i in range(0, len(sums), pe)]
    weights = [
        pack([matrix[n * pe + r][s * simd + c] for r in range(pe) for c in range(simd)], p["W_WIDTH"])
        for n in range(nf)
        for s in range(sf)
    ]
    biases = [pack(bias[n * pe : (n + 1) * pe], p["ACC_WIDTH"]) for n in range(nf)]
    await check_case(dut, case, beats, expected, lambda: [Memory(dut, "w", weights, True), Memory(dut, "b", biases, False)])
