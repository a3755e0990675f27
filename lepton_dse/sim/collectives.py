"""Collectives among GPUs of one node, one closed form: latency, pipeline and bandwidth of a ring over the links.

Symbols
-------
=========  ===========================================================================================
n          devices; S bytes of the whole message
s, v       steps between neighbours, and bytes that each device sends
t_0, t_h   fixed time, and latency of a step
B, e, a    bytes a second of a device's links in one direction; share that many devices reach; loss of few
F, S_F     time to fill the pipeline of chunks, and the message from which chunks no longer grow
=========  ===========================================================================================

===============  ================  ==================
collective       s                 v
===============  ================  ==================
all-reduce       ``2 (n - 1)``     ``2 S (n - 1) / n``
all-gather       ``n - 1``         ``S (n - 1) / n``
reduce-scatter   ``n - 1``         ``S (n - 1) / n``
all-to-all       1                 ``S (n - 1) / n``
===============  ================  ==================

``t = t_0 + s t_h + F (1 - exp(-v / S_F)) + v / (e B (1 - a / n))``.

Steps and volumes are those of ring algorithms (:mod:`lepton_dse.parallel.collectives`, which says what S counts). The pipeline
term is this project's: a library cuts messages into chunks whose size grows with the message, and the first chunk travels alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lepton_dse.errors import LeptonError
from lepton_dse.parallel.collectives import Collective, steps, volume
from lepton_dse.targets import GpuTarget

__all__ = ["Links", "collective_time", "links_of"]


class Links(NamedTuple):
    """The links of one device as plain numbers; symbols in the module's docstring."""

    byte_per_s: float
    start_s: float
    hop_s: float
    share: float
    pair_loss: float
    fill_s: float
    fill_bytes: float


def links_of(target: GpuTarget) -> Links:
    """The links of a GPU.

    Raises
    ------
    LeptonError
        If its hardware model names no links.
    """
    if target.link_byte_per_s is None or target.links is None:
        raise LeptonError(f"{target.name} has no links to other devices", fix="choose a target with link_byte_per_s and [links]")
    rest = {name: getattr(target.links, name).value for name in Links._fields if name != "byte_per_s"}
    return Links(target.link_byte_per_s.value, **rest)


def collective_time(kind: Collective, message_bytes: float, devices: int, links: Links) -> float:
    """Seconds of a collective; 0 on one device.

    Parameters
    ----------
    kind : Collective
    message_bytes : float
        The whole message; see the module's docstring.
    devices : int
        At least 1.
    links : Links

    Raises
    ------
    LeptonError
        If there is no device, or the message is negative.
    """
    if devices < 1 or message_bytes < 0:
        raise LeptonError(f"a collective of {message_bytes:g} bytes among {devices} devices", fix="at least 1 device and 0 bytes")
    if devices == 1:
        return 0.0
    sent = volume(kind, message_bytes, devices)
    rate = links.byte_per_s * links.share * (1.0 - links.pair_loss / devices)
    fill = links.fill_s * -math.expm1(-sent / links.fill_bytes)
    return links.start_s + steps(kind, devices) * links.hop_s + fill + sent / rate
