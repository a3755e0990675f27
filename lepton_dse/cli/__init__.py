"""The command line: parses, calls the flow, renders. Nothing here knows how anything is computed."""

from lepton_dse.cli.program import main

__all__ = ["main"]
