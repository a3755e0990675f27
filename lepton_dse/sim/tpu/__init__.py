"""The TPU cost model's prices: one matrix product under one tiling."""

from lepton_dse.sim.product import Product, matrix_product, product_of
from lepton_dse.sim.tpu.pricing import Chip, Price, Tiling, best_tiling, price

__all__ = ["Chip", "Price", "Product", "Tiling", "best_tiling", "matrix_product", "price", "product_of"]
