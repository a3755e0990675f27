"""What is measured of a network's outputs: one file a metric, registered in ``lepton_dse.metrics``."""
