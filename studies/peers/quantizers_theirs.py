"""ONNX Runtime's static quantiser and AIMET on one network; runs in their environment, prints one line of JSON.

The better of two calibrations counts for ONNX Runtime; AIMET rounds 4-bit weights by AdaRound, 2,000 steps a layer.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_BATCH = 500


class Samples(CalibrationDataReader):
    """One calibration sample at a time."""

    def __init__(self, x: np.ndarray) -> None:
        self.rows = iter([{"image": x[index : index + 1]} for index in range(len(x))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


def score(session: ort.InferenceSession, x: np.ndarray, y: np.ndarray) -> float:
    parts = [session.run(None, {"image": x[start : start + _BATCH]})[0] for start in range(0, len(x), _BATCH)]
    return float((np.concatenate(parts).reshape(len(x), -1).argmax(1) == y).mean())


def onnxruntime(path: Path, data: dict[str, np.ndarray]) -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        clean, out = Path(scratch) / "clean.onnx", Path(scratch) / "out.onnx"
        quant_pre_process(str(path), str(clean))
        for form, weights in (("w8a8", QuantType.QInt8), ("w4a8", QuantType.QInt4)):
            for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy):
                try:
                    quantize_static(
                        str(clean),
                        str(out),
                        Samples(data["calibration"]),
                        quant_format=QuantFormat.QDQ,
                        per_channel=True,
                        weight_type=weights,
                        activation_type=QuantType.QInt8,
                        calibrate_method=method,
                    )
                    value = score(ort.InferenceSession(str(out)), data["x"], data["y"])
                    found[f"{form} onnxruntime"] = max(value, found.get(f"{form} onnxruntime", 0.0))
                except Exception as error:
                    print(f"{form} onnxruntime {method}: {type(error).__name__} {str(error)[:200]}", file=sys.stderr)
    return found


def aimet(path: Path, data: dict[str, np.ndarray]) -> dict[str, float]:
    import aimet_onnx
    from aimet_onnx import QuantizationSimModel, apply_adaround

    calibration = data["calibration"]
    batches = [{"image": calibration[start : start + 64]} for start in range(0, len(calibration), 64)]
    found: dict[str, float] = {}
    int4, int8 = aimet_onnx.int4, aimet_onnx.int8
    for form, weights, activations in (("w8a8", int8, int8), ("w4a8", int4, int8), ("w4a4", int4, int4)):
        try:
            sim = QuantizationSimModel(onnx.load(path), param_type=weights, activation_type=activations)
            if weights is int4:
                apply_adaround(sim, batches, num_iterations=2000)
            sim.compute_encodings(batches)
            found[f"{form} aimet"] = score(sim.session, data["x"], data["y"])
        except Exception as error:
            print(f"{form} aimet: {type(error).__name__} {str(error)[:200]}", file=sys.stderr)
    return found


def main() -> None:
    folder, name, seed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    data = dict(np.load(folder / f"{name}.npz"))
    path = folder / f"{name}-{seed}.onnx"
    print("RESULT" + json.dumps({**onnxruntime(path, data), **aimet(path, data)}))


if __name__ == "__main__":
    main()
