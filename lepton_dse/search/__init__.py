"""Exact search inside declared spaces."""
