"""How much each weight matters: one file a score, registered in ``lepton_dse.scores``."""
