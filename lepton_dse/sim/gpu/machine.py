"""From a GPU's hardware model to the plain numbers that the kernels compute with."""

from __future__ import annotations

from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.schedule.gpu import Limits
from lepton_dse.sim.gpu.gemm import Constants, Machine
from lepton_dse.targets.gpu import GpuTarget, KernelConstants

__all__ = ["constants_of", "limits_of", "machine_of"]


def machine_of(target: GpuTarget, precision: Precision) -> Machine | None:
    """What kernels in a pair of formats see of a GPU; None where the device has no such arithmetic.

    The cache that all multiprocessors share is the last level before main memory; on a device with main memory alone it has no
    capacity, and main memory's bandwidth.
    """
    peak = target.peak(precision)
    if peak is None:
        return None
    plain = target.peak(Precision(FLOAT32, FLOAT32)) or max(target.peaks, key=lambda entry: entry.mac_per_s.value)
    memory = target.levels[-1]
    cache = target.levels[-2] if len(target.levels) > 1 else None
    tensor_memory = target.tensor_memory_bytes_per_sm
    return Machine(
        sm_count=target.sm_count.value,
        clock_hz=target.clock_hz.value,
        mac_per_s=peak.mac_per_s.value,
        fma_per_s=plain.mac_per_s.value,
        special_per_s=target.special_per_clock.value * target.clock_hz.value * target.sm_count.value,
        memory_byte_per_s=memory.bandwidth_byte_per_s.value,
        l2_bytes=0.0 if cache is None else cache.capacity_bytes.value,
        l2_byte_per_s=(memory if cache is None else cache).bandwidth_byte_per_s.value,
        shared_bytes=target.shared_bytes_per_sm.value,
        registers=target.register_bytes_per_sm.value / 4,
        threads=target.max_threads_per_sm.value,
        ctas=target.max_ctas_per_sm.value,
        port_bytes_per_clock=target.port_bytes_per_clock.value,
        cluster=target.multicast_ctas.value,
        accumulators=0.0 if tensor_memory is None else tensor_memory.value / 4,
        launch_s=target.launch_s.value,
    )


def limits_of(target: GpuTarget) -> Limits:
    """What one multiprocessor holds."""
    return Limits(
        registers=target.register_bytes_per_sm.value / 4,
        shared_bytes=target.shared_bytes_per_sm.value,
        threads=target.max_threads_per_sm.value,
        blocks=target.max_ctas_per_sm.value,
    )


def constants_of(entry: KernelConstants) -> Constants:
    """The same constants as plain numbers."""
    return Constants(**{name: getattr(entry, name).value for name in Constants._fields})
