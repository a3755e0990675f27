"""The main job end to end on a real model and real data, as ``lepton demo`` runs it."""
