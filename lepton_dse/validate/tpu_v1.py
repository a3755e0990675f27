"""The TPU cost model against the six applications that Google measured on TPU v1 (N. Jouppi et al., ISCA 2017).

Layer shapes are not published. What is: layers of each kind, all weights together, multiply-accumulates per weight byte, the
batch, and the share of the array's cells that hold useful weights while it works (useful over active in Table 3). Each
application gets layers of equal size from these, by one rule for all:

1. A layer has W = weights / (fully connected + convolutional layers) weights, a matrix of K x N.
2. Its grid of 256 x 256 tiles is the one, at most twice as long as wide, whose occupied share W / (65536 tiles) comes nearest to
   the published share; K and N are that grid shrunk by one factor.
3. M is the published multiply-accumulates per weight byte (the batch, times output positions in a convolution). In CNN1 the
   paper says 32 for the fully connected layers; its convolutions share what remains.
4. LSTMs run with 16-bit activations and 8-bit weights, at half speed: only if each row of the batch takes two cycles does the
   share of active cycles give LSTM0 the time per tile of the MLPs. Each of their vector layers takes the batch times N
   elements through the activation path.

A tile of weights takes at least 2 microseconds from DDR3 (the paper: nine steps of a 600 x 600 matrix take 18), whatever part
of it is in use. Time is the sum over the layers; no constant is fitted. The host's part is left out, as in the paper's Table 3.
"""

from __future__ import annotations

import math

from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tpu import chip_of, search_product, vector_rate
from lepton_dse.sim.tpu import matrix_product
from lepton_dse.targets import TpuTarget, load_target
from lepton_dse.validate.figures import figures
from lepton_dse.validate.protocol import Context, Suite, SuiteResult, row, score

__all__ = ["SUITES", "layer_extents", "layer_shape", "predicted_tops"]

TARGET = "google-tpu-v1"
UNSCORED = {
    "LSTM1": "of its 37 matrices one is known, 600 x 600, far smaller than the average; equal layers do not stand for them",
    "CNN1": "its convolutions have shallow inputs that fill half the array, and a quarter of its cycles wait for results",
}
_FC_INTENSITY = {"CNN1": 32.0}  # section 4 of the paper
NOTES = (
    "layer shapes are derived: equal layers from the published totals, tile grids from the published share of useful weights",
    "LSTMs run with 16-bit activations at half speed",
    "a tile of weights takes at least 2 microseconds from DDR3, as section 7 of the paper has it; nothing is fitted",
    "the authors' own model, which knew the shapes, differs from the counters by 5.4% to 11.2%, 8% on average",
)


def layer_shape(weights: float, occupied: float, size: int = 256) -> tuple[int, int]:
    """K and N of a matrix of `weights` values whose tiles of `size` x `size` are occupied as nearly as can be to `occupied`.

    Parameters
    ----------
    weights : float
        At least 1.
    occupied : float
        Share of the tiles' cells that hold weights, 0 to 1.
    size : int
        Side of a tile.

    Returns
    -------
    (int, int)
        K at most N, and N at most twice K in tiles.
    """
    best: tuple[float, int, int, int] | None = None
    limit = 2 + math.ceil(2 * math.sqrt(weights) / size)
    for deep in range(1, limit):
        for across in range(deep, 2 * deep + 1):
            share = weights / (deep * across * size * size)
            shrunk = math.sqrt(share)
            fills = shrunk * deep > deep - 1 and shrunk * across > across - 1
            if share <= 1 and fills:
                best = min(best or (math.inf, 0, 0, 0), (abs(share - occupied), across - deep, deep, across))
    if best is None:
        side = math.ceil(math.sqrt(weights))
        return side, side
    _, _, deep, across = best
    shrunk = math.sqrt(weights / (deep * across * size * size))
    return round(shrunk * deep * size), round(shrunk * across * size)


def layer_extents(entry: dict[str, str]) -> tuple[int, int, float, float]:
    """K and N of every layer of an application, and M of its fully connected and of its convolutional layers.

    Parameters
    ----------
    entry : dict
        A row of the figures.
    """
    dense, conv = int(entry["fc"]), int(entry["conv"])
    weights, intensity = float(entry["weights_million"]) * 1e6, float(entry["macs_per_weight_byte"])
    layers = dense + conv
    k, n = layer_shape(weights / layers, float(entry["useful_macs"]) / float(entry["array_active"]))
    dense_m = _FC_INTENSITY.get(entry["app"], intensity)
    return k, n, dense_m, (intensity * layers - dense_m * dense) / conv if conv else 0.0


def predicted_tops(entry: dict[str, str], target: TpuTarget) -> float:
    """Operations a second, two a multiply-accumulate, in units of 10**12.

    Parameters
    ----------
    entry : dict
        A row of the figures.
    target : TpuTarget
        TPU v1.
    """
    app = entry["app"]
    dense, conv, vector, pool = (int(entry[name]) for name in ("fc", "conv", "vector", "pool"))
    k, n, dense_m, conv_m = layer_extents(entry)
    precision = Precision.parse("w8a16" if app.startswith("LSTM") else "int8")
    chip, bits = chip_of(target, precision), precision.activations.bits
    seconds = 0.0
    for count, m in ((dense, dense_m), (conv, conv_m)):
        if count:
            product = matrix_product(round(m), n, k, x_bits=bits, y_bits=bits)
            seconds += count * search_product(product, chip).price.total_s
    seconds += (vector * dense_m + pool * conv_m) * n / vector_rate(target)
    return 2.0 * float(entry["macs_per_weight_byte"]) * float(entry["weights_million"]) * 1e6 / seconds / 1e12


def _run(suite: Suite, context: Context) -> SuiteResult:
    target = load_target(TARGET)
    assert isinstance(target, TpuTarget), "the shipped model is of the tpu family"
    rows = [
        row(entry["app"], predicted_tops(entry, target), float(entry["measured_tops"]), scored=entry["app"] not in UNSCORED)
        for entry in figures("tpu_v1_jouppi2017")
    ]
    notes = (*NOTES, *(f"{app} stands outside the mean: {why}" for app, why in UNSCORED.items()))
    return score(suite, rows, notes=notes)


SUITES = (
    Suite(
        "tpu-v1",
        "N. Jouppi et al., In-Datacenter Performance Analysis of a Tensor Processing Unit, ISCA 2017, tables 1 and 3",
        "measured TOPS of production applications",
        _run,
    ),
)
