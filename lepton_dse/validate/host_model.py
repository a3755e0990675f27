"""The hardware model of a measured host, as a target and as the TOML file that ``lepton targets`` reads."""

from __future__ import annotations

import tomllib
from typing import Any

from lepton_dse.targets import CpuTarget
from lepton_dse.validate.host import Host
from lepton_dse.validate.host_program import CHAIN, OPTIONS

__all__ = ["host_target", "host_toml"]

_HOW = f"generated C program, gcc {' '.join(OPTIONS)}, timed by clock_gettime"


def host_toml(host: Host, rounds: int) -> str:
    """The hardware model as text.

    Parameters
    ----------
    host : Host
    rounds : int
        Of the measurement, for the sources.
    """
    best = f"best of {rounds} rounds"
    sources = {
        "rate": ("measured", f"12 chains of vector multiply-adds on every core, {best}", _HOW),
        "clock": ("measured", f"a chain of dependent integer additions, {best}", _HOW),
        "chain": ("measured", f"one chain of multiply-adds against chains of {CHAIN} one after another, {best}", _HOW),
        "loads": ("measured", f"independent loads of four bytes from the first level, {best}", _HOW),
        "fills": ("measured", f"loads from ever other lines of one set of the first level, {best}", _HOW),
        "merged": ("measured", f"the same with twice the lines that the set holds, {best}", _HOW),
        "stream": ("measured", f"sums over buffers of vectors and x[i] += 1, the slower of both, {best}", _HOW),
        "system": ("measured", "what the system says of its cores, caches and memory", "sysfs and sysconf of the host"),
        "isa": (
            "definition",
            f"Vectors of {32 * host.lanes} bits and {host.registers} registers",
            "the compiler's -march=native",
        ),
        "call": ("definition", "A kernel is a function call in a running program", "chosen"),
    }
    lines = [
        'family = "cpu"',
        f"title = {_quoted(f'{host.title}, {host.cores} cores of this host')}",
        _number("core_count", host.cores, "system"),
        _number("clock_hz", host.clock_hz, "clock"),
        _number("simd_bits", 32 * host.lanes, "isa"),
        _number("fma_ports", max(1, round(host.mac_per_s / (host.clock_hz * host.lanes))), "rate"),
        _number("fma_cycles", host.fma_cycles, "chain"),
        _number("load_ports", host.load_ports, "loads"),
        _number("fill_cycles", host.fill_cycles, "fills"),
        _number("load_window", host.load_window, "merged"),
        _number("reorder_window", host.window, "chain"),
        _number("registers", host.registers, "isa"),
        _number("launch_s", 0, "call"),
    ]
    peaks = [("float32", "vector multiply-add", host.mac_per_s_all)]
    if host.int8_per_s_all is not None:
        peaks.append(("int8", "vector dot product of bytes", host.int8_per_s_all))
    for form, unit, rate in peaks:
        lines += ["", "[[peaks]]", f"format = {_quoted(form)}", f"unit = {_quoted(unit)}", _number("mac_per_s", rate, "rate")]
    whole = alone = float("inf")
    for index, (one, every) in enumerate(host.read):
        # A level outside another may measure a little faster; it cannot deliver through the inner one what that does not pass.
        whole, alone = min(whole, max(one, every)), min(alone, one)
        lines += ["", "[[levels]]"]
        if index < len(host.caches):
            cache = host.caches[index]
            instances = -(-host.cores // min(cache.shared_by, host.cores))
            lines += [f"name = {_quoted(cache.name)}", _number("capacity_bytes", cache.size_bytes * instances, "system")]
            lines += [
                _number("shared_by", min(cache.shared_by, host.cores), "system"),
                _number("ways", cache.ways, "system"),
                _number("line_bytes", cache.line_bytes, "system"),
            ]
        else:
            lines += [f"name = {_quoted('dram')}", _number("capacity_bytes", host.memory_bytes, "system")]
        lines += [_number("bandwidth_byte_per_s", whole, "stream"), _number("core_byte_per_s", alone, "stream")]
    for name, (kind, title, place) in sources.items():
        lines += ["", f"[sources.{name}]", f"kind = {_quoted(kind)}", f"title = {_quoted(title)}", f"place = {_quoted(place)}"]
    return "\n".join(lines) + "\n"


def host_target(host: Host, rounds: int) -> CpuTarget:
    """The hardware model as a target called ``host``."""
    document: dict[str, Any] = tomllib.loads(host_toml(host, rounds))
    return CpuTarget.model_validate({"name": "host", **document})


def _number(name: str, value: float, source: str) -> str:
    text = str(int(value)) if value == int(value) and value < 2**53 else f"{value:.6g}"
    return f'{name} = {{ value = {text}, source = "{source}" }}'


def _quoted(text: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
