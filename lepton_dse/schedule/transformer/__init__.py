"""What one device of a mesh runs for a transformer: kernels, exchanges and what is kept, as lists."""

from lepton_dse.schedule.transformer.block import Block, block_of
from lepton_dse.schedule.transformer.ends import Ends, ends_of
from lepton_dse.schedule.transformer.work import Attention, Axis, Exchange, Kept, MatrixProduct, Streaming, Work

__all__ = ["Attention", "Axis", "Block", "Ends", "Exchange", "Kept", "MatrixProduct", "Streaming", "Work", "block_of", "ends_of"]
