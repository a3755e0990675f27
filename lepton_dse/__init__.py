"""lepton_dse: hardware-aware design-space exploration for neural networks."""
