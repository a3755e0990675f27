"""Shared weights and their file: the nearest of few values, the exact bits again, and an account of every byte."""

from __future__ import annotations

import contextlib
import itertools
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.compress.codebook import Codebook, archive, huffman, share
from lepton_dse.compress.codebook.sharing import cluster, shareable
from lepton_dse.errors import InvalidDataError, InvalidModelError, LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parent))
from networks import chain

counts = st.lists(st.integers(0, 60), min_size=1, max_size=24).map(lambda found: np.asarray(found, np.int64)).filter(np.any)


def pruned(share_of: float, seed: int = 0) -> Graph:
    """The chain with the smallest weights of each layer zeroed."""
    graph = chain(seed)
    changed = {}
    for name in shareable(graph):
        weights = graph.constants[name].copy()
        weights[np.abs(weights) < np.quantile(np.abs(weights), share_of)] = 0
        changed[name] = weights
    return graph.with_constants(changed)


# --- Huffman --------------------------------------------------------------------------------------------------------


@given(counts)
def test_codes_are_as_short_as_the_entropy_allows_and_fill_the_tree(found: np.ndarray) -> None:
    lengths = huffman.code_lengths(found).astype(int)
    used = found > 0
    assert ((lengths > 0) == used).all()
    if used.sum() > 1:
        assert sum(2.0 ** -lengths[used]) == 1.0
        share_of = found[used] / found.sum()
        entropy = -(share_of * np.log2(share_of)).sum() * found.sum()
        assert entropy - 1e-9 <= huffman.coded_bits(found) < entropy + found.sum()


@settings(max_examples=30)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter(found: list[int]) -> None:
    """All lengths that fit a tree (Kraft), tried one after another."""
    least = min(
        sum(count * length for count, length in zip(found, lengths, strict=True))
        for lengths in itertools.product(range(1, 5), repeat=len(found))
        if sum(2.0**-length for length in lengths) <= 1
    )
    assert huffman.coded_bits(np.asarray(found, np.int64)) == least


@given(counts, st.integers(0, 2**32 - 1))
def test_a_stream_decodes_to_its_symbols(found: np.ndarray, seed: int) -> None:
    symbols = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(found)), found))
    lengths = huffman.code_lengths(found)
    stream = huffman.encode(symbols, lengths)
    assert len(stream) == -(-huffman.coded_bits(found) // 8)
    assert (huffman.decode(stream, lengths, len(symbols)) == symbols).all()
    with pytest.raises(InvalidDataError, match="ends early"):
        huffman.decode(stream[: len(stream) // 2], lengths, len(symbols) + 16)


@pytest.mark.parametrize("lengths", [[0, 0], [1, 1, 1], [41, 1]])
def test_lengths_that_are_no_code_are_refused(lengths: list[int]) -> None:
    with pytest.raises(InvalidDataError, match="no Huffman code"):
        huffman.decode(b"\0", np.asarray(lengths, np.uint8), 1)


# --- sharing --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 8), st.floats(0, 0.9))
def test_every_weight_takes_the_nearest_value_and_zeros_stay(seed: int, size: int, count: int, zeros: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, size).astype(np.float32) * (rng.random(size) >= zeros)
    book = cluster(weights, count)
    assert ((book.weights == 0) == (weights == 0)).all() or (book.values[book.values != 0].size == 0)
    others = book.values[book.values != 0]
    assert len(others) <= count
    for weight, taken in zip(weights, book.weights, strict=True):
        if weight != 0 and len(others):
            assert abs(taken - weight) <= np.abs(others - weight).min() + 1e-6


def test_sharing_begins_no_worse_than_even_spacing_and_ends_better() -> None:
    weights = np.random.default_rng(0).laplace(0, 1, 5000).astype(np.float32)
    even = np.linspace(weights.min(), weights.max(), 8)
    spaced = even[np.abs(weights[:, None] - even).argmin(axis=1)]
    assert np.square(cluster(weights, 8).weights - weights).mean() < 0.5 * np.square(spaced - weights).mean()


def test_what_matters_more_is_kept_better() -> None:
    weights = np.random.default_rng(1).normal(0, 1, 400).astype(np.float32)
    importance = np.where(weights > 0.5, 100.0, 1.0)
    plain, weighted = (np.square(cluster(weights, 4, matter).weights - weights) for matter in (None, importance))
    assert weighted[weights > 0.5].mean() < plain[weights > 0.5].mean()


def test_few_different_values_are_kept_exactly() -> None:
    weights = np.asarray([0.0, 1.5, -2.0, 1.5, 0.25], np.float32)
    assert (cluster(weights, 4).weights == weights).all()
    assert (cluster(np.zeros(5, np.float32), 4).weights == 0).all()
    assert cluster(np.asarray([3.0], np.float32), 1).weights.tolist() == [3.0]


@pytest.mark.parametrize(
    ("bits", "message"), [(0, "0 bits"), (13, "13 bits"), ({"nothing": 4}, "nothing"), ({"first.b": 4}, "no weight")]
)
def test_wrong_sharing_is_refused(bits: int | dict[str, int], message: str) -> None:
    with pytest.raises(LeptonError, match=message):
        share(chain(), bits)


# --- the file -------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.99), st.integers(1, 8))
def test_a_file_holds_every_bit_and_accounts_for_every_byte(seed: int, zeros: float, bits: int) -> None:
    graph, books = share(pruned(zeros, seed), bits)
    data = archive.encode(graph, books)
    again, found = archive.decode(data)
    assert again.digest == graph.digest
    assert all((found[name].weights == book.weights).all() for name, book in books.items())
    assert sum(row.bytes for row in archive.account(data)) == len(data)
    assert archive.encode(again, found) == data


@settings(max_examples=30)
@given(graphs(branches=True), st.integers(1, 12))
def test_any_network_has_a_file(graph: Graph, bits: int) -> None:
    shared, books = share(graph, bits)
    again, _ = archive.decode(archive.encode(shared, books))
    assert again.digest == shared.digest
    assert archive.decode(archive.encode(graph, {}))[0].digest == graph.digest


def test_gaps_longer_than_any_code_are_bridged() -> None:
    weights = np.zeros(5000, np.float32)
    weights[[0, 3, 2999, 4998]] = [1.0, -1.0, 2.0, 1.0]
    book = cluster(weights, 4)
    entry, pieces = archive._encode_shared(book)
    assert (archive._decode_shared({**entry, "name": "w"}, dict(pieces), weights.shape).weights == weights).all()


def test_sparse_and_shared_is_far_smaller_than_float32() -> None:
    rng = np.random.default_rng(0)
    graph = chain()
    weights = np.zeros(graph.constants["hidden.w"].size, np.float32)
    kept = rng.random(weights.size) < 0.1
    weights[kept] = rng.normal(0, 1, kept.sum())
    graph, books = share(graph.with_constants({"hidden.w": weights.reshape(54, 12)}), {"hidden.w": 3})
    rows = {(row.name, row.kind): row.bytes for row in archive.account(archive.encode(graph, books))}
    stored = sum(size for (name, kind), size in rows.items() if name == "hidden.w" and kind in ("gaps", "indices"))
    assert stored < 4 * weights.size / 25


@given(st.data())
@settings(max_examples=120)
def test_a_damaged_file_is_one_clear_error(data: st.DataObject) -> None:
    whole = FILE
    kind = data.draw(st.sampled_from(["cut", "flip", "resealed"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    if kind == "cut":
        broken = whole[:place]
    else:
        broken = whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :]
    if kind == "resealed":  # a forged file with a checksum that fits: any result or a clear error, never a traceback
        broken = broken[:-4] + zlib.crc32(broken[:-4]).to_bytes(4, "little")
        with contextlib.suppress(InvalidModelError):
            archive.decode(broken)
        return
    with pytest.raises(InvalidModelError):
        archive.decode(broken)


def test_books_of_another_graph_are_refused() -> None:
    _, books = share(chain(0), 3)
    with pytest.raises(InvalidModelError, match="other weights"):
        archive.encode(chain(1), books)
    with pytest.raises(LeptonError, match="index 3"):
        Codebook(np.zeros(2, np.float32), np.asarray([3], np.uint16))


FILE = archive.encode(*share(pruned(0.7), 3))
