"""Exchanges on a cluster: tori walked link by link, nodes as their own links say, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.parallel.collectives import Algorithm, Collective, steps, volume
from lepton_dse.sim.collectives import collective_time, links_of
from lepton_dse.sim.network import Group, exchange_time, fabric_of
from lepton_dse.targets import GpuTarget, load_cluster, load_target

TORUS = fabric_of(load_cluster("google-v5e-pod"))
DGX = fabric_of(load_cluster("dgx-a100"))
GATHERS = (Collective.ALL_REDUCE, Collective.ALL_GATHER, Collective.REDUCE_SCATTER)


def halving_doubling(devices: int, chunk: int) -> tuple[int, int]:
    """Steps and bytes sent by the first device in an all-reduce by halving and doubling, the data moved about."""
    have = [[{device} for _ in range(devices)] for device in range(devices)]
    spans = [(0, devices)] * devices
    taken = sent = 0
    distance = devices // 2
    while distance:
        parcels = []
        for device in range(devices):
            low, high = spans[device]
            middle = (low + high) // 2
            other = device ^ distance
            keep, give = ((low, middle), (middle, high)) if not device & distance else ((middle, high), (low, middle))
            parcels.append((other, give, [set(have[device][c]) for c in range(*give)]))
            spans[device] = keep
        for device, (other, give, sets) in enumerate(parcels):
            for c, values in zip(range(*give), sets, strict=True):
                have[other][c] |= values
            sent += chunk * (give[1] - give[0]) if device == 0 else 0
        taken, distance = taken + 1, distance // 2
    everyone = set(range(devices))
    assert all(have[device][c] == everyone for device in range(devices) for c in range(*spans[device]))
    distance = 1
    while distance < devices:
        sent += chunk * (spans[0][1] - spans[0][0])
        spans = [(min(spans[d][0], spans[d ^ distance][0]), max(spans[d][1], spans[d ^ distance][1])) for d in range(devices)]
        taken, distance = taken + 1, distance * 2
    assert spans[0] == (0, devices)
    return taken, sent


@pytest.mark.parametrize("devices", [2, 4, 8, 16])
def test_trees_take_the_steps_and_bytes_of_halving_and_doubling(devices: int) -> None:
    taken, sent = halving_doubling(devices, 3)
    assert steps(Collective.ALL_REDUCE, devices, Algorithm.TREE) == taken
    assert volume(Collective.ALL_REDUCE, 3.0 * devices, devices, Algorithm.TREE) == sent


def busiest_link(devices: int, *, closed: bool) -> float:
    """Share of what each sends that crosses the busiest directed link, where each sends as much to every other, shortest way."""
    links: dict[tuple[int, int], float] = {}
    for source, sink in itertools.permutations(range(devices), 2):
        ways = [1, -1] if closed and (sink - source) % devices * 2 == devices else [0]
        for way in ways:
            forward = (sink - source) % devices
            step = way or (1 if (not closed and sink > source) or (closed and 2 * forward < devices) else -1)
            at = source
            while at != sink:
                after = (at + step) % devices
                links[at, after] = links.get((at, after), 0.0) + 1 / len(ways) / devices
                at = after
    return max(links.values())


@pytest.mark.parametrize("devices", [4, 8, 16])
def test_all_to_all_on_a_ring_is_bound_by_its_busiest_link(devices: int) -> None:
    network = TORUS.cluster.network
    rate = network.share.value * network.byte_per_s.value
    size = 1e12
    found = exchange_time(Collective.ALL_TO_ALL, size, Group(devices), TORUS)
    expected = size * busiest_link(devices, closed=devices == 16) / rate
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_whole_axis_has_two_directions_and_a_part_of_it_one() -> None:
    network = TORUS.cluster.network
    rate = network.share.value * network.byte_per_s.value
    size = 1e13
    whole, part = (exchange_time(Collective.ALL_GATHER, size, Group(n), TORUS) for n in (16, 8))
    assert whole == pytest.approx(size * 15 / 16 / (2 * rate), rel=1e-3)
    assert part == pytest.approx(size * 7 / 8 / rate, rel=1e-3)
    both = exchange_time(Collective.ALL_GATHER, size, Group(256), TORUS)
    assert both == pytest.approx(size * 255 / 256 / (4 * rate), rel=1e-3)
    across = exchange_time(Collective.ALL_GATHER, size, Group(16, 16), TORUS)
    assert across == pytest.approx(whole, rel=1e-3)


@given(st.sampled_from(GATHERS), st.sampled_from([2, 4, 8]), st.floats(0, 1e10))
def test_inside_a_node_its_own_links_count(kind: Collective, devices: int, size: float) -> None:
    device = load_target("nvidia-a100-sxm-80gb")
    assert isinstance(device, GpuTarget)
    assert exchange_time(kind, size, Group(devices), DGX) == collective_time(kind, size, devices, links_of(device))


@given(st.sampled_from(GATHERS), st.integers(1, 8), st.floats(1e6, 1e11))
def test_across_nodes_every_port_of_a_node_takes_part(kind: Collective, exponent: int, size: float) -> None:
    nodes = 1 << exponent
    alone = exchange_time(kind, size, Group(nodes, 8), DGX)
    together = exchange_time(kind, size, Group(8 * nodes), DGX)
    network = DGX.cluster.network
    rate = network.share.value * network.byte_per_s.value
    assert alone >= volume(kind, size, nodes) / rate
    assert together >= volume(kind, size, 8 * nodes) / (8 * rate) * (1 - 1e-9)
    assert together <= alone * 1.01 + collective_time(kind, size, 8, DGX.links)  # type: ignore[arg-type]


@given(st.sampled_from(list(Collective)), st.sampled_from([1, 2, 8, 16, 64]), st.floats(0, 1e9), st.floats(1, 10))
def test_more_bytes_never_take_less_time(kind: Collective, devices: int, size: float, factor: float) -> None:
    for fabric in (TORUS, DGX):
        less, more = (exchange_time(kind, bytes_, Group(devices), fabric) for bytes_ in (size, size * factor))
        assert 0 <= less <= more
        assert (less == 0) == (devices == 1)


def test_what_a_cluster_cannot_do_is_refused() -> None:
    with pytest.raises(LeptonError, match="of 256"):
        exchange_time(Collective.ALL_REDUCE, 1.0, Group(32, 16), TORUS)
    with pytest.raises(LeptonError, match="-1 bytes"):
        exchange_time(Collective.ALL_REDUCE, -1.0, Group(2), TORUS)
