"""Which neighbouring integer each weight becomes: one file a method, registered in ``lepton_dse.roundings``."""
