"""What a GPU runs: kernels, each with its tile and its operands. A simulator counts exactly these, an emitter writes them."""

from __future__ import annotations

from lepton_dse.schedule.gpu.contraction import Contraction, Engine, Touch
from lepton_dse.schedule.gpu.operands import Columns, Matrix, Operand, Packed4, Windows
from lepton_dse.schedule.gpu.tile import Tile

__all__ = ["Columns", "Contraction", "Engine", "Matrix", "Operand", "Packed4", "Tile", "Touch", "Windows"]
