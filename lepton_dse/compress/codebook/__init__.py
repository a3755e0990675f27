"""Weight sharing: each layer's weights take few values, and a file stores which weight takes which."""

from lepton_dse.compress.codebook.sharing import Codebook, reread, share

__all__ = ["Codebook", "reread", "share"]
