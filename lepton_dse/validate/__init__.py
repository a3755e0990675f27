"""Holds the cost models against published and executed figures, and fits hardware models to measurements."""
