"""One file that holds a compressed network: gaps and indices Huffman-coded, codebooks, and everything else as it is.

After S. Han et al., "Deep Compression", ICLR 2016. A tensor of shared weights is two streams: for each weight that is not zero
the gap since the last one (zeros passed over; gaps beyond the greatest are bridged by weights of value zero), and the index of
its value. A tensor without zeros has no gaps. The greatest gap is chosen by the least size. All other constants lie there in
the narrowest of float32 and float16 that holds them exactly. Nothing else is left out: structure, names, code lengths, and a
checksum are part of the file, and :func:`account` adds up to its length.

    magic (8) | length of the header (4) | header: zlib of JSON | tensors, in the header's order | CRC-32 of all before (4)
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.codebook import huffman
from lepton_dse.compress.codebook.sharing import Codebook
from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.serialize import from_structure, structure

__all__ = ["Account", "account", "decode", "encode"]

_MAGIC = b"LEPTON\x01\n"
_GAP_BITS = range(2, 9)
_MOST_ELEMENTS = 1 << 31
_HEADER_BYTES = 1 << 28


@dataclass(frozen=True)
class Account:
    """Bytes of one part of a file.

    Parameters
    ----------
    name : str
        The tensor; empty for what belongs to none.
    kind : str
        ``indices``, ``gaps``, ``tables`` (code lengths), ``codebook``, ``values`` (not shared), ``header`` or ``frame``.
    bytes : int
    """

    name: str
    kind: str
    bytes: int


def encode(graph: Graph, codebooks: Mapping[str, Codebook]) -> bytes:
    """The file of a graph whose shared weights are those of `codebooks`.

    Raises
    ------
    InvalidModelError
        If a codebook's weights are not those of the graph.
    """
    entries: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name in sorted(graph.constants):
        value = np.asarray(graph.constants[name])
        if name in codebooks:
            if not np.array_equal(codebooks[name].weights, value):
                raise InvalidModelError("the codebook holds other weights than the graph", where=name)
            entry, pieces = _encode_shared(codebooks[name])
        else:
            if value.dtype.kind not in "fiub":
                raise InvalidModelError(f"values of type {value.dtype} have no place in this file", where=name, fix="use float32")
            stored = _narrowest(value)
            entry, pieces = {"values": stored.dtype.str, "type": value.dtype.str}, [("values", stored.tobytes())]
        entries.append({"name": name, "shape": list(value.shape), **entry, "parts": [[kind, len(data)] for kind, data in pieces]})
        parts += [data for _, data in pieces]
    header = zlib.compress(json.dumps({"graph": structure(graph), "tensors": entries}, separators=(",", ":")).encode(), 9)
    body = b"".join([_MAGIC, len(header).to_bytes(4, "little"), header, *parts])
    return body + zlib.crc32(body).to_bytes(4, "little")


def decode(data: bytes, *, where: str = "file") -> tuple[Graph, dict[str, Codebook]]:
    """The graph and the codebooks of a file, every weight bit for bit.

    Raises
    ------
    InvalidModelError
        If the file is cut, damaged, or not one of these.
    """
    header, place = _header(data, where)
    constants: dict[str, NDArray[np.generic]] = {}
    codebooks: dict[str, Codebook] = {}
    try:
        for entry in header["tensors"]:
            name, shape = str(entry["name"]), tuple(int(size) for size in entry["shape"])
            if any(size < 0 for size in shape) or math.prod(shape) > _MOST_ELEMENTS:
                raise InvalidModelError(f"a tensor of shape {list(shape)}", where=name)
            pieces: dict[str, bytes] = {}
            for kind, size in entry["parts"]:
                if not 0 <= size <= len(data) - 4 - place:
                    raise InvalidModelError("a part lies outside of the file", where=name)
                pieces[str(kind)] = data[place : place + size]
                place += size
            if "values" in entry:
                constants[name] = _plain(entry, pieces["values"], shape)
            else:
                codebooks[name] = _decode_shared(entry, pieces, shape)
                constants[name] = codebooks[name].weights
        graph = from_structure(header["graph"], constants)
    except LeptonError as error:
        raise InvalidModelError(error.what, where=f"{where}: {error.where}", fix="write the file again") from error
    except (zlib.error, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        raise InvalidModelError("the file's header is inconsistent", where=where, fix="write the file again") from error
    return graph, codebooks


def account(data: bytes) -> tuple[Account, ...]:
    """What every byte of a file is for; the bytes add up to the file's length.

    Raises
    ------
    InvalidModelError
        If the file is cut, damaged, or not one of these.
    """
    header, place = _header(data, "file")
    rows = [Account("", "frame", len(_MAGIC) + 4 + 4), Account("", "header", place - len(_MAGIC) - 4)]
    rows += [Account(str(entry["name"]), str(kind), int(size)) for entry in header["tensors"] for kind, size in entry["parts"]]
    return tuple(rows)


def _header(data: bytes, where: str) -> tuple[dict[str, Any], int]:
    start = len(_MAGIC) + 4
    if not data.startswith(_MAGIC):
        raise InvalidModelError("is no compressed network", where=where)
    size = int.from_bytes(data[len(_MAGIC) : start], "little")
    if len(data) < start + size + 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise InvalidModelError("is cut or damaged: its checksum does not fit", where=where, fix="copy or write it again")
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data[start : start + size], _HEADER_BYTES)
        header = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise InvalidModelError("has a header that cannot be read", where=where, fix="write it again") from error
    if not isinstance(header, dict) or set(header) != {"graph", "tensors"} or not isinstance(header["tensors"], list):
        raise InvalidModelError("has a header with other fields than graph and tensors", where=where)
    return header, start + size


def _encode_shared(book: Codebook) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    flat = book.indices.reshape(-1).astype(np.int64)
    sparse = book.values[0] == 0
    bits, gaps, symbols = 0, np.zeros(0, np.int64), flat
    if sparse:
        bits, gaps, symbols = min((_sparse(flat, bits) for bits in _GAP_BITS), key=lambda found: _stream_bits(found[1], found[2]))
    pieces: list[tuple[str, bytes]] = []
    table = b""
    for kind, stream, alphabet in (("gaps", gaps, 1 << bits), ("indices", symbols, len(book.values))):
        lengths = huffman.code_lengths(np.bincount(stream, minlength=alphabet))
        if len(stream):
            pieces.append((kind, huffman.encode(stream, lengths)))
            table += lengths.tobytes()
    values = _narrowest(book.values)
    pieces += [("tables", zlib.compress(table, 9)), ("codebook", values.tobytes())]
    return {"codebook": values.dtype.str, "gap_bits": bits, "symbols": len(symbols)}, pieces


def _sparse(flat: NDArray[np.int64], bits: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Gaps of at most 2**bits - 1 zeros before each coded weight, and the weights' indices, fillers of index 0 among them."""
    most = (1 << bits) - 1
    places = np.flatnonzero(flat)
    passed = np.diff(places, prepend=-1) - 1
    fillers = passed // (most + 1)
    last = np.cumsum(fillers + 1) - 1
    gaps = np.full(int((fillers + 1).sum()), most, np.int64)
    symbols = np.zeros(len(gaps), np.int64)
    gaps[last] = passed - fillers * (most + 1)
    symbols[last] = flat[places]
    return bits, gaps, symbols


def _stream_bits(gaps: NDArray[np.int64], symbols: NDArray[np.int64]) -> int:
    if not len(symbols):
        return 0
    tables = 8 * (int(gaps.max()) + 1)
    return huffman.coded_bits(np.bincount(gaps)) + huffman.coded_bits(np.bincount(symbols)) + tables


def _decode_shared(entry: dict[str, Any], pieces: Mapping[str, bytes], shape: tuple[int, ...]) -> Codebook:
    values = np.frombuffer(pieces["codebook"], _float_type(entry["codebook"])).astype(np.float32)
    count, bits = int(entry["symbols"]), int(entry["gap_bits"])
    elements = math.prod(shape)
    if not (0 <= count <= elements and 0 <= bits <= max(_GAP_BITS) and values.size):
        raise InvalidModelError("has more coded weights than elements", where=str(entry["name"]))
    flat = np.zeros(elements, np.int64)
    if count:
        gap_symbols = 1 << bits if bits else 0
        table = np.frombuffer(_unpacked(pieces["tables"], gap_symbols + len(values)), np.uint8)
        symbols = huffman.decode(pieces["indices"], table[gap_symbols:], count)
        if bits:
            places = np.cumsum(huffman.decode(pieces["gaps"], table[:gap_symbols], count) + 1) - 1
            if places[-1] >= elements:
                raise InvalidModelError("gaps lead beyond the tensor", where=str(entry["name"]))
            flat[places] = symbols
        else:
            if count != elements:
                raise InvalidModelError("has fewer indices than weights", where=str(entry["name"]))
            flat = symbols
    return Codebook(values, flat.astype(np.uint16).reshape(shape))


def _unpacked(data: bytes, size: int) -> bytes:
    found = zlib.decompressobj().decompress(data, size + 1)
    if len(found) != size:
        raise InvalidModelError(f"a table of {len(found)} code lengths for {size} symbols")
    return found


def _plain(entry: dict[str, Any], data: bytes, shape: tuple[int, ...]) -> NDArray[np.generic]:
    kinds = [np.dtype(entry[key]) for key in ("values", "type")]
    if any(kind.kind not in "fiub" or kind.hasobject for kind in kinds):
        raise InvalidModelError(f"values of type {kinds[0]}", where=str(entry["name"]))
    values: NDArray[np.generic] = np.frombuffer(data, kinds[0]).reshape(shape).astype(kinds[1])
    return values


def _float_type(text: Any) -> np.dtype[np.generic]:
    kind: np.dtype[np.generic] = np.dtype(text)
    if kind.kind != "f":
        raise InvalidModelError(f"a codebook of type {kind}")
    return kind


def _narrowest(value: NDArray[np.generic]) -> NDArray[np.generic]:
    """float16 where that holds every value of float32 exactly; the value itself otherwise."""
    if value.dtype != np.float32:
        return np.ascontiguousarray(value)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), value) else np.ascontiguousarray(value)
