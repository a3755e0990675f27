"""Emitters: pure functions from a schedule to a set of files."""
