"""Bits and zeros for every layer: a multiple-choice knapsack under budgets, measured and corrected."""
