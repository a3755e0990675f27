"""The bodies of intrinsics on a CPU: conversions of every 16-bit float, nibbles, and products of tensor cores."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PROGRAM = r"""
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "lepton/contraction.cuh"

using namespace lepton;

static std::vector<uint32_t> given, found;
static const unsigned char *left, *right;

// Rows of A and columns of B, 32 bytes each, as `multiply` wants them; D goes out as rows of 8.
template <class Kind>
void product() {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  uint32_t a[4], b[2];
  for (int word = 0; word < 4; ++word) std::memcpy(&a[word], left + (g + word % 2 * 8) * 32 + word / 2 * 16 + 4 * t, 4);
  for (int word = 0; word < 2; ++word) std::memcpy(&b[word], right + g * 32 + word * 16 + 4 * t, 4);
  typename Kind::Sum d[4];
  for (int index = 0; index < 4; ++index) d[index] = 100 * (g + index / 2 * 8) + 2 * t + index % 2;
  multiply(Kind(), d, a, b);
  for (int index = 0; index < 4; ++index)
    std::memcpy(&found[(g + index / 2 * 8) * 8 + 2 * t + index % 2], &d[index], 4);
}
void joined() {
  float value;
  std::memcpy(&value, &given[threadIdx.x], 4);
  const float sum = value + shuffle_xor(value, 5);
  std::memcpy(&found[threadIdx.x], &sum, 4);
}

int main(int, char** argv) {
  uint32_t word;
  while (std::fread(&word, 4, 1, stdin) == 1) given.push_back(word);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given.data());
  const std::string what = argv[1];
  if (what == "from half") {
    for (uint32_t bits : given) found.push_back(bits_of(to_float(half{static_cast<uint16_t>(bits)})));
  } else if (what == "from bfloat16") {
    for (uint32_t bits : given) found.push_back(bits_of(to_float(bfloat16{static_cast<uint16_t>(bits)})));
  } else if (what == "to half") {
    half result;
    for (uint32_t bits : given) from_float(float_of(bits), result), found.push_back(result.bits);
  } else if (what == "to bfloat16") {
    bfloat16 result;
    for (uint32_t bits : given) from_float(float_of(bits), result), found.push_back(result.bits);
  } else if (what == "nibbles") {  // three rows of 32, of which 20 count
    const Packed4<3, 20, 32, 96> packed{bytes};
    for (int product = 0; product < 2; ++product)
      for (int row = 0; row < 4; ++row)
        for (int k = 0; k < 32; k += 16) {
          const Bytes16 chunk = packed.fetch(packed.place(row, product), k);
          found.insert(found.end(), chunk.word, chunk.word + 4);
        }
  } else if (what == "dot4") {
    for (size_t index = 0; index + 2 < given.size(); index += 3)
      found.push_back(dot4(given[index], given[index + 1], static_cast<int32_t>(given[index + 2])));
  } else {
    left = bytes, right = bytes + 16 * 32;
    found.resize(128);
    Machine::instance().order = what[0] == 'R' ? Order::reverse : Order::forward;
    const char* kind = what.c_str() + 2;
    const auto body = !std::strcmp(kind, "int8") ? product<Int8> : !std::strcmp(kind, "float16") ? product<Half>
                      : !std::strcmp(kind, "bfloat16") ? product<BFloat16> : joined;
    Machine::instance().launch(Dim3(1), Dim3(32), body);
    if (Machine::instance().counters.faults()) return 1;
  }
  std::fwrite(found.data(), 4, found.size(), stdout);
}
"""


@pytest.fixture(scope="module")
def binary(probe: Callable[[str], Path]) -> Path:
    return probe(PROGRAM)


def asked(binary: Path, what: str, words: np.ndarray) -> np.ndarray:
    """What the program makes of 32-bit words."""
    done = subprocess.run(
        [binary, what], input=np.ascontiguousarray(words).view(np.uint32).tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.uint32)


FORMS = {"half": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("form", FORMS)
def test_every_pattern_becomes_its_real(binary: Path, form: str) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint32)
    expected = patterns.astype(np.uint16).view(FORMS[form]).astype(np.float32)
    found = asked(binary, f"from {form}", patterns).view(np.float32)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


@pytest.mark.parametrize("form", FORMS)
def test_every_pattern_survives_the_way_there_and_back(binary: Path, form: str) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint32)
    back = asked(binary, f"to {form}", asked(binary, f"from {form}", patterns))
    nan = np.isnan(patterns.astype(np.uint16).view(FORMS[form]).astype(np.float32))
    np.testing.assert_array_equal(back[~nan], patterns[~nan])
    assert np.isnan(back[nan].astype(np.uint16).view(FORMS[form]).astype(np.float32)).all()
    np.testing.assert_array_equal(back[nan] >> 15, patterns[nan] >> 15)


def between(form: str) -> np.ndarray:
    """Between every two neighbouring values: the tie, and what is next to it on either side; and the ends of the range."""
    positive = np.arange((1 << 15) - 1, dtype=np.uint16).view(FORMS[form]).astype(np.float64)
    positive = positive[np.isfinite(positive)]
    ends = np.append(positive, 2 * positive[-1] - positive[-2])  # where the next value would be
    ties = ((ends[:-1] + ends[1:]) / 2).astype(np.float32)
    near = np.concatenate([ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf))])
    special = np.asarray([0, 1e-45, 1e-38, 3.4028235e38, np.inf, np.nan], np.float32)
    found = np.concatenate([near, special])
    return np.concatenate([found, -found])


def agree(found: np.ndarray, reals: np.ndarray, form: str) -> None:
    with np.errstate(over="ignore"):
        expected = reals.astype(FORMS[form])
    nan = np.isnan(reals)
    values = found.astype(np.uint16)
    np.testing.assert_array_equal(values[~nan], expected.view(np.uint16)[~nan])
    assert np.isnan(values[nan].view(FORMS[form]).astype(np.float32)).all()


@pytest.mark.parametrize("form", FORMS)
def test_ties_round_to_even(binary: Path, form: str) -> None:
    reals = between(form)
    agree(asked(binary, f"to {form}", reals), reals, form)


@settings(max_examples=30)
@given(bits=st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=200), form=st.sampled_from(sorted(FORMS)))
def test_any_real_becomes_the_nearest(binary: Path, bits: list[int], form: str) -> None:
    words = np.asarray(bits, np.uint32)
    agree(asked(binary, f"to {form}", words), words.view(np.float32), form)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_nibbles_become_bytes(binary: Path, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-8, 8, (2, 3, 32)).astype(np.int8)
    nibbles = values.view(np.uint8) & 15
    packed = nibbles[..., ::2] | nibbles[..., 1::2] << 4
    found = asked(binary, "nibbles", packed.reshape(-1)).view(np.int8).reshape(2, 4, 2, 16)
    expected = np.zeros((2, 4, 32), np.int8)
    expected[:, :3] = values  # whole chunks are read wherever one element counts; the rows after the last are zeros
    np.testing.assert_array_equal(found.reshape(2, 4, 32), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_four_products_of_bytes(binary: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-128, 128, (2, 50, 4)).astype(np.int8)
    c = rng.integers(-(2**30), 2**30, 50).astype(np.int32)
    words = np.stack([a.view(np.uint32)[:, 0], b.view(np.uint32)[:, 0], c.view(np.uint32)], axis=1)
    found = asked(binary, "dot4", words.reshape(-1)).view(np.int32)
    np.testing.assert_array_equal(found, (a.astype(np.int32) * b.astype(np.int32)).sum(axis=1) + c)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), form=st.sampled_from(["int8", "float16", "bfloat16"]), order=st.sampled_from("FR"))
def test_products_of_tensor_cores(binary: Path, seed: int, form: str, order: str) -> None:
    """Whole numbers, so that sums of any order are exact."""
    rng = np.random.default_rng(seed)
    depth = 32 if form == "int8" else 16
    kind = {"int8": np.dtype(np.int8), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}[form]
    low = -128 if form == "int8" else -100
    values = rng.integers(low, -low, (24, depth))
    words = np.ascontiguousarray(values.astype(np.float32).astype(kind)).view(np.uint8)
    found = asked(binary, f"{order} {form}", words.reshape(-1)).view(np.int32 if form == "int8" else np.float32).reshape(16, 8)
    before = 100 * np.arange(16)[:, None] + np.arange(8)
    np.testing.assert_array_equal(found, values[:16] @ values[16:].T + before)


@settings(max_examples=10)
@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=32, max_size=32), order=st.sampled_from("FR"))
def test_a_shuffle_exchanges_lanes(binary: Path, values: list[float], order: str) -> None:
    x = np.asarray(values, np.float32)
    found = asked(binary, f"{order} shuffle", np.concatenate([x, np.zeros(160, np.float32)])).view(np.float32)[:32]
    np.testing.assert_array_equal(found, x + x[np.arange(32) ^ 5])
