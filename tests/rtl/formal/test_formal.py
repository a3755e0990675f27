"""The stream primitives lose nothing, double nothing, keep the order, and hold what they offer: proved for ever, by induction.

Each module stands between scoreboards (``scoreboard.v``) that follow any one word through it, under any valid, ready, data and
reset after the first cycle. Yosys proves the assertions by temporal induction: from reset for as many cycles as the depth says,
and then from every state that keeps them for so many cycles, reachable or not. What is planted in a module is refuted from reset
by the scoreboards alone, without the invariants that the proof needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from rtl_cases import skip_without, source

from lepton_dse.verify.simulators import run_yosys

pytestmark = pytest.mark.rtl

FORMAL = Path(__file__).parent
LONGEST = 14  # cycles in which every planted fault shows


@dataclass(frozen=True)
class Proof:
    """A module with parameters, and the induction depth at which its properties prove."""

    module: str
    defines: tuple[str, ...] = ()
    depth: int = 1

    def __str__(self) -> str:
        return "-".join([self.module, *self.defines])


@dataclass(frozen=True)
class Fault:
    """A change of a module's text that its properties must refute."""

    proof: Proof
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.proof}-{self.name}"


def fifo(depth: int, *style: str) -> Proof:
    several = ("SEVERAL",) if depth > 1 else ()
    return Proof("stream_fifo", (f"DEPTH={depth}", *several, *style), 2 if depth > 1 else 1)


def fork(copies: int) -> Proof:
    return Proof("stream_fork", (f"COPIES={copies}",))


def concat(first: int, second: int) -> Proof:
    return Proof("stream_concat", (f"A_WORDS={first}", f"B_WORDS={second}"))


def converter(taken: int, given: int) -> Proof:
    way = "SAME" if taken == given else "UP" if taken < given else "DOWN"
    return Proof("width_converter", (f"IN_LANES={taken}", f"OUT_LANES={given}", way))


REGISTER, ADD = Proof("stream_register"), Proof("add_requantize")

PROOFS = [
    REGISTER,
    *(fifo(depth) for depth in (1, 2, 3, 5)),
    *(fifo(depth, "BLOCK") for depth in (1, 2, 3, 5)),
    fork(2),
    fork(3),
    concat(1, 1),
    concat(2, 1),
    concat(2, 3),
    ADD,
    converter(2, 2),
    converter(1, 2),
    converter(1, 3),
    converter(2, 6),
    converter(2, 1),
    converter(3, 1),
    converter(4, 2),
]

FAULTS = [
    Fault(REGISTER, "taken-when-full", "s_ready = !m_valid || m_ready", "s_ready = 1'b1"),
    Fault(REGISTER, "overwritten-while-stalled", "if (s_ready) m_data", "m_data"),
    Fault(REGISTER, "given-twice", "m_valid <= s_valid;", "m_valid <= s_valid || m_valid;"),
    Fault(fifo(1), "taken-when-full", "s_ready = count != FULL", "s_ready = 1'b1"),
    Fault(fifo(3), "taken-when-full", "s_ready = count != FULL", "s_ready = 1'b1"),
    Fault(fifo(3), "tail-wraps-early", "(tail == LAST)", "(tail == LAST - 1'b1)"),
    Fault(fifo(5), "head-wraps-late", "(head == LAST)", "(&head)"),
    Fault(fifo(3, "BLOCK"), "front-overwritten", "read = any && (!ahead || m_ready)", "read = any"),
    Fault(fifo(3, "BLOCK"), "front-lost", "if (!ahead || m_ready) ahead <= read;", "ahead <= read;"),
    Fault(fork(2), "given-twice", "{COPIES{held}} & ~done", "{COPIES{held}}"),
    Fault(fork(2), "free-when-one-has-taken", "&through", "|through"),
    Fault(fork(3), "forgets-who-has-taken", "else done <= through;", "else done <= m_ready;"),
    Fault(concat(2, 3), "one-turn-too-many", "LAST_A = A_WORDS - 1", "LAST_A = A_WORDS"),
    Fault(concat(2, 1), "second-taken-out-of-turn", "b_ready = free && second", "b_ready = free"),
    Fault(concat(1, 1), "overwritten-while-stalled", "if (free) m_data", "m_data"),
    Fault(ADD, "one-taken-alone", "a_ready = ready[0] && b_valid", "a_ready = ready[0]"),
    Fault(ADD, "middle-overwritten", "!(&valid[2:1]) || m_ready", "1'b1"),
    Fault(ADD, "overwritten-while-stalled", "if (ready[2])\n                    m_data", "m_data"),
    Fault(converter(2, 2), "overwritten-while-stalled", "if (free) m_data <= s_data", "m_data <= s_data"),
    Fault(converter(1, 2), "taken-when-full", "s_ready = !last || free", "s_ready = 1'b1"),
    Fault(converter(1, 3), "out-of-order", "m_data <= {s_data, collected}", "m_data <= {collected, s_data}"),
    Fault(converter(2, 1), "taken-too-early", "s_ready = free && first", "s_ready = free"),
    Fault(converter(3, 1), "part-given-twice", "held[REST-1:OUT_LANES*ELEMENT]}", "held[REST-OUT_LANES*ELEMENT-1:0]}"),
]


def prepared(proof: Proof, module: Path, *defines: str) -> str:
    """Return the commands that make one flat circuit of a module and its properties."""
    flags = " ".join(f"-D{define}" for define in (*proof.defines, *defines))
    properties = f"{FORMAL / 'scoreboard.v'} {FORMAL / f'{proof.module}.v'}"
    return (
        f"read_verilog -formal {flags} {properties}; read_verilog {module}; "
        "hierarchy -check -top properties; proc; memory; flatten; opt_clean; "
    )


@pytest.mark.parametrize("proof", PROOFS, ids=str)
@skip_without
def test_holds_for_ever(proof: Proof, tmp_path: Path) -> None:
    log = run_yosys(
        prepared(proof, source(proof.module), "INDUCTION")
        + f"sat -tempinduct -seq 1 -maxsteps {proof.depth} -prove-asserts -verify",
        tmp_path,
    )
    assert "Warning" not in log, log
    assert "$assume" not in log, "nothing is assumed of the surroundings"
    assert re.findall(r"\[induction step (\d+)\]", log)[-1] == str(proof.depth)
    assert "Induction step proven: SUCCESS!" in log


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@skip_without
def test_a_planted_fault_is_refuted(fault: Fault, tmp_path: Path) -> None:
    text = source(fault.proof.module).read_text()
    assert text.count(fault.old) >= 1, "the fault is no longer one of this text"
    module = tmp_path / "faulty.v"
    module.write_text(text.replace(fault.old, fault.new))
    log = run_yosys(
        prepared(fault.proof, module)
        + f"sat -tempinduct -tempinduct-baseonly -seq 1 -maxsteps {LONGEST} -prove-asserts -falsify",
        tmp_path,
    )
    assert "SAT temporal induction proof finished - model found for base case: FAIL!" in log
