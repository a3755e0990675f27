"""The meaning of every operation in NumPy: what each emitter, kernel and simulator is held against.

Plain rather than fast. Floats are computed in float32 (float64 where an operand is) and stored in the format of the
output tensor; integers are exact, and a result outside the output's format is an error, never a silent wrap.
"""

from lepton_dse.ir.semantics.dispatch import evaluate, run

__all__ = ["evaluate", "run"]
