"""The event graph against a machine that moves tokens cycle by cycle, and its answers that can be known by hand."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.jit import source_digest
from lepton_dse.rtl_library import (
    MODULES,
    Argmax,
    Channel,
    MatrixVectorUnit,
    MaxPool,
    MemoryStyle,
    ModuleTiming,
    Multiplier,
    Parameters,
    Requantize,
    SlidingWindow,
    StreamFifo,
    StreamRegister,
    WidthConverter,
    WindowShape,
)
from lepton_dse.rtl_library.timing import single
from lepton_dse.sim.event_graph import Deadlock, Network, NetworkBuilder, Times, chain, simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import token_machine as naive

LIMIT = 100_000


def timing_of(parameters: Parameters) -> ModuleTiming:
    declaration = next(d for d in MODULES.values() if d.parameters is type(parameters))
    assert declaration.timing is not None
    return declaration.timing(parameters)


def window(shape: WindowShape, slack: int) -> SlidingWindow:
    return SlidingWindow(**vars(shape), element=8, lanes=1, pad=0, buffer=shape.minimum_buffer + slack, style=MemoryStyle.BLOCK)


def engine(nf: int, sf: int, simd: int) -> MatrixVectorUnit:
    return MatrixVectorUnit(8, 8, 24, 1, simd, nf, sf, Multiplier.DSP, MemoryStyle.DISTRIBUTED)


def requantizer(nf: int) -> Requantize:
    return Requantize(24, 17, 16, 8, 0, -128, 127, 1, nf)


def naive_stage(p: Parameters) -> naive.Stage:
    match p:
        case StreamRegister():
            return naive.Registers(1)
        case Requantize():
            return naive.Registers(3)
        case StreamFifo():
            return naive.Fifo(p.depth)
        case WidthConverter() if p.in_lanes <= p.out_lanes:
            parts = p.out_lanes // p.in_lanes
            return naive.Stepper([True] * parts, [part == parts - 1 for part in range(parts)])
        case WidthConverter():
            parts = p.in_lanes // p.out_lanes
            return naive.Stepper([part == 0 for part in range(parts)], [True] * parts)
        case MaxPool():
            return naive.Stepper(
                [True] * (p.taps * p.folds), [tap == p.taps - 1 for tap in range(p.taps) for _ in range(p.folds)]
            )
        case Argmax():
            return naive.Stepper([True] * p.folds, [fold == p.folds - 1 for fold in range(p.folds)])
        case MatrixVectorUnit():
            tree = 0
            while 1 << tree < p.simd:
                tree += 1
            return naive.MatrixVector(p.nf, p.sf, 2 + tree)
        case SlidingWindow():
            return naive.Window(
                p.folds, (p.rows, p.cols), (p.kh, p.kw), (p.sh, p.sw), (p.dh, p.dw), (p.pt, p.pl), (p.oh, p.ow),
                p.buffer,
            )  # fmt: skip
    raise AssertionError(f"no naive stage for {p}")


@st.composite
def windows(draw: st.DrawFn) -> SlidingWindow:
    """A window with one to six rows and columns, any padding, stride and dilation that the module takes."""

    def axis() -> tuple[int, int, int, int, int, int]:
        kernel, stride, dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)))
        reach = (kernel - 1) * dilation + 1
        size = draw(st.integers(max(1, reach - 1), 6))
        before = draw(st.integers(0, min(reach - 1, size)))
        after = draw(st.integers(max(0, reach - size - before), max(0, reach - size - before) + 2))
        out = (size + before + after - reach) // stride + 1
        return size, kernel, stride, dilation, before, out

    # Vertically what the counters cannot follow is refused, and tested on its own.
    for _ in range(20):
        rows, kh, sh, dh, pt, oh = axis()
        cols, kw, sw, dw, pl, ow = axis()
        try:
            shape = WindowShape(draw(st.integers(1, 2)), rows, cols, kh, kw, sh, sw, dh, dw, pt, pl, oh, ow)
        except LeptonError:
            continue
        return window(shape, draw(st.integers(0, 12)))
    return window(WindowShape(1, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0, 2, 2), 0)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Parameters], int]:
    """Up to five modules whose beats match, and the input beats of a frame."""
    modules: list[Parameters] = []
    if draw(st.booleans()):
        first = draw(windows())
        modules.append(first)
        inputs = first.rows * first.cols * first.folds
        beats = timing_of(first).output_beats
    else:
        inputs = beats = draw(st.sampled_from([1, 4, 6, 12, 24]))
    for _ in range(draw(st.integers(0 if modules else 1, 4))):
        part = draw(st.sampled_from([d for d in divisors(beats) if d <= 12]))
        kind = draw(st.integers(0, 7))
        if kind == 0:
            modules.append(StreamRegister(8))
        elif kind == 1:
            modules.append(StreamFifo(8, draw(st.integers(1, 6))))
        elif kind == 2:
            modules.append(WidthConverter(4, 1, part))
        elif kind == 3:
            modules.append(WidthConverter(4, draw(st.integers(1, 3)), 1))
        elif kind == 4:
            folds = draw(st.sampled_from(divisors(part)))
            modules.append(MaxPool(8, 1, folds, part // folds))
        elif kind == 5:
            modules.append(Argmax(8, 1, part, 8))
        elif kind == 6:
            modules.append(engine(draw(st.integers(1, 3)), part, draw(st.integers(1, 5))))
        else:
            modules.append(requantizer(1))
        timing = timing_of(modules[-1])
        beats = beats // timing.input_beats * timing.output_beats
    return modules, inputs


traces = st.lists(st.integers(0, 1), min_size=1, max_size=9).filter(any)


@settings(max_examples=150, deadline=None)
@given(chains(), traces, traces, st.integers(1, 3))
def test_equals_the_token_machine(drawn: tuple[list[Parameters], int], source: list[int], sink: list[int], frames: int) -> None:
    modules, inputs = drawn
    times = simulate(chain([timing_of(p) for p in modules], inputs), frames, source, sink)
    assert isinstance(times, Times), str(times)
    observed = naive.run([naive_stage(p) for p in modules], inputs * frames, len(times.output_cycles), source, sink, LIMIT)
    assert observed is not None
    assert times.input_cycles.tolist() == observed[0]
    assert times.output_cycles.tolist() == observed[1]


def fork_join(branches: list[list[Parameters]], beats: int) -> Network:
    builder = NetworkBuilder()
    fork = builder.add(timing_of(StreamRegister(8)).repeated(beats))
    join = builder.add(single("join", [True], [True], Channel.pipe(1)).repeated(beats))
    for branch in branches:
        last = fork
        for parameters in branch:
            timing = timing_of(parameters)
            placed = builder.add(timing.repeated(beats // timing.input_beats))
            builder.connect(last, placed)
            last = placed
        builder.connect(last, join)
    return builder.finish(fork, join)


same_beats = st.one_of(
    st.builds(StreamRegister, st.just(8)),
    st.builds(StreamFifo, st.just(8), st.integers(1, 4)),
    st.just(requantizer(1)),
    st.builds(lambda n: engine(n, n, 2), st.sampled_from([1, 2, 3])),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(same_beats, min_size=1, max_size=3), min_size=2, max_size=3), traces, traces)
def test_forks_and_joins_equal_the_token_machine(branches: list[list[Parameters]], source: list[int], sink: list[int]) -> None:
    beats, frames = 6, 2
    times = simulate(fork_join(branches, beats), frames, source, sink)
    machine = [naive.ForkJoin([[naive_stage(p) for p in branch] for branch in branches])]
    observed = naive.run(machine, beats * frames, beats * frames, source, sink, 5000)
    if observed is None:
        assert isinstance(times, Deadlock)
    else:
        assert isinstance(times, Times), str(times)
        assert (times.input_cycles.tolist(), times.output_cycles.tolist()) == observed


def test_a_short_fifo_beside_a_window_is_a_named_deadlock() -> None:
    # The last output needs the whole vector of nine; the other branch must hold what comes before it.
    def design(depth: int) -> Network:
        return fork_join([[engine(9, 9, 1)], [StreamFifo(8, depth)]], 9)

    deadlock = simulate(design(7), 1)
    assert isinstance(deadlock, Deadlock)
    waits = {(wait.process, wait.on) for wait in deadlock.waits}
    assert ("matrix_vector_unit.engine", "stream_register") in waits
    assert ("stream_fifo", "join") in waits
    assert "stream_fifo (frame 0, step 7) waits for join (frame 0, step 0)" in str(deadlock)
    assert isinstance(simulate(design(8), 1), Times)


def test_latency_and_interval_of_known_designs() -> None:
    registers = simulate(chain([timing_of(StreamRegister(8))] * 3, 1), 3)
    assert isinstance(registers, Times)
    assert (registers.latency_cycles, registers.interval_cycles) == (3, 1)
    slow = simulate(chain([timing_of(StreamFifo(8, 1))], 1), 4)
    assert isinstance(slow, Times)
    assert slow.interval_cycles == 2
    # 3 folds of 4 words, SIMD 4: 12 steps, then operand, product and two tree registers, then the output register.
    unit = simulate(chain([timing_of(engine(3, 4, 4))], 4), 3)
    assert isinstance(unit, Times)
    assert (unit.latency_cycles, unit.interval_cycles) == (11 + 4 + 1, 12)
    paced = simulate(chain([timing_of(StreamRegister(8))], 1), 5, source_trace=[0, 0, 1])
    assert isinstance(paced, Times)
    assert paced.input_cycles.tolist() == [2, 5, 8, 11, 14]
    assert paced.output_cycles.tolist() == [3, 6, 9, 12, 15]


def test_a_recommended_buffer_keeps_a_window_at_the_pace_of_its_reads() -> None:
    shape = WindowShape(1, 12, 12, 2, 2, 2, 2, 1, 1, 0, 0, 6, 6)
    roomy = simulate(chain([timing_of(replace(window(shape, 0), buffer=shape.recommended_buffer))], 144), 4)
    tight = simulate(chain([timing_of(window(shape, 0))], 144), 4)
    assert isinstance(roomy, Times)
    assert isinstance(tight, Times)
    assert roomy.interval_cycles == 12 * 12
    assert tight.interval_cycles > roomy.interval_cycles


def test_refusals_say_what_and_where() -> None:
    with pytest.raises(LeptonError, match=r"argmax: 7 beats a frame are not a whole number of periods of 3 beats"):
        chain([timing_of(Argmax(8, 1, 3, 4))], 7)
    with pytest.raises(LeptonError, match="at least one module"):
        chain([], 1)
    network = chain([timing_of(StreamRegister(8))], 2)
    with pytest.raises(LeptonError, match="the sink trace never lets a beat pass"):
        simulate(network, 1, sink_trace=[0, 0])
    with pytest.raises(LeptonError, match="cannot simulate 0 frames"):
        simulate(network, 0)
    two = simulate(network, 2)
    assert isinstance(two, Times)
    with pytest.raises(LeptonError, match="simulate at least 3 frames"):
        _ = two.interval_cycles
    builder = NetworkBuilder()
    forked, first, second = (builder.add(timing_of(p)) for p in (requantizer(1), StreamRegister(8), StreamRegister(8)))
    builder.connect(forked, first)
    with pytest.raises(LeptonError, match="put a stream_register between"):
        builder.connect(forked, second)
    short = replace(network.edges[0], need=network.edges[0].need[:1])
    with pytest.raises(LeptonError, match="tables of 1 and 2 entries for 2 and 2 steps"):
        simulate(replace(network, edges=(short,)), 1)
    with pytest.raises(LeptonError, match="cannot be repeated 0 times"):
        timing_of(StreamRegister(8)).repeated(0)


def test_windows_that_the_counters_cannot_follow_are_refused() -> None:
    ok = WindowShape(1, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1, 6, 6)
    with pytest.raises(LeptonError, match="an output row sees only padding"):
        replace(ok, pt=3)
    with pytest.raises(LeptonError, match="the last of 9 output rows starts 2 rows below the image"):
        replace(ok, oh=9)
    with pytest.raises(LeptonError, match="every column of the window is padding"):
        replace(ok, pl=3, ow=1)
    with pytest.raises(LeptonError, match=f"better {ok.recommended_buffer}"):
        window(ok, -1)


def test_the_least_buffer_is_least() -> None:
    # One word less and the recurrence itself is stuck; the check in the constructor is by-passed to see it.
    shape = WindowShape(2, 5, 5, 3, 3, 2, 1, 1, 1, 1, 1, 3, 5)
    small = window(shape, 0)
    object.__setattr__(small, "buffer", shape.minimum_buffer - 1)
    assert isinstance(simulate(chain([timing_of(window(shape, 0))], 50), 3), Times)
    assert isinstance(simulate(chain([timing_of(small)], 50), 3), Deadlock)


@pytest.mark.slow
def test_interpreted_and_compiled_kernels_agree(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, numpy as np\n"
        "from lepton_dse.rtl_library import *\n"
        "from lepton_dse.sim.event_graph import chain, simulate\n"
        "shape = WindowShape(1, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1, 6, 6)\n"
        "w = SlidingWindow(**vars(shape), element=8, lanes=1, pad=0, buffer=20, style=MemoryStyle.BLOCK)\n"
        "m = MatrixVectorUnit(8, 8, 24, 1, 2, 2, 9, Multiplier.DSP, MemoryStyle.DISTRIBUTED)\n"
        "parts = [MODULES['sliding_window'].timing(w), MODULES['matrix_vector_unit'].timing(m)]\n"
        "times = simulate(chain(parts, 36), 3, [1, 0, 1], [1, 1, 0])\n"
        "np.save(sys.argv[1], np.concatenate(times.cycles))\n"
    )
    root = str(Path(__file__).parents[2])
    results = []
    for name, disable in (("jit", "0"), ("py", "1")):
        target = tmp_path / f"{name}.npy"
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disable, "PYTHONPATH": root}
        subprocess.run([sys.executable, str(script), str(target)], env=environment, check=True)
        results.append(np.load(target))
    assert len(results[0]) > 1000
    np.testing.assert_array_equal(results[0], results[1])


def test_compiled_kernels_are_keyed_by_every_kernel_source(tmp_path: Path) -> None:
    (tmp_path / "jit.py").write_text("# the decorator")
    (tmp_path / "caller.py").write_text("from lepton_dse.jit import kernel")
    (tmp_path / "inner").mkdir()
    callee = tmp_path / "inner" / "callee.py"
    callee.write_text("from lepton_dse.jit import kernel  # 1")
    before = source_digest(tmp_path)
    (tmp_path / "other.py").write_text("no kernels here")
    assert source_digest(tmp_path) == before
    callee.write_text("from lepton_dse.jit import kernel  # 2")
    assert source_digest(tmp_path) != before
