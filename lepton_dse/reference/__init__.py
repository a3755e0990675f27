"""Execution of graphs: float in NumPy, lowered graphs integer-exact; accuracy on labelled data."""
