"""Settings of serving engines for a chosen way to serve: command lines for vLLM and TensorRT-LLM, and what is predicted of them.

Names of options are those of the engines' documentation (docs.vllm.ai, "Engine Arguments"; nvidia.github.io/TensorRT-LLM,
"trtllm-serve"). Neither engine is run here. The model's path is left to a variable, and each file is a whole shell script.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision

__all__ = ["LaunchSettings", "launch_files"]

_QUANTIZED = {"float8_e4m3": "fp8"}
"""Formats that vLLM makes of 16-bit weights as it loads them; others need a checkpoint that is quantised already."""
_PLAIN = ("bfloat16", "float16")


@dataclass(frozen=True)
class LaunchSettings:
    """One way to serve, and what is predicted of it.

    Parameters
    ----------
    model, cluster : str
    tensor, pipeline, copies : int
        Devices that share a layer, stages, and copies.
    sequences : int
        At once, in each copy.
    tokens : int
        Of a prompt and its answer.
    format, cache : str
        Of weights and activations, and of keys and values.
    memory_share : float
        Of a device's memory for weights and cache.
    ttft_s, tpot_s, tokens_per_s, memory_bytes : float
        As predicted.
    """

    model: str
    cluster: str
    tensor: int
    pipeline: int
    copies: int
    sequences: int
    tokens: int
    format: str
    cache: str
    memory_share: float
    ttft_s: float
    tpot_s: float
    tokens_per_s: float
    memory_bytes: float


def launch_files(settings: LaunchSettings) -> dict[str, bytes]:
    """``vllm.sh``, ``tensorrt_llm.sh`` and ``predicted.json``.

    Parameters
    ----------
    settings : LaunchSettings

    Raises
    ------
    LeptonError
        If the engines have no option for the formats.
    """
    formats = Precision.parse(settings.format)
    name = str(formats.weights)
    if name not in (*_PLAIN, *_QUANTIZED) or formats.weights != formats.activations:
        known = ", ".join((*_PLAIN, *_QUANTIZED))
        raise LeptonError(f"no engine quantises to {settings.format} as it loads", where="--format", fix=f"launch with {known}")
    return {
        "vllm.sh": _script("vllm serve", _vllm(settings, name), settings),
        "tensorrt_llm.sh": _script("trtllm-serve", _tensorrt(settings), settings),
        "predicted.json": (json.dumps(asdict(settings), indent=1, sort_keys=True) + "\n").encode(),
    }


def _vllm(settings: LaunchSettings, form: str) -> list[tuple[str, object]]:
    options: list[tuple[str, object]] = [
        ("--tensor-parallel-size", settings.tensor),
        ("--pipeline-parallel-size", settings.pipeline),
        ("--max-num-seqs", settings.sequences),
        ("--max-model-len", settings.tokens),
        ("--gpu-memory-utilization", f"{settings.memory_share:g}"),
    ]
    options.append(("--quantization", _QUANTIZED[form]) if form in _QUANTIZED else ("--dtype", form))
    if settings.cache in _QUANTIZED:
        options.append(("--kv-cache-dtype", _QUANTIZED[settings.cache]))
    return options


def _tensorrt(settings: LaunchSettings) -> list[tuple[str, object]]:
    return [
        ("--tp_size", settings.tensor),
        ("--pp_size", settings.pipeline),
        ("--max_batch_size", settings.sequences),
        ("--max_seq_len", settings.tokens),
        ("--kv_cache_free_gpu_memory_fraction", f"{settings.memory_share:g}"),
    ]


def _script(command: str, options: list[tuple[str, object]], settings: LaunchSettings) -> bytes:
    """A script for one copy; the others are started alike, each on devices of its own."""
    lines = [
        "#!/bin/sh",
        f"# One of {settings.copies} copies on {settings.tensor * settings.pipeline} devices each.",
        f"# Predicted, and measured by nothing: {settings.ttft_s:.3g} s to the first token, {settings.tpot_s:.3g} s per token,",
        f"# {settings.tokens_per_s:.4g} tokens a second of all copies.",
        "exec " + command + ' "${MODEL:?set MODEL to the path or the name of the weights}" \\',
        *(f"    {name} {value} \\" for name, value in options),
        '    "$@"',
    ]
    return ("\n".join(lines) + "\n").encode()
