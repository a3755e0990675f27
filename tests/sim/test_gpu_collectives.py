"""Collectives: against a ring walked step by step, and at the edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.parallel.collectives import Collective, steps, volume
from lepton_dse.sim.collectives import Links, collective_time, links_of
from lepton_dse.targets import GpuTarget, load_target

LINKS = Links(2.0, 10.0, 3.0, 0.5, 0.0, 0.0, 1.0)
SIZES = st.one_of(st.integers(0, 1000), st.integers(0, 1 << 40))


def ring(kind: Collective, devices: int, chunk: int) -> tuple[int, int]:
    """Steps of a ring, and bytes the first device sends, with the message in as many chunks as devices, by moving chunks about.

    Every device begins with its own addend of every chunk (or its own chunk, to gather); the walk ends once all is in place.
    """
    reducing = kind is not Collective.ALL_GATHER
    have = [{c: {d} if reducing else ({d} if c == d else set()) for c in range(devices)} for d in range(devices)]
    everyone = set(range(devices))
    taken = sent = 0
    if reducing:
        for step in range(devices - 1):
            moving = [(d, (d - step) % devices) for d in range(devices)]
            parcels = [(d, c, set(have[d][c])) for d, c in moving]
            for d, c, parcel in parcels:
                have[(d + 1) % devices][c] |= parcel
                sent += chunk if d == 0 else 0
            taken += 1
        assert all(have[d][(d + 1) % devices] == everyone for d in range(devices))
        if kind is Collective.REDUCE_SCATTER:
            return taken, sent
    first = 1 if reducing else 0
    for step in range(devices - 1):
        parcels = [(d, (d + first - step) % devices, set(have[d][(d + first - step) % devices])) for d in range(devices)]
        for d, c, parcel in parcels:
            have[(d + 1) % devices][c] = parcel
            sent += chunk if d == 0 else 0
        taken += 1
    whole = everyone if reducing else None
    assert all(have[d][c] == (whole or {c}) for d in range(devices) for c in range(devices))
    return taken, sent


@given(
    st.sampled_from([Collective.ALL_REDUCE, Collective.ALL_GATHER, Collective.REDUCE_SCATTER]),
    st.integers(2, 9),
    st.integers(1, 50),
)
def test_steps_and_volumes_are_those_of_a_ring(kind: Collective, devices: int, chunk: int) -> None:
    taken, sent = ring(kind, devices, chunk)
    assert steps(kind, devices) == taken
    assert volume(kind, float(chunk * devices), devices) == pytest.approx(sent)


def test_by_hand() -> None:
    # 4 devices, 400 bytes at one byte a second each way: 2 * 3 steps of 3 s, 2 * 300 bytes sent.
    assert collective_time(Collective.ALL_REDUCE, 400.0, 4, LINKS) == 10 + 6 * 3 + 600
    assert collective_time(Collective.ALL_GATHER, 400.0, 4, LINKS) == 10 + 3 * 3 + 300
    assert collective_time(Collective.ALL_TO_ALL, 400.0, 4, LINKS) == 10 + 1 * 3 + 300
    filled = LINKS._replace(fill_s=5.0, fill_bytes=300.0)
    assert collective_time(Collective.REDUCE_SCATTER, 400.0, 4, filled) == pytest.approx(10 + 9 + 5 * (1 - math.exp(-1)) + 300)
    assert collective_time(Collective.ALL_REDUCE, 400.0, 1, LINKS) == 0
    paired = LINKS._replace(pair_loss=1.0)
    assert collective_time(Collective.ALL_GATHER, 400.0, 2, paired) == 10 + 3 + 400


@given(
    st.sampled_from(list(Collective)),
    SIZES,
    st.integers(1, 64),
    st.floats(1, 8),
    st.sampled_from(["nvidia-h100-sxm", "nvidia-l40s"]),
)
def test_no_link_is_beaten_and_more_takes_no_less(kind: Collective, size: int, devices: int, factor: float, name: str) -> None:
    target = load_target(name)
    assert isinstance(target, GpuTarget)
    links = links_of(target)
    time = collective_time(kind, float(size), devices, links)
    assert time >= volume(kind, float(size), devices) / links.byte_per_s
    assert collective_time(kind, float(size + 1), devices, links) >= time
    assert collective_time(kind, float(size), devices, links._replace(byte_per_s=links.byte_per_s * factor)) <= time


def test_bad_input() -> None:
    with pytest.raises(LeptonError, match="0 devices"):
        collective_time(Collective.ALL_REDUCE, 1.0, 0, LINKS)
    with pytest.raises(LeptonError, match="-1 bytes"):
        collective_time(Collective.ALL_REDUCE, -1.0, 2, LINKS)
    target = load_target("nvidia-t4")
    assert isinstance(target, GpuTarget)
    with pytest.raises(LeptonError, match="no links"):
        links_of(target)
