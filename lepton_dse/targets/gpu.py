"""What a GPU's hardware model says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lepton_dse.numerics.formats import Precision
from lepton_dse.targets.schema import Frozen, Processor, Quantity, Rate

__all__ = ["GpuCalibration", "GpuTarget", "KernelConstants", "LinkConstants", "SparseCores"]


class KernelConstants(Frozen):
    """What kernels reach of the device beyond its data sheet; ``lepton_dse.sim.gpu.gemm`` gives the equations."""

    overhead_s: Quantity
    """Time of a kernel beyond the launch that nothing overlaps."""
    boost_share: Rate
    """Share of the peak arithmetic rate within the first `boost_s` of a kernel."""
    sustained_share: Rate
    """The share thereafter, under the power limit."""
    boost_s: Quantity
    memory_share: Rate
    """Share of main memory's bandwidth that kernels reach."""
    l2_share: Rate
    cta_s: Quantity
    """Filling the pipeline, once a wave."""
    next_cta_s: Quantity
    """The part of that which each further CTA on a multiprocessor adds."""
    store_bytes_per_clock: Rate
    """Bytes a clock at which the last CTA of a multiprocessor writes its result."""
    step_s: Quantity
    """Latency of one step of the summed axis."""
    memory_latency_s: Rate
    split_s: Quantity
    """Fixed cost of splitting the summed axis over CTAs."""
    overlap_exponent: Rate
    """Exponent of the norm that joins the parts of a kernel's time; infinite means perfect overlap."""
    resident_share: Rate
    """Share of L2 that keeps data from one run of a kernel to the next."""
    resident_exponent: Rate
    """How sharply residency ends as the data outgrow that share."""
    split_limit: Rate
    """Widest split of the summed axis that the library offers; 1 for none."""
    gemv_rows: Quantity
    """Most rows for which the library offers a kernel without tensor cores."""
    quantize_s: Quantity
    """Fixed time of a separate pass that quantises activations."""
    quantize_per_s: Rate
    """Elements a second of that pass."""
    code_s: Quantity
    """Fetching the code of a tensor-core kernel after a flush of L2; a model's kernels do not pay it."""

    @model_validator(mode="after")
    def _bounded(self) -> KernelConstants:
        for name in ("boost_share", "sustained_share", "memory_share", "l2_share"):
            if getattr(self, name).value > 1:
                raise ValueError(f"{name}: a share above 1")
        for name in ("overlap_exponent", "split_limit"):
            if getattr(self, name).value < 1:
                raise ValueError(f"{name}: below 1")
        return self


class GpuCalibration(Frozen):
    """Constants fitted to measured kernels of some formats; they take the place of the general ones."""

    formats: Annotated[tuple[str, ...], Field(min_length=1)]
    constants: KernelConstants

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for text in formats:
            Precision.parse(text)
        return formats


class SparseCores(Frozen):
    """Tensor cores that skip the zeros of weights of which 2 of 4 are zero."""

    formats: Annotated[tuple[str, ...], Field(min_length=1)]
    """Formats of the peaks that have the mode."""
    rate: Rate
    """Peak rate in the mode over the dense peak."""
    reached: Quantity
    """Share of the gain ``rate - 1`` that kernels reach."""

    @model_validator(mode="after")
    def _bounded(self) -> SparseCores:
        if self.rate.value <= 1:
            raise ValueError("rate: at most 1, which is no mode of its own")
        if self.reached.value > 1:
            raise ValueError("reached: a share above 1")
        return self


class LinkConstants(Frozen):
    """What collectives reach of the links between devices; ``lepton_dse.sim.collectives`` gives the equations."""

    start_s: Quantity
    """Fixed time of a collective."""
    hop_s: Quantity
    """Latency of one step between neighbours."""
    share: Rate
    """Share of `link_byte_per_s` that large messages among many devices reach."""
    pair_loss: Quantity
    """Part of that share, over the number of devices, that few devices lose: they have fewer paths between them."""
    fill_s: Quantity
    """Time to fill the pipeline of chunks, reached by messages far above `fill_bytes`."""
    fill_bytes: Rate

    @model_validator(mode="after")
    def _bounded(self) -> LinkConstants:
        for name in ("share", "pair_loss"):
            if getattr(self, name).value > 1:
                raise ValueError(f"{name}: a share above 1")
        return self


class GpuTarget(Processor):
    """A GPU: streaming multiprocessors over a cache and high-bandwidth memory."""

    family: Literal["gpu"]
    compute_capability: Quantity
    """Generation of the multiprocessors: 7.0 Volta, 7.5 Turing, 8.x Ampere and Ada, 9.0 Hopper, 10.0 Blackwell."""
    sm_count: Rate
    clock_hz: Rate
    """Clock at which the peaks are stated."""
    shared_bytes_per_sm: Quantity
    register_bytes_per_sm: Quantity
    max_threads_per_sm: Quantity
    max_ctas_per_sm: Quantity
    tensor_memory_bytes_per_sm: Quantity | None = None
    """Memory of the tensor cores' accumulators; None where registers hold them."""
    port_bytes_per_clock: Rate
    """Bytes a clock that one multiprocessor takes in from L2, loads shared by a cluster of CTAs counted for each."""
    special_per_clock: Rate
    """Special functions (exponential, reciprocal square root) a clock on one multiprocessor."""
    multicast_ctas: Rate
    """CTAs that may share the loads of one operand; 1 for none."""
    kernels: KernelConstants
    """Constants for formats without a calibration."""
    calibrations: tuple[GpuCalibration, ...] = ()
    sparse: tuple[SparseCores, ...] = ()
    """Empty where the device has no such mode."""
    link_byte_per_s: Quantity | None = None
    """Interconnect to other devices, one direction."""
    links: LinkConstants | None = None

    @model_validator(mode="after")
    def _modes_have_peaks(self) -> GpuTarget:
        formats = [form for entry in self.sparse for form in entry.formats]
        lacking = set(formats) - {peak.format for peak in self.peaks}
        if lacking:
            raise ValueError(f"sparse: no peak in {', '.join(sorted(lacking))}")
        if len(set(formats)) < len(formats):
            raise ValueError("sparse: a format stands twice")
        return self

    @model_validator(mode="after")
    def _cache_stands(self) -> GpuTarget:
        if (self.links is None) != (self.link_byte_per_s is None):
            raise ValueError("links: given exactly where link_byte_per_s is")
        return self

    def constants(self, precision: Precision, *, calibrated: bool = True) -> KernelConstants:
        """The constants for a pair of formats: a calibration's where one names them, else the general ones."""
        for entry in self.calibrations if calibrated else ():
            if str(precision) in entry.formats:
                return entry.constants
        return self.kernels

    def sparse_cores(self, precision: Precision) -> SparseCores | None:
        """The mode for zeros in 2 of 4 weights of the unit that computes in a pair of formats; None where it has none.

        Weights that are widened on their way, because activations are reals, meet the cores dense.
        """
        peak = self.peak(precision)
        if peak is None or (precision.weights.is_integer and precision.activations.is_float):
            return None
        return next((entry for entry in self.sparse if peak.format in entry.formats), None)
