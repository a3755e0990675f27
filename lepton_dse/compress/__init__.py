"""Compression: calibration and quantisation; a graph in, a bundle out."""
