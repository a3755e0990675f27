"""Vector memory of Pallas kernels: the blocks counted one by one, the suite on an answer that is played, and on the compiler."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.sim.tpu.vmem import V5E_LIMIT, block_bytes, pallas_bytes
from lepton_dse.validate import tpu_vmem
from lepton_dse.validate.protocol import Context, UnavailableError
from lepton_dse.validate.tpu_vmem import SUITES, drawn_tiles
from lepton_dse.validate.tpu_vmem_worker import Taken

EXTENTS = st.sampled_from([128, 256, 384, 512, 1024])


@given(EXTENTS, EXTENTS, EXTENTS, st.sampled_from([1, 2, 4]))
def test_blocks_are_there_twice_and_sums_once(m: int, n: int, k: int, element: int) -> None:
    counted = 0
    for rows, columns in ((m, k), (k, n), (m, n)):
        for _ in range(2):
            counted += rows * columns * element
    assert block_bytes(m, n, k, element) == counted + m * n * 4
    assert pallas_bytes(m, n, k, element) >= block_bytes(m, n, k, element)


@given(EXTENTS, EXTENTS, EXTENTS)
def test_a_larger_tile_takes_more(m: int, n: int, k: int) -> None:
    for larger in ((2 * m, n, k), (m, 2 * n, k), (m, n, 2 * k)):
        assert pallas_bytes(*larger) > pallas_bytes(m, n, k)


def test_forty_tiles_are_drawn_and_eighteen_are_near_the_limit() -> None:
    tiles = drawn_tiles()
    assert len(set(tiles)) == len(tiles) == 40
    assert sum(abs(pallas_bytes(*tile) / V5E_LIMIT - 1) <= 0.2 for tile in tiles) == 18


def test_what_was_taken_as_predicted_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = drawn_tiles()
    needed = tuple(pallas_bytes(*tile) * 1.01 for tile in tiles)
    accepted = [size <= V5E_LIMIT for size in needed]
    wrong = accepted.copy()
    wrong[0] = not wrong[0]
    for answer, right in ((accepted, 40 - sum(V5E_LIMIT / 1.01 < pallas_bytes(*t) <= V5E_LIMIT for t in tiles)), (wrong, None)):
        taken = Taken(versions="played", accepted=tuple(answer), needed=needed)
        monkeypatch.setattr(tpu_vmem, "worker_answer", lambda *args, taken=taken: taken.model_dump_json())
        result = SUITES[0].run(SUITES[0], Context())
        assert result.mape_pct == pytest.approx(100 * (1 - 1 / 1.01))
        if right is not None:
            assert result.notes[0].startswith(f"taken or refused as predicted: {right} of 40")
            first = right
        else:
            assert result.notes[0].startswith(f"taken or refused as predicted: {first - 1} of 40")


def test_an_answer_that_is_none_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu_vmem, "worker_answer", lambda *args: "no")
    with pytest.raises(UnavailableError, match="printed no result"):
        SUITES[0].run(SUITES[0], Context())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'lepton_dse[tpu]'")
def test_the_compiler_takes_and_refuses_as_predicted() -> None:
    result = SUITES[0].run(SUITES[0], Context())
    assert result.notes[0].startswith("taken or refused as predicted: 40 of 40")
    assert result.max_pct is not None
    assert result.max_pct < 6
