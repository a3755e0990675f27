"""Closed forms for kernels on a GPU: occupancy, shared-memory banks, raster order, matrix products and streaming kernels."""
